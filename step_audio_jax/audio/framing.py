"""Overlapping frames. Shape letters: B rows, N places, D width."""

import jax
import jax.numpy as jnp


def sliding(x_BND: jax.Array, size: int, step: int, count: int) -> jax.Array:
  """`size` rows joined every `step`, (B, count, size · D).

  Joined from slices of `step` rows: cheaper than a gather on every backend.
  What is behind the end is zero.
  """
  rows, total, width = x_BND.shape
  parts = -(-size // step)
  need = (count + parts - 1) * step
  x = jnp.pad(x_BND, ((0, 0), (0, max(0, need - total)), (0, 0)))[:, :need]
  groups = x.reshape(rows, count + parts - 1, step * width)
  joined = [groups[:, i : i + count] for i in range(parts)]
  joined[-1] = joined[-1][..., : (size - (parts - 1) * step) * width]
  return jnp.concatenate(joined, axis=-1)
