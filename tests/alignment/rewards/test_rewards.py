"""A failure is never a reward of 0."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.rewards import rewards
from tests.alignment.rewards import test_rules

SAMPLES = [test_rules.said(text) for text in ('blue', 'red', 'a b')]


def constant(*values):
  return lambda samples: np.array(values, np.float32)


def broken(samples):
  raise TimeoutError('no answer')


def test_weighted_sum():
  it = rewards.Rewards(
    {'a': (2.0, constant(1, 0, 0.5)), 'b': (-1.0, constant(0, 1, 1))}
  )
  found = it(SAMPLES)
  np.testing.assert_allclose(found.rewards, [2, -1, 0])
  assert found.valid.all()
  np.testing.assert_allclose(found.scores['a'], [1, 0, 0.5])


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stops_or_is_dropped(value):
  scorers = {'a': (1.0, constant(1, 1, 1)), 'b': (1.0, constant(1, value, 1))}
  with pytest.raises(
    errors.UserError, match="b gave .* for an answer to q \\('"
  ):
    rewards.Rewards(scorers)(SAMPLES)
  found = rewards.Rewards(scorers, 'drop')(SAMPLES)
  np.testing.assert_array_equal(found.valid, [True, False, True])
  np.testing.assert_array_equal(found.rewards, [2, 0, 2])


def test_a_sum_that_is_no_number_stops_or_is_dropped():
  scorers = {'a': (1e30, constant(1, 1e30, 2))}
  with pytest.raises(
    errors.UserError, match='the weighted sum gave inf for an answer to q'
  ):
    rewards.Rewards(scorers)(SAMPLES)
  found = rewards.Rewards(scorers, 'drop')(SAMPLES)
  np.testing.assert_array_equal(found.valid, [True, False, True])
  np.testing.assert_allclose(found.rewards, [1e30, 0, 2e30], rtol=1e-6)


def test_a_scorer_that_fails_stops_or_drops_all():
  scorers = {'judge': (1.0, broken)}
  with pytest.raises(
    errors.UserError, match='judge failed .TimeoutError: no an'
  ):
    rewards.Rewards(scorers)(SAMPLES)
  assert not rewards.Rewards(scorers, 'drop')(SAMPLES).valid.any()


def test_a_failure_is_one_sentence_and_told_where_the_run_goes_on(capsys):
  def broken(samples):
    raise ValueError('first\n  second')

  scorers = {'judge': (1.0, broken)}
  with pytest.raises(errors.UserError, match='.ValueError: first second.; exp'):
    rewards.Rewards(scorers)(SAMPLES)
  assert capsys.readouterr().err == ''
  rewards.Rewards(scorers, 'drop')(SAMPLES)
  said = capsys.readouterr().err
  assert said.startswith('note: rewards: judge failed (ValueError: first seco')
  assert said.endswith('; its 3 answers are dropped.\n')


def test_what_float32_does_not_hold_is_told_as_it_was(recwarn):
  scorers = {'a': (1.0, lambda samples: [1, -1e300, 1])}
  with pytest.raises(errors.UserError, match='a gave -1e.300 for an answer'):
    rewards.Rewards(scorers)(SAMPLES)
  found = rewards.Rewards(scorers, 'drop')(SAMPLES)
  np.testing.assert_array_equal(found.valid, [True, False, True])
  assert not recwarn.list


def test_scores_of_another_number_always_stop():
  it = rewards.Rewards({'a': (1.0, constant(1, 1))}, 'drop')
  with pytest.raises(errors.UserError, match='one for each of 3 answers'):
    it(SAMPLES)


def test_settings():
  with pytest.raises(
    errors.UserError, match='no scorer, expected at least one'
  ):
    rewards.Rewards({})
  with pytest.raises(
    errors.UserError, match="on_failure is 'zero', expected 's"
  ):
    rewards.Rewards({'a': (1.0, broken)}, 'zero')
  with pytest.raises(errors.UserError, match='weight of a is nan, expected a'):
    rewards.Rewards({'a': (float('nan'), broken)})
