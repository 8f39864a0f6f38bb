"""Kaldi filter banks and Paraformer's stacked low-frame-rate features.

    frame   = x[160 t : 160 t + 400] − mean
    y[i]    = (frame[i] − 0.97 frame[max(i − 1, 0)]) · hamming[i]
    fbank_m = ln max(ε, Σ_k |FFT_512(y)_k|² W_km)              100 Hz, 80-d
    lfr_t   = concat fbank[6 t − 3 … 6 t + 3], edges repeated   16.67 Hz, 560-d
    feature = (lfr + shift) · scale                             CMVN

with dither 0, as `WavFrontendOnline` of FunASR computes it. The numbers are
those of the released tokenizer; `FrontEnd` holds others. Shape letters: B
rows, S samples, F frames (100 Hz), T stacked frames, M mel bands, D features.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import framing


@dataclasses.dataclass(frozen=True)
class FrontEnd:
  """Numbers of a front end; the defaults are the released tokenizer's.

  Attributes:
    sample_rate: Hz.
    bands: Mel bands M.
    frame: Samples of a frame.
    hop: Samples between frames.
    stack: Frames joined into one (`lfr_m`).
    stride: Frames between joined ones (`lfr_n`), below `stack`.
    chunk_samples: What streaming hands over at a time.
    window: 'hamming' or 'povey'.
    scale: Samples are multiplied by it (Kaldi works on 16-bit values).
  """

  sample_rate: int = 16000
  bands: int = 80
  frame: int = 400
  hop: int = 160
  stack: int = 7
  stride: int = 6
  chunk_samples: int = 3840
  window: str = 'hamming'
  scale: float = 32768.0

  def __post_init__(self):
    sizes = ('bands', 'frame', 'hop', 'stack', 'stride', 'chunk_samples')
    errors.at_least_one('front end', self, sizes)
    if self.stride >= self.stack > 1:
      raise errors.UserError(
        f'front end: stride is {self.stride} and stack {self.stack}; expected '
        'a stride below the stack.'
      )
    if self.window not in ('hamming', 'povey'):
      raise errors.UserError(
        f"front end: window is {self.window!r}, expected 'hamming' or 'povey'."
      )

  @property
  def fft(self) -> int:
    """The power of two that holds a frame."""
    return 1 << (self.frame - 1).bit_length()

  @property
  def features(self) -> int:
    """Width of a stacked frame."""
    return self.stack * self.bands


RELEASED = FrontEnd()
SAMPLE_RATE, BANDS = RELEASED.sample_rate, RELEASED.bands
FRAME, HOP = RELEASED.frame, RELEASED.hop
STACK, STRIDE = RELEASED.stack, RELEASED.stride
CHUNK_SAMPLES = RELEASED.chunk_samples  # 240 ms: four stacked frames
CHUNK_FRAMES = 4


@functools.cache
def mel_matrix(config: FrontEnd = RELEASED, low_hz: float = 20.0) -> np.ndarray:
  """Kaldi's triangular filters, not area-normalised, (fft / 2 + 1, bands)."""

  def mel(hz):
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)

  rate, fft = config.sample_rate, config.fft
  edges = np.linspace(mel(low_hz), mel(rate / 2), config.bands + 2)
  left, centre, right = edges[:-2], edges[1:-1], edges[2:]
  bins = mel(np.arange(fft // 2) * rate / fft)[:, None]
  rise = (bins - left) / (centre - left)
  fall = (right - bins) / (right - centre)
  weights = np.maximum(0.0, np.minimum(rise, fall))
  return np.pad(weights, ((0, 1), (0, 0))).astype(np.float32)


@functools.cache
def _window(config: FrontEnd) -> np.ndarray:
  """The symmetric window, (frame,)."""
  wave = np.cos(2 * np.pi * np.arange(config.frame) / (config.frame - 1))
  if config.window == 'povey':
    return ((0.5 - 0.5 * wave) ** 0.85).astype(np.float32)
  return (0.54 - 0.46 * wave).astype(np.float32)


def frame_count(samples, config: FrontEnd = RELEASED):
  """Complete frames in `samples`; ints, numpy or JAX integers."""
  count = (samples - config.frame) // config.hop + 1
  return count * (count > 0)


def emitted_count(samples, config: FrontEnd = RELEASED):
  """Stacked frames that are complete while `samples` are heard so far."""
  total = frame_count(samples, config)
  left = (config.stack - 1) // 2
  count = (left + total - config.stack) // config.stride + 1
  return count * (count > 0) * (total > 0)


def stacked_count(samples, config: FrontEnd = RELEASED):
  """Stacked frames that the streaming front end yields for `samples`.

  What is left behind the last full chunk is dropped, as the original drops
  it, if carried and new frames together are fewer than a stack (a rest below
  880 samples, 55 ms, by default).
  """
  heard = samples // config.chunk_samples * config.chunk_samples
  done = emitted_count(heard, config)
  total, before = frame_count(samples, config), frame_count(heard, config)
  carried = (config.stack - 1) // 2 + total - done * config.stride
  # A rest without a new frame only flushes what is carried.
  kept = (samples > heard) & ((carried >= config.stack) | (total == before))
  return -(-total // config.stride) * kept + done * (1 - kept)


def frames(
  wave_BS: jax.Array, count: int, config: FrontEnd = RELEASED
) -> jax.Array:
  """Overlapping frames (25 ms every 10 ms by default), (B, count, frame)."""
  return framing.sliding_windows(
    wave_BS[:, :, None], config.frame, config.hop, count
  )


def fbank(
  wave_BS: jax.Array, lengths_B: jax.Array, config: FrontEnd = RELEASED
) -> tuple[jax.Array, jax.Array]:
  """Log filter banks of padded waveforms.

  Args:
    wave_BS: Float32 samples in [-1, 1]; what is behind a row's length does
      not matter.
    lengths_B: Samples of each row, int32.
    config: Numbers.

  Returns:
    Features float32 (B, F, M), zero behind a row's end, and the frame counts.
  """
  count = int(frame_count(wave_BS.shape[1], config))
  x_BFN = frames(wave_BS * config.scale, count, config)
  x_BFN = x_BFN - x_BFN.mean(axis=-1, keepdims=True)
  before = jnp.concatenate([x_BFN[..., :1], x_BFN[..., :-1]], axis=-1)
  x_BFN = (x_BFN - 0.97 * before) * _window(config)[None, None]
  spectrum = jnp.fft.rfft(x_BFN, config.fft, axis=-1)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  mel_BFM = jnp.matmul(power, mel_matrix(config), precision='highest')
  out_BFM = jnp.log(jnp.maximum(mel_BFM, jnp.finfo(jnp.float32).eps))
  counts_B = frame_count(lengths_B, config)
  valid = jnp.arange(count)[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, out_BFM, 0.0), counts_B


def stack(
  fbank_BFM: jax.Array, frames_B: jax.Array, config: FrontEnd = RELEASED
) -> jax.Array:
  """Seven frames joined every six, edge frames repeated, (B, T, D).

  T is the stacked count of F frames. Rows behind a row's own count hold
  copies of its last frame; cut or mask them.
  """
  total = fbank_BFM.shape[1]
  count = -(-total // config.stride)
  place = jnp.arange(total)[None, :]
  last = jnp.maximum(frames_B - 1, 0)[:, None]
  last_B1M = jnp.take_along_axis(fbank_BFM, last[:, :, None], axis=1)
  x = jnp.where((place <= last)[:, :, None], fbank_BFM, last_B1M)
  left = (config.stack - 1) // 2
  x = jnp.concatenate(
    [
      jnp.repeat(x[:, :1], left, axis=1),
      x,
      jnp.repeat(last_B1M, config.stack, axis=1),
    ],
    axis=1,
  )
  return framing.sliding_windows(x, config.stack, config.stride, count)


def stacked_features(
  wave_BS: jax.Array, lengths_B: jax.Array, config: FrontEnd = RELEASED
) -> tuple[jax.Array, jax.Array]:
  """Waveforms → stacked features before CMVN.

  Returns:
    Features float32 (B, T, D), zero behind a row's end, and `stacked_count`
    of each row: the streaming front end's own count.
  """
  fbank_BFM, frames_B = fbank(wave_BS, lengths_B, config)
  x_BTD = stack(fbank_BFM, frames_B, config)
  counts_B = stacked_count(lengths_B, config)
  valid = jnp.arange(x_BTD.shape[1])[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, x_BTD, 0.0), counts_B


def history(config: FrontEnd = RELEASED) -> int:
  """Samples before a chunk that its stacked frames look back on.

  Raises:
    UserError: Chunks do not end where stacked frames do, so that a chunk
      would need more of the past than of its own.
  """
  left = (config.stack - 1) // 2
  whole, rest = divmod(config.chunk_samples, config.hop * config.stride)
  if rest or emitted_count(config.chunk_samples, config) != whole:
    raise errors.UserError(
      f'front end: chunks of {config.chunk_samples} samples end inside a '
      'stacked frame; expected whole ones.'
    )
  return left * config.hop


def streaming_features(
  wave_BS: jax.Array,
  heard_B: jax.Array,
  first_B: jax.Array,
  config: FrontEnd = RELEASED,
) -> tuple[jax.Array, jax.Array]:
  """The stacked features that come with the next chunks of a stream.

  The original carries unfinished frames from chunk to chunk. Here each chunk
  is computed from its samples and the `history` before them: the same numbers
  from one fixed shape, first and last chunks included.

  Args:
    wave_BS: `history` samples, then whole chunks.
    heard_B: New samples of each row; fewer than all end the row's stream.
    first_B: Whether the row begins here; its history does not matter then.
    config: Numbers.

  Returns:
    Features before CMVN float32 (B, T, D), zero behind a row's end, and the
    count of each row.
  """
  past = history(config)
  left = past // config.hop
  frames_BFM, frames_B = fbank(wave_BS, past + heard_B, config)
  place = jnp.arange(frames_BFM.shape[1])[None, :]
  place = jnp.minimum(place, jnp.maximum(frames_B - 1, 0)[:, None])
  place = jnp.where(first_B[:, None], jnp.maximum(place, left), place)
  x_BFM = jnp.take_along_axis(frames_BFM, place[:, :, None], axis=1)
  total = (wave_BS.shape[1] - past) // (config.hop * config.stride)
  x_BTD = framing.sliding_windows(x_BFM, config.stack, config.stride, total)
  # One chunk stands for all that came before: the tail rule sees no further.
  before_B = jnp.where(first_B, 0, config.chunk_samples)
  counts_B = stacked_count(before_B + heard_B, config)
  counts_B -= stacked_count(before_B, config)
  valid = jnp.arange(total)[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, x_BTD, 0.0), counts_B


def normalise(x_BTD: jax.Array, shift_D, scale_D) -> jax.Array:
  """CMVN as `am.mvn` stores it: negated means and inverse deviations."""
  return (x_BTD + shift_D[None, None]) * scale_D[None, None]
