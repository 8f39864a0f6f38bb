"""Rewards that are rules: right, brief, in the language, of the form, heard.

Each is a number in [0, 1] and a function of one answer. The report names rules
as future work and none in particular (arXiv 2502.11946, section 5.2.6): these
are our choice.
"""

import dataclasses
import re
from typing import Callable, Mapping, Sequence
import unicodedata

from step_audio_jax import errors
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.chats import deafness
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.evaluation.quality import repetition

Sample = sample_lib.Sample

# Letters of these blocks belong to these languages.
_HAN = ('zh', 'yue', 'wuu')


class _Each:
  """A scorer that looks at one answer at a time."""

  def __call__(self, samples: Sequence[Sample]) -> list[float]:
    return [float(self.judge(one)) for one in samples]

  def judge(self, one: Sample) -> float:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Right(_Each):
  """1 for the expected answer.

  Attributes:
    exact: Whether it is the expected one word by word; else it has to have
      the words that the question has not (`quiz.is_right`).
  """

  exact: bool = False

  def judge(self, one):
    if not one.expected:
      return float('nan')
    if self.exact:
      return quiz.words(one.text) == quiz.words(one.expected)
    return quiz.is_right(one.question, one.expected, one.text)


@dataclasses.dataclass(frozen=True)
class Brief(_Each):
  """1 up to a length, then as much less as it is longer.

  Attributes:
    most: Words that cost nothing; a Han character is one.
  """

  most: int = 12

  def __post_init__(self):
    errors.at_least_one('brief', self, ['most'])

  def judge(self, one):
    count = len(quiz.words(one.text))
    return 0.0 if not count else min(1.0, self.most / count)


@dataclasses.dataclass(frozen=True)
class OnTopic(_Each):
  """Share of the answer's words that the question or the reference has.

  Attributes:
    spared: Words that may stand in any answer, such as 'the'.
  """

  spared: tuple[str, ...] = ()

  def judge(self, one):
    said = [word for word in quiz.words(one.text) if word not in self.spared]
    known = {*quiz.words(one.question), *quiz.words(one.expected)}
    if not said:
      return 0.0
    return sum(word in known for word in said) / len(said)


@dataclasses.dataclass(frozen=True)
class InLanguage(_Each):
  """Share of the letters that belong to the language of the chat."""

  def judge(self, one):
    letters = [c for c in one.text if unicodedata.category(c)[0] == 'L']
    if not letters:
      return 0.0
    han = sum('CJK' in unicodedata.name(c, '') for c in letters)
    wanted = han if one.language in _HAN else len(letters) - han
    return wanted / len(letters)


@dataclasses.dataclass(frozen=True)
class OfForm(_Each):
  """1 where the whole answer matches a pattern.

  Attributes:
    pattern: A regular expression.
  """

  pattern: str

  def __post_init__(self):
    errors.patterns('of_form: pattern', [self.pattern])

  def judge(self, one):
    return re.fullmatch(self.pattern, one.text, re.DOTALL) is not None


@dataclasses.dataclass(frozen=True)
class Heard(_Each):
  """0 for a reply that claims not to have heard.

  Attributes:
    patterns: Language → expressions that say so; those of all are looked for.
  """

  patterns: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=lambda: dict(deafness.CLAIMS)
  )

  def judge(self, one):
    return not deafness.claims(one.text, self.patterns)


@dataclasses.dataclass(frozen=True)
class Unrepeated(_Each):
  """1 less the share of n-grams that were there before.

  Attributes:
    length: n, in words of text or, for speech, in ids.
    spoken: Whether ids are looked at.
  """

  length: int = 3
  spoken: bool = False

  def __post_init__(self):
    errors.at_least_one('unrepeated', self, ['length'])

  def judge(self, one):
    parts = one.ids.tolist() if self.spoken else quiz.words(one.text)
    found = repetition.count(parts, self.length)
    if not found.total:
      return 1.0
    return (found.total - found.repeated) / found.total


RULES: Mapping[str, Callable[..., sample_lib.Scorer]] = {
  'right': Right,
  'brief': Brief,
  'on_topic': OnTopic,
  'in_language': InLanguage,
  'of_form': OfForm,
  'heard': Heard,
  'unrepeated': Unrepeated,
}
