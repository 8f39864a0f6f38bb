"""Intervals and tests of figures that are made of rows (`statistics`)."""

from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax.evaluation import statistics

Rows = Sequence[Mapping[str, Any]]


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
  """What rows add to a figure and of how much, two arrays (N,) float64.

  Args:
    rows: With `errors` and `units`, or with `points`; as `Family.rows`.

  Returns:
    None where some row has neither.
  """
  pairs = [pair(row) for row in rows]
  if not pairs or None in pairs:
    return None
  sums_N, of_N = np.asarray(pairs, np.float64).T
  return sums_N, of_N


def pair(row: Mapping[str, Any]) -> tuple[float, float] | None:
  """What a row adds, and of how much; None where nobody says."""
  try:
    if 'points' in row:
      return float(row['points']), 1.0
    return float(row['errors']), float(row['units'])
  except (KeyError, TypeError, ValueError):
    return None


def interval(sums_N: np.ndarray, of_N: np.ndarray) -> list[float] | None:
  """95 % interval of sum(sums) / sum(of); None of nothing."""
  found = statistics.micro(sums_N, of_N)
  return found and [found.low, found.high]


def compare(first: Rows, second: Rows) -> dict[str, Any] | None:
  """Two steps on the rows that both have.

  Returns:
    rows, before and after (rates or means), less and more (rows whose errors
    or points are fewer, or more, after), and `p_sign_flip`; None where no row
    is in both.
  """
  later = {row['id']: pair(row) for row in second}
  pairs = [
    (mine, later[row['id']])
    for row in first
    if (mine := pair(row)) and later.get(row['id'])
  ]
  if not pairs:
    return None
  a_N2, b_N2 = np.swapaxes(np.asarray(pairs, np.float64), 0, 1)
  rates = [
    float(one[:, 0].sum() / one[:, 1].sum()) if one[:, 1].sum() else None
    for one in (a_N2, b_N2)
  ]
  return {
    'rows': len(pairs),
    'before': rates[0],
    'after': rates[1],
    'less': int((b_N2[:, 0] < a_N2[:, 0]).sum()),
    'more': int((b_N2[:, 0] > a_N2[:, 0]).sum()),
    'p_sign_flip': statistics.sign_flip(a_N2[:, 0], b_N2[:, 0]),
  }
