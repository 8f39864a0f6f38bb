"""Kaldi filter banks and Paraformer's stacked low-frame-rate features.

    frame   = x[160 t : 160 t + 400] − mean
    y[i]    = (frame[i] − 0.97 frame[max(i − 1, 0)]) · hamming[i]
    fbank_m = ln max(ε, Σ_k |FFT_512(y)_k|² W_km)              100 Hz, 80-d
    lfr_t   = concat fbank[6 t − 3 … 6 t + 3], edges repeated   16.67 Hz, 560-d
    feature = (lfr + shift) · scale                             CMVN

with dither 0, as `WavFrontendOnline` of FunASR computes it. Shape letters: B
rows, S samples, F frames at 100 Hz, T stacked frames, M mel bands, D features.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SAMPLE_RATE = 16000
FRAME = 400
HOP = 160
FFT = 512
BANDS = 80
STACK = 7
STRIDE = 6
FEATURES = STACK * BANDS
CHUNK_SAMPLES = 3840  # 240 ms: four stacked frames
CHUNK_FRAMES = 4
# A final rest below this yields fewer than 7 frames, the front end's minimum.
SHORTEST_REST = 880


@functools.cache
def mel_matrix(
  bands: int = BANDS, low_hz: float = 20.0, high_hz: float = SAMPLE_RATE / 2
) -> np.ndarray:
  """Kaldi's triangular filters, not area-normalised, (FFT / 2 + 1, bands)."""

  def mel(hz):
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)

  edges = np.linspace(mel(low_hz), mel(high_hz), bands + 2)
  left, centre, right = edges[:-2], edges[1:-1], edges[2:]
  bins = mel(np.arange(FFT // 2) * SAMPLE_RATE / FFT)[:, None]
  rise = (bins - left) / (centre - left)
  fall = (right - bins) / (right - centre)
  weights = np.maximum(0.0, np.minimum(rise, fall))
  return np.pad(weights, ((0, 1), (0, 0))).astype(np.float32)


@functools.cache
def _window() -> np.ndarray:
  """The symmetric Hamming window, (FRAME,)."""
  angle = 2 * np.pi * np.arange(FRAME) / (FRAME - 1)
  return (0.54 - 0.46 * np.cos(angle)).astype(np.float32)


def frame_count(samples):
  """Complete 25 ms frames in `samples`; ints, numpy or JAX integers."""
  count = (samples - FRAME) // HOP + 1
  return count * (count > 0)


def stacked_count(samples):
  """Stacked frames that the streaming front end yields for `samples`.

  A rest of less than 880 samples (55 ms) after the last full 240 ms chunk is
  dropped, as the original drops it.
  """
  chunks, rest = samples // CHUNK_SAMPLES, samples % CHUNK_SAMPLES
  whole = -(-frame_count(samples) // STRIDE)
  kept = rest >= SHORTEST_REST
  return whole * kept + CHUNK_FRAMES * chunks * (1 - kept)


def frames(wave_BS: jax.Array, count: int) -> jax.Array:
  """Overlapping 25 ms frames every 10 ms, (B, count, FRAME).

  Joined from slices of 10 ms: cheaper than a gather on every backend.
  """
  need = (count + 2) * HOP
  pad = max(0, need - wave_BS.shape[1])
  wave_BS = jnp.pad(wave_BS, ((0, 0), (0, pad)))[:, :need]
  hops = wave_BS.reshape(wave_BS.shape[0], count + 2, HOP)
  tail = hops[:, 2:, : FRAME - 2 * HOP]
  return jnp.concatenate([hops[:, :-2], hops[:, 1:-1], tail], axis=-1)


def fbank(
  wave_BS: jax.Array, lengths_B: jax.Array, *, scale: float = 32768.0
) -> tuple[jax.Array, jax.Array]:
  """Log filter banks of padded waveforms.

  Args:
    wave_BS: Float32 16 kHz samples in [-1, 1]; what is behind a row's length
      does not matter.
    lengths_B: Samples of each row, int32.
    scale: Samples are multiplied by it first (Kaldi works on 16-bit values).

  Returns:
    Features float32 (B, F, 80), zero behind a row's end, and the frame counts.
  """
  count = int(frame_count(wave_BS.shape[1]))
  x_BFN = frames(wave_BS * scale, count)
  x_BFN = x_BFN - x_BFN.mean(axis=-1, keepdims=True)
  before = jnp.concatenate([x_BFN[..., :1], x_BFN[..., :-1]], axis=-1)
  x_BFN = (x_BFN - 0.97 * before) * _window()[None, None]
  spectrum = jnp.fft.rfft(x_BFN, FFT, axis=-1)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  mel_BFM = jnp.matmul(power, mel_matrix(), precision='highest')
  out_BFM = jnp.log(jnp.maximum(mel_BFM, jnp.finfo(jnp.float32).eps))
  counts_B = frame_count(lengths_B)
  valid = jnp.arange(count)[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, out_BFM, 0.0), counts_B


def stack(fbank_BFM: jax.Array, frames_B: jax.Array) -> jax.Array:
  """Seven frames joined every six, edge frames repeated, (B, T, 560).

  T is the stacked count of F frames. Rows behind a row's own count hold
  copies of its last frame; cut or mask them.
  """
  rows, total, bands = fbank_BFM.shape
  count = -(-total // STRIDE)
  place = jnp.arange(total)[None, :]
  last = jnp.maximum(frames_B - 1, 0)[:, None]
  last_B1M = jnp.take_along_axis(fbank_BFM, last[:, :, None], axis=1)
  x = jnp.where((place <= last)[:, :, None], fbank_BFM, last_B1M)
  left = (STACK - 1) // 2
  right = (count + 1) * STRIDE - left - total
  x = jnp.concatenate(
    [
      jnp.repeat(x[:, :1], left, axis=1),
      x,
      jnp.repeat(last_B1M, right, axis=1),
    ],
    axis=1,
  )
  groups = x.reshape(rows, count + 1, STRIDE * bands)
  return jnp.concatenate([groups[:, :-1], groups[:, 1:, :bands]], axis=-1)


def stacked_features(
  wave_BS: jax.Array, lengths_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Waveforms → stacked features before CMVN.

  Returns:
    Features float32 (B, T, 560), zero behind a row's end, and `stacked_count`
    of each row: the streaming front end's own count.
  """
  fbank_BFM, frames_B = fbank(wave_BS, lengths_B)
  x_BTD = stack(fbank_BFM, frames_B)
  counts_B = stacked_count(lengths_B)
  valid = jnp.arange(x_BTD.shape[1])[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, x_BTD, 0.0), counts_B


def normalise(x_BTD: jax.Array, shift_D, scale_D) -> jax.Array:
  """CMVN as `am.mvn` stores it: negated means and inverse deviations."""
  return (x_BTD + shift_D[None, None]) * scale_D[None, None]
