"""Sines at the harmonics of a frame-wise F0, with a phase that never drifts.

    r_h = f0 (h + 1) / rate,   φ_h[s] = Σ_{s' ≤ s} r_h  (mod 1)
    x_h = a sin 2π(φ_h + φ0_h) where voiced, + σ noise

A phase is a fraction of a turn in 32 bits, an unsigned integer that wraps by
itself: a sum of steps is then exact modulo one turn, in any order, cut into any
chunks, on every backend, where a float32 sum is off by 1e-2 after a second. F0
is constant inside a frame, so sample n of one has begin + (n + 1) step. A step
is the float32 quotient r to 2⁻³² of a turn.

Harmonics above half the rate are kept, as in the neural source filter of HiFT
(arXiv 2309.09493). No gradient reaches F0 from here.

Axes: B rows, T mel frames, N samples of a frame, H fundamental and harmonics, S
samples.
"""

import jax
import jax.numpy as jnp
import numpy as np

_TURN = 2.0**32


def phase_steps(f0_BT: jax.Array, rate: int, harmonics: int) -> jax.Array:
  """What a sample adds to the phases, uint32 (B, T, H)."""
  number_H = np.arange(1, harmonics + 2, dtype=np.float32)
  hertz_BTH = f0_BT[..., None] * number_H[None, None]
  # The compiler divides by what is one for all by multiplying with its rounded
  # inverse, which is a constant mistuning: 1e-3 of a turn after 20 s.
  ratio_BTH = hertz_BTH / (np.float32(rate) + 0 * hertz_BTH)
  ratio_BTH = ratio_BTH - jnp.floor(ratio_BTH)
  return jnp.round(ratio_BTH * np.float32(_TURN)).astype(jnp.uint32)


def advance_phases(
  steps_BTH: jax.Array, hop: int, begin_BH: jax.Array
) -> jax.Array:
  """The phases after all frames, uint32 (B, H)."""
  return begin_BH + np.uint32(hop) * steps_BTH.sum(1, dtype=jnp.uint32)


def phases(
  steps_BTH: jax.Array, hop: int, begin_BH: jax.Array | None = None
) -> jax.Array:
  """Fractions of a turn, float32 (B, S, H) in [0, 1].

  Args:
    steps_BTH: Of `phase_steps`.
    hop: Samples N of a frame.
    begin_BH: The phases before the first sample; by default 0.
  """
  rows, frames, width = steps_BTH.shape
  frame_BTH = np.uint32(hop) * steps_BTH
  first_BTH = jnp.cumsum(frame_BTH, axis=1, dtype=jnp.uint32) - frame_BTH
  if begin_BH is not None:
    first_BTH = first_BTH + begin_BH[:, None]
  count_N = np.arange(1, hop + 1, dtype=np.uint32)
  turn = (
    first_BTH[:, :, None] + count_N[None, None, :, None] * steps_BTH[:, :, None]
  )
  return turn.reshape(rows, frames * hop, width).astype(jnp.float32) * (
    np.float32(1 / _TURN)
  )


def harmonics_and_noise(
  f0_BT: jax.Array,
  phase_BH: jax.Array,
  noise_BSH: jax.Array,
  *,
  rate: int,
  hop: int,
  amplitude: float,
  deviation: float,
  voiced_hz: float,
  begin_BH: jax.Array | None = None,
) -> jax.Array:
  """Harmonics and noise (B, S, H).

  Args:
    f0_BT: Hz of each frame.
    phase_BH: Initial phases in radians; the fundamental's counts as 0.
    noise_BSH: Standard normal.
    rate: Hz of the samples.
    hop: Samples of a frame.
    amplitude: Of the sines; a third of it is the deviation of unvoiced noise.
    deviation: Of voiced noise.
    voiced_hz: A frame with an F0 above is voiced.
    begin_BH: Phases before the first sample, of `advance_phases`; by default 0.
  """
  f0_BT = jax.lax.stop_gradient(f0_BT)
  steps_BTH = phase_steps(f0_BT, rate, phase_BH.shape[1] - 1)
  first_H = np.arange(phase_BH.shape[1]) == 0
  offset_BH = jnp.where(first_H[None], 0.0, phase_BH)
  turn_BSH = phases(steps_BTH, hop, begin_BH)
  angle = np.float32(2 * np.pi) * turn_BSH + offset_BH[:, None]
  voiced_BS1 = jnp.repeat(f0_BT > voiced_hz, hop, axis=1)[..., None]
  spread = jnp.where(
    voiced_BS1, np.float32(deviation), np.float32(amplitude / 3)
  )
  wave = jnp.where(voiced_BS1, np.float32(amplitude) * jnp.sin(angle), 0.0)
  return wave + spread * noise_BSH
