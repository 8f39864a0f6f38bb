"""Speech from espeak-ng, called in process through ctypes.

The library comes with the pip package `espeakng-loader`. espeak-ng keeps
random state (flutter, breath) between calls, so the same sentence sounds
slightly different the second time. Here every call loads the library afresh,
seeds it and unloads it (8 ms): the samples depend on the arguments only, and
not on what was said before or in which process.
"""

import _ctypes
import ctypes
import dataclasses
import functools

import numpy as np

from step_audio_jax import errors

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_WORD = 1  # espeakEVENT_WORD


@dataclasses.dataclass(frozen=True)
class Speech:
  """What was said.

  Attributes:
    samples: int16 (S,).
    sample_rate: Hz.
    words: (character position in the text, seconds) of each word's start.
  """

  samples: np.ndarray
  sample_rate: int
  words: tuple[tuple[int, float], ...]


class _Id(ctypes.Union):
  _fields_ = [
    ('number', ctypes.c_int),
    ('name', ctypes.c_char_p),
    ('string', ctypes.c_char * 8),
  ]


class _Event(ctypes.Structure):
  _fields_ = [
    ('type', ctypes.c_int),
    ('unique_identifier', ctypes.c_uint),
    ('text_position', ctypes.c_int),
    ('length', ctypes.c_int),
    ('audio_position', ctypes.c_int),
    ('sample', ctypes.c_int),
    ('user_data', ctypes.c_void_p),
    ('id', _Id),
  ]


_CALLBACK = ctypes.CFUNCTYPE(
  ctypes.c_int,
  ctypes.POINTER(ctypes.c_short),
  ctypes.c_int,
  ctypes.POINTER(_Event),
)


@functools.cache
def _paths() -> tuple[str, bytes]:
  """Where the library and its voices are."""
  try:
    import espeakng_loader
  except ImportError as error:
    raise errors.UserError(
      'espeak-ng is not installed: pip install espeakng-loader (it is in the '
      "'data' extra)."
    ) from error
  data = espeakng_loader.get_data_path().encode()
  return espeakng_loader.get_library_path(), data


def speak(
  text: str, *, voice: str, rate: int = 160, pitch: int = 50, seed: int = 0
) -> Speech:
  """Speaks one sentence.

  Args:
    text: What to say; espeak-ng reports word starts by place in this text.
    voice: Language and variant, such as `en-us+m1` or `cmn+f2`.
    rate: Words per minute, 80..450.
    pitch: 0..100; 50 is the voice's own.
    seed: For the voice's small random variations.

  Returns:
    The samples with the start of each word. The same arguments give the same
    samples, whatever else was said in this process.

  Raises:
    UserError: espeak-ng has no such voice, or the rate or pitch is outside.
  """
  if not 80 <= rate <= 450:
    raise errors.UserError(f'rate: found {rate}, expected 80..450 words/min.')
  if not 0 <= pitch <= 100:
    raise errors.UserError(f'pitch: found {pitch}, expected 0..100.')
  path, data = _paths()
  library = ctypes.CDLL(path)
  try:
    return _speak(library, data, text, voice, rate, pitch, seed)
  finally:
    library.espeak_Terminate()
    handle = library._handle
    del library
    _ctypes.dlclose(handle)


def _speak(library, data, text, voice, rate, pitch, seed) -> Speech:
  sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
  if sample_rate <= 0:
    raise RuntimeError(f'espeak-ng did not start: its data is not in {data}.')
  library.espeak_ng_SetRandSeed(ctypes.c_long(seed + 1))
  chunks, words = [], []

  def collect(samples, count, events):
    if samples and count > 0:
      chunks.append(ctypes.string_at(samples, 2 * count))
    place = 0
    while events[place].type:
      event = events[place]
      if event.type == _WORD:
        words.append((event.text_position - 1, event.sample / sample_rate))
      place += 1
    return 0

  callback = _CALLBACK(collect)  # must outlive the call below
  library.espeak_SetSynthCallback(callback)
  if library.espeak_SetVoiceByName(voice.encode()):
    raise errors.UserError(
      f'voice: espeak-ng has no {voice!r}; expected one such as en-us+m1.'
    )
  library.espeak_SetParameter(_RATE, rate, 0)
  library.espeak_SetParameter(_PITCH, pitch, 0)
  raw = text.encode() + b'\0'
  status = library.espeak_Synth(
    raw, ctypes.c_size_t(len(raw)), 0, 1, 0, _UTF8, None, None
  )
  if status:
    raise RuntimeError(f'espeak-ng could not say {text!r}: status {status}.')
  samples = np.frombuffer(b''.join(chunks), np.int16)
  return Speech(samples, sample_rate, tuple(words))
