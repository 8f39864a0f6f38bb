"""How sure a figure is: bootstrap intervals, and paired tests of two systems.

Utterances are drawn with replacement, as often as there are, and the figure is
made anew each time; the interval holds the middle 95 % of these (percentile
bootstrap; for error rates Bisani and Ney, ICASSP 2004). All figures of two
systems are of the same utterances, so that they are drawn together.

* `micro`  Σ errors / Σ lengths, as WER and CER are averaged
* `mean`   of one value an utterance, as macro rates and scores of judges are

Tests of no difference, two-sided:

* `sign_flip`      swaps the systems in random utterances (Fisher 1935); exact
                   where there are few
* `matched_pairs`  normal law of the mean difference in errors an utterance, as
                   in MAPSSWE (Gillick and Cox, ICASSP 1989), whose segments are
                   utterances here

Everything is drawn from a seed that stands in the result.
"""

import dataclasses
import math
from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.conventions import base

LEVEL, RESAMPLES, SEED = 0.95, 2000, 0
_AT_ONCE = 2**20  # drawn utterances that are held in memory


@dataclasses.dataclass(frozen=True)
class Interval:
  """A figure and what it might have been with other utterances.

  Attributes:
    value: The figure itself.
    low: Lower end.
    high: Upper end.
    count: Utterances.
    level: Share of the resamples between the ends.
    resamples: How many there were.
    seed: Of the draws.
  """

  value: float
  low: float
  high: float
  count: int
  level: float = LEVEL
  resamples: int = RESAMPLES
  seed: int = SEED

  def as_dict(self) -> dict[str, Any]:
    """All of it, for JSON."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Two systems under one convention, on the utterances that both have.

  Attributes:
    convention: What both were scored under.
    first: Rate of the first system on these utterances.
    second: Of the second.
    difference: First less second, with its interval.
    p_bootstrap: Twice the share of resamples on the rarer side of zero.
    p_sign_flip: Of the errors of each utterance, or of its rates (macro).
    p_matched_pairs: Likewise.
    only_first: Utterances that count in the first alone, and are left out.
    only_second: Likewise.
  """

  convention: str
  first: float
  second: float
  difference: Interval
  p_bootstrap: float
  p_sign_flip: float
  p_matched_pairs: float
  only_first: int
  only_second: int

  def as_dict(self) -> dict[str, Any]:
    """All of it, for JSON."""
    return dataclasses.asdict(self)


def micro(
  errors_N: Sequence[float],
  lengths_N: Sequence[float],
  *,
  level: float = LEVEL,
  resamples: int = RESAMPLES,
  seed: int = SEED,
) -> Interval | None:
  """Σ errors / Σ lengths with its interval; None without any length.

  Args:
    errors_N: Of each of N utterances.
    lengths_N: Their reference tokens.
    level: Share of the resamples between the ends.
    resamples: How many are drawn.
    seed: Of the draws.
  """
  columns_NK = _columns(errors_N, lengths_N)
  if not columns_NK[:, 1].sum():
    return None
  drawn_RK = _drawn_sums(columns_NK, resamples, seed)
  value = _ratio(columns_NK.sum(axis=0))
  return _interval(float(value), _ratio(drawn_RK), len(columns_NK), level, seed)


def mean(
  values_N: Sequence[float],
  *,
  level: float = LEVEL,
  resamples: int = RESAMPLES,
  seed: int = SEED,
) -> Interval | None:
  """The mean of N values with its interval; None of no value."""
  return micro(
    values_N,
    np.ones(len(values_N)),
    level=level,
    resamples=resamples,
    seed=seed,
  )


def interval(
  scored: base.Scored, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
  """Of the rate of a scored set, as its convention averages; None without."""
  if scored.rate is None:
    return None
  _, errors_N, lengths_N = _counted(scored)
  return micro(errors_N, lengths_N, resamples=resamples, seed=seed)


def sign_flip(
  first_N: Sequence[float],
  second_N: Sequence[float],
  *,
  resamples: int = RESAMPLES,
  seed: int = SEED,
) -> float:
  """p of means as far apart, if the systems could be swapped anywhere.

  All 2^N swaps are tried where these are no more than `resamples`; else so many
  are drawn, and the observed one is counted with them.
  """
  difference_N = np.subtract(first_N, second_N, dtype=np.float64)
  difference_N = difference_N[difference_N != 0]  # a swap changes nothing
  count = len(difference_N)
  if not count:
    return 1.0
  observed = abs(difference_N.sum())
  # Sums that differ by rounding alone are the same.
  least = observed - 1e-9 * np.abs(difference_N).sum()
  if 2**count <= resamples:
    swaps_RN = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    sums_R = (1 - 2 * swaps_RN) @ difference_N
    return float(np.mean(np.abs(sums_R) >= least))
  rng = np.random.default_rng(seed)
  as_far = 0
  for size in _sizes(resamples, count):
    signs_RN = rng.integers(0, 2, (size, count), np.int8)
    sums_R = (1 - 2 * signs_RN) @ difference_N
    as_far += int(np.sum(np.abs(sums_R) >= least))
  return (as_far + 1) / (resamples + 1)


def matched_pairs(first_N: Sequence[float], second_N: Sequence[float]) -> float:
  """p of the mean difference under the normal law; meant for N of 30 or more.

  Without any spread it is 1 where nothing differs, else 0; of fewer than two
  utterances nothing can be said, which is 1.
  """
  difference_N = np.subtract(first_N, second_N, dtype=np.float64)
  count = len(difference_N)
  if count < 2:
    return 1.0
  spread = difference_N.std(ddof=1) / math.sqrt(count)
  middle = abs(difference_N.mean())
  if not spread:
    return 0.0 if middle else 1.0
  return math.erfc(middle / spread / math.sqrt(2))


def compare(
  first: base.Scored,
  second: base.Scored,
  *,
  level: float = LEVEL,
  resamples: int = RESAMPLES,
  seed: int = SEED,
) -> Comparison:
  """Whether two systems differ on the utterances that both were scored on.

  Raises:
    UserError: They were scored under different conventions, or share no
      utterance with a length.
  """
  names = [f'{one.convention} {one.version}' for one in (first, second)]
  if names[0] != names[1]:
    raise errors.UserError(
      f'comparison of two systems: found {names[0]} and {names[1]}, expected '
      'one convention of one version.'
    )
  ids_a, errors_a, lengths_a = _counted(first)
  ids_b, errors_b, lengths_b = _counted(second)
  places = {name: i for i, name in enumerate(ids_b)}
  shared = [(i, places[x]) for i, x in enumerate(ids_a) if x in places]
  a, b = np.asarray(shared, np.int64).reshape(-1, 2).T
  columns_NK = _columns(errors_a[a], lengths_a[a], errors_b[b], lengths_b[b])
  totals_K = columns_NK.sum(axis=0)
  if not totals_K[1] or not totals_K[3]:
    raise errors.UserError(
      'comparison of two systems: found no utterance of the same id with a '
      'reference in both, expected the same test set.'
    )
  drawn_RK = _drawn_sums(columns_NK, resamples, seed)
  drawn_R = _ratio(drawn_RK[:, :2]) - _ratio(drawn_RK[:, 2:])
  rates = float(_ratio(totals_K[:2])), float(_ratio(totals_K[2:]))
  sides = np.mean(drawn_R <= 0), np.mean(drawn_R >= 0)
  pair = columns_NK[:, 0], columns_NK[:, 2]
  return Comparison(
    first.convention,
    *rates,
    _interval(rates[0] - rates[1], drawn_R, len(shared), level, seed),
    p_bootstrap=float(min(1.0, 2 * min(sides))),
    p_sign_flip=sign_flip(*pair, resamples=resamples, seed=seed),
    p_matched_pairs=matched_pairs(*pair),
    only_first=len(ids_a) - len(shared),
    only_second=len(ids_b) - len(shared),
  )


def _counted(
  scored: base.Scored,
) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Ids, errors and lengths; rates and ones where a convention is macro."""
  macro = scored.average == base.MACRO
  rows = [
    row
    for row in scored.rows
    if row.counted and not (macro and row.rate is None)
  ]
  if macro:
    values = [row.rate for row in rows], [1.0] * len(rows)
  else:
    values = [row.errors for row in rows], [row.length for row in rows]
  errors_N, lengths_N = (np.asarray(one, np.float64) for one in values)
  return [row.id for row in rows], errors_N, lengths_N


def _columns(*columns: Sequence[float]) -> np.ndarray:
  return np.stack([np.asarray(one, np.float64) for one in columns], axis=1)


def _sizes(resamples: int, count: int) -> list[int]:
  """How many resamples to make at a time."""
  size = max(1, _AT_ONCE // max(count, 1))
  return [min(size, resamples - i) for i in range(0, resamples, size)]


def _drawn_sums(
  columns_NK: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
  """Sums (R, K) over N rows that are drawn with replacement, R times."""
  count = len(columns_NK)
  rng = np.random.default_rng(seed)
  found = []
  for size in _sizes(resamples, count):
    drawn_RN = rng.integers(0, count, (size, count), np.int32)
    found.append(
      np.stack([column[drawn_RN].sum(axis=1) for column in columns_NK.T], 1)
    )
  return np.concatenate(found)


def _ratio(sums_K: np.ndarray) -> np.ndarray:
  """First by second; NaN where a resample has utterances without length."""
  with np.errstate(invalid='ignore', divide='ignore'):
    ratio = sums_K[..., 0] / sums_K[..., 1]
  return np.where(sums_K[..., 1] > 0, ratio, np.nan)


def _interval(value, drawn_R, count, level, seed) -> Interval:
  tail = (1 - level) / 2
  low, high = np.nanquantile(drawn_R, [tail, 1 - tail])
  return Interval(
    value, float(low), float(high), count, level, len(drawn_R), seed
  )
