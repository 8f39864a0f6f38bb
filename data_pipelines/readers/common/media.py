"""Recordings and images as bytes: what they are, and samples as a WAV file."""

import io

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import foreign
from step_audio_jax.audio import levels
from step_audio_jax.audio.formats import sphere
from step_audio_jax.storage import lfs

AUDIO = (
  '.wav', '.flac', '.mp3', '.ogg', '.opus', '.aiff', '.aif', '.aifc', '.au',
  '.caf', '.oga', '.sph', '.w64',
)  # fmt: skip
IMAGES = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp')

_AUDIO_MAGIC = (
  (b'RIFF', '.wav'),
  (b'RIFX', '.wav'),
  (b'RF64', '.wav'),
  (b'BW64', '.wav'),
  (b'riff', '.w64'),
  (b'fLaC', '.flac'),
  (b'OggS', '.ogg'),
  (b'ID3', '.mp3'),
  (b'FORM', '.aiff'),
  (b'caff', '.caf'),
  (b'.snd', '.au'),
  (sphere.MAGIC, '.sph'),
)
_IMAGE_MAGIC = (
  (b'\x89PNG', '.png'),
  (b'\xff\xd8\xff', '.jpg'),
  (b'GIF8', '.gif'),
  (b'BM', '.bmp'),
)


def audio_suffix(data: bytes) -> str:
  """Ending of a file's name by its first bytes.

  Raises:
    UserError: They belong to no format that libsndfile reads.
  """
  lfs.refuse(data, 'audio')
  for magic, suffix in _AUDIO_MAGIC:
    if data.startswith(magic):
      return suffix
  form = foreign.format_name(data[:16])
  if form is not None:
    raise errors.UserError(
      f'audio: found {form}, expected {_all(AUDIO)}; {foreign.WAY_ON}.'
    )
  if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
    return '.mp3'
  raise errors.UserError(f'audio: {_found(data)}, expected {_all(AUDIO)}.')


def image_suffix(data: bytes) -> str:
  """As `audio_suffix`, of an image.

  Raises:
    UserError: They belong to no known format.
  """
  lfs.refuse(data, 'image')
  for magic, suffix in _IMAGE_MAGIC:
    if data.startswith(magic):
      return suffix
  if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
    return '.webp'
  raise errors.UserError(f'image: {_found(data)}, expected {_all(IMAGES)}.')


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
  """Samples → the bytes of a WAV file.

  Args:
    samples: (S,) or (S, channels): floats, or whole numbers of 16 bits in any
      integer type. Whole numbers kept as floats are scaled
      (`audio.levels.full_scale`).
    sample_rate: Hz.

  Returns:
    A file of 16 bits; of floating point where samples pass full scale.

  Raises:
    UserError: There are none, they are far beyond full scale or not finite,
      or no file has such a rate or so many channels.
  """
  import soundfile

  samples = np.asarray(samples)
  if samples.ndim not in (1, 2) or not samples.size:
    raise errors.UserError(
      f'audio: found samples of shape {samples.shape}, expected (samples,).'
    )
  if samples.dtype.kind not in 'iuf':
    raise errors.UserError(
      f'audio: found samples of type {samples.dtype}, expected numbers.'
    )
  if not 0 < sample_rate < 2**31:  # NaN fails as well
    raise errors.UserError(
      f'audio: found a sample rate of {sample_rate}, expected Hz.'
    )
  samples, subtype = _storable(samples)
  out = io.BytesIO()
  try:
    soundfile.write(out, samples, int(sample_rate), subtype, format='WAV')
  except soundfile.LibsndfileError as error:
    raise errors.UserError(
      f'audio: samples of shape {samples.shape} at {sample_rate} Hz make no '
      f'WAV file: {error.error_string}'
    ) from error
  return out.getvalue()


def _storable(samples: np.ndarray) -> tuple[np.ndarray, str]:
  """Samples as a file holds them, and its subtype."""
  if samples.dtype.kind in 'iu':
    if np.abs(samples.astype(np.float64)).max() > 2**15:
      raise errors.UserError(
        f'audio: found samples beyond {2**15}, expected {samples.dtype} '
        f'samples between -{2**15} and {2**15}.'
      )
    return np.clip(samples, -(2**15), 2**15 - 1).astype(np.int16), 'PCM_16'
  if not np.isfinite(samples).all():
    raise errors.UserError('audio: samples are not finite numbers.')
  table = samples.reshape(len(samples), -1)
  samples = (samples / levels.full_scale([table])).astype(np.float32)
  levels.check_scale(samples, 'audio')
  return samples, 'PCM_16' if np.abs(samples).max() <= 1 else 'FLOAT'


def _found(data: bytes) -> str:
  return f'found bytes that begin with {data[:8]!r}' if data else 'it is empty'


def _all(suffixes: tuple[str, ...]) -> str:
  return ', '.join(suffix[1:] for suffix in suffixes)
