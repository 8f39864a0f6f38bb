"""Overlapping frames. Shape letters: B rows, S samples, N places, D width."""

import jax
import jax.numpy as jnp


def reflect_pad(
  wave_BS: jax.Array, lengths_B: jax.Array | None, left: int, right: int
) -> jax.Array:
  """Samples −left … right − 1 of rows mirrored at their own ends, (B, ·).

  Position −p reads p, and p ≥ n reads 2 (n − 1) − p for a row of n samples;
  without lengths n is the size of the array.
  """
  if lengths_B is None:
    # Slices, whose gradient is no scatter.
    behind = max(0, right - wave_BS.shape[1])
    pads = ((0, 0), (left, behind))
    return jnp.pad(wave_BS, pads, mode='reflect')[:, : left + right]
  place = jnp.abs(jnp.arange(-left, right))[None, :]
  last = jnp.maximum(lengths_B - 1, 0)[:, None]
  place = jnp.where(place > last, 2 * last - place, place)
  place = jnp.clip(place, 0, wave_BS.shape[1] - 1)
  return jnp.take_along_axis(wave_BS, place, axis=1)


def sliding_windows(
  x_BND: jax.Array, size: int, step: int, count: int
) -> jax.Array:
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
