"""Answers that people ranked or scored become pairs.

    rank     1 is the best
    score    more is better
    scores   the same of several raters: their mean counts

Of n answers all n (n - 1) / 2 pairs are made whose worth differs by more than
nothing, and by `gap` at least: ties make no pair (Ouyang et al., "Training
language models to follow instructions with human feedback", 2022). Fewer are
made by option: the best against each, or against the worst alone.

Scores of people, `score` and `scores`, are 1 to 5 unless an option says more.
"""

import dataclasses
import itertools
import math
import re
from typing import Any, Mapping, NamedTuple, Sequence

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from step_audio_jax import errors

OPTIONS = ('gap', 'margin', 'score', 'pairs', 'scale')
RANK = 'rank'
ALL, BEST, ENDS = PAIRS = ('all', 'best', 'best_worst')
PEOPLE = (1.0, 5.0)
DIGITS = 9  # of a worth and of what two differ by
_RATED = ('scores', 'score')  # by people
_ANY, _EVERY = 'any', (-math.inf, math.inf)
# What says how good an answer is, the first that is there.
_JUDGED = (RANK, 'scores', 'score', 'overall_score', 'fine-grained_score')


@dataclasses.dataclass(frozen=True)
class Rules:
  """Which answers become pairs.

  Attributes:
    gap: The least difference of ranks or scores.
    margin: What a difference of one is worth as the margin of a pair; 0 gives
      none.
    score: The field that says how good an answer is; None finds it.
    pairs: Of `PAIRS`: all of them; the best against each; against the worst.
    scale: Least and most of a score; None is that of people for their fields,
      and any for others.
  """

  gap: float = 0.0
  margin: float = 0.0
  score: str | None = None
  pairs: str = ALL
  scale: tuple[float, float] | None = None

  def __post_init__(self):
    if self.pairs not in PAIRS:
      raise errors.UserError(
        f'pairs: found {self.pairs!r:.60}, expected {" or ".join(PAIRS)}.'
      )

  @classmethod
  def from_options(cls, options: base.Options) -> 'Rules':
    """What the user says.

    Raises:
      UserError: A value is no number or below 0, or is not known.
    """
    given: dict[str, Any] = {
      k: options.extra[k] for k in OPTIONS if k in options.extra
    }
    for name in ('gap', 'margin'):
      if name in given:
        given[name] = _number(name, given[name])
    if 'scale' in given:
      given['scale'] = _scale(given['scale'])
    return cls(**given)

  def scale_of(self, field: str) -> tuple[float, float]:
    """Least and most of what a field says."""
    if self.scale is not None and field != RANK:
      return self.scale
    return PEOPLE if field in _RATED else _EVERY


class Pair(NamedTuple):
  """Two answers of one prompt, or one alone.

  Attributes:
    better: Place of the one; None where the other alone is not wanted.
    worse: Of the other; None where the first alone is wanted.
    margin: How much better.
  """

  better: int | None
  worse: int | None
  margin: float


class Compared(NamedTuple):
  """What answers of such worths become.

  Attributes:
    pairs: In order of their places.
    ties: How many more would be pairs if they differed.
    near: How many differ by less than the gap.
  """

  pairs: list[Pair]
  ties: int
  near: int


def worths(
  answers: Sequence[Mapping[str, Any]], name: str, rules: Rules
) -> list[float]:
  """How good each answer is: more is better.

  Args:
    answers: As they are written.
    name: Of their list, for messages.
    rules: Which field says it.

  Raises:
    UserError: There are less than two; the field is missing, no number, or
      not finite.
  """
  if len(answers) < 2:
    raise errors.UserError(
      f'{name}: found {len(answers)}, expected two answers or more.'
    )
  known = _JUDGED if rules.score is None else (rules.score,)
  field = next((n for n in known if answers[0].get(n) is not None), None)
  if field is None:
    raise errors.UserError(
      f'{name}[0]: found nothing that says how good it is, expected '
      f'{" or ".join(known)}.'
    )
  scale = rules.scale_of(field)
  return [
    _worth(answer.get(field), f'{name}[{n}].{field}', field, scale)
    for n, answer in enumerate(answers)
  ]


def pairs(found: Sequence[float], name: str, rules: Rules) -> list[Pair]:
  """The pairs of answers of such worths.

  Args:
    found: Of `worths`, or known otherwise.
    name: Of the answers, for messages.
    rules: What is a pair.

  Raises:
    UserError: There are none: all are as good.
  """
  made = compare(found, rules).pairs
  if not made:
    spread = max(found) - min(found)
    raise errors.UserError(
      f'{name}: found answers that differ by {spread:g} at most, expected more '
      f'than 0{f" and {rules.gap:g} or more" if rules.gap else ""} for a pair.'
    )
  return made


def compare(found: Sequence[float], rules: Rules) -> Compared:
  """The pairs of answers of such worths, and those that are none.

  Among equals the first is the best, and the last the worst.
  """
  places = range(len(found))
  best = max(places, key=lambda n: (found[n], -n), default=0)
  worst = min(places, key=lambda n: (found[n], -n), default=0)
  wanted = {ALL: set(places), BEST: {best}, ENDS: {best}}[rules.pairs]
  made, ties, near = [], 0, 0
  for one, other in itertools.combinations(places, 2):
    if not wanted & {one, other}:
      continue
    if rules.pairs == ENDS and worst not in (one, other):
      continue
    # Of worths that were rounded: 1.2 - 1.1 is no less than 0.1.
    difference = round(found[one] - found[other], DIGITS)
    if not difference:
      ties += 1
    elif abs(difference) < rules.gap:
      near += 1
    else:
      order = (one, other) if difference > 0 else (other, one)
      made.append(Pair(*order, rules.margin * abs(difference)))
  return Compared(made, ties, near)


def rating(value: Any, where: str, scale: tuple[float, float]) -> float:
  """A number of a scale.

  Raises:
    UserError: It is none, or beyond it.
  """
  found = columns_lib.number(value, where)
  least, most = scale
  if not least <= found <= most:
    raise errors.UserError(
      f'{where}: found {found:g}, expected {least:g} to {most:g}, the scale.'
    )
  return found


def _on_scale(value, where, scale):
  try:
    return rating(value, where, scale)
  except errors.UserError as error:
    if 'the scale' not in str(error):
      raise
    raise errors.UserError(
      f'{str(error).removesuffix(".")}; '
      '--reader_option=scale=0-10 says another.'
    ) from error


def _worth(
  value: Any, where: str, field: str, scale: tuple[float, float]
) -> float:
  if isinstance(value, list):
    if not value:
      raise errors.UserError(f'{where}: found no number, expected some.')
    told = [_on_scale(v, f'{where}[{n}]', scale) for n, v in enumerate(value)]
    worth = math.fsum(told) / len(told)
  else:
    worth = _on_scale(value, where, scale)
  return -worth if field == RANK else worth


def _scale(text: str) -> tuple[float, float]:
  if text == _ANY:
    return _EVERY
  found = re.fullmatch(r'(-?[\d.]+)-(-?[\d.]+)', text)
  try:
    least, most = map(float, found.groups()) if found else (0.0, 0.0)
  except ValueError:
    least = most = 0.0
  if not least < most:
    raise errors.UserError(
      f'--reader_option=scale: found {text!r}, expected the least and the '
      f'most, such as 1-5, or {_ANY}.'
    )
  return least, most


def _number(name: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 <= value < math.inf:
    raise errors.UserError(
      f'--reader_option={name}: found {text!r}, expected a number >= 0.'
    )
  return value
