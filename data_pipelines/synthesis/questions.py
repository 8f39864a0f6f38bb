"""Questions of the small language, whose answers are in what is said.

Somebody says who has what, and asks for a part of it: a colour, a thing, its
owner, or how many there are. So an answer takes listening: every question is
asked in the same words about everything, and no two of all splits are alike.

    the man has the red cup what color is it   red
    the boy has three blue books how many      three
    妈妈有红苹果谁有                             妈妈
"""

import dataclasses
from typing import Callable, Mapping, Sequence, TypeVar

import numpy as np

from data_pipelines.synthesis import grammar

Words = tuple[str, ...]
_Some = TypeVar('_Some')


@dataclasses.dataclass(frozen=True)
class Question:
  """One question with what it is about.

  Attributes:
    language: `en` or `zh`.
    words: What is said before it, and the question.
    answer: The words of the answer.
    kind: `color`, `owner`, `thing` or `count`.
  """

  language: str
  words: Words
  answer: Words
  kind: str

  @property
  def text(self) -> str:
    """How it is written."""
    return _joint(self.language).join(self.words)

  @property
  def answer_text(self) -> str:
    """How its answer is written."""
    return _joint(self.language).join(self.answer)


_NUMBERS = ('one', 'two', 'three')
_COLOURS: Mapping[str, Words] = {
  'en': ('red', 'green', 'blue'),
  'zh': ('红', '白'),
}
_TIMES: Sequence[Words] = (
  (),
  *((time,) for time in grammar.MANDARIN.classes['time']),
)


def _english_owned(rng: np.random.Generator) -> list[Question]:
  classes = grammar.ENGLISH.classes
  owner = _one(rng, classes['determiner']), _one(rng, classes['who'])
  color, thing = _one(rng, _COLOURS['en']), _one(rng, classes['thing'])
  said = (*owner, 'has', 'the', color, thing)
  return [
    Question('en', (*said, 'what', 'color', 'is', 'it'), (color,), 'color'),
    Question('en', (*said, 'who', 'has', 'it'), owner, 'owner'),
    Question('en', (*said, 'what', 'is', 'it'), ('the', thing), 'thing'),
  ]


def _english_counted(rng: np.random.Generator) -> list[Question]:
  classes = grammar.ENGLISH.classes
  owner = _one(rng, classes['determiner']), _one(rng, classes['who'])
  number, color = _one(rng, _NUMBERS), _one(rng, _COLOURS['en'])
  thing = _one(rng, classes['thing'])
  things = thing if number == _NUMBERS[0] else _plural(thing)
  said = (*owner, 'has', number, color, things)
  return [Question('en', (*said, 'how', 'many'), (number,), 'count')]


def _mandarin_owned(rng: np.random.Generator) -> list[Question]:
  classes = grammar.MANDARIN.classes
  owner, thing = _one(rng, classes['who']), _one(rng, classes['thing'])
  color = _one(rng, _COLOURS['zh'])
  verb = _one(rng, grammar.MANDARIN.classes['verb'])
  said = (*_one(rng, _TIMES), owner, verb, color, thing)
  return [
    Question('zh', (*said, '什么', '颜色'), (color,), 'color'),
    Question('zh', (*said, '谁', verb), (owner,), 'owner'),
    Question('zh', (*said, verb, '什么'), (thing,), 'thing'),
  ]


# Worlds of a language, with how many of them there are among as many draws.
_Maker = Callable[[np.random.Generator], list[Question]]
_MAKERS: Mapping[str, Sequence[_Maker]] = {
  'en': (_english_owned, _english_owned, _english_owned, _english_counted),
  'zh': (_mandarin_owned,),
}
LANGUAGES = tuple(_MAKERS)


def draw(rng: np.random.Generator, language: str) -> Question:
  """One question of a language."""
  makers = _MAKERS[language]
  found = makers[rng.integers(len(makers))](rng)
  return found[rng.integers(len(found))]


def draw_unique(
  rng: np.random.Generator,
  language: str,
  counts: Mapping[str, int],
) -> dict[str, list[Question]]:
  """Split → questions, none of which is written as another of any split.

  Raises:
    UserError: The language has not that many.
  """
  found: dict[str, list[Question]] = {}
  seen: set[str] = set()
  for split, count in counts.items():
    found[split] = grammar.unique(
      lambda: draw(rng, language), lambda one: one.text, count, seen
    )
  return found


def _plural(thing: str) -> str:
  return f'{thing}es' if thing.endswith('x') else f'{thing}s'


def _one(rng: np.random.Generator, some: Sequence[_Some]) -> _Some:
  return some[rng.integers(len(some))]


def _joint(language: str) -> str:
  return grammar.GRAMMARS[language].joint
