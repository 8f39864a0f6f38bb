"""Arithmetic of intervals of time: merged, cut with each other, and gaps.

An array of spans is (N, 2), float64 seconds, starts in order.
"""

import numpy as np

NONE = np.zeros((0, 2))


def array(found) -> np.ndarray:
  """Pairs as spans, in order of their starts."""
  found_N2 = np.asarray(list(found), np.float64).reshape(-1, 2)
  return found_N2[np.argsort(found_N2[:, 0], kind='stable')]


def merged(spans_N2: np.ndarray, gap: float = 0.0) -> np.ndarray:
  """Spans that are at most `gap` seconds apart as one."""
  if not len(spans_N2):
    return spans_N2
  # The furthest end so far: a span may lie inside an earlier one.
  ends_N = np.maximum.accumulate(spans_N2[:, 1])
  first_N = np.r_[True, spans_N2[1:, 0] - ends_N[:-1] > gap]
  last_N = np.r_[first_N[1:], True]
  return np.stack([spans_N2[first_N, 0], ends_N[last_N]], axis=1)


def overlaps(a_N2: np.ndarray, b_M2: np.ndarray) -> np.ndarray:
  """What two arrays of disjoint spans share, in order, (K, 2)."""
  starts = np.maximum(a_N2[:, None, 0], b_M2[None, :, 0])
  ends = np.minimum(a_N2[:, None, 1], b_M2[None, :, 1])
  share = ends > starts
  return array(np.stack([starts[share], ends[share]], axis=1))


def gaps(a_N2: np.ndarray, b_M2: np.ndarray) -> np.ndarray:
  """From an end of `a` to the next start of `b`, (K, 2).

  Of several ends before the same start the last one counts.
  """
  place_N = np.searchsorted(b_M2[:, 0], a_N2[:, 1], side='right')
  # The last `a` of each start that follows.
  last = dict(zip(place_N.tolist(), a_N2[:, 1].tolist(), strict=True))
  last.pop(len(b_M2), None)
  return array((end, b_M2[place, 0]) for place, end in last.items())


def meeting(spans_N2: np.ndarray, start: float, end: float) -> np.ndarray:
  """Those that share time with [start, end], whole."""
  return spans_N2[(spans_N2[:, 0] < end) & (spans_N2[:, 1] > start)]


def hold(spans_N2: np.ndarray, times_K: np.ndarray) -> np.ndarray:
  """Whether each time lies in any span, ends included, (K,)."""
  times_K = np.asarray(times_K, np.float64)
  return (
    (spans_N2[:, 0] <= times_K[:, None]) & (times_K[:, None] <= spans_N2[:, 1])
  ).any(axis=1)


def counts(sorted_times_K: np.ndarray, spans_N2: np.ndarray) -> np.ndarray:
  """How many times lie in each span, ends included, (N,)."""
  first_N = np.searchsorted(sorted_times_K, spans_N2[:, 0], side='left')
  after_N = np.searchsorted(sorted_times_K, spans_N2[:, 1], side='right')
  return after_N - first_N
