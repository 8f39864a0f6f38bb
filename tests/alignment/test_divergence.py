"""KL estimators: their values, and whose gradient theirs is in expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment import divergence

LOGITS = np.array([0.3, -1.2, 0.8, 0.1])
REFERENCE = np.array([0.5, 0.4, -0.9, 0.0])


def log_softmax(x):
  return x - np.log(np.exp(x).sum())


def divergence_of(p, q):
  return float((np.exp(p) * (p - q)).sum())


def expected(name):
  """The mean of an estimator over all ids, exactly."""
  p, q = log_softmax(LOGITS), log_softmax(REFERENCE)
  return float((np.exp(p) * divergence.ESTIMATORS[name](p, q)).sum())


def expected_gradient(name):
  """The mean over the policy's own samples of the estimator's gradient."""
  q = log_softmax(REFERENCE)

  def one(logits, i):
    return divergence.ESTIMATORS[name](jax.nn.log_softmax(logits)[i], q[i])

  grads = [jax.grad(one)(jnp.array(LOGITS), i) for i in range(4)]
  return np.exp(log_softmax(LOGITS)) @ np.stack(grads)


def slopes(function):
  """The gradient of a function of the logits, by differences."""
  step = 1e-5
  return np.array(
    [
      (function(LOGITS + step * e) - function(LOGITS - step * e)) / (2 * step)
      for e in np.eye(4)
    ]
  )


@pytest.mark.parametrize('name', ['k1', 'k3'])
def test_k1_and_k3_are_unbiased(name):
  p, q = log_softmax(LOGITS), log_softmax(REFERENCE)
  assert expected(name) == pytest.approx(divergence_of(p, q), abs=1e-6)


def test_k2_is_biased_and_close_where_both_are():
  near = LOGITS + 1e-2 * REFERENCE
  p, q = log_softmax(LOGITS), log_softmax(near)
  found = float((np.exp(p) * divergence.k2(p, q)).sum())
  assert found == pytest.approx(divergence_of(p, q), rel=1e-2)
  far = divergence_of(log_softmax(LOGITS), log_softmax(REFERENCE))
  assert abs(expected('k2') - far) > 1e-2


def test_k2_and_k3_are_never_negative():
  p, q = np.random.default_rng(0).normal(size=(2, 1000))
  assert divergence.k2(p, q).min() >= 0
  assert divergence.k3(p, q).min() >= 0
  assert divergence.k1(p, q).min() < 0


def test_gradient_of_k1_is_nothing():
  assert np.abs(expected_gradient('k1')).max() < 1e-6


def test_gradient_of_k2_is_that_of_the_divergence():
  q = log_softmax(REFERENCE)
  truth = slopes(lambda x: divergence_of(log_softmax(x), q))
  np.testing.assert_allclose(expected_gradient('k2'), truth, atol=1e-5)


def test_gradient_of_k3_is_that_of_the_other_way_round():
  q = log_softmax(REFERENCE)
  truth = slopes(lambda x: divergence_of(q, log_softmax(x)))
  np.testing.assert_allclose(expected_gradient('k3'), truth, atol=1e-5)
  forward = slopes(lambda x: divergence_of(log_softmax(x), q))
  assert np.abs(expected_gradient('k3') - forward).max() > 1e-2


@pytest.mark.parametrize('name', divergence.ESTIMATORS)
def test_equal_policies(name):
  p = log_softmax(LOGITS)
  assert np.abs(divergence.ESTIMATORS[name](p, p)).max() == 0


def test_what_does_nothing_is_refused():
  for estimator, place in (('k1', 'reward'), ('k2', 'loss'), ('k3', 'loss')):
    divergence.check(estimator, place)
  with pytest.raises(errors.UserError, match='k1 in the loss has a gradient'):
    divergence.check('k1', 'loss')
  with pytest.raises(errors.UserError, match="'k4', expected one of k1, k2"):
    divergence.check('k4', 'loss')
  with pytest.raises(errors.UserError, match="'both', expected one of reward"):
    divergence.check('k1', 'both')
