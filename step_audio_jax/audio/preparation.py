"""What Step-Audio does to a waveform before its tokenizers see it.

Energy normalisation: x ← 0.999 x / max(max |x|, 0.01). Silence trimming: keep
what is within 20 dB of the loudest 32 ms frame, 50 ms before it and about 220
ms after it. Shape letters: B rows, S samples.
"""

import jax
import jax.numpy as jnp

SAMPLE_RATE = 16000
_FRAME = 512
_HOP = 128
_BLOCK = 240
_KEEP_LEFT = 800  # 0.05 s
_KEEP_BOTH = 4320  # 0.05 s before and 0.22 s after


def _valid(wave_BS, lengths_B):
  return jnp.arange(wave_BS.shape[1])[None, :] < lengths_B[:, None]


def normalise_energy(wave_BS: jax.Array, lengths_B: jax.Array) -> jax.Array:
  """Scales each row to a peak of 0.999; zero behind a row's end.

  Rows with a peak below 0.01 are amplified by 99.9 only.
  """
  wave_BS = jnp.where(_valid(wave_BS, lengths_B), wave_BS, 0.0)
  peak_B1 = jnp.abs(wave_BS).max(axis=1, keepdims=True)
  return wave_BS / jnp.maximum(peak_B1, 0.01) * 0.999


def active_bounds(
  wave_BS: jax.Array, lengths_B: jax.Array, *, top_db: float = 20.0
) -> tuple[jax.Array, jax.Array]:
  """First and one-past-last sample of the loud part of each row, int32 (B,).

  The same as `librosa.effects.trim(top_db=20, frame_length=512,
  hop_length=128)`.
  """
  wave_BS = jnp.where(_valid(wave_BS, lengths_B), wave_BS, 0.0)
  count = 1 + wave_BS.shape[1] // _HOP
  parts = _FRAME // _HOP
  square = jnp.square(jnp.pad(wave_BS, ((0, 0), (_FRAME // 2, _FRAME))))
  square = square[:, : (count + parts - 1) * _HOP]
  hops = square.reshape(len(wave_BS), -1, _HOP).sum(axis=-1)
  power_BF = sum(hops[:, i : i + count] for i in range(parts)) / _FRAME
  frame = jnp.arange(count)[None, :]
  real = frame <= (lengths_B // _HOP)[:, None]
  power_BF = jnp.where(real, jnp.maximum(power_BF, 1e-10), 0.0)
  floor = power_BF.max(axis=1, keepdims=True) * 10.0 ** (-top_db / 10.0)
  loud = real & (power_BF > floor)
  first = jnp.argmax(loud, axis=1)
  last = count - 1 - jnp.argmax(loud[:, ::-1], axis=1)
  return first * _HOP, jnp.minimum((last + 1) * _HOP, lengths_B)


def trim_silence(
  wave_BS: jax.Array, lengths_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Cuts silence off both ends; may lengthen a row by zeros.

  Returns:
    Samples (B, S'), zero behind a row's end, and the new lengths; S' is the
    largest length possible for S.
  """
  start_B, end_B = active_bounds(wave_BS, lengths_B)
  blocks_B = -(-(end_B - start_B) // _BLOCK)
  out_B = blocks_B * _BLOCK + _KEEP_BOTH
  size = -(-wave_BS.shape[1] // _BLOCK) * _BLOCK + _KEEP_BOTH
  place = jnp.arange(size)[None, :]
  source = place + start_B[:, None] - _KEEP_LEFT
  known = (source >= 0) & (source < lengths_B[:, None])
  known &= place < out_B[:, None]
  source = jnp.clip(source, 0, wave_BS.shape[1] - 1)
  return jnp.where(
    known, jnp.take_along_axis(wave_BS, source, axis=1), 0.0
  ), out_B
