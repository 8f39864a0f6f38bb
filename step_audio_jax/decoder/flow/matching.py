"""Conditional flow matching with optimal-transport paths (arXiv 2210.02747).

    y_t = (1 − (1 − σ) t) z + t x₁        u = x₁ − (1 − σ) z
    loss = Σ mask |v(y_t, t) − u|² / (Σ mask · M)
    t = 1 − cos(π/2 · U(0, 1))            and the same map of the solver's grid

Classifier-free guidance mixes (1 + g) v_conditional − g v_unconditional. As
CosyVoice trains and samples it. Axes: B rows, T frames, M mel bands.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Draw(NamedTuple):
  """What chance decides in a training step.

  Attributes:
    t_B: Times, float32; the cosine map of uniform ones.
    keep_B: Whether a row keeps its conditions, bool.
    prefix_B: Frames of the target that are given as a prompt, int32.
  """

  t_B: jax.Array
  keep_B: jax.Array
  prefix_B: jax.Array


def cosine(t):
  """The time map: slow at the start, where the noise is."""
  return 1.0 - jnp.cos(0.5 * jnp.pi * t)


def schedule(steps: int) -> np.ndarray:
  """Times of the solver, float32 (steps + 1,), from 0 to 1."""
  grid = np.linspace(0.0, 1.0, steps + 1, dtype=np.float32)
  return (1.0 - np.cos(grid * np.float32(0.5 * np.pi))).astype(np.float32)


def draw(
  rng: jax.Array,
  counts_B: jax.Array,
  *,
  dropout: float = 0.2,
  prefix_probability: float = 0.5,
  prefix_share: float = 0.3,
) -> Draw:
  """Times, dropped conditions and prompts of one batch.

  Args:
    rng: Key.
    counts_B: Frames of each row, int32.
    dropout: Share of rows that lose all their conditions.
    prefix_probability: Share of rows that get a prompt.
    prefix_share: Longest prompt, of a row's frames; the length is uniform
      from 0 to it, both included.
  """
  time, keep, some, length = (
    jax.random.uniform(key, counts_B.shape) for key in jax.random.split(rng, 4)
  )
  most = jnp.floor(prefix_share * counts_B)
  prefix = jnp.floor(length * (most + 1.0))
  return Draw(
    cosine(time),
    keep > dropout,
    jnp.where(some < prefix_probability, prefix, 0.0).astype(jnp.int32),
  )


def interpolant(
  x1_BTM: jax.Array, z_BTM: jax.Array, t_B: jax.Array, sigma: float = 1e-6
) -> tuple[jax.Array, jax.Array]:
  """(the point on the path at t, its velocity), both (B, T, M)."""
  t = t_B[:, None, None]
  return (1.0 - (1.0 - sigma) * t) * z_BTM + t * x1_BTM, x1_BTM - (
    1.0 - sigma
  ) * z_BTM


def masked_loss(
  pred_BTM: jax.Array, target_BTM: jax.Array, mask_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """(sum of squared errors inside the mask, how many numbers it counts)."""
  mask = mask_BT.astype(jnp.float32)
  total = (jnp.square(pred_BTM - target_BTM) * mask[:, :, None]).sum()
  return total, mask.sum() * pred_BTM.shape[-1]


def apply_guidance(velocity_2BTM: jax.Array, guidance: float) -> jax.Array:
  """Conditional rows, then unconditional ones → their mixture (B, T, M)."""
  with_BTM, without_BTM = jnp.split(velocity_2BTM, 2)
  return (1.0 + guidance) * with_BTM - guidance * without_BTM


def euler(
  velocity: Callable[[jax.Array, jax.Array], jax.Array],
  x: jax.Array,
  steps: int,
) -> jax.Array:
  """Solves dx/dt = velocity(x, t) from t = 0 to 1 on the cosine grid.

  Times accumulate in float32 by adding steps, as in the original.

  Args:
    velocity: (x, scalar time) → an array like x.
    x: Start, the noise.
    steps: Number of steps.
  """
  x, _ = euler_scan(lambda x, t, _: (velocity(x, t), None), x, steps)
  return x


def euler_scan(
  velocity: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]],
  x: jax.Array,
  steps: int,
  inputs: Any = None,
) -> tuple[jax.Array, Any]:
  """As `euler`, for a velocity that reads and leaves something in every step.

  Args:
    velocity: (x, scalar time, the step's inputs) → (velocity, its outputs).
    x: Start.
    steps: Number of steps.
    inputs: Tree of arrays (steps, …).

  Returns:
    The end, and the outputs as a tree of arrays (steps, …).
  """

  def body(x, step):
    t, dt, given = step
    v, left = velocity(x, t, given)
    return x + dt * v, left

  times, lengths = map(jnp.asarray, time_grid(steps))
  return jax.lax.scan(body, x, (times, lengths, inputs), length=steps)


def time_grid(steps: int) -> tuple[np.ndarray, np.ndarray]:
  """Start and length of every solver step, float32 (steps,) each."""
  spans, t = schedule(steps), np.float32(0.0)
  times, lengths = [], []
  for end in spans[1:]:
    times.append(t)
    lengths.append(end - t)
    t = t + lengths[-1]
  return np.array(times, np.float32), np.array(lengths, np.float32)
