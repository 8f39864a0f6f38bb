"""Answers that people ranked or scored become pairs.

    rank     1 is the best
    score    more is better
    scores   the same of several raters: their mean counts

Of n answers all n (n - 1) / 2 pairs are made whose worth differs by more than
nothing, and by `gap` at least: ties make no pair (Ouyang et al., "Training
language models to follow instructions with human feedback", 2022).
"""

import dataclasses
import itertools
import math
from typing import Any, Mapping, NamedTuple, Sequence

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from step_audio_jax import errors

OPTIONS = ('gap', 'margin', 'score')
RANK = 'rank'
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
  """

  gap: float = 0.0
  margin: float = 0.0
  score: str | None = None

  @classmethod
  def from_options(cls, options: base.Options) -> 'Rules':
    """What the user says.

    Raises:
      UserError: A value is no number, or below 0.
    """
    given = {k: options.extra[k] for k in OPTIONS if k in options.extra}
    for name in ('gap', 'margin'):
      if name in given:
        given[name] = _number(name, given[name])
    return cls(**given)


class Pair(NamedTuple):
  """Two answers of one prompt.

  Attributes:
    better: Place of the one.
    worse: Of the other.
    margin: How much better.
  """

  better: int
  worse: int
  margin: float


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
  return [
    _worth(answer.get(field), f'{name}[{n}].{field}', field)
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
  made = []
  for one, other in itertools.combinations(range(len(found)), 2):
    difference = found[one] - found[other]
    if difference and abs(difference) >= rules.gap:
      order = (one, other) if difference > 0 else (other, one)
      made.append(Pair(*order, rules.margin * abs(difference)))
  if not made:
    spread = max(found) - min(found)
    raise errors.UserError(
      f'{name}: found answers that differ by {spread:g} at most, expected more '
      f'than 0{f" and {rules.gap:g} or more" if rules.gap else ""} for a pair.'
    )
  return made


def _worth(value: Any, where: str, field: str) -> float:
  if isinstance(value, list):
    if not value:
      raise errors.UserError(f'{where}: found no number, expected some.')
    told = [columns_lib.number(v, f'{where}[{n}]') for n, v in enumerate(value)]
    worth = math.fsum(told) / len(told)
  else:
    worth = columns_lib.number(value, where)
  return -worth if field == RANK else worth


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
