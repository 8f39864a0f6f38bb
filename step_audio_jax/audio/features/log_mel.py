"""Whisper's log-mel spectrogram, the input of the S3 tokenizer.

    P    = |STFT_400/160(x)|², periodic Hann, reflect-padded centre frames
    L    = log10 max(1e-10, P W)            W: Slaney mel, 0–8000 Hz
    out  = (max(L, max_t,m L − 8) + 4) / 4

The last centre frame is dropped, so frames = samples // 160. The floor comes
from the loudest value of the whole utterance. Shape letters: B rows, S
samples, T frames, M mel bands.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.audio.features import framing

SAMPLE_RATE = 16000
FFT = 400
HOP = 160
BANDS = 128


@functools.cache
def mel_matrix(
  bands: int = BANDS,
  fft: int = FFT,
  sample_rate: int = SAMPLE_RATE,
  low_hz: float = 0.0,
  high_hz: float | None = None,
) -> np.ndarray:
  """Slaney's area-normalised triangular filters, (fft / 2 + 1, bands).

  The same numbers as `librosa.filters.mel`, which takes ten seconds to compile
  on its first call.
  """
  step = 200.0 / 3  # Hz per mel below the break at 1000 Hz
  log_step = np.log(6.4) / 27.0

  def mel(hz):
    return 15 + np.log(hz / 1000.0) / log_step if hz >= 1000 else hz / step

  top = sample_rate / 2
  mels = np.linspace(mel(low_hz), mel(high_hz or top), bands + 2)
  edges = np.where(
    mels < 15, mels * step, 1000.0 * np.exp(log_step * (mels - 15))
  )
  left, centre, right = edges[:-2], edges[1:-1], edges[2:]
  bins = np.linspace(0.0, top, fft // 2 + 1)[:, None]
  rise = (bins - left) / (centre - left)
  fall = (right - bins) / (right - centre)
  weights = np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (right - left)
  return weights.astype(np.float32)


def frame_count(samples, hop: int = HOP):
  """Frames of `samples`; ints, numpy or JAX integers."""
  return samples // hop


def log_mel(
  wave_BS: jax.Array,
  lengths_B: jax.Array,
  *,
  bands: int = BANDS,
  fft: int = FFT,
  hop: int = HOP,
  sample_rate: int = SAMPLE_RATE,
) -> tuple[jax.Array, jax.Array]:
  """Log-mel spectrograms of padded waveforms.

  Args:
    wave_BS: Float32 16 kHz samples in [-1, 1]; what is behind a row's length
      does not matter.
    lengths_B: Samples of each row, int32, more than 200 for a meaningful row.
    bands: Mel bands M.
    fft: Samples of a frame.
    hop: Samples between frames.
    sample_rate: Hz.

  Returns:
    Features float32 (B, T, M), zero behind a row's end, and frame counts.
  """
  count = frame_count(wave_BS.shape[1], hop)
  half = fft // 2
  padded = framing.reflect_pad(wave_BS, lengths_B, half, count * hop + half)
  x_BTN = framing.sliding_windows(padded[:, :, None], fft, hop, count)
  window = np.hanning(fft + 1)[:-1].astype(np.float32)
  spectrum = jnp.fft.rfft(x_BTN * window[None, None], axis=-1)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  filters = mel_matrix(bands, fft, sample_rate)
  mel_BTM = jnp.matmul(power, filters, precision='highest')
  log_BTM = jnp.log10(jnp.maximum(mel_BTM, 1e-10))
  counts_B = frame_count(lengths_B, hop)
  valid = jnp.arange(count)[None, :, None] < counts_B[:, None, None]
  peak = jnp.where(valid, log_BTM, -jnp.inf).max(axis=(1, 2), keepdims=True)
  out_BTM = (jnp.maximum(log_BTM, peak - 8.0) + 4.0) / 4.0
  return jnp.where(valid, out_BTM, 0.0), counts_B
