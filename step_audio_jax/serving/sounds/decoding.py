"""What a client sends as sound → samples that an ear hears, within limits.

A few bytes may hold days: FLAC needs some ten for a block of 65,535 equal
samples. So what a header tells is believed where it says too much, nothing is
where it says little, and decoding ends at the limit.
"""

import asyncio
import base64
import binascii
import concurrent.futures
import io
import math

import numpy as np
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import foreign
from step_audio_jax.audio import io as audio_io
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import faults

# How the containers begin that may be sent; what libsndfile opens besides is
# of no client, and nothing there tells how long it is.
_BEGINS = (
  *(b'RIFF', b'RIFX', b'RF64', b'fLaC', b'OggS', b'ID3'),
  *(b'\xff\xfb', b'\xff\xfa', b'\xff\xf3', b'\xff\xf2', b'\xff\xe3'),
)
_EXPECTED = 'wav, flac, mp3 or ogg (Vorbis, Opus)'
_BLOCK = 10.0  # seconds
_RATES = (1000, 768000)  # Hz
# So many recordings are decoded at once; the others wait.
_THREADS = concurrent.futures.ThreadPoolExecutor(2, 'decode')


async def decoded(raw: bytes, field: str, longest: float) -> np.ndarray:
  """A recording as an ear hears it.

  Args:
    raw: A whole file.
    field: Of the request, for messages.
    longest: Seconds.

  Returns:
    Samples float32 (S,) at `services.HEARD_RATE`.

  Raises:
    Fault: It is no recording, longer than that, silent, or not finite.
  """
  loop = asyncio.get_running_loop()
  return await loop.run_in_executor(_THREADS, decode, raw, field, longest)


def decode(raw: bytes, field: str, longest: float) -> np.ndarray:
  """`decoded`, in a thread that may be blocked."""
  if not raw:
    raise faults.invalid(
      f'{field}: found no bytes, expected a recording.', field, 'invalid_value'
    )
  if not raw.startswith(_BEGINS):
    form = foreign.format_name(raw[:16]) or 'what is no recording'
    raise faults.invalid(
      f'{field}: found {form}, expected {_EXPECTED}.',
      field,
      'unsupported_format',
    )
  try:
    _check_header(raw, field, longest)
    most = math.floor(longest * services.HEARD_RATE)
    parts, count = [], 0
    for samples_S in audio_io.read_blocks(
      raw,
      sample_rate=services.HEARD_RATE,
      name=field,
      audible=True,
      block_seconds=_BLOCK,
    ):
      count += len(samples_S)
      if count > most:
        raise _too_long(field, longest)
      parts.append(samples_S)
  except errors.UserError as error:
    raise faults.invalid(str(error), field, 'invalid_audio') from error
  return np.concatenate(parts)


def from_base64(text: str, field: str) -> bytes:
  """The bytes that a field holds, maybe as a data URL.

  Raises:
    Fault: It is no base64.
  """
  _, comma, data = text[:100].partition(',')
  written = text[len(text[:100]) - len(data) :] if comma else text
  try:
    return base64.b64decode(''.join(written.split()), validate=True)
  except (binascii.Error, ValueError) as error:
    raise faults.invalid(
      f'{field}: found {len(text)} characters that are no base64.',
      field,
      'invalid_base64',
    ) from error


def _check_header(raw: bytes, field: str, longest: float) -> None:
  """Refuses what already its header says is too much."""
  try:
    found = soundfile.info(io.BytesIO(raw))
  except soundfile.LibsndfileError:
    return  # who reads it says what is wrong
  if not _RATES[0] <= found.samplerate <= _RATES[1]:
    raise faults.invalid(
      f'{field}: found a rate of {found.samplerate} Hz, expected {_RATES[0]} '
      f'to {_RATES[1]}.',
      field,
      'invalid_audio',
    )
  frames = found.frames
  if frames < 2**62 and not raw.startswith(b'RI'):  # which counts its bytes
    if frames > longest * found.samplerate:
      raise _too_long(field, longest)


def _too_long(field: str, longest: float) -> faults.Fault:
  return faults.invalid(
    f'{field}: found a recording of more than {longest:g} seconds, which is '
    'the most.',
    field,
    'audio_too_long',
  )
