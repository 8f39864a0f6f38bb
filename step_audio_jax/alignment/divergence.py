"""Estimators of KL(policy || reference) from samples of the policy.

With d = log policy - log reference of a sampled id (Schulman, "Approximating KL
divergence", 2020):

    k1 = d                  unbiased, may be negative
    k2 = d^2 / 2            biased, small variance
    k3 = exp(-d) - 1 + d    unbiased, never negative

What is right as a number need not be right as a loss. The expectation over the
policy's samples of the gradient of

    k1 is 0, whatever the reference is;
    k2 is the gradient of KL(policy || reference);
    k3 is the gradient of KL(reference || policy).

So k1 belongs into a reward, where nothing is differentiated, and k2 is the one
for a loss; k3 is there because GRPO is published with it.
"""

from typing import Callable, Mapping

import jax
import jax.numpy as jnp

from step_audio_jax import errors

REWARD, LOSS = 'reward', 'loss'
PLACES = (REWARD, LOSS)


def k1(log_policy: jax.Array, log_reference: jax.Array) -> jax.Array:
  """d, of arrays of one shape."""
  return log_policy - log_reference


def k2(log_policy: jax.Array, log_reference: jax.Array) -> jax.Array:
  """d^2 / 2, of arrays of one shape."""
  return 0.5 * jnp.square(log_policy - log_reference)


def k3(log_policy: jax.Array, log_reference: jax.Array) -> jax.Array:
  """exp(-d) - 1 + d, of arrays of one shape."""
  d = log_policy - log_reference
  return jnp.expm1(-d) + d


ESTIMATORS: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  'k1': k1,
  'k2': k2,
  'k3': k3,
}


def check(estimator: str, place: str) -> None:
  """Refuses an estimator that does nothing where it is put.

  Args:
    estimator: One of `ESTIMATORS`.
    place: 'reward' or 'loss'.

  Raises:
    UserError: One of both is not known, or k1 is put into the loss.
  """
  if estimator not in ESTIMATORS:
    raise errors.UserError(
      f'kl: estimator is {estimator!r}, expected one of '
      f'{", ".join(ESTIMATORS)}.'
    )
  if place not in PLACES:
    raise errors.UserError(
      f'kl: place is {place!r}, expected one of {", ".join(PLACES)}.'
    )
  if (estimator, place) == ('k1', LOSS):
    raise errors.UserError(
      'kl: k1 in the loss has a gradient of 0 in expectation, expected k2 '
      'there (whose gradient is that of the divergence) or k1 in the reward.'
    )
