"""What Step-Audio does to a waveform before its tokenizers see it.

Energy normalisation: x ← 0.999 x / max(max |x|, 0.01). Silence trimming: keep
what is within 20 dB of the loudest 32 ms frame, 50 ms before it and about 220
ms after it. Shape letters: B rows, S samples.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors

SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class Trimming:
  """Numbers of `trim_silence`; the defaults are Step-Audio's.

  Attributes:
    top_db: Frames this much below the loudest are silence.
    frame: Samples of a frame, at least `hop`.
    hop: Samples between frames.
    block: What is kept is rounded up to a multiple of it.
    keep_left: Samples kept before the loud part.
    keep_right: Samples kept behind it.
  """

  top_db: float = 20.0
  frame: int = 512
  hop: int = 128
  block: int = 240
  keep_left: int = 800
  keep_right: int = 3520


_RELEASED = Trimming()


def _valid(wave_BS, lengths_B):
  return jnp.arange(wave_BS.shape[1])[None, :] < lengths_B[:, None]


def normalise_energy(wave_BS: jax.Array, lengths_B: jax.Array) -> jax.Array:
  """Scales each row to a peak of 0.999; zero behind a row's end.

  Rows with a peak below 0.01 are amplified by 99.9 only.
  """
  wave_BS = jnp.where(_valid(wave_BS, lengths_B), wave_BS, 0.0)
  peak_B1 = jnp.abs(wave_BS).max(axis=1, keepdims=True)
  return wave_BS / jnp.maximum(peak_B1, 0.01) * 0.999


def gains(peaks) -> np.ndarray:
  """What `scale` takes, float32 (2, B): divisors and factors.

  Args:
    peaks: For each row its largest |sample|, or None: leave it as it is.

  Raises:
    UserError: A peak is negative or not finite.
  """
  out = np.ones((2, len(peaks)), np.float32)
  for row, peak in enumerate(peaks):
    if peak is not None:
      if not (np.isfinite(peak) and peak >= 0):
        raise errors.UserError(
          f'peak: found {peak}, expected the largest |sample|, a number from '
          '0 on.'
        )
      out[:, row] = max(np.float32(peak), np.float32(0.01)), 0.999
  return out


def scale(wave_BS: jax.Array, gains_2B: jax.Array) -> jax.Array:
  """`normalise_energy` for a part of a signal whose peak is known."""
  return wave_BS / gains_2B[0][:, None] * gains_2B[1][:, None]


def active_bounds(
  wave_BS: jax.Array, lengths_B: jax.Array, trimming: Trimming = _RELEASED
) -> tuple[jax.Array, jax.Array]:
  """First and one-past-last sample of the loud part of each row, int32 (B,).

  The same as `librosa.effects.trim(top_db=20, frame_length=512,
  hop_length=128)`.
  """
  wave_BS = jnp.where(_valid(wave_BS, lengths_B), wave_BS, 0.0)
  frame, hop = trimming.frame, trimming.hop
  count = 1 + wave_BS.shape[1] // hop
  parts, rest = divmod(frame, hop)
  square = jnp.square(jnp.pad(wave_BS, ((0, 0), (frame // 2, frame + hop))))
  square = square[:, : (count + parts) * hop]
  square = square.reshape(len(wave_BS), count + parts, hop)
  hops = square.sum(axis=-1)
  power_BF = sum(hops[:, i : i + count] for i in range(parts))
  power_BF += square[:, parts:, :rest].sum(axis=-1)
  power_BF /= frame
  place = jnp.arange(count)[None, :]
  real = place <= (lengths_B // hop)[:, None]
  power_BF = jnp.where(real, jnp.maximum(power_BF, 1e-10), 0.0)
  floor = power_BF.max(axis=1, keepdims=True) * 10.0 ** (
    -trimming.top_db / 10.0
  )
  loud = real & (power_BF > floor)
  first = jnp.argmax(loud, axis=1)
  last = count - 1 - jnp.argmax(loud[:, ::-1], axis=1)
  return first * hop, jnp.minimum((last + 1) * hop, lengths_B)


def trim_silence(
  wave_BS: jax.Array, lengths_B: jax.Array, trimming: Trimming = _RELEASED
) -> tuple[jax.Array, jax.Array]:
  """Cuts silence off both ends; may lengthen a row by zeros.

  Returns:
    Samples (B, S'), zero behind a row's end, and the new lengths; S' is the
    largest length possible for S.
  """
  start_B, end_B = active_bounds(wave_BS, lengths_B, trimming)
  block = trimming.block
  keep = trimming.keep_left + trimming.keep_right
  out_B = -(-(end_B - start_B) // block) * block + keep
  size = -(-wave_BS.shape[1] // block) * block + keep
  place = jnp.arange(size)[None, :]
  source = place + start_B[:, None] - trimming.keep_left
  known = (source >= 0) & (source < lengths_B[:, None])
  known &= place < out_B[:, None]
  source = jnp.clip(source, 0, wave_BS.shape[1] - 1)
  return jnp.where(
    known, jnp.take_along_axis(wave_BS, source, axis=1), 0.0
  ), out_B
