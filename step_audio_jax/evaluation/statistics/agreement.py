"""How well raters agree: votes of a judge, people, a judge with people.

    Cohen's kappa           two raters, chance taken off
    Krippendorff's alpha    any number of raters, ratings may be missing
    ICC(2,1)                how far one rater's numbers are everybody's
    Pearson, Spearman       whether two rate alike, of numbers and of ranks

Each is None where it is not defined: of too few ratings, and of ratings that
never differ, which say nothing of agreement. A rating that is None or NaN is
missing.

Cohen 1960 and 1968; Krippendorff, Computing Krippendorff's Alpha-Reliability,
2011; Shrout and Fleiss 1979.
"""

import math
from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors

# Shapes: U items, R raters, V values that occur, N pairs of ratings.
# What values are: names, places in an order, or numbers.
NOMINAL, ORDINAL, INTERVAL = LEVELS = ('nominal', 'ordinal', 'interval')
# How much worse a kappa thinks of values that lie further apart.
EQUAL, LINEAR, QUADRATIC = WEIGHTS = ('equal', 'linear', 'quadratic')


def is_missing(rating: Any) -> bool:
  """Whether there is no rating."""
  return rating is None or (isinstance(rating, float) and math.isnan(rating))


def cohens_kappa(
  first: Sequence[Any], second: Sequence[Any], weights: str = EQUAL
) -> float | None:
  """Agreement of two raters beyond chance, 1 where they always agree.

      kappa = 1 - sum(w observed) / sum(w expected)

  with w = 0 where both say the same, and else 1, |a - b| or (a - b)^2: that of
  the values themselves, so that one which nobody gave leaves its gap.

  Args:
    first: Ratings, of any kind; numbers where `weights` is not 'equal'.
    second: Of the same items.
    weights: Of `WEIGHTS`.

  Raises:
    UserError: There are other weights, not as many ratings of both, or a rating
      that is to be a number is none.
  """
  if weights not in WEIGHTS:
    raise errors.UserError(
      f'kappa: weights: found {weights!r}, expected one of '
      f'{", ".join(WEIGHTS)}.'
    )
  pairs = _pairs(first, second)
  values, codes_N2 = _coded(pairs, weights != EQUAL)
  if not pairs:
    return None
  size = len(values)
  table_VV = np.zeros((size, size))
  np.add.at(table_VV, (codes_N2[:, 0], codes_N2[:, 1]), 1)
  if weights == EQUAL:
    apart_VV = 1.0 - np.eye(size)
  else:
    number_V = np.asarray(values, np.float64)
    apart_VV = np.abs(number_V[:, None] - number_V[None])
    apart_VV = apart_VV if weights == LINEAR else apart_VV**2
  chance_VV = np.outer(table_VV.sum(1), table_VV.sum(0)) / len(pairs)
  expected = float((apart_VV * chance_VV).sum())
  return 1 - float((apart_VV * table_VV).sum()) / expected if expected else None


def krippendorffs_alpha(
  ratings: Sequence[Sequence[Any]], level: str = NOMINAL
) -> float | None:
  """Agreement of any number of raters beyond chance.

      alpha = 1 - D_observed / D_expected

  D is the mean of d^2 over pairs of ratings, within items and of all: d^2 is
  whether they differ (nominal), (a - b)^2 (interval), or the square of how many
  ratings lie between both, half of their own ones counted (ordinal).

  Args:
    ratings: Of each item; who gave them, and how many did, does not matter.
      Items with fewer than two take no part.
    level: Of `LEVELS`.

  Raises:
    UserError: There is no such level, or a rating of it is no number.
  """
  if level not in LEVELS:
    raise errors.UserError(
      f'alpha: level: found {level!r}, expected one of {", ".join(LEVELS)}.'
    )
  told = [[one for one in some if not is_missing(one)] for some in ratings]
  told = [some for some in told if len(some) > 1]
  if not told:
    return None
  lengths_U = np.asarray([len(some) for some in told])
  every = [[one] for some in told for one in some]
  values, codes = _coded(every, level != NOMINAL)
  counts_UV = np.zeros((len(told), len(values)))
  np.add.at(
    counts_UV, (np.repeat(np.arange(len(told)), lengths_U), codes[:, 0]), 1
  )
  share_UV = counts_UV / (lengths_U[:, None] - 1)
  together_VV = counts_UV.T @ share_UV - np.diag(share_UV.sum(0))
  total_V = counts_UV.sum(0)
  apart_VV = _apart(values, total_V, level)
  expected = float((apart_VV * np.outer(total_V, total_V)).sum())
  if not expected:
    return None
  observed = float((apart_VV * together_VV).sum())
  return 1 - (float(total_V.sum()) - 1) * observed / expected


def icc(ratings_UR: Sequence[Sequence[float | None]]) -> float | None:
  """ICC(2,1): two-way random effects, absolute agreement, one rater.

      (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)

  with mean squares of items (R), raters (C) and the rest (E), n items and k
  raters. Items that a rater has left out take no part.

  Raises:
    UserError: Items have different numbers of places for ratings.
  """
  if len({len(some) for some in ratings_UR}) > 1:
    raise errors.UserError(
      'icc: ratings: found items with different numbers of raters, expected '
      'one place for each rater, None where there is no rating.'
    )
  whole = [some for some in ratings_UR if not any(map(is_missing, some))]
  x_UR = np.asarray(whole, np.float64)
  if x_UR.ndim < 2 or min(x_UR.shape) < 2:
    return None
  n, k = x_UR.shape
  mean = x_UR.mean()
  of_items = k * ((x_UR.mean(1) - mean) ** 2).sum()
  of_raters = n * ((x_UR.mean(0) - mean) ** 2).sum()
  rest = ((x_UR - mean) ** 2).sum() - of_items - of_raters
  items, raters = of_items / (n - 1), of_raters / (k - 1)
  rest = max(rest, 0.0) / ((n - 1) * (k - 1))
  below = items + (k - 1) * rest + k * (raters - rest) / n
  return float((items - rest) / below) if below > 0 else None


def pearson(
  first: Sequence[float | None], second: Sequence[float | None]
) -> float | None:
  """Correlation of two raters' numbers.

  Raises:
    UserError: There are not as many of both.
  """
  pairs_N2 = np.asarray(_pairs(first, second), np.float64)
  return _correlation(pairs_N2) if len(pairs_N2) > 1 else None


def spearman(
  first: Sequence[float | None], second: Sequence[float | None]
) -> float | None:
  """Correlation of ranks; ratings that are equal share their mean rank.

  Raises:
    UserError: There are not as many of both.
  """
  pairs_N2 = np.asarray(_pairs(first, second), np.float64)
  if len(pairs_N2) < 2:
    return None
  return _correlation(np.stack([_ranks(some) for some in pairs_N2.T], 1))


def compared(
  first: Sequence[Any], second: Sequence[Any], level: str = NOMINAL
) -> dict[str, Any]:
  """All that two raters' agreement is told by, of a judge and people, say.

  Args:
    first: Ratings.
    second: Of the same items.
    level: Of `LEVELS`.

  Returns:
    JSON-able: `items`, how many of them are `paired`, `missing` of both sides,
    the share that is the `same`, `kappa` (of numbers: with quadratic weights)
    and `alpha`; of numbers also `icc`, `pearson` and `spearman`.

  Raises:
    UserError: There are not as many of both, or there is no such level.
  """
  pairs = _pairs(first, second)
  same = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
  found = {
    'level': level,
    'items': len(first),
    'paired': len(pairs),
    'missing': [sum(map(is_missing, some)) for some in (first, second)],
    'same': same,
    'alpha': krippendorffs_alpha(pairs, level),
    'kappa': cohens_kappa(
      first, second, EQUAL if level == NOMINAL else QUADRATIC
    ),
  }
  if level != NOMINAL:
    found['icc'] = icc(pairs)
    found['pearson'] = pearson(first, second)
    found['spearman'] = spearman(first, second)
  return found


def _pairs(first, second) -> list[tuple[Any, Any]]:
  if len(first) != len(second):
    raise errors.UserError(
      f'agreement: found {len(first)} ratings and {len(second)}, expected two '
      'of each item.'
    )
  return [
    (a, b)
    for a, b in zip(first, second)
    if not is_missing(a) and not is_missing(b)
  ]


def _coded(
  rows: Sequence[Sequence[Any]], in_order: bool
) -> tuple[list[Any], np.ndarray]:
  """Values that occur, and the place of each rating among them."""
  found = dict.fromkeys(one for some in rows for one in some)
  try:
    values = sorted(map(float, found)) if in_order else list(found)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f'agreement: ratings: found what is no number ({error}), expected '
      'numbers where their distance or order counts.'
    ) from error
  places = {value: place for place, value in enumerate(values)}
  return values, np.asarray([[places[one] for one in some] for some in rows])


def _apart(values, total_V, level) -> np.ndarray:
  """Squared distances of values (V, V)."""
  if level == NOMINAL:
    return 1.0 - np.eye(len(values))
  if level == INTERVAL:
    place_V = np.asarray(values, np.float64)
  else:  # the sum of what lies between two values is a difference of these
    place_V = np.cumsum(total_V) - total_V / 2
  return (place_V[:, None] - place_V[None]) ** 2


def _correlation(pairs_N2: np.ndarray) -> float | None:
  away_N2 = pairs_N2 - pairs_N2.mean(0)
  scale = math.sqrt(float((away_N2**2).sum(0).prod()))
  return float(away_N2.prod(1).sum()) / scale if scale else None


def _ranks(values_N: np.ndarray) -> np.ndarray:
  _, place_N, count_V = np.unique(
    values_N, return_inverse=True, return_counts=True
  )
  return (np.cumsum(count_V) - (count_V - 1) / 2)[place_N]
