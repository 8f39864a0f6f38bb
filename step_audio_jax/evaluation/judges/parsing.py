"""What a judge said → its verdict, strictly.

A verdict has to have the form that was asked for. Anything else has a kind that
says what it is, and no value: nothing is guessed. What a reasoning model thinks
aloud in front (`<think>…</think>`) is not looked at; nor is emphasis.
"""

import abc
import dataclasses
import json
import re
from typing import Any, Mapping, Sequence

from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.storage import files

VERSION = 1  # of how verdicts are read
EMPTY, PROSE, HTML = 'empty', 'prose', 'html'
NOT_JSON, NO_FIELD = 'not_json', 'no_field'
OFF_SCALE, CONTRADICTORY = 'off_scale', 'contradictory'
KINDS = (EMPTY, PROSE, HTML, NOT_JSON, NO_FIELD, OFF_SCALE, CONTRADICTORY)

# How several votes become one.
MAJORITY, MEAN = 'majority', 'mean'

# Where a verdict stands.
WHOLE = 'whole'  # there is nothing else
LAST = 'last'  # a line of its own at the end, behind reasons
MARKED = 'marked'  # anywhere, in brackets

Verdict = verdicts.Verdict

_THOUGHT = re.compile(r'\s*<think>.*?</think>', re.DOTALL | re.IGNORECASE)
_HTML = re.compile(r'\s*<(!doctype|html|head|body|div|p|h\d|br)\b', re.I)
# Emphasis and ends of sentences; a minus or a decimal point is none.
_BEFORE = ' \t\r\n*_`"\'“‘[('
_BEHIND = ' \t\r\n*_`"\'”’.!。！])'
_LABEL = (
  r'[\s*_#>]*(?:(?:final |the )?(?:result|verdict|judge?ment|score|rating)'
  r'(?: is)?[\s*_:：=]*)?'
)
_NUMBER = r'[-+]?\d+(?:\.\d+)?'
_FENCED = re.compile(r'```(?:json)?\s*\n(.*?)```', re.DOTALL | re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Scale:
  """What values there are.

  Attributes:
    low: The worst.
    high: The best.
    words: Word → value; {} where whole numbers from `low` to `high` are said.
    by: How votes become one: the value that most say, or their mean.
  """

  low: float = 0.0
  high: float = 1.0
  words: Mapping[str, float] = dataclasses.field(default_factory=dict)
  by: str = MEAN

  def value(self, said: Any) -> float | None:
    """Of a word or a number; None where it is not on the scale."""
    if self.words:
      return self.words.get(said.casefold()) if isinstance(said, str) else None
    if isinstance(said, bool) or not isinstance(said, (int, float)):
      return None
    is_on = self.low <= said <= self.high and said == int(said)
    return float(said) if is_on else None


def words(**values: float) -> Scale:
  """A scale of words, of which most votes decide."""
  some = values.values()
  return Scale(min(some), max(some), values, MAJORITY)


YES_NO = words(yes=1.0, no=0.0)
RIGHT_WRONG = words(correct=1.0, incorrect=0.0)


@dataclasses.dataclass(frozen=True)
class Parser(abc.ABC):
  """Base of all.

  Attributes:
    scales: Name of a value → what it can be; '' of an only one.
  """

  scales: Mapping[str, Scale]

  def __call__(self, text: str) -> Verdict:
    """The verdict in what a judge said."""
    thought = _THOUGHT.match(text)
    said = text[thought.end() :] if thought else text
    if not said.strip():
      return Verdict(None, EMPTY)
    if _HTML.match(said):
      return Verdict(None, HTML)
    return self.read(said)

  @abc.abstractmethod
  def read(self, said: str) -> Verdict:
    """The same, of a text that is not empty."""

  @property
  def identity(self) -> dict[str, Any]:
    """All that decides, JSON-able."""
    told = {'parser': type(self).__name__, 'version': VERSION}
    return {**told, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Word(Parser):
  """One word of a scale.

  Attributes:
    where: `WHOLE`, `LAST` or `MARKED`: `[correct]`.
  """

  where: str = WHOLE

  def read(self, said):
    (scale,) = self.scales.values()
    any_word = '|'.join(map(re.escape, scale.words))
    if self.where == WHOLE:
      value = scale.value(_bare(said))
      if value is not None:
        return Verdict(value)
      found = set(re.findall(rf'\b(?:{any_word})\b', said.casefold()))
      return Verdict(None, CONTRADICTORY if len(found) > 1 else PROSE)
    if self.where == MARKED:
      found = re.findall(rf'\[\s*({any_word})\s*\]', said, re.IGNORECASE)
      return _agreed([scale.value(one) for one in found])
    line = re.compile(rf'{_LABEL}({any_word})', re.IGNORECASE)
    lines = [
      line.fullmatch(_bare(one)) for one in said.splitlines() if one.strip()
    ]
    if not lines[-1]:
      return Verdict(None, PROSE)
    return _agreed([scale.value(one[1]) for one in lines if one])


@dataclasses.dataclass(frozen=True)
class Number(Parser):
  """One whole number of a scale.

  Attributes:
    where: `WHOLE` or `MARKED`: `[[4]]`.
  """

  where: str = WHOLE

  def read(self, said):
    (scale,) = self.scales.values()
    if self.where == MARKED:
      found = re.findall(rf'\[\[\s*({_NUMBER})\s*\]\]', said)
      return _agreed([float(one) for one in found], scale)
    out_of = rf'(?:\s*/\s*{scale.high:g})?'
    one = re.fullmatch(
      rf'{_LABEL}({_NUMBER}){out_of}', _bare(said), re.IGNORECASE
    )
    if one:
      return _agreed([float(one[1])], scale)
    found = {scale.value(float(n)) for n in re.findall(_NUMBER, said)} - {None}
    return Verdict(None, CONTRADICTORY if len(found) > 1 else PROSE)


@dataclasses.dataclass(frozen=True)
class Json(Parser):
  """One object with a field for each scale; it may have more."""

  def read(self, said):
    blocks = _FENCED.findall(said) or [said]
    try:
      told = [
        files.parsed(block.strip(), object_pairs_hook=_once) for block in blocks
      ]
    except _TwiceError:
      return Verdict(None, CONTRADICTORY)
    except ValueError:  # no JSON, or a number of 5,000 digits
      return Verdict(None, NOT_JSON)
    if not all(isinstance(one, dict) for one in told):
      return Verdict(None, NOT_JSON)
    found: dict[str, float] = {}
    for name, scale in self.scales.items():
      if not all(name in one for one in told):
        return Verdict(None, NO_FIELD)
      one = _agreed([scale.value(one[name]) for one in told])
      if one.value is None:
        return one
      found[name] = one.value
    first = next(iter(found.values()))
    return Verdict(first, '', found if len(found) > 1 else {})


def _bare(said: str) -> str:
  return said.lstrip(_BEFORE).rstrip(_BEHIND)


class _TwiceError(Exception):
  """A field is there twice, with two values."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for name, value in pairs:
    if name in found and json.dumps(found[name]) != json.dumps(value):
      raise _TwiceError(name)
    found[name] = value
  return found


def _agreed(
  values: Sequence[float | None], scale: Scale | None = None
) -> Verdict:
  """The one value that all of these are."""
  if not values:
    return Verdict(None, PROSE)
  if len(set(values)) > 1:
    return Verdict(None, CONTRADICTORY)
  value = scale.value(values[0]) if scale else values[0]
  return Verdict(value, '' if value is not None else OFF_SCALE)


def yes_no(where: str = WHOLE) -> Word:
  """Yes or no."""
  return Word({'': YES_NO}, where)


def one_zero() -> Word:
  """1 or 0."""
  return Word({'': words(**{'1': 1.0, '0': 0.0})})


def right_wrong() -> Word:
  """`[Correct]` or `[Incorrect]`, somewhere."""
  return Word({'': RIGHT_WRONG}, MARKED)


def score(low: int, high: int, where: str = WHOLE) -> Number:
  """A whole number from one to another."""
  return Number({'': Scale(low, high)}, where)


def judgment() -> Json:
  """`{"judgment": "correct"}` or incorrect."""
  return Json({'judgment': RIGHT_WRONG})


def rubric(low: int = 1, high: int = 5) -> Json:
  """`{"score": 4}`."""
  return Json({'score': Scale(low, high)})
