"""Which source row k comes from: exact ratios at every prefix.

Row k of the global stream is a pure function of (ratios, k). The ratios are
fractions, so the sequence of sources is periodic; one period is laid out by
Tijdeman's chairman assignment (Discrete Math. 32, 1980), which keeps the count
of every source within 1 - 1/(2n - 2) rows of its share at *every* prefix, the
best possible for n sources.

A curriculum is a list of such mixtures, each from a given row on. Its phases
count anew, so that the bound holds inside each of them; what was drawn of a
source before goes on counting, so that no stored row comes back early.
"""

import bisect
import dataclasses
from fractions import Fraction
import math
import numbers
import operator
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors

_MAX_PERIOD = 1_000_000

Weight = Fraction | int | float | str
Ratios = Mapping[str, Weight]
# One mixture, or (step, mixture) for each phase of a curriculum.
Mixture = Ratios | Sequence[tuple[int, Ratios]]


@dataclasses.dataclass(frozen=True)
class Phase:
  """A stretch of rows with one mixture.

  Attributes:
    start: First row.
    shares: Of every source of the whole schedule, in the order of their ids.
  """

  start: int
  shares: tuple[Fraction, ...]


def weight(name: str, value: Any) -> Fraction:
  """The exact weight of a source.

  A float stands for the simplest fraction that is this float: 0.1 is 1/10,
  1 / 3 is 1/3. Nothing else is rounded.

  Args:
    name: Of the source, for messages.
    value: A number, or a string such as '1/3' or '0.25'.

  Raises:
    UserError: It is no finite number of zero or more.
  """
  try:
    exact = _fraction(value)
  except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
    raise errors.UserError(
      f'ratios: {name} has weight {value!r}, expected a finite number, or a '
      "fraction such as '1/3'."
    ) from error
  if exact < 0:
    raise errors.UserError(
      f'ratios: {name} has weight {value}, expected zero or more.'
    )
  return exact


def _fraction(value: Any) -> Fraction:
  if isinstance(value, (str, Fraction)):
    return Fraction(value)
  if isinstance(value, (bool, np.bool_)):
    raise TypeError('a truth value is no weight')
  if isinstance(value, numbers.Integral):
    return Fraction(operator.index(value))
  if not isinstance(value, numbers.Real):
    raise TypeError(f'{type(value).__name__} is no number')
  written = float(str(value))  # np.float32(0.1) is meant as 0.1
  exact = Fraction(written)
  for digits in range(1, 17):
    simple = exact.limit_denominator(10**digits)
    if float(simple) == written:
      return simple
  return exact


class Schedule:
  """The order of sources for given ratios.

  Attributes:
    names: Source names, in the order of their ids.
    shares: Share of every source; they sum to one.
    period: Rows after which the order repeats.
    phases: The one that there is.
  """

  def __init__(self, ratios: Ratios):
    """Builds the order.

    Args:
      ratios: Source → weight (see `weight`), in any unit. A weight of zero
        leaves its source out; every other is drawn from.

    Raises:
      UserError: No source has a positive weight, a weight is no number of
        zero or more, or the order would repeat too late to be held.
    """
    exact = {name: weight(name, value) for name, value in ratios.items()}
    weights = {name: value for name, value in exact.items() if value}
    if not weights:
      raise errors.UserError(
        'ratios: no source has a positive weight; expected at least one.'
      )
    total = sum(weights.values())
    self.names = tuple(weights)
    self.shares = tuple(value / total for value in weights.values())
    self.phases = (Phase(0, self.shares),)
    self.period = math.lcm(*(share.denominator for share in self.shares))
    if self.period > _MAX_PERIOD:
      raise errors.UserError(
        f'ratios: the order repeats only after {_shown(self.period)} rows, '
        f'expected at most {_MAX_PERIOD}; use rounder numbers than '
        f'{dict(ratios)}, or weight 0 for what is to be left out.'
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

  def expected(self, rows: int) -> dict[str, Fraction]:
    """Requested share of the first `rows` rows, in rows."""
    return {n: share * rows for n, share in zip(self.names, self.shares)}


class Curriculum:
  """Mixtures one after the other, with the interface of `Schedule`.

  Attributes:
    names: Sources of all phases, in the order in which they first occur.
    phases: First row and shares of each phase; 0 for a source that rests.
  """

  def __init__(self, mixtures: Sequence[tuple[int, Ratios]]):
    """Builds the phases.

    Args:
      mixtures: (first row, source → weight), the first from row 0 on.

    Raises:
      UserError: The rows do not rise from 0, or a mixture is wrong.
    """
    self._starts = [start for start, _ in mixtures]
    rising = all(a < b for a, b in zip(self._starts, self._starts[1:]))
    if self._starts[:1] != [0] or not rising:
      raise errors.UserError(
        f'ratios: found phases from {self._starts}, expected rising numbers, '
        'the first 0.'
      )
    parts = [Schedule(ratios) for _, ratios in mixtures]
    self.names = tuple(dict.fromkeys(n for p in parts for n in p.names))
    # Ties go to the first name, so that the phases alone tell the order.
    self._parts = [
      Schedule({n: shares[n] for n in self.names if n in shares})
      for shares in (dict(zip(p.names, p.shares)) for p in parts)
    ]
    self._ids = [
      np.array([self.names.index(name) for name in part.names])
      for part in self._parts
    ]
    # What was drawn of each source before a phase.
    self._before = [dict.fromkeys(self.names, 0)]
    for part, start, stop in zip(self._parts, self._starts, self._starts[1:]):
      drawn = part.counts(stop - start)
      self._before.append(_sum(self._before[-1], drawn))
    self.phases = tuple(
      Phase(
        start,
        tuple(
          dict(zip(p.names, p.shares)).get(n, Fraction(0)) for n in self.names
        ),
      )
      for start, p in zip(self._starts, self._parts)
    )

  def source(self, k: int) -> tuple[int, int]:
    """Row k → (source id, how many rows of that source came before)."""
    phase = bisect.bisect_right(self._starts, k) - 1
    place, rank = self._parts[phase].source(k - self._starts[phase])
    source = int(self._ids[phase][place])
    return source, self._before[phase][self.names[source]] + rank

  def sources(self, start: int, stop: int) -> np.ndarray:
    """Source ids of rows start..stop, int64 (stop - start,)."""
    found = [np.zeros(0, np.int64)]
    for part, ids, first, last in zip(
      self._parts, self._ids, self._starts, [*self._starts[1:], stop]
    ):
      low, high = max(start, first), min(stop, last)
      if low < high:
        found.append(ids[part.sources(low - first, high - first)])
    return np.concatenate(found)

  def counts(self, rows: int) -> dict[str, int]:
    """How many of the first `rows` rows come from each source."""
    phase = max(0, bisect.bisect_left(self._starts, rows) - 1)
    drawn = self._parts[phase].counts(rows - self._starts[phase])
    return _sum(self._before[phase], drawn)

  def expected(self, rows: int) -> dict[str, Fraction]:
    """Requested share of the first `rows` rows, in rows."""
    total = dict.fromkeys(self.names, Fraction(0))
    for part, first, last in zip(
      self._parts, self._starts, [*self._starts[1:], rows]
    ):
      total = _sum(total, part.expected(max(0, min(rows, last) - first)))
    return total


def _sum(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
  return {name: value + other.get(name, 0) for name, value in one.items()}


def create(mixture: Mixture, batch_size: int = 1) -> Schedule | Curriculum:
  """The schedule of a mixture, or of one that changes at given steps.

  Args:
    mixture: Source → weight, or (step, source → weight) for each phase.
    batch_size: Rows of a step.

  Raises:
    UserError: It is neither, or a weight or a step is wrong.
  """
  if isinstance(mixture, Mapping):
    return Schedule(mixture)
  if not is_curriculum(mixture):
    raise errors.UserError(
      f'ratios: found {mixture!r}, expected {{source: weight}}, or (step, '
      '{source: weight}) for each phase.'
    )
  return Curriculum([(step * batch_size, ratios) for step, ratios in mixture])


def is_curriculum(mixture: Any) -> bool:
  """Whether this is a non-empty list of (step, mapping)."""
  return (
    isinstance(mixture, (list, tuple))
    and bool(mixture)
    and all(
      isinstance(phase, (list, tuple))
      and len(phase) == 2
      and type(phase[0]) is int
      and isinstance(phase[1], Mapping)
      for phase in mixture
    )
  )


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


def _shown(period: int) -> str:
  digits = len(str(period))
  return str(period) if digits < 16 else f'more than 10^{digits - 1}'


def _chairman(shares: tuple[Fraction, ...], period: int) -> np.ndarray:
  """One period of Tijdeman's assignment, int64 (period,).

  With n sources, m = 2n - 2 and the slack 1 / m, in whole numbers: a source of
  p rows a period may be served when its lack m (p k - period count) has come
  to `period`; its deadline is ((m - 1) period - lack) / p.
  """
  if len(shares) == 1:
    return np.zeros(period, np.int64)
  m = 2 * len(shares) - 2
  rows = [int(share * period) for share in shares]
  lacks = [0] * len(shares)
  steps, served = [m * p for p in rows], m * period
  order = np.empty(period, np.int64)
  for k in range(period):
    # Among the sources that may be served without running ahead, take the one
    # whose deadline comes first.
    best, most, by = -1, 0, 1
    for i, p in enumerate(rows):
      lacks[i] += steps[i]
      if lacks[i] < period:
        continue
      deadline = (m - 1) * period - lacks[i]
      if best < 0 or deadline * by < most * p:
        best, most, by = i, deadline, p
    lacks[best] -= served
    order[k] = best
  return order
