"""Speech from espeak-ng, called in process through ctypes.

The library comes with the pip package `espeakng-loader`. espeak-ng keeps
random state (flutter, breath) between calls, so the same sentence sounds
slightly different the second time. Here every call loads the library afresh,
seeds it and unloads it (8 ms): the samples depend on the arguments only, and
not on what was said before or in which process.
"""

import _ctypes
import contextlib
import ctypes
import dataclasses
import functools
import pathlib
import threading
from typing import Any, Iterator, Mapping

import numpy as np

from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.storage import digests

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_WORD = 1  # espeakEVENT_WORD
_IPA = 2  # bits of espeak_TextToPhonemes
PACKAGE = 'espeakng-loader'
_LOCK = threading.Lock()  # the library has one state
# Words per minute of rate 1: the middle of what corpora are spoken with.
USUAL_RATES = {'en': 160, 'zh': 185}
_LANGUAGES = {'en': 'en-us', 'zh': 'cmn'}


class UnknownVoice(errors.UserError):
  """A voice that espeak-ng does not have."""


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
) -> voice_lib.Speech:
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
  with _loaded() as (library, sample_rate):
    return _speak(library, sample_rate, text, voice, rate, pitch, seed)


@contextlib.contextmanager
def _loaded() -> Iterator[tuple[Any, int]]:
  """The library as if it had never been used, and its sample rate."""
  path, data = _paths()
  with _LOCK:
    library = ctypes.CDLL(path)
    try:
      sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
      if sample_rate <= 0:
        raise RuntimeError(
          f'espeak-ng did not start: its data is not in {data}.'
        )
      yield library, sample_rate
    finally:
      library.espeak_Terminate()
      handle = library._handle
      del library
      _ctypes.dlclose(handle)


def check_voice(voice: str) -> None:
  """Raises `UnknownVoice` where espeak-ng has no such voice."""
  with _loaded() as (library, _):
    _choose(library, voice)


def _choose(library: Any, voice: str) -> None:
  raw = voice.encode(errors='replace')
  # It takes a name of nothing, or up to a NUL, for one.
  if not voice.strip() or b'\0' in raw or library.espeak_SetVoiceByName(raw):
    raise UnknownVoice(
      f'voice: espeak-ng has no {voice!r}; expected one such as en-us+m1.'
    )


def _speak(library, sample_rate, text, voice, rate, pitch, seed):
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
  _choose(library, voice)
  library.espeak_SetParameter(_RATE, rate, 0)
  library.espeak_SetParameter(_PITCH, pitch, 0)
  raw = text.encode() + b'\0'
  status = library.espeak_Synth(
    raw, ctypes.c_size_t(len(raw)), 0, 1, 0, _UTF8, None, None
  )
  if status:
    raise RuntimeError(f'espeak-ng could not say {text!r}: status {status}.')
  samples = np.frombuffer(b''.join(chunks), np.int16)
  # A division by a power of two: 16 bits come back as they were.
  samples = samples.astype(np.float32) / 32768
  return voice_lib.Speech(samples, sample_rate, tuple(words))


def phonemes(text: str, *, voice: str) -> list[tuple[str, str]]:
  """Clauses of a text: their phonemes, and the text of each.

  Args:
    text: What is read.
    voice: Language, such as `en-us`.

  Returns:
    (IPA, text) each: words with spaces between them; the text goes on to the
    first letter behind the clause, as far as espeak-ng reads ahead.

  Raises:
    UserError: espeak-ng has no such voice.
  """
  raw = text.encode()
  clauses = []
  with _loaded() as (library, _):
    _choose(library, voice)
    translate = library.espeak_TextToPhonemes
    translate.restype = ctypes.c_char_p
    translate.argtypes = [
      ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int
    ]  # fmt: skip
    buffer = ctypes.create_string_buffer(raw)
    first = ctypes.addressof(buffer)
    place = ctypes.c_void_p(first)
    while place.value is not None:
      start = place.value - first
      said = translate(ctypes.byref(place), _UTF8, _IPA) or b''
      stop = len(raw) if place.value is None else place.value - first
      part = raw[start:stop].decode(errors='replace')
      clauses.append((said.decode(), part))
  return clauses


@functools.cache
def _digest() -> str:
  return digests.of_file(_paths()[0])


@dataclasses.dataclass(frozen=True)
class Espeak:
  """espeak-ng as a `Voice`.

  Attributes:
    speakers: Its variants.
  """

  speakers: tuple[str, ...] = (
    'm1', 'm3', 'm5', 'm7', 'm2', 'f1', 'f2', 'f4', 'f3'
  )  # fmt: skip
  name = 'espeak-ng'
  languages = ('en', 'zh')
  sample_rate = 22050
  licence = 'GPL-3.0-or-later'

  origin = 'https://github.com/espeak-ng/espeak-ng'
  made_with = (PACKAGE,)

  @property
  def files(self) -> Mapping[str, str]:
    return {pathlib.Path(_paths()[0]).name: self.sha256}

  @property
  def sha256(self) -> str:
    return _digest()

  def speak(
    self,
    text: str,
    *,
    language: str,
    speaker: str | None = None,
    rate: float = 1.0,
    pitch: int = 50,
    seed: int = 0,
  ) -> voice_lib.Speech:
    if language not in _LANGUAGES:
      raise errors.UserError(
        f'language: found {language!r}, expected one that is spoken with '
        f'espeak-ng here: {", ".join(_LANGUAGES)}.'
      )
    return speak(
      text,
      voice=f'{_LANGUAGES[language]}+{speaker or self.speakers[0]}',
      rate=round(rate * USUAL_RATES[language]),
      pitch=pitch,
      seed=seed,
    )
