"""Waveforms in and out: any rate, any channel count → 16 kHz mono float32."""

import io
import os
import pathlib
import struct

import numpy as np
import soundfile
import soxr

from step_audio_jax import errors
from step_audio_jax import files

SAMPLE_RATE = 16000

# Sizes that writers put into a WAV header when they do not know the length
# (ffmpeg and sox into a pipe); such a header says nothing.
_UNKNOWN_SIZE = 0x7FFFF000


def read_audio(
  source: str | os.PathLike | bytes,
  *,
  offset: float = 0.0,
  duration: float | None = None,
  sample_rate: int = SAMPLE_RATE,
  name: str | None = None,
) -> tuple[np.ndarray, int]:
  """Reads a recording, or a part of one, as mono.

  Channels are averaged; another rate is converted by soxr (HQ).

  Args:
    source: A path, or the bytes of a whole file.
    offset: Start of the part, seconds.
    duration: Length of the part, seconds; None reads to the end.
    sample_rate: Rate of the result, Hz.
    name: What messages call the source; by default its path.

  Returns:
    Samples float32 (S,), in [-1, 1] for integer files, and `sample_rate`.

  Raises:
    UserError: No such file, not audio, cut short, empty, or not finite.
  """
  name = name or ('<bytes>' if isinstance(source, bytes) else str(source))
  raw = source if isinstance(source, bytes) else _read_bytes(source, name)
  if not raw:
    raise errors.UserError(f'{name}: the file is empty, expected audio.')
  _check_wav_size(raw, name)
  try:
    with soundfile.SoundFile(io.BytesIO(raw)) as handle:
      rate, total = handle.samplerate, handle.frames
      start = round(offset * rate)
      if not 0 <= start <= total:
        raise errors.UserError(
          f'{name}: offset {offset} s lies outside the recording of '
          f'{total / rate:.3f} s.'
        )
      handle.seek(start)
      count = -1 if duration is None else round(duration * rate)
      samples_SC = handle.read(count, dtype='float32', always_2d=True)
  except soundfile.LibsndfileError as error:
    raise errors.UserError(
      f'{name}: not readable as audio ({error.error_string.strip()}), '
      'expected wav, flac, ogg, mp3 or another format of libsndfile.'
    ) from error
  samples_S = samples_SC.mean(axis=1)
  if not samples_S.size:
    raise errors.UserError(f'{name}: 0 samples of audio, expected some.')
  if not np.isfinite(samples_S).all():
    place = int(np.argmin(np.isfinite(samples_S)))
    raise errors.UserError(
      f'{name}: sample {place} is {samples_S[place]}, expected finite numbers.'
    )
  if rate != sample_rate:
    samples_S = soxr.resample(samples_S, rate, sample_rate, quality='HQ')
  return np.ascontiguousarray(samples_S, np.float32), sample_rate


def write_audio(
  path: str | os.PathLike,
  samples_S: np.ndarray,
  sample_rate: int = SAMPLE_RATE,
) -> None:
  """Writes mono samples in [-1, 1] as 16-bit WAV, atomically; clips beyond."""
  samples_S = np.clip(np.asarray(samples_S, np.float32), -1.0, 1.0)
  with files.atomic(path) as handle:
    soundfile.write(handle, samples_S, sample_rate, 'PCM_16', format='WAV')


def _read_bytes(path, name):
  try:
    return pathlib.Path(path).read_bytes()
  except FileNotFoundError as error:
    raise errors.UserError(f'{name}: no such file.') from error
  except OSError as error:
    raise errors.UserError(
      f'{name}: not readable as a file ({error.strerror}).'
    ) from error


def _check_wav_size(raw, name):
  """A WAV whose data chunk runs past the end of the file was cut short."""
  if raw[:4] != b'RIFF' or raw[8:12] != b'WAVE':
    return
  place = 12
  while place + 8 <= len(raw):
    chunk, size = struct.unpack('<4sI', raw[place : place + 8])
    found = len(raw) - place - 8
    if chunk == b'data':
      if found < size < _UNKNOWN_SIZE:
        raise errors.UserError(
          f'{name}: cut short: the header announces {size} bytes of samples, '
          f'found {found}.'
        )
      return
    place += 8 + size + size % 2
