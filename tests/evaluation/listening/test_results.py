"""Means, intervals and preferences, against closed forms and simulations."""

import numpy as np
import pytest
from scipy import stats

from step_audio_jax.evaluation.listening import intervals
from step_audio_jax.evaluation.listening import ratings
from step_audio_jax.evaluation.listening import results
from step_audio_jax.evaluation.statistics import agreement
from tests.evaluation.listening import made


@pytest.mark.parametrize('pair', [(0, 0), (5, 5), (1, 8), (12, 3), (700, 800)])
def test_the_binomial_test(pair):
  total = sum(pair)
  expected = stats.binomtest(pair[0], total).pvalue if total else 1.0
  assert intervals.binomial_p(*pair) == pytest.approx(expected, rel=1e-9)
  assert 0 <= intervals.binomial_p(3000, 1) < 1e-300


def test_intervals_cover_what_they_say():
  # Raters and items each have a level of their own: an interval that took
  # ratings for independent would hold the truth far too seldom.
  generator = np.random.default_rng(0)
  held = naive = 0
  for n in range(100):
    x_RI = 3 + generator.normal(size=(12, 1)) * 0.4
    x_RI = x_RI + generator.normal(size=(1, 12)) * 0.4
    x_RI = x_RI + generator.normal(size=(12, 12)) * 0.3
    x_RI[generator.random(x_RI.shape) < 0.2] = np.nan
    mean, drawn_B = intervals.means(x_RI, seed=n, draws=400)
    assert mean == pytest.approx(np.nanmean(x_RI))
    low, high = intervals.interval(drawn_B)
    held += low < 3 < high
    count = np.isfinite(x_RI).sum()
    naive += abs(mean - 3) < 1.96 * np.nanstd(x_RI) / np.sqrt(count)
  assert 86 <= held <= 99 and naive < 75


def test_draws_are_paired_and_nothing_is_nothing():
  x_RI = np.random.default_rng(1).normal(size=(5, 6))
  one, two = (intervals.means(x, draws=50)[1] for x in (x_RI, x_RI + 0.5))
  np.testing.assert_allclose(two - one, 0.5)
  mean, drawn_B = intervals.means(np.full((2, 3), np.nan))
  assert np.isnan(mean) and np.isnan(intervals.interval(drawn_B)).all()
  # A rater and an item that nobody else has: some draws have no rating.
  lone = np.full((2, 2), np.nan)
  lone[0, 0] = 4
  assert intervals.interval(intervals.means(lone)[1]) == (4, 4)


def computed(tmp_path, opinions, draws=300):
  """Results of raters by what they think of both systems."""
  key = made.small(items=4).key
  paths = []
  for rater, own in opinions.items():
    rows = made.answers(
      key, rater, made.attentive(key, own), swap=rater == 'bo'
    )
    paths.append(made.save(tmp_path / f'{rater}.csv', rows))
  return results.compute(ratings.read(paths, key), key, draws)


def test_means_and_preferences(tmp_path):
  found = computed(
    tmp_path,
    {
      'ada': {'reference': 5, 'sekret': 3},
      'bo': {'reference': 4, 'sekret': 3},
      'cy': {'reference': 3, 'sekret': 3},
    },
  )
  systems = found['mos']['systems']
  assert systems['reference']['mean'] == 4
  assert systems['reference']['scores'] == [0, 0, 4, 4, 4]
  # Of twelve: catch trials take no part.
  assert systems['sekret'] == {
    'mean': 3,
    'low': 3,
    'high': 3,
    'ratings': 12,
    'raters': 3,
    'items': 4,
    'scores': [0, 0, 12, 0, 0],
  }
  low, high = systems['reference']['low'], systems['reference']['high']
  assert 3 <= low < 4 < high <= 5
  (difference,) = found['mos']['differences']
  assert difference['difference'] == 1
  # Three raters, one without a difference: it may be nothing.
  assert not difference['sure'] and difference['low'] == 0
  (pair,) = found['ab']['pairs']
  assert (pair['first'], pair['second']) == ('reference', 'sekret')
  assert (pair['first_wins'], pair['second_wins'], pair['same']) == (8, 0, 4)
  assert pair['share'] == 1
  assert pair['p'] == pytest.approx(2 / 2**8)
  # Ada had them as they are, Bo the other way round.
  assert found['ab']['side_a'] == 0.5
  rated = [[5, 4, 3]] * 4 + [[3, 3, 3]] * 4
  for kind in (agreement.ORDINAL, agreement.INTERVAL):
    assert found['mos'][f'alpha_{kind}'] == pytest.approx(
      agreement.krippendorffs_alpha(rated, kind)
    )
  assert found['ab']['alpha_nominal'] == pytest.approx(
    agreement.krippendorffs_alpha([['1', '1', '0']] * 4)
  )


def test_nobody_is_left(tmp_path):
  # The reference is no better to them than noise.
  found = computed(tmp_path, {'eve': {'reference': 1, 'sekret': 4}})
  assert found['raters']['kept'] == 0
  assert found['mos']['systems']['sekret']['mean'] is None
  assert found['mos']['differences'][0]['sure'] is False
  (pair,) = found['ab']['pairs']
  assert pair['share'] is None and pair['p'] == 1
  assert found['mos']['alpha_ordinal'] is None
