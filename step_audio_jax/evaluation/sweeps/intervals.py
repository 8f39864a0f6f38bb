"""Bootstrap intervals of figures that are made of rows."""

from typing import Any, Mapping, Sequence

import numpy as np

_DRAWS, _SEED = 1000, 0
_AT_ONCE = 2**22  # numbers that are drawn at a time


def columns(
  rows: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray] | None:
  """What rows add to a figure and of how much, two arrays (N,) float64.

  Args:
    rows: With `errors` and `units`, or with `points`; as `Family.rows`.

  Returns:
    None where some row has neither.
  """
  if not rows:
    return None
  try:
    if 'points' in rows[0]:
      return np.asarray([float(row['points']) for row in rows]), np.ones(
        len(rows)
      )
    return (
      np.asarray([float(row['errors']) for row in rows]),
      np.asarray([float(row['units']) for row in rows]),
    )
  except (KeyError, TypeError, ValueError):
    return None


def interval(sums_N: np.ndarray, of_N: np.ndarray) -> tuple[float, float]:
  """95 % interval of sum(sums) / sum(of), drawing rows with replacement.

  The draws are the same on every machine and in every run.
  """
  rng, count = np.random.default_rng(_SEED), len(sums_N)
  rates, left = [], _DRAWS
  while left:
    draws = min(left, max(1, _AT_ONCE // count))
    drawn = rng.integers(0, count, (draws, count))
    of = of_N[drawn].sum(axis=1)
    rates.append(sums_N[drawn].sum(axis=1) / np.where(of > 0, of, np.nan))
    left -= draws
  low, high = np.nanpercentile(np.concatenate(rates), [2.5, 97.5])
  return float(low), float(high)
