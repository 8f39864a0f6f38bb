"""Intervals and tests against closed forms, scipy and kaldialign."""

import itertools
import math

import kaldialign
import numpy as np
import pytest
import scipy.stats

from step_audio_jax import errors
from step_audio_jax.evaluation import conventions
from step_audio_jax.evaluation import statistics


def test_a_mean_has_the_interval_of_the_normal_law():
  values_N = np.random.default_rng(1).gamma(2.0, size=400)
  found = statistics.mean(values_N, resamples=4000, seed=3)
  spread = values_N.std() / math.sqrt(len(values_N))
  assert found.value == pytest.approx(values_N.mean())
  assert found.low == pytest.approx(values_N.mean() - 1.96 * spread, rel=0.01)
  assert found.high == pytest.approx(values_N.mean() + 1.96 * spread, rel=0.01)
  assert (found.count, found.resamples, found.seed) == (400, 4000, 3)
  narrow = statistics.mean(values_N, level=0.5)
  assert found.low < narrow.low < narrow.high < found.high
  assert statistics.mean([]) is None
  assert statistics.mean([0.25]).low == 0.25


def test_a_rate_has_the_interval_of_bisani_and_ney():
  rng = np.random.default_rng(2)
  references = [['a'] * n for n in rng.integers(1, 30, 300)]
  hypotheses = [
    [rng.choice(['a', 'b'], p=[0.9, 0.1]) for _ in one] for one in references
  ]
  theirs = kaldialign.bootstrap_wer_ci(references, hypotheses)
  wrong_N = [one.count('b') for one in hypotheses]
  lengths_N = [len(one) for one in references]
  found = statistics.micro(wrong_N, lengths_N, resamples=10_000)
  assert found.value == sum(wrong_N) / sum(lengths_N)
  assert found.low == pytest.approx(theirs['ci95min'], rel=0.02)
  assert found.high == pytest.approx(theirs['ci95max'], rel=0.02)
  # Long utterances weigh more than in a mean of rates.
  rates_N = np.divide(wrong_N, lengths_N)
  assert statistics.mean(rates_N).value != pytest.approx(found.value, rel=1e-3)
  assert statistics.micro([3.0], [0.0]) is None
  again = statistics.micro(wrong_N, lengths_N, resamples=10_000)
  assert again == found


def test_memory_is_bounded_and_nothing_depends_on_it(monkeypatch):
  values_N = np.arange(50.0)
  whole = statistics.mean(values_N, resamples=101)
  flips = statistics.sign_flip(values_N, values_N[::-1], resamples=101)
  monkeypatch.setattr(statistics, '_AT_ONCE', 500)
  assert statistics.mean(values_N, resamples=101) == whole
  assert statistics.sign_flip(
    values_N, values_N[::-1], resamples=101
  ) == pytest.approx(flips)


def test_few_utterances_are_swapped_in_every_way():
  rng = np.random.default_rng(4)
  first, second = rng.normal(0.6, 1, 9), rng.normal(0, 1, 9)
  theirs = scipy.stats.permutation_test(
    (first, second),
    lambda a, b, axis: np.mean(a - b, axis=axis),
    permutation_type='samples',
    n_resamples=np.inf,
  )
  found = statistics.sign_flip(first, second)
  assert found == pytest.approx(theirs.pvalue)
  drawn = statistics.sign_flip(first, second, resamples=500)
  assert found == pytest.approx(drawn, abs=0.06) and found != drawn


def test_swaps_of_equal_errors_change_nothing():
  assert statistics.sign_flip([1, 2, 3], [1, 2, 3]) == 1.0
  # By hand: differences 1, 1, -1; of the 8 sums none is nearer than 1.
  assert statistics.sign_flip([2, 2, 0], [1, 1, 1]) == 1.0
  sums = [sum(s) for s in itertools.product((2, -2), (1, -1), (1, -1))]
  want = np.mean([abs(s) >= 4 for s in sums])
  assert statistics.sign_flip([2, 1, 1], [0, 0, 0]) == want


def test_matched_pairs_is_a_z_test():
  rng = np.random.default_rng(5)
  first, second = rng.poisson(2.0, 200), rng.poisson(1.8, 200)
  difference = first - second
  z = difference.mean() / (difference.std(ddof=1) / math.sqrt(200))
  assert statistics.matched_pairs(first, second) == pytest.approx(
    2 * scipy.stats.norm.sf(abs(z))
  )
  assert statistics.matched_pairs([1, 2], [0, 1]) == 0.0
  assert statistics.matched_pairs([1, 2], [1, 2]) == 1.0
  assert statistics.matched_pairs([1], [0]) == 1.0


def rows(seed, wrong, count=80):
  rng = np.random.default_rng(seed)
  lengths = np.random.default_rng(0).integers(1, 12, count)
  return [
    (
      str(i),
      ' '.join(['so'] * n),
      ' '.join(rng.choice(['so', 'no'], n, p=[1 - wrong, wrong])),
      'en',
    )
    for i, n in enumerate(lengths)
  ]


@pytest.mark.parametrize('name', ['kaldi', 'seed-tts'])
def test_two_systems_are_compared_on_what_both_have(name):
  good = conventions.score(name, rows(1, 0.1))
  bad = conventions.score(name, [*rows(2, 0.3)[5:], ('x', 'a', 'b', 'en')])
  found = statistics.compare(good, bad)
  assert (found.only_first, found.only_second) == (5, 1)
  assert found.difference.count == 75
  assert found.difference.value == pytest.approx(found.first - found.second)
  assert found.difference.high < 0
  for p in (found.p_bootstrap, found.p_sign_flip, found.p_matched_pairs):
    assert p < 0.01
  other = statistics.compare(bad, good)
  assert other.difference.value == pytest.approx(-found.difference.value)
  same = statistics.compare(good, good)
  assert same.difference.low == same.difference.high == 0
  assert same.p_bootstrap == same.p_sign_flip == same.p_matched_pairs == 1
  assert statistics.interval(good).value == pytest.approx(good.rate)


def test_what_cannot_be_compared_is_told():
  good = conventions.score('kaldi', rows(1, 0.1))
  with pytest.raises(errors.UserError, match='kaldi 1 and wenet 1'):
    statistics.compare(good, conventions.score('wenet', rows(1, 0.1)))
  others = conventions.score('kaldi', [('x', 'a', 'a', 'en')])
  with pytest.raises(errors.UserError, match='no utterance of the same id'):
    statistics.compare(good, others)
  nothing = conventions.score('kaldi', [])
  assert statistics.interval(nothing) is None
