"""What alignment minimises, as numbers of single places, answers and pairs.

Nothing here sums over a batch: a loss comes with the weight that it has in the
mean, so that microbatches and meshes change nothing.

Axes: B answers, N places of an answer; functions of pairs take arrays of any
one shape.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax import errors

MEANS = ('token', 'answer', 'constant')


class Clipped(NamedTuple):
  """A loss of each place, and where its clip held.

  Attributes:
    losses: float32.
    held: Whether the gradient is cut off, bool.
  """

  losses: jax.Array
  held: jax.Array


def clipped_policy(
  log_policy: jax.Array,
  log_old: jax.Array,
  advantages: jax.Array,
  *,
  low: float = 0.2,
  high: float | None = None,
) -> Clipped:
  """The clipped surrogate of PPO (arXiv 1707.06347), of each place.

      -min(ratio A, clip(ratio, 1 - low, 1 + high) A),   ratio = policy / old

  Args:
    log_policy: Log-probabilities that are learnt.
    log_old: Those at the beginning of the update.
    advantages: A, of the same shape.
    low: How far a ratio may fall.
    high: How far it may rise; None means as far as it may fall. More is the
      "clip higher" of DAPO (arXiv 2503.14476).
  """
  high = low if high is None else high
  advantages = jax.lax.stop_gradient(advantages)
  ratio = jnp.exp(log_policy - log_old)
  free = -ratio * advantages
  held = -jnp.clip(ratio, 1.0 - low, 1.0 + high) * advantages
  return Clipped(jnp.maximum(free, held), held > free)


def clipped_values(
  values: jax.Array,
  old_values: jax.Array,
  returns: jax.Array,
  *,
  clip: float = 0.2,
) -> Clipped:
  """Half the squared error of a critic, clipped around its old values.

      max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2) / 2

  Args:
    values: Of the critic, with a gradient.
    old_values: Those at the beginning of the update.
    returns: What they should have been.
    clip: How far a value may move; 0 does not clip.
  """
  returns = jax.lax.stop_gradient(returns)
  free = jnp.square(values - returns)
  if not clip:
    return Clipped(0.5 * free, jnp.zeros(free.shape, bool))
  near = jnp.clip(values, old_values - clip, old_values + clip)
  held = jnp.square(near - returns)
  return Clipped(0.5 * jnp.maximum(free, held), held > free)


def weights_of_places(
  mask_BN: jax.Array, mean: str, longest: int | None = None
) -> tuple[jax.Array, jax.Array]:
  """Weight of each place in a mean over a batch, and of each answer.

      token      each place of the batch weighs the same (DAPO)
      answer     each answer does, and its places among each other (GRPO)
      constant   each place does, and the sum is divided by the longest length
                 that an answer may have (Liu et al., arXiv 2503.20783)

  A batch's mean is sum(loss weight) / sum(weight of answers).

  Args:
    mask_BN: Places of answers, bool.
    mean: Of `MEANS`.
    longest: Places that an answer may have; N if None.

  Returns:
    (weights of places BN, of answers B), float32.

  Raises:
    UserError: The mean is not known.
  """
  if mean not in MEANS:
    raise errors.UserError(
      f'mean: found {mean!r}, expected one of {", ".join(MEANS)}.'
    )
  places_BN = mask_BN.astype(jnp.float32)
  lengths_B = places_BN.sum(1)
  if mean == 'token':
    return places_BN, lengths_B
  there_B = (lengths_B > 0).astype(jnp.float32)
  if mean == 'answer':
    return places_BN / jnp.maximum(lengths_B, 1.0)[:, None], there_B
  return places_BN / float(longest or mask_BN.shape[1]), there_B


def bradley_terry(
  chosen: jax.Array,
  rejected: jax.Array,
  margin: jax.Array | float = 0.0,
  *,
  centring: float = 0.0,
) -> jax.Array:
  """Loss of each pair of scores (Bradley and Terry, 1952; arXiv 2203.02155).

      -log sigmoid(s_c - s_r - margin) + centring (s_c + s_r)^2

  Only differences of scores mean something; centring (arXiv 2312.09244) keeps
  their level near 0.

  Args:
    chosen: Scores of the preferred answers.
    rejected: Of the others.
    margin: How much better they should at least be (Llama 2, arXiv 2307.09288).
    centring: Weight of the squared sum.
  """
  loss = -jax.nn.log_sigmoid(chosen - rejected - margin)
  if centring:
    loss += centring * jnp.square(chosen + rejected)
  return loss


def direct_preference(
  chosen: jax.Array,
  rejected: jax.Array,
  *,
  beta: float = 0.1,
  smoothing: float = 0.0,
) -> jax.Array:
  """DPO (arXiv 2305.18290), of each pair.

      -(1 - smoothing) log sigmoid(beta d) - smoothing log sigmoid(-beta d)

  with d the difference of both arguments.

  Args:
    chosen: Log-ratios of policy and reference, log policy - log reference of
      the whole answer (or their mean over its places, which normalises by
      length).
    rejected: The same, of the other answer.
    beta: How much the policy is held to its reference.
    smoothing: Share of the pairs that may be the wrong way round (conservative
      DPO).
  """
  logits = beta * (chosen - rejected)
  return -(1.0 - smoothing) * jax.nn.log_sigmoid(
    logits
  ) - smoothing * jax.nn.log_sigmoid(-logits)


def kahneman_tversky(
  log_ratios: jax.Array,
  desired: jax.Array,
  baseline: jax.Array,
  *,
  beta: float = 0.1,
  gain: float = 1.0,
  loss: float = 1.0,
) -> jax.Array:
  """KTO (arXiv 2402.01306), of each answer.

      gain (1 - sigmoid(beta (r - z)))    of a desired answer
      loss (1 - sigmoid(beta (z - r)))    of another

  Args:
    log_ratios: r, log policy - log reference of the whole answer.
    desired: Whether it is wanted, bool.
    baseline: z, an estimate of KL(policy || reference); taken as max(z, 0),
      without a gradient.
    beta: How much the policy is held to its reference.
    gain: Weight of desired answers.
    loss: Weight of the others.
  """
  baseline = jax.lax.stop_gradient(jnp.maximum(baseline, 0.0))
  moved = beta * (log_ratios - baseline)
  return jnp.where(
    desired,
    gain * jax.nn.sigmoid(-moved),
    loss * jax.nn.sigmoid(moved),
  )


def truncated_importance(
  log_learner: jax.Array, log_sampler: jax.Array, *, most: float = 2.0
) -> tuple[jax.Array, jax.Array]:
  """Weights of places that another policy has sampled, and where they are cut.

      min(learner / sampler, most)

  Args:
    log_learner: Log-probabilities at the beginning of the update.
    log_sampler: Those at which the places were drawn, on the same support.
    most: Where weights end.

  Returns:
    (weights, cut), without a gradient.
  """
  weights = jnp.exp(jax.lax.stop_gradient(log_learner - log_sampler))
  return jnp.minimum(weights, most), weights > most
