"""Gates of what is said, how fast, and by whom."""

import dataclasses
from typing import Any, Callable, Sequence

import numpy as np

from data_pipelines.factory.gates import activity
from data_pipelines.factory.gates import base
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.evaluation.metrics import distances
from step_audio_jax.evaluation.metrics import judge
from step_audio_jax.evaluation.metrics import scoring

HEARING_RATE = 16000  # Hz, of what recognisers and embeddings are given
FOLDS = ('punctuation',)
_SYLLABLE = 3  # letters

# Waveforms at 16 kHz and their languages → what is said.
Transcribe = Callable[[Sequence[np.ndarray], Sequence[str]], Sequence[str]]
# Waveforms at 16 kHz → vectors, as of `SpeakerEncoder.embed_batch`.
Embed = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def each(hear: Callable[[np.ndarray, str], str]) -> Transcribe:
  """A recogniser of one waveform after the other, such as `Judge.hear`."""
  return lambda waves, tags: [hear(one, tag) for one, tag in zip(waves, tags)]


@dataclasses.dataclass(frozen=True)
class SpeakingRate(base.Gate):
  """Letters and digits a second, from where activity begins to where it ends.

  In languages written without spaces a character stands for about a syllable
  and counts as three letters.
  """

  cost = 1
  unit = 'letters a second'

  least: float | None = 5.0
  most: float | None = 25.0
  name: str = 'speaking_rate'

  def score(self, take):
    text = take.text or ''
    wide = _SYLLABLE if languages.is_spaceless(take.language, text) else 1
    letters = sum(1 if c.isascii() else wide for c in text if c.isalnum())
    if not letters:
      raise errors.UserError('text: no letter or digit in it')
    start, stop = activity.bounds(take.samples, take.sample_rate)
    if stop <= start:
      raise errors.UserError('nothing is heard')
    return letters * take.sample_rate / (stop - start)


@dataclasses.dataclass(frozen=True)
class Recognised(base.Gate):
  """Character error rate of a recogniser against the text.

  Punctuation aside, texts are compared as `evaluate` compares them
  (`evaluation.metrics.scoring`); of several errors the rate is above 1.

  Attributes:
    transcribe: The recogniser; any callable.
    folds: As of `judge.fold_text`.
  """

  cost = 100

  most: float | None = 0.1
  name: str = 'cer'
  transcribe: Transcribe | None = None
  folds: tuple[str, ...] = FOLDS

  def __post_init__(self):
    super().__post_init__()
    _check_callable(self.name, 'transcribe', self.transcribe)

  def scores(self, takes):
    for take in takes:
      _check_text(take)
    waves = [_at_hearing_rate(take) for take in takes]
    heard = self.transcribe(waves, [take.language for take in takes])
    return [self.rate(t.text, h, t.language) for t, h in zip(takes, heard)]

  def score(self, take):
    (found,) = self.scores([take])
    return found

  def rate(self, text: str, heard: str, language: str) -> float:
    """Character errors of what was heard."""
    if not isinstance(heard, str):
      raise errors.UserError(f'the recogniser gave {heard!r}, no text')
    both = (judge.fold_text(one, language, self.folds) for one in (text, heard))
    return scoring.count(*both, language).rate


@dataclasses.dataclass(frozen=True)
class SameSpeaker(base.Gate):
  """Cosine of the embeddings of a take and of who is meant to speak.

  Attributes:
    embed: Waveforms → vectors.
    reference: Name of a speaker → vector; raises KeyError or gives None where
      nobody knows him.
  """

  cost = 50

  least: float | None = 0.5
  name: str = 'speaker'
  embed: Embed | None = None
  reference: Callable[[str], Any] | None = None

  def __post_init__(self):
    super().__post_init__()
    _check_callable(self.name, 'embed', self.embed)
    _check_callable(self.name, 'reference', self.reference)

  def scores(self, takes):
    wanted = [self._reference(take) for take in takes]
    found = self.embed([_at_hearing_rate(take) for take in takes])
    pairs = zip(found, wanted, strict=True)
    return [distances.cosine(np.asarray(a), np.asarray(b)) for a, b in pairs]

  def score(self, take):
    (found,) = self.scores([take])
    return found

  def _reference(self, take):
    if take.speaker is None:
      raise errors.UserError('speaker: nobody is meant to speak')
    try:
      found = self.reference(take.speaker)
    except KeyError:
      found = None
    if found is None:
      raise errors.UserError(f'speaker: nobody knows {take.speaker!r}')
    return found


def _check_callable(name: str, field: str, value: Any) -> None:
  if not callable(value):
    raise errors.UserError(
      f'{name}: {field}: found {value!r}, expected a function.'
    )


def _check_text(take: base.Take) -> None:
  if not (take.text or '').strip():
    raise errors.UserError('text: there is none to compare with')


def _at_hearing_rate(take: base.Take) -> np.ndarray:
  if take.sample_rate == HEARING_RATE:
    return np.asarray(take.samples, np.float32)
  import soxr

  return soxr.resample(
    np.asarray(take.samples, np.float32), take.sample_rate, HEARING_RATE
  )
