"""Which source row k comes from: exact ratios at every prefix.

Row k of the global stream is a pure function of (ratios, k). The ratios are
fractions, so the sequence of sources is periodic; one period is laid out by
Tijdeman's chairman assignment (Discrete Math. 32, 1980), which keeps the count
of every source within 1 - 1/(2n - 2) rows of its share at *every* prefix, the
best possible for n sources.
"""

from fractions import Fraction
import functools
from typing import Mapping

import numpy as np

from step_audio_jax import errors

_MAX_PERIOD = 100_000


class Schedule:
  """The order of sources for given ratios.

  Attributes:
    names: Source names, in the order of their ids.
    shares: Share of every source; they sum to one.
    period: Rows after which the order repeats.
  """

  def __init__(self, ratios: Mapping[str, Fraction | int | float]):
    """Builds the order.

    Args:
      ratios: Source → weight, in any unit; zero weights are dropped.

    Raises:
      UserError: No source has a positive weight, or a weight is negative.
    """
    weights = {}
    for name, value in ratios.items():
      weight = Fraction(value).limit_denominator(10_000)
      if weight < 0:
        raise errors.UserError(
          f'ratios: {name} has weight {value}, expected zero or more.'
        )
      if weight:
        weights[name] = weight
    if not weights:
      raise errors.UserError(
        'ratios: no source has a positive weight; expected at least one.'
      )
    total = sum(weights.values())
    self.names = tuple(weights)
    self.shares = tuple(weight / total for weight in weights.values())
    self.period = functools.reduce(
      np.lcm, [share.denominator for share in self.shares], 1
    ).item()
    if self.period > _MAX_PERIOD:
      raise errors.UserError(
        f'ratios: the order repeats only after {self.period} rows, expected '
        f'at most {_MAX_PERIOD}; use rounder numbers than {dict(ratios)}.'
      )
    self._order = _chairman(self.shares, self.period)
    # rank[k]: how many earlier rows of the period have the same source.
    self._counts = np.bincount(self._order, minlength=len(self.names))
    self._rank = np.empty(self.period, np.int64)
    for source in range(len(self.names)):
      places = np.flatnonzero(self._order == source)
      self._rank[places] = np.arange(len(places))

  def source(self, k: int) -> tuple[int, int]:
    """Row k → (source id, how many rows of that source came before)."""
    cycle, place = divmod(k, self.period)
    source = int(self._order[place])
    return source, cycle * int(self._counts[source]) + int(self._rank[place])

  def sources(self, start: int, stop: int) -> np.ndarray:
    """Source ids of rows start..stop, int64 (stop - start,)."""
    return self._order[np.arange(start, stop) % self.period]

  def counts(self, rows: int) -> dict[str, int]:
    """How many of the first `rows` rows come from each source."""
    cycles, rest = divmod(rows, self.period)
    tail = np.bincount(self._order[:rest], minlength=len(self.names))
    return {
      name: int(cycles * self._counts[i] + tail[i])
      for i, name in enumerate(self.names)
    }


def prefix_error(
  sources: np.ndarray, shares: tuple[Fraction, ...], first: int = 1
) -> float:
  """Largest |count - share * prefix| over sources and prefixes, in rows.

  Args:
    sources: Source id of every row in order, (rows,).
    shares: Requested share of every source.
    first: Prefixes shorter than this are not looked at.
  """
  length = np.arange(1, len(sources) + 1)
  worst = 0.0
  for source, share in enumerate(shares):
    gap = np.abs(np.cumsum(sources == source) - length * float(share))
    worst = max(worst, float(gap[first - 1 :].max(initial=0.0)))
  return worst


def _chairman(shares: tuple[Fraction, ...], period: int) -> np.ndarray:
  """One period of Tijdeman's assignment, int64 (period,)."""
  if len(shares) == 1:
    return np.zeros(period, np.int64)
  slack = Fraction(1, 2 * len(shares) - 2)
  counts = [0] * len(shares)
  order = np.empty(period, np.int64)
  for k in range(1, period + 1):
    # Among the sources that may be served without running ahead, take the one
    # whose deadline comes first.
    best, best_deadline = -1, None
    for i, share in enumerate(shares):
      lack = share * k - counts[i]
      if lack < slack:
        continue
      deadline = (1 - slack - lack) / share
      if best_deadline is None or deadline < best_deadline:
        best, best_deadline = i, deadline
    counts[best] += 1
    order[k - 1] = best
  return order
