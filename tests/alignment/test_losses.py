"""Losses against closed forms and loops in plain NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment import losses


def draws(count, *shape, seed=0, scale=1.0):
  return (
    np.random.default_rng(seed).normal(size=(count, *shape)) * scale
  ).astype(np.float32)


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


@pytest.mark.parametrize('low, high', [(0.2, None), (0.2, 0.28), (0.05, 0.4)])
def test_clipped_policy(low, high):
  policy, old, advantages = draws(3, 5, 6, scale=0.5)
  found = losses.clipped_policy(policy, old, advantages, low=low, high=high)
  for place in np.ndindex(policy.shape):
    ratio = np.exp(float(policy[place]) - float(old[place]))
    a = float(advantages[place])
    near = min(max(ratio, 1 - low), 1 + (low if high is None else high))
    assert found.losses[place] == pytest.approx(
      -min(ratio * a, near * a), abs=1e-6
    )
    assert found.held[place] == (near * a < ratio * a)


def test_gradient_on_policy_is_that_of_reinforce():
  policy, advantages = draws(2, 4, 3)
  grads = jax.grad(
    lambda p: losses.clipped_policy(p, policy, advantages).losses.sum()
  )(jnp.array(policy))
  np.testing.assert_allclose(grads, -advantages, atol=1e-6)


def test_no_gradient_where_the_clip_holds():
  policy, advantages = (
    jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5])),
    jnp.array([1.0, -1.0, 1.0, -1.0]),
  )

  def total(p):
    return losses.clipped_policy(p, jnp.zeros(4), advantages).losses.sum()

  grads = jax.grad(total)(policy)
  np.testing.assert_allclose(grads, [0, 1.5, -0.5, 0], atol=1e-6)


def test_advantages_and_returns_have_no_gradient():
  policy, old, advantages = draws(3, 5)
  grads = jax.grad(
    lambda a: losses.clipped_policy(policy, old, a).losses.sum()
  )(jnp.array(advantages))
  assert not np.asarray(grads).any()
  grads = jax.grad(
    lambda r: losses.clipped_values(policy, old, r).losses.sum()
  )(jnp.array(advantages))
  assert not np.asarray(grads).any()


@pytest.mark.parametrize('clip', [0.2, 0.0])
def test_clipped_values(clip):
  values, old, returns = draws(3, 4, 5)
  found = losses.clipped_values(values, old, returns, clip=clip)
  for place in np.ndindex(values.shape):
    v, o, r = (float(x[place]) for x in (values, old, returns))
    near = min(max(v, o - clip), o + clip) if clip else v
    truth = max((v - r) ** 2, (near - r) ** 2) / 2
    assert found.losses[place] == pytest.approx(truth, abs=1e-5)


MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize(
  'mean, truth',
  [
    ('token', (1 + 2 + 3 + 4 + 5 + 6) / 6),
    ('answer', ((1 + 2) / 2 + (3 + 4 + 5 + 6) / 4) / 2),
    ('constant', ((1 + 2) / 10 + (3 + 4 + 5 + 6) / 10) / 2),
  ],
)
def test_means(mean, truth):
  numbers = np.zeros(MASK.shape, np.float32)
  numbers[MASK] = np.arange(1, 7)
  places, answers = losses.weights_of_places(MASK, mean, 10)
  found = (numbers * places).sum() / answers.sum()
  assert found == pytest.approx(truth, abs=1e-6)
  wide, same = losses.weights_of_places(
    np.pad(MASK, ((0, 0), (3, 2))), mean, 10
  )
  np.testing.assert_array_equal(wide[:, 3:7], places)
  np.testing.assert_array_equal(same, answers)


def test_an_unknown_mean():
  with pytest.raises(
    errors.UserError, match="found 'row', expected one of tok"
  ):
    losses.weights_of_places(MASK, 'row')


@pytest.mark.parametrize('margin, centring', [(0.0, 0.0), (0.7, 0.01)])
def test_bradley_terry(margin, centring):
  chosen, rejected = draws(2, 9, scale=3)
  found = losses.bradley_terry(chosen, rejected, margin, centring=centring)
  chosen, rejected = (x.astype(np.float64) for x in (chosen, rejected))
  truth = -np.log(sigmoid(chosen - rejected - margin))
  truth += centring * (chosen + rejected) ** 2
  np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)


def test_bradley_terry_far_out():
  found = losses.bradley_terry(jnp.array([-500.0, 500.0]), jnp.zeros(2))
  np.testing.assert_allclose(found, [500, 0], atol=1e-6)


@pytest.mark.parametrize('beta, smoothing', [(0.1, 0.0), (0.5, 0.2)])
def test_direct_preference(beta, smoothing):
  chosen, rejected = draws(2, 7, scale=5)
  found = losses.direct_preference(
    chosen, rejected, beta=beta, smoothing=smoothing
  )
  x = beta * (chosen.astype(np.float64) - rejected)
  truth = -(1 - smoothing) * np.log(sigmoid(x))
  truth -= smoothing * np.log(sigmoid(-x))
  np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)


def test_gradient_of_direct_preference():
  chosen, rejected = draws(2, 7, scale=2)
  grads = jax.grad(
    lambda c: losses.direct_preference(c, rejected, beta=0.3).sum()
  )(jnp.array(chosen))
  truth = -0.3 * sigmoid(-0.3 * (chosen.astype(np.float64) - rejected))
  np.testing.assert_allclose(grads, truth, atol=1e-6)


@pytest.mark.parametrize('baseline', [0.4, -2.0])
def test_kahneman_tversky(baseline):
  (ratios,) = draws(1, 8, scale=4)
  desired = np.arange(8) % 3 == 0
  found = losses.kahneman_tversky(
    ratios, desired, jnp.float32(baseline), beta=0.2, gain=1.5, loss=0.5
  )
  z = max(baseline, 0)
  truth = np.where(
    desired,
    1.5 * (1 - sigmoid(0.2 * (ratios - z))),
    0.5 * (1 - sigmoid(0.2 * (z - ratios))),
  )
  np.testing.assert_allclose(found, truth, atol=1e-6)


def test_importance_is_truncated_and_counted():
  learner, sampler = (
    np.log([[0.5, 0.9], [0.2, 0.1]]),
    np.log([[0.25, 0.1], [0.2, 0.4]]),
  )
  weights, cut = losses.truncated_importance(learner, sampler, most=2.5)
  np.testing.assert_allclose(weights, [[2, 2.5], [1, 0.25]], rtol=1e-6)
  np.testing.assert_array_equal(cut, [[0, 1], [0, 0]])
  grads = jax.grad(lambda x: losses.truncated_importance(x, sampler)[0].sum())(
    jnp.array(learner)
  )
  assert not np.asarray(grads).any()
