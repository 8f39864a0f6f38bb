"""STFT and its inverse for a transform of a few points: matrix products.

    X_k[i] = Σ_n w[n] x[i h + n − e] exp(−2πi k n / N)      w: periodic Hann
    x̂[t]   = Σ_i w[n] x_i[n] / Σ_i w²[n],   n = t − i h + e

For N = 16 a matrix of N × (N + 2) is cheaper than any FFT on every backend.
Centred: e = N / 2, the signal reflected at its ends, S / h + 1 frames. Causal:
frame i ends with sample (i + 1) h − 1, S / h frames; its inverse begins where
the frame's newest h samples begin, so that no sample waits for a later frame,
and what would have come from frames before the first is silence.

Axes: B rows, S samples, T frames, K values of a frame, C channels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.audio.features import framing


def overlap_add(
  parts_BTKC: jax.Array, step: int, left: int, count: int
) -> jax.Array:
  """Adds frames of K places laid every `step` places.

  Args:
    parts_BTKC: Frames.
    step: Places between their starts.
    left: Places dropped at the beginning.
    count: Places that are returned; zeros behind the last frame.

  Returns:
    (B, count, C).
  """
  rows, frames, size, width = parts_BTKC.shape
  groups = -(-size // step)
  x = jnp.pad(
    parts_BTKC, ((0, 0), (0, 0), (0, groups * step - size), (0, 0))
  ).reshape(rows, frames, groups, step * width)
  total = max(frames + groups - 1, -(-(left + count) // step))
  out = sum(
    jnp.pad(x[:, :, g], ((0, 0), (g, total - frames - g), (0, 0)))
    for g in range(groups)
  )
  out = out.reshape(rows, total * step, width)
  return out[:, left : left + count]


def window(fft: int) -> np.ndarray:
  """The periodic Hann window."""
  return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)).astype('f')


def _angles(fft):
  return 2 * np.pi * np.outer(np.arange(fft), np.arange(fft // 2 + 1)) / fft


def stft(
  wave_BS: jax.Array,
  fft: int,
  hop: int,
  counts_B: jax.Array | None = None,
  causal: bool = False,
) -> jax.Array:
  """Real parts, then imaginary parts, (B, T, fft + 2).

  Args:
    wave_BS: Samples, a multiple of `hop`.
    fft: Points.
    hop: Samples between frames.
    counts_B: Samples of each row, a multiple of `hop`; None means all. Frames
      behind a row's end mean nothing.
    causal: See the module.
  """
  half, frames = fft // 2, wave_BS.shape[1] // hop
  if causal:
    x = jnp.pad(wave_BS, ((0, 0), (fft - hop, 0)))
  elif counts_B is None:
    x = jnp.pad(wave_BS, ((0, 0), (half, half)), mode='reflect')
  else:
    x = framing.reflect_pad(wave_BS, counts_B, half, wave_BS.shape[1] + half)
  x_BTN = framing.sliding_windows(x[..., None], fft, hop, frames + (not causal))
  angle, w = _angles(fft), window(fft)[:, None]
  matrix = np.concatenate([w * np.cos(angle), -w * np.sin(angle)], axis=1)
  return jnp.matmul(x_BTN, matrix.astype('f'), precision='highest')


def inverse_stft(
  magnitude_BTK: jax.Array,
  phase_BTK: jax.Array,
  hop: int,
  counts_B: jax.Array | None = None,
  causal: bool = False,
) -> jax.Array:
  """Samples (B, S) of frames in polar form.

  Args:
    magnitude_BTK: fft / 2 + 1 magnitudes a frame.
    phase_BTK: Angles in radians.
    hop: Samples between frames.
    counts_B: Frames of each row; None means all. Samples behind a row's end
      mean nothing.
    causal: See the module.
  """
  rows, frames, bins = magnitude_BTK.shape
  fft = 2 * (bins - 1)
  angle, w = _angles(fft).T, window(fft)
  # Bins between the ends stand for their mirror images too.
  scale = np.full((bins, 1), 2.0 / fft)
  scale[[0, -1]] = 1.0 / fft
  matrix = np.concatenate([scale * np.cos(angle), -scale * np.sin(angle)])
  x_BTK = jnp.concatenate(
    [magnitude_BTK * jnp.cos(phase_BTK), magnitude_BTK * jnp.sin(phase_BTK)],
    axis=-1,
  )
  valid_BT1 = jnp.ones((1, frames, 1), x_BTK.dtype)
  if counts_B is not None:
    valid_BT1 = jnp.arange(frames)[None, :] < counts_B[:, None]
    valid_BT1 = valid_BT1[..., None].astype(x_BTK.dtype)
    x_BTK = x_BTK * valid_BT1
  parts_BTN = jnp.matmul(x_BTK, (matrix * w).astype('f'), precision='highest')
  left = 0 if causal else fft // 2
  count = frames * hop if causal else (frames - 1) * hop
  wave_BS = overlap_add(parts_BTN[..., None], hop, left, count)[..., 0]
  if causal:
    return wave_BS / np.float32(np.square(window(fft), dtype='d').sum() / hop)
  envelope = overlap_add(
    (valid_BT1 * np.square(w)[None, None])[..., None], hop, left, count
  )[..., 0]
  return wave_BS / jnp.maximum(envelope, 1e-11)
