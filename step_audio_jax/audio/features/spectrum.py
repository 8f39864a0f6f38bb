"""Magnitude spectrograms of padded or whole waveforms.

    |X| = sqrt(|STFT(x)|² + floor)      periodic Hann, rows mirrored at the ends

The floor keeps the gradient finite in silence. Shape letters: B rows, S
samples, T frames, F bins.
"""

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.audio.features import framing


def frame_count(samples, *, fft: int, hop: int, edge: int):
  """Frames of `samples`; ints, numpy or JAX integers."""
  count = (samples + 2 * edge - fft) // hop + 1
  return count * (count > 0)


def magnitude(
  wave_BS: jax.Array,
  lengths_B: jax.Array | None = None,
  *,
  fft: int,
  window: int,
  hop: int,
  edge: int,
  floor: float = 1e-9,
) -> jax.Array:
  """Magnitudes of every frame of the array, float32 (B, T, F).

  Args:
    wave_BS: Float32 samples.
    lengths_B: Samples of each row, at which it is mirrored, int32; None means
      that rows fill the array. What is behind a row's frames is no number to
      read.
    fft: Points of the transform.
    window: Samples of the window, in the middle of the transform.
    hop: Samples between frames.
    edge: Samples mirrored at each end.
    floor: Added to the power.
  """
  count = frame_count(wave_BS.shape[1], fft=fft, hop=hop, edge=edge)
  padded = framing.reflect_pad(
    wave_BS, lengths_B, edge, max(0, count - 1) * hop + fft - edge
  )
  x_BTN = framing.sliding_windows(padded[:, :, None], fft, hop, count)
  left = (fft - window) // 2
  window_N = np.zeros(fft, np.float32)
  window_N[left : left + window] = np.hanning(window + 1)[:-1]
  spectrum = jnp.fft.rfft(x_BTN * window_N[None, None], axis=-1)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  return jnp.sqrt(power + floor)
