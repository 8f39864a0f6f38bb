"""Agreement as published examples and closed forms have it."""

import math

import numpy as np
import pytest
from scipy import stats

from step_audio_jax import errors
from step_audio_jax.evaluation.statistics import agreement

# Krippendorff 2011: four observers, twelve units.
OBSERVERS = (
  '1 2 3 3 2 1 4 1 2 . . .',
  '1 2 3 3 2 2 4 1 2 5 . 3',
  '. 3 3 3 2 3 4 2 2 5 1 .',
  '1 2 3 3 2 4 4 1 2 5 1 .',
)
UNITS = [
  [None if one == '.' else float(one) for one in some]
  for some in zip(*(row.split() for row in OBSERVERS))
]
# Shrout and Fleiss 1979: six targets, four judges.
TARGETS = [
  [9, 2, 5, 8],
  [6, 1, 3, 2],
  [8, 4, 6, 8],
  [7, 1, 2, 6],
  [10, 5, 6, 9],
  [6, 2, 4, 7],
]


@pytest.mark.parametrize(
  'level, alpha', [('nominal', 0.743), ('ordinal', 0.815), ('interval', 0.849)]
)
def test_alpha_of_the_published_example(level, alpha):
  assert agreement.krippendorffs_alpha(UNITS, level) == pytest.approx(
    alpha, abs=5e-4
  )


def test_alpha_of_an_example_with_many_gaps():
  coders = (
    '. . . . . 3 4 1 2 1 1 3 3 . 3',
    '1 . 2 1 3 3 4 3 . . . . . . .',
    '. . 2 1 3 4 4 . 2 1 1 3 3 . 4',
  )
  units = [
    [math.nan if one == '.' else int(one) for one in some]
    for some in zip(*(row.split() for row in coders))
  ]
  found = [agreement.krippendorffs_alpha(units, level) for level in
           ('nominal', 'interval')]  # fmt: skip
  assert found == pytest.approx([0.691, 0.811], abs=5e-4)


@pytest.mark.parametrize('level', agreement.LEVELS)
def test_alpha_is_what_its_definition_says(level):
  rng = np.random.default_rng(3)
  units = [
    [float(one) for one in rng.integers(0, 6, rng.integers(1, 5))]
    for _ in range(30)
  ]
  used = [some for some in units if len(some) > 1]
  every = [one for some in used for one in some]

  def d(a, b):
    if level == 'nominal':
      return float(a != b)
    if level == 'interval':
      return (a - b) ** 2
    low, high = sorted((a, b))
    between = sum(low <= one <= high for one in every)
    return (between - (every.count(a) + every.count(b)) / 2) ** 2

  def mean(some):
    pairs = [(a, b) for i, a in enumerate(some) for b in some[:i]]
    return sum(d(a, b) for a, b in pairs if a != b) / len(pairs)

  observed = sum(len(some) * mean(some) for some in used) / len(every)
  assert agreement.krippendorffs_alpha(units, level) == pytest.approx(
    1 - observed / mean(every)
  )


def test_kappa_of_the_published_examples():
  # 50 proposals: both yes, only the first, only the second, both no.
  pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
  first, second = zip(*pairs)
  assert agreement.cohens_kappa(first, second) == pytest.approx(0.4)
  names = [['no', 'yes'][one] for one in first]
  assert agreement.cohens_kappa(
    names, [['no', 'yes'][one] for one in second]
  ) == pytest.approx(0.4)
  # Of two values, how far they lie apart does not matter.
  for weights in agreement.WEIGHTS:
    found = agreement.cohens_kappa(first, second, weights)
    assert found == pytest.approx(0.4)
  # Of both margins (1, 1, 1) / 3 and two ratings one apart: by hand.
  first, second = (1, 2, 3), (2, 1, 3)
  assert agreement.cohens_kappa(first, second) == pytest.approx(0)
  linear = agreement.cohens_kappa(first, second, 'linear')
  assert linear == pytest.approx(1 - 2 / (8 / 3))
  quadratic = agreement.cohens_kappa(first, second, 'quadratic')
  assert quadratic == pytest.approx(1 - 2 / 4)
  # A value that nobody gave leaves its gap.
  assert agreement.cohens_kappa(
    (1, 2, 9), (2, 1, 9), 'linear'
  ) == pytest.approx(1 - 2 / (32 / 3))


def test_icc_of_the_published_example():
  assert agreement.icc(TARGETS) == pytest.approx(0.2898, abs=5e-5)
  # Another rater's zero is disagreement; its spread alone is not.
  moved = [[one, one + 3] for one in (1, 2, 3, 4, 5)]
  assert agreement.icc(moved) == pytest.approx(2.5 / (2.5 + 4.5))
  assert agreement.icc([[1, 1], [2, 2], [3, 3]]) == pytest.approx(1)
  assert agreement.icc([*TARGETS, [None, 1, 9, 1]]) == agreement.icc(TARGETS)


def test_correlations_are_those_of_scipy():
  rng = np.random.default_rng(0)
  first = rng.integers(1, 6, 40).astype(float)
  second = np.round(first + rng.normal(size=40))
  found = agreement.pearson(first, second), agreement.spearman(first, second)
  expected = (
    stats.pearsonr(first, second)[0],
    stats.spearmanr(first, second)[0],
  )
  assert found == pytest.approx(expected)
  with_gaps = [None, *first], [3.0, *second]
  assert agreement.spearman(*with_gaps) == pytest.approx(expected[1])


def test_what_is_not_defined_is_none():
  same = [3.0] * 5
  assert agreement.cohens_kappa(same, same) is None
  assert agreement.cohens_kappa([], []) is None
  assert agreement.pearson(same, [1, 2, 3, 4, 5]) is None
  assert agreement.spearman([1], [1]) is None
  for level in agreement.LEVELS:
    assert agreement.krippendorffs_alpha([same, same], level) is None
    assert agreement.krippendorffs_alpha([[1.0], [2.0], []], level) is None
  assert agreement.icc([[1, 2]]) is None
  assert agreement.icc([]) is None
  assert agreement.icc([[2, 2], [2, 2]]) is None


def test_two_raters_are_compared_with_what_is_missing():
  judge = [1.0, 2.0, None, 4.0, 5.0, 3.0]
  people = [1.0, 3.0, 2.0, 4.0, 4.5, None]
  found = agreement.compared(judge, people, 'interval')
  assert found['items'] == 6 and found['paired'] == 4
  assert found['missing'] == [1, 1] and found['same'] == 0.5
  assert found['pearson'] == agreement.pearson(judge, people)
  pairs = [(1, 1), (2, 3), (4, 4), (5, 4.5)]
  assert found['alpha'] == agreement.krippendorffs_alpha(pairs, 'interval')
  assert found['icc'] == agreement.icc(pairs)
  assert 0.8 < found['kappa'] < 1
  names = agreement.compared(['yes', 'no', 'no'], ['yes', 'no', 'yes'])
  assert names['kappa'] == pytest.approx(0.4) and 'icc' not in names


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: agreement.cohens_kappa([1], [1, 2]), 'found 1 ratings and 2'),
    (lambda: agreement.cohens_kappa([1], [1], 'cubic'), "found 'cubic'"),
    (lambda: agreement.krippendorffs_alpha([], 'ratio'), "found 'ratio'"),
    (
      lambda: agreement.krippendorffs_alpha([['a', 'b']], 'ordinal'),
      'found what is no number',
    ),
    (lambda: agreement.icc([[1, 2], [1]]), 'different numbers of raters'),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(errors.UserError, match=message):
    call()
