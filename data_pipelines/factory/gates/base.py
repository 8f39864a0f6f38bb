"""What a gate is: one figure of a recording, and the limits that it must keep.

A gate passes what it has measured and found within its limits. What it cannot
measure (it raised an error, it gave NaN, what it needs is not there) it does
not pass: that is an outcome of its own, which is counted apart.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import files

PASSED, FAILED, UNMEASURED = 'passed', 'failed', 'unmeasured'
OUTCOMES = (PASSED, FAILED, UNMEASURED)


@dataclasses.dataclass(frozen=True, eq=False)
class Take:
  """A recording that wants to become training data.

  Attributes:
    id: Of the item.
    samples: Float (S,), mono, full scale 1.
    sample_rate: Hz.
    text: What is said in it; None where nobody knows.
    language: Subtag of it.
    speaker: Who is meant to speak; None where nobody is.
  """

  id: str
  samples: np.ndarray
  sample_rate: int
  text: str | None = None
  language: str = 'en'
  speaker: str | None = None

  @property
  def seconds(self) -> float:
    """Its length."""
    return len(self.samples) / self.sample_rate


class Verdict(NamedTuple):
  """What a gate says of a take.

  Attributes:
    gate: Its name.
    outcome: One of `OUTCOMES`.
    score: What it measured; None where it could not.
    reason: Why it does not pass, one sentence; empty where it does.
  """

  gate: str
  outcome: str
  score: float | None
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Gate:
  """One figure and its limits; subclasses say how it is measured.

  Attributes:
    least: The lowest that passes; None is no limit.
    most: The highest that passes.
    name: In verdicts and counts.
  """

  cost: ClassVar[int]  # gates are asked in its order
  unit: ClassVar[str] = ''
  digits: ClassVar[int] = 3

  least: float | None = None
  most: float | None = None
  name: str = ''

  def __post_init__(self):
    ends = self.least, self.most
    known = [end for end in ends if end is not None]
    right = all(type(end) in (int, float) for end in known)
    if not right or any(map(math.isnan, known)) or known != sorted(known):
      raise errors.UserError(
        f'{self.name}: least, most: found {self.least!r}, {self.most!r}, '
        'expected numbers in rising order, or null for no limit.'
      )
    if not known:
      raise errors.UserError(
        f'{self.name}: least, most: found neither, expected a limit.'
      )
    if not self.name or not isinstance(self.name, str):
      raise errors.UserError(
        f'{type(self).__name__}: name: found {self.name!r}, expected a name.'
      )

  def score(self, take: Take) -> float:
    """The figure of one take.

    Raises:
      UserError: It has none; the sentence says why.
    """
    raise NotImplementedError

  def scores(self, takes: Sequence[Take]) -> Sequence[float]:
    """Figures of several takes; for gates that are faster at many at once."""
    return [self.score(take) for take in takes]

  def judge(self, takes: Sequence[Take]) -> list[Verdict]:
    """What it says of some takes, whatever goes wrong with one of them."""
    try:
      found = list(self.scores(takes))
      if len(found) == len(takes):
        return [self._verdict(score) for score in found]
    except Exception as error:  # whatever measures: networks, others' libraries
      if len(takes) == 1:
        return [self._unmeasured(error)]
    # One take of many is at fault, or the order is lost: one by one.
    verdicts = []
    for take in takes:
      try:
        verdicts.append(self._verdict(self.score(take)))
      except Exception as error:
        verdicts.append(self._unmeasured(error))
    return verdicts

  def _verdict(self, score: float) -> Verdict:
    try:
      score = float(score)
    except (TypeError, ValueError):
      return self._unmeasured(f'it gave {score!r}, no number')
    if math.isnan(score):
      return self._unmeasured('it gave NaN')
    for limit, wrong, word in (
      (self.least, self.least is not None and score < self.least, 'at least'),
      (self.most, self.most is not None and score > self.most, 'at most'),
    ):
      if wrong:
        unit = f' {self.unit}' if self.unit else ''
        told = f'{self.name}: {score:.{self.digits}g}{unit}'
        reason = f'{told}, expected {word} {limit:g}{unit}.'
        return Verdict(self.name, FAILED, score, reason)
    return Verdict(self.name, PASSED, score)

  def _unmeasured(self, why: Exception | str) -> Verdict:
    if isinstance(why, errors.UserError):
      files.raise_outage(why)  # a store that is away is no fault of the take
    if isinstance(why, Exception):
      told = ' '.join(str(why).split())
      plain = isinstance(why, errors.UserError)
      why = told if plain else f'{type(why).__name__}: {told}'
    reason = f'{self.name}: could not be measured: {why.rstrip(".")}.'
    return Verdict(self.name, UNMEASURED, None, reason)
