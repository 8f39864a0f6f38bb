"""What a voice is: text in, samples out, the same ones every time."""

import dataclasses
import importlib.metadata
from typing import Any, Mapping, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Speech:
  """What was said.

  Attributes:
    samples: float32 (S,), within ±1.
    sample_rate: Hz.
    words: (character position in the text, seconds) of the starts of words,
      rising; of those that are known.
    phonemes: As the voice took them, where it takes phonemes.
  """

  samples: np.ndarray
  sample_rate: int
  words: tuple[tuple[int, float], ...] = ()
  phonemes: str = ''


class Voice(Protocol):
  """Speaks.

  What it says depends on the arguments only: not on what was said before, nor
  on the process. It can be pickled, and said to from several threads.

  Attributes:
    name: For messages, and of its speakers.
    languages: Subtags (`en`) of what it can say.
    speakers: Who it can be, at least one.
    sample_rate: Hz.
    licence: As its makers state it.
    origin: Where it comes from: package and version, or file.
    files: Digests of what it is made of, by name.
    made_with: Packages whose versions its samples depend on.
    sha256: Digest of all its files.

  One that has learnt tags has `tags`, a frozenset of them, and `speak_spans`;
  one that tells nothing of words has `tells_words`, False.
  """

  name: str
  languages: tuple[str, ...]
  speakers: tuple[str, ...]
  sample_rate: int
  licence: str
  origin: str
  files: Mapping[str, str]
  made_with: tuple[str, ...]
  sha256: str

  def speak(
    self,
    text: str,
    *,
    language: str,
    speaker: str | None = None,
    rate: float = 1.0,
    pitch: int = 50,
    seed: int = 0,
  ) -> Speech:
    """Says one text.

    Args:
      text: Words with spaces between them, and punctuation.
      language: Subtag.
      speaker: One of `speakers`; the first by default.
      rate: 2 is twice as fast as the voice usually is in this language.
      pitch: 0..100; 50 is the voice's own.
      seed: For its small variations.

    Raises:
      UserError: It has no such language, speaker, rate or pitch, or the text
        is nothing that it can say.
    """


def record(voice: Voice) -> dict[str, Any]:
  """What a corpus writes of a voice that spoke it."""
  return {
    'languages': list(voice.languages),
    'sample_rate': voice.sample_rate,
    'licence': voice.licence,
    'origin': voice.origin,
    'files': dict(voice.files),
    'made_with': [_version(package) for package in voice.made_with],
    'sha256': voice.sha256,
  }


def _version(package: str) -> str:
  """`package==version`, or its name where it is not installed."""
  try:
    return f'{package}=={importlib.metadata.version(package)}'
  except importlib.metadata.PackageNotFoundError:
    return package
