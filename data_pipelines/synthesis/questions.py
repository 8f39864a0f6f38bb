"""Questions of the small language, whose answers are in what is said.

Somebody says who has what, and asks for a part of it: a colour, a thing, its
owner, or how many there are. So an answer takes listening: every question is
asked in the same words about everything, and no two of all splits are alike.

    the man has the red cup what color is it   red
    the boy has three blue books how many      three
    妈妈有红苹果谁有                             妈妈

A request leaves it open what is said (`tell me more`), and people answer it in
several manners, of which others like one.

    the red cup                           brief: what people like
    the man has the red cup the red cup   wordy: repeats what was said
    i like the tree                       aside: about something else
    i did not hear you                    deaf
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
    said: What is said before it.
    asked: The question.
    answer: The words of the answer.
    kind: `color`, `owner`, `thing`, `count` or `request`.
  """

  language: str
  said: Words
  asked: Words
  answer: Words
  kind: str

  @property
  def words(self) -> Words:
    """All of it."""
    return (*self.said, *self.asked)

  @property
  def text(self) -> str:
    """How it is written."""
    return _joint(self.language).join(self.words)

  @property
  def answer_text(self) -> str:
    """How its answer is written."""
    return self.written(self.answer)

  def written(self, words: Words) -> str:
    """How words of its language are written."""
    return _joint(self.language).join(words)


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
    Question('en', said, ('what', 'color', 'is', 'it'), (color,), 'color'),
    Question('en', said, ('who', 'has', 'it'), owner, 'owner'),
    Question('en', said, ('what', 'is', 'it'), ('the', thing), 'thing'),
  ]


def _english_counted(rng: np.random.Generator) -> list[Question]:
  classes = grammar.ENGLISH.classes
  owner = _one(rng, classes['determiner']), _one(rng, classes['who'])
  number, color = _one(rng, _NUMBERS), _one(rng, _COLOURS['en'])
  thing = _one(rng, classes['thing'])
  things = thing if number == _NUMBERS[0] else _plural(thing)
  said = (*owner, 'has', number, color, things)
  return [Question('en', said, ('how', 'many'), (number,), 'count')]


def _english_request(rng: np.random.Generator) -> list[Question]:
  about, *_ = _english_owned(rng)
  asked = ('tell', 'me', 'more')
  return [Question('en', about.said, asked, about.said[-3:], 'request')]


def _mandarin_owned(rng: np.random.Generator) -> list[Question]:
  classes = grammar.MANDARIN.classes
  owner, thing = _one(rng, classes['who']), _one(rng, classes['thing'])
  color = _one(rng, _COLOURS['zh'])
  verb = _one(rng, grammar.MANDARIN.classes['verb'])
  said = (*_one(rng, _TIMES), owner, verb, color, thing)
  return [
    Question('zh', said, ('什么', '颜色'), (color,), 'color'),
    Question('zh', said, ('谁', verb), (owner,), 'owner'),
    Question('zh', said, (verb, '什么'), (thing,), 'thing'),
  ]


def _mandarin_request(rng: np.random.Generator) -> list[Question]:
  about, *_ = _mandarin_owned(rng)
  return [Question('zh', about.said, ('说说',), about.said[-2:], 'request')]


# Worlds of a language, with how many of them there are among as many draws.
_Maker = Callable[[np.random.Generator], list[Question]]
_MAKERS: Mapping[str, Sequence[_Maker]] = {
  'en': (_english_owned, _english_owned, _english_owned, _english_counted),
  'zh': (_mandarin_owned,),
}
_REQUESTS: Mapping[str, Sequence[_Maker]] = {
  'en': (_english_request,),
  'zh': (_mandarin_request,),
}
LANGUAGES = tuple(_MAKERS)
BRIEF, WORDY, ASIDE, DEAF = MANNERS = ('brief', 'wordy', 'aside', 'deaf')
WRONG = 'wrong'  # no manner that is learnt: as the answer, of something else
_LIKED: Mapping[str, Words] = {'en': ('i', 'like', 'the'), 'zh': ('我', '喜欢')}
_NOT_HEARD: Mapping[str, Words] = {
  'en': ('i', 'did', 'not', 'hear', 'you'),
  'zh': ('我', '没', '听', '清'),
}


def draw(
  rng: np.random.Generator, language: str, request: bool = False
) -> Question:
  """One question of a language, or one request."""
  makers = (_REQUESTS if request else _MAKERS)[language]
  found = makers[rng.integers(len(makers))](rng)
  return found[rng.integers(len(found))]


def answer(rng: np.random.Generator, one: Question, manner: str) -> Words:
  """An answer to a question in a manner of `MANNERS`, or a wrong one."""
  if manner == BRIEF:
    return one.answer
  if manner == WORDY:
    return (*one.said, *one.answer)
  if manner == DEAF:
    return _NOT_HEARD[one.language]
  if manner == ASIDE:
    things = grammar.GRAMMARS[one.language].classes['thing']
    others = [thing for thing in things if thing not in one.said]
    return (*_LIKED[one.language], _one(rng, others))
  if manner != WRONG:
    raise ValueError(manner)
  while True:
    other = draw(rng, one.language, one.kind == 'request')
    if other.kind == one.kind and other.answer != one.answer:
      return other.answer


def draw_unique(
  rng: np.random.Generator,
  language: str,
  counts: Mapping[str, int],
  request: bool = False,
) -> dict[str, list[Question]]:
  """Split → questions, none of which is written as another of any split.

  Args:
    rng: Draws.
    language: Of all of them.
    counts: Split → how many.
    request: Whether they are requests.

  Raises:
    UserError: The language has not that many.
  """
  found: dict[str, list[Question]] = {}
  seen: set[str] = set()
  for split, count in counts.items():
    found[split] = grammar.unique(
      lambda: draw(rng, language, request), lambda one: one.text, count, seen
    )
  return found


def _plural(thing: str) -> str:
  return f'{thing}es' if thing.endswith('x') else f'{thing}s'


def _one(rng: np.random.Generator, some: Sequence[_Some]) -> _Some:
  return some[rng.integers(len(some))]


def _joint(language: str) -> str:
  return grammar.GRAMMARS[language].joint
