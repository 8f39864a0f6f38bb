"""Whether levels that were asked for can be told apart by what was measured.

    d_k = (m_{k+1} − m_k) / SE          m: medians, of one level and the next
    SE  = s √(1/n_k + 1/n_{k+1})
    s²  = ((n_k − 1) s_k² + (n_{k+1} − 1) s_{k+1}²) / (n_k + n_{k+1} − 2)

SE is the pooled standard error of a difference of two means.
"""

import dataclasses
import math
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors

LEAST_STEP = 1.0  # pooled standard errors, of neighbours that are apart


@dataclasses.dataclass(frozen=True)
class Separation:
  """What is known of some levels, from the lowest to the highest.

  Attributes:
    levels: Of them.
    counts: Measurements of each.
    medians: Of each.
    quartiles: (25th, 75th percentile) of each.
    steps: From each level to the next, in pooled standard errors; below 0
      where it goes down, infinite where neither spreads at all.
  """

  levels: tuple[int, ...]
  counts: tuple[int, ...]
  medians: tuple[float, ...]
  quartiles: tuple[tuple[float, float], ...]
  steps: tuple[float, ...]

  @property
  def ordered(self) -> bool:
    """Whether medians strictly rise with the level."""
    return all(a < b for a, b in zip(self.medians, self.medians[1:]))

  @property
  def separate(self) -> bool:
    """Whether they rise, by `LEAST_STEP` or more each time."""
    return self.ordered and all(step >= LEAST_STEP for step in self.steps)

  def to_json(self) -> dict[str, Any]:
    """A JSON object; an infinite step is null."""
    return {
      'levels': list(self.levels),
      'counts': list(self.counts),
      'medians': [_short(value) for value in self.medians],
      'quartiles': [[_short(v) for v in pair] for pair in self.quartiles],
      'steps': [
        _short(step) if math.isfinite(step) else None for step in self.steps
      ],
      'ordered': self.ordered,
      'separate': self.separate,
    }


def separation(
  measured: Mapping[int, Sequence[float | None]], name: str = 'levels'
) -> Separation:
  """Compares levels.

  Args:
    measured: Measurements of each level; None, not computed, is left out.
    name: Of what is compared, for messages.

  Raises:
    UserError: There are fewer than two levels, a level has fewer than two
      measurements, or one is not finite.
  """
  if len(measured) < 2:
    raise errors.UserError(
      f'{name}: found {len(measured)} level{"s" * (len(measured) != 1)}, '
      'expected at least two to compare.'
    )
  levels = sorted(measured)
  values = {
    level: np.array([v for v in measured[level] if v is not None], np.float64)
    for level in levels
  }
  for level, found in values.items():
    if len(found) < 2:
      raise errors.UserError(
        f'{name}: level {level} has {len(found)} measurements that could be '
        'computed, expected at least two.'
      )
    if not np.isfinite(found).all():
      raise errors.UserError(
        f'{name}: level {level}: found {found[~np.isfinite(found)][0]}, '
        'expected finite measurements.'
      )
  pairs = zip(levels, levels[1:])
  return Separation(
    levels=tuple(levels),
    counts=tuple(len(values[level]) for level in levels),
    medians=tuple(float(np.median(values[level])) for level in levels),
    quartiles=tuple(
      tuple(map(float, np.percentile(values[level], (25, 75))))
      for level in levels
    ),
    steps=tuple(_step(values[one], values[two]) for one, two in pairs),
  )


def _step(one: np.ndarray, two: np.ndarray) -> float:
  difference = float(np.median(two) - np.median(one))
  free = len(one) + len(two) - 2
  pooled = (len(one) - 1) * one.var(ddof=1) + (len(two) - 1) * two.var(ddof=1)
  error = math.sqrt(pooled / free * (1 / len(one) + 1 / len(two)))
  if not error:
    return math.copysign(math.inf, difference) if difference else 0.0
  return difference / error


def _short(value: float) -> float:
  return float(f'{value:.5g}')
