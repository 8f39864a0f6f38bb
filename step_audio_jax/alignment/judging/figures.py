"""How well scores of pairs agree with what people preferred.

With s_c the score of the preferred answer and s_r that of the other, d = s_c -
s_r; the model says that the first is better with probability sigmoid(d)
(Bradley and Terry, 1952).
"""

import math
from typing import Any, Sequence

import numpy as np

BINS = 10  # of the confidence
_Z = 1.959964  # standard deviations of a 95 % interval


def accuracy(scores_N2: np.ndarray) -> dict[str, Any]:
  """Share of pairs whose preferred answer scores higher; a tie is half right.

  Args:
    scores_N2: Of the preferred answers and of the others, float.

  Returns:
    pairs, accuracy, and `low` and `high`, Wilson's 95 % interval.
  """
  right_N = right(scores_N2)
  n = len(right_N)
  if not n:
    return {'pairs': 0, 'accuracy': None, 'low': None, 'high': None}
  share = float(right_N.mean())
  middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
  half = _Z * math.sqrt(share * (1 - share) / n + (_Z / (2 * n)) ** 2)
  half /= 1 + _Z**2 / n
  return {
    'pairs': n,
    'accuracy': share,
    'low': max(0.0, middle - half),
    'high': min(1.0, middle + half),
  }


def by_category(
  scores_N2: np.ndarray, categories: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """`accuracy` of the pairs of each category, sorted by name; '' is none."""
  names = np.asarray(categories, object)
  return {
    name: accuracy(scores_N2[names == name]) for name in sorted(set(categories))
  }


def calibration(scores_N2: np.ndarray, bins: int = BINS) -> dict[str, Any]:
  """Whether verdicts are right as often as they are sure.

  The confidence of a verdict is p = sigmoid(|d|), from 1/2 to 1, and it is
  right (1) where d > 0, half right where d = 0, and wrong (0) else. Bin k of n
  holds 1/2 + k / 2n <= p < 1/2 + (k + 1) / 2n, the last one p = 1 too. The
  expected calibration error (Guo et al., arXiv 1706.04599) is

      ECE = sum over bins of (pairs in bin / pairs) |mean right - mean p|

  Args:
    scores_N2: As in `accuracy`.
    bins: n, of equal width.

  Returns:
    ece; loss, the mean of -log sigmoid(d); and `bins`, each with low, high,
    pairs, and where it has any, mean confidence and accuracy: the reliability
    curve.
  """
  scores_N2 = np.asarray(scores_N2, np.float64)
  d_N = scores_N2[:, 0] - scores_N2[:, 1]
  sure_N = 1.0 / (1.0 + np.exp(-np.abs(d_N)))
  right_N = right(scores_N2)
  edges = 0.5 + 0.5 * np.arange(bins + 1) / bins
  # By the edges, not by a division: p on an edge belongs above it.
  place_N = np.minimum(np.searchsorted(edges, sure_N, 'right') - 1, bins - 1)
  told, error = [], 0.0
  for k in range(bins):
    here = place_N == k
    one: dict[str, Any] = {
      'low': round(float(edges[k]), 6),
      'high': round(float(edges[k + 1]), 6),
      'pairs': int(here.sum()),
    }
    if here.any():
      one['confidence'] = float(sure_N[here].mean())
      one['accuracy'] = float(right_N[here].mean())
      error += here.mean() * abs(one['accuracy'] - one['confidence'])
    told.append(one)
  loss = np.logaddexp(0.0, -d_N).mean() if len(d_N) else math.nan
  return {
    'ece': float(error) if len(d_N) else None,
    'loss': float(loss) if len(d_N) else None,
    'bins': told,
  }


def lengths(scores_N2: np.ndarray, ids_N2: np.ndarray) -> dict[str, Any]:
  """What the length of an answer has to do with its score.

  Args:
    scores_N2: As in `accuracy`.
    ids_N2: Ids of each answer.

  Returns:
    correlation: Pearson's, of scores and lengths of all answers, each behind
      the mean of its pair, so that prompts do not matter; None where one of
      both never differs.
    longer_scores_higher: Share of the pairs of unequal lengths whose longer
      answer scores higher; None without any.
    longer_is_preferred: Share of them whose longer answer people preferred.
  """
  scores = np.asarray(scores_N2, np.float64)
  d_N = scores[:, 0] - scores[:, 1]
  more_N = np.asarray(ids_N2[:, 0], np.float64) - ids_N2[:, 1]
  unequal = more_N != 0
  scale = math.sqrt(float((d_N**2).sum() * (more_N**2).sum()))
  found = {
    'correlation': float((d_N * more_N).sum()) / scale if scale else None,
    'longer_scores_higher': None,
    'longer_is_preferred': None,
  }
  if unequal.any():
    agree = 0.5 * (1 + np.sign(d_N * more_N)[unequal])
    found['longer_scores_higher'] = float(agree.mean())
    found['longer_is_preferred'] = float((more_N[unequal] > 0).mean())
  return found


def shift(
  before_N2: np.ndarray, after_N2: np.ndarray, deviation: float
) -> dict[str, Any]:
  """How a change of pairs moved their scores.

  What moves is counted by pair: both answers of one share its prompt.

  Args:
    before_N2: Scores of the pairs as they are.
    after_N2: Of the changed ones; NaN for an answer that was not changed.
    deviation: What a shift is divided by: the standard deviation of all
      scores as they are.

  Returns:
    pairs; shift, the mean over pairs of the mean shift of a pair's changed
    answers, in deviations; low and high, its normal 95 % interval, None of
    fewer than two pairs; to_wrong and to_right, how many verdicts changed so
    (a tie belongs to neither), and changed, how many changed at all.
  """
  moved_N = np.nanmean(after_N2 - before_N2, axis=1) / deviation
  mean, low, high = _mean(moved_N)
  whole_N2 = np.where(np.isnan(after_N2), before_N2, after_N2)
  was_N, is_N = (np.sign(x[:, 0] - x[:, 1]) for x in (before_N2, whole_N2))
  return {
    'pairs': len(moved_N),
    'shift': mean,
    'low': low,
    'high': high,
    'changed': int((was_N != is_N).sum()),
    'to_wrong': int(((was_N > 0) & (is_N < 0)).sum()),
    'to_right': int(((was_N < 0) & (is_N > 0)).sum()),
  }


def heard(scores_N2: np.ndarray, silent_N2: np.ndarray) -> dict[str, Any]:
  """What it changes that a question is heard.

  Args:
    scores_N2: Of pairs as they are.
    silent_N2: Of the same answers behind silence.

  Returns:
    pairs; chosen and rejected, each the mean `gap` of such answers, score less
    score behind silence, with low and high, its normal 95 % interval, None of
    fewer than two pairs; and turned, the share of verdicts that are others
    behind silence.
  """
  gaps_N2 = np.asarray(scores_N2, np.float64) - silent_N2
  told: dict[str, Any] = {'pairs': len(gaps_N2)}
  for side, name in enumerate(('chosen', 'rejected')):
    told[name] = dict(zip(('gap', 'low', 'high'), _mean(gaps_N2[:, side])))
  turned_N = right(scores_N2) != right(silent_N2)
  return {**told, 'turned': float(turned_N.mean())}


def _mean(values_N: np.ndarray) -> tuple[float, float | None, float | None]:
  """A mean, and its normal 95 % interval; None for that of one value."""
  mean, n = float(values_N.mean()), len(values_N)
  if n < 2:
    return mean, None, None
  half = _Z * float(values_N.std(ddof=1)) / math.sqrt(n)
  return mean, mean - half, mean + half


def right(scores_N2: np.ndarray) -> np.ndarray:
  """1 where the preferred answer scores higher, 0 where the other, ½ of ties.

  Args:
    scores_N2: As in `accuracy`.

  Returns:
    float64 (N,).
  """
  scores_N2 = np.asarray(scores_N2, np.float64)
  return 0.5 * (1.0 + np.sign(scores_N2[:, 0] - scores_N2[:, 1]))
