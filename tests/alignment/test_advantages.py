"""Advantages against loops over ragged answers in plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment import advantages

STARTS, LENGTHS = (2, 0, 5, 0), (3, 7, 1, 0)
N = 7


def mask():
  found = np.zeros((len(LENGTHS), N), bool)
  for b, (start, length) in enumerate(zip(STARTS, LENGTHS)):
    found[b, start : start + length] = True
  return found


def ragged(seed=0):
  """(rewards, values), with rubbish where there is no answer."""
  rewards, values = np.random.default_rng(seed).normal(size=(2, 4, N)) * 3
  for x in (rewards, values):
    x[~mask()] = 1e6
  return rewards.astype(np.float32), values.astype(np.float32)


def oracle(rewards, values, discount, smoothing):
  """A_t as the double sum over what is still to come."""
  found = np.zeros(rewards.shape)
  for b, (start, length) in enumerate(zip(STARTS, LENGTHS)):
    r = rewards[b, start : start + length].astype(np.float64)
    v = np.append(values[b, start : start + length].astype(np.float64), 0.0)
    delta = [r[t] + discount * v[t + 1] - v[t] for t in range(length)]
    for t in range(length):
      found[b, start + t] = sum(
        (discount * smoothing) ** k * delta[t + k] for k in range(length - t)
      )
  return found


@pytest.mark.parametrize('discount, smoothing', [(1, 0.95), (0.9, 0.5), (1, 1)])
def test_generalized_advantages(discount, smoothing):
  rewards, values = ragged()
  found, returns = advantages.generalized_advantages(
    rewards, values, mask(), discount=discount, smoothing=smoothing
  )
  truth = oracle(rewards, values, discount, smoothing)
  np.testing.assert_allclose(found, truth, atol=1e-5)
  np.testing.assert_allclose(
    returns, np.where(mask(), truth + values, 0), atol=1e-5
  )


def test_returns_are_no_rewards():
  rewards, values = ragged(1)
  _, returns = advantages.generalized_advantages(
    rewards, values, mask(), smoothing=1.0
  )
  clean = np.where(mask(), rewards, 0)
  # With lambda = gamma = 1 a return is the sum of all rewards from there on.
  truth = np.where(mask(), np.cumsum(clean[:, ::-1], 1)[:, ::-1], 0)
  np.testing.assert_allclose(returns, truth, atol=1e-4)


def test_place_and_width_of_an_answer_change_nothing():
  rewards, values = ragged(2)
  narrow, _ = advantages.generalized_advantages(rewards, values, mask())
  wide = [
    np.pad(x, ((0, 0), (4, 9)), constant_values=9e5) for x in (rewards, values)
  ]
  found, _ = advantages.generalized_advantages(
    *wide, np.pad(mask(), ((0, 0), (4, 9)))
  )
  np.testing.assert_array_equal(found[:, 4 : 4 + N], narrow)
  assert not np.asarray(found)[:, :4].any()


def test_whitening_sees_no_pads():
  values, _ = ragged(3)
  inside = values[mask()].astype(np.float64)
  found = np.asarray(advantages.whiten(values, mask()))
  truth = (inside - inside.mean()) / np.sqrt(inside.var() + 1e-8)
  np.testing.assert_allclose(found[mask()], truth, atol=1e-5)
  assert not found[~mask()].any()
  kept = np.asarray(advantages.whiten(values, mask(), shift=False))
  np.testing.assert_allclose(kept[mask()], truth + inside.mean(), atol=1e-5)


def test_mean_of_nothing():
  nothing = np.zeros((2, 3), bool)
  assert advantages.masked_mean(np.ones((2, 3)), nothing) == 0
  assert not np.asarray(advantages.whiten(np.ones((2, 3)), nothing)).any()


REWARDS = np.array([1.0, 0.25, 0.25, 0.5, 3.0, 3.0, 2.0, -1.0], np.float32)


@pytest.mark.parametrize('scale', [False, True])
@pytest.mark.parametrize('leave_one_out', [False, True])
def test_groups(leave_one_out, scale):
  found = advantages.group_advantages(
    REWARDS, 4, leave_one_out=leave_one_out, scale=scale
  )
  truth = []
  for some in REWARDS.astype(np.float64).reshape(-1, 4):
    for i, reward in enumerate(some):
      rest = np.delete(some, i) if leave_one_out else some
      deviation = some.std(ddof=1) + 1e-4 if scale else 1.0
      truth.append((reward - rest.mean()) / deviation)
  np.testing.assert_allclose(found, truth, atol=1e-6)


@pytest.mark.parametrize('scale', [False, True])
@pytest.mark.parametrize('leave_one_out', [False, True])
@pytest.mark.parametrize('value', [0.1, 1 / 3, -7.7, 2075.3, 0.0])
@pytest.mark.parametrize('group', [3, 5, 7])
def test_equal_rewards_are_exactly_nothing(group, value, leave_one_out, scale):
  rewards = np.full(2 * group, value, np.float32)
  found = advantages.group_advantages(
    rewards, group, leave_one_out=leave_one_out, scale=scale
  )
  assert not np.asarray(found).any()


def test_almost_equal_rewards_do_not_explode():
  rewards = np.float32(1000.0) + np.array([0, 0, 0, 6.1e-5], np.float32)
  for leave_one_out in (False, True):
    found = advantages.group_advantages(rewards, 4, leave_one_out=leave_one_out)
    assert np.abs(found).max() < 3


def test_what_does_not_count_touches_nothing():
  rewards = np.array([np.nan, 1.0, 2.0, 6.0, np.inf, 5.0, 9.0, 9.0], np.float32)
  valid = np.array([0, 1, 1, 1, 0, 1, 0, 0], bool)
  found = np.asarray(
    advantages.group_advantages(rewards, 4, scale=False, valid_B=valid)
  )
  np.testing.assert_allclose(found, [0, -2, -1, 3, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize('group', [1, 3, 0])
def test_groups_that_do_not_divide(group):
  with pytest.raises(
    errors.UserError, match=f'found {group} answers to a prom'
  ):
    advantages.group_advantages(jnp.zeros(8), group)
