"""From answers, and what networks and judges say of them, to what is learnt.

    rewards = verdicts + weight scores + penalty - coefficient divergence
    importance = min(policy before the update / sampler, most)

What was not judged, or is not agreed on, counts nowhere but among the dropped.

Axes: B answers of a batch, N places of an answer.
"""

from typing import Any, Mapping, NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.alignment import divergence
from step_audio_jax.alignment import losses
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.storage import bindings


class Evaluated(NamedTuple):
  """What the networks say of a rollout before the update; a pytree.

  Attributes:
    log_old: Of the policy, (B, N); None where the update itself will tell.
    entropy: Of the policy, (B, N); None like it.
    log_reference: Of the reference, (B, N).
    values: Of the critic, (B, N); empty without one.
    scores: Of the reward model, (B,); zeros without one.
    log_sampler: Of the policy with the parameters that sampled, (B, N); None
      where `log_old` is.
  """

  log_old: jax.Array | None
  entropy: jax.Array | None
  log_reference: jax.Array
  values: jax.Array
  scores: jax.Array
  log_sampler: jax.Array | None = None


def made(
  it: objective_lib.PolicyGradient,
  rollout: rollout_lib.Rollout,
  evaluated: Evaluated,
  verdicts: Mapping[str, jax.Array],
  coefficient: Any,
) -> tuple[objective_lib.Experience, dict[str, Any]]:
  """(Experience, metrics) of a rollout that was judged; traceable.

  Args:
    it: The objective.
    rollout: The answers.
    evaluated: What the networks say of them.
    verdicts: What the hosts do, as `PolicyTrainer.judge`.
    coefficient: Of the divergence.
  """
  # Of the parameters that sampled: what was learnt since is no disagreement.
  stale, log_sampler = True, evaluated.log_sampler
  if log_sampler is None:
    stale, log_sampler = False, evaluated.log_old
  gap = rollout_lib.gap(rollout, log_sampler)
  apart_B = gap['rows'] > it.most_gap
  unscored_B = ~jnp.isfinite(evaluated.scores)
  kept_B = verdicts['valid'] & ~apart_B & ~unscored_B
  drawn = rollout
  rollout = rollout._replace(lengths=jnp.where(kept_B, rollout.lengths, 0))
  mask = rollout.mask
  log_old, log_reference, values = (
    jnp.where(mask, x, 0.0) if x.size else x
    for x in (evaluated.log_old, evaluated.log_reference, evaluated.values)
  )
  judged_B = verdicts[rewards_lib.TOTAL]
  if it.reward is not None:
    judged_B += it.reward_weight * evaluated.scores
  rewards = it.placed_rewards(
    rollout, judged_B, log_old, log_reference, coefficient
  )
  advantages, returns = it.estimate(rewards, values, rollout)
  importance, cut = losses.truncated_importance(
    log_old, jnp.where(mask, rollout.log_probs, 0.0), most=it.most_importance
  )
  experience = objective_lib.Experience(
    rollout, log_old, log_reference, advantages, returns, values, importance
  )
  count = kept_B.sum().astype(jnp.float32)
  places = mask.sum().astype(jnp.float32)
  each_B = jnp.where(mask, divergence.k1(log_old, log_reference), 0.0).sum(1)

  def over_answers(values_B):
    return jnp.where(kept_B, values_B, 0.0).sum(), count

  one = jnp.ones(())
  metrics = {
    'reward': over_answers(judged_B),
    'kl': (each_B.sum(), count),
    'kl/token': (
      jnp.where(mask, divergence.k3(log_old, log_reference), 0.0).sum(),
      places,
    ),
    'kl/coefficient': (jnp.float32(coefficient), one),
    'rollout/entropy': (
      jnp.where(mask, evaluated.entropy, 0.0).sum(), places
    ),
    'rollout/length': (drawn.lengths.sum(), len(kept_B) * one),
    'rollout/ended': (drawn.stopped.sum(), len(kept_B) * one),
    'rollout/dropped': ((~kept_B).sum(), one),
    'rollout/apart': (apart_B.sum(), one),
    'rollout/logprob_gap': (gap['mean'], one),
    'rollout/correlation': (gap['correlation'], one),
    'rollout/within': (gap['within'], one),
    'rollout/unscored': (unscored_B.sum(), one),
    'rollout/staleness': (one * stale, one),
    'rollout/importance': (jnp.where(mask, importance, 0.0).sum(), places),
    'rollout/cut': ((cut & mask).sum(), one),
  }  # fmt: skip
  metrics |= {
    name: over_answers(scores_B)
    for name, scores_B in verdicts.items()
    if name.startswith('reward/')
  }
  if it.reward is not None:
    metrics['reward/model'] = over_answers(evaluated.scores)
  if values.size:
    error = jnp.where(mask, returns - values, 0.0)
    metrics['critic/error'] = ((error**2).sum(), places)
  if it.kl.target:
    found = each_B.sum() / jnp.maximum(count, 1.0)
    adapted = it.kl.adapted(coefficient, found, len(kept_B))
    metrics[objective_lib.CONTROLLER] = {'kl': adapted}
  return experience, metrics


def check(
  it: objective_lib.PolicyGradient, step: int, metrics: Mapping[str, Any]
) -> None:
  """Whether what was made may be learnt from; waits for it, and says oddities.

  Args:
    it: The objective.
    step: Of the run, from 0.
    metrics: Of `made`.

  Raises:
    UserError: Sampler and learner disagree in the mean, the reward model gave
      no number and the run is to stop, or nothing is left.
  """
  gap, unscored, left, answers, ended = (
    float(one)
    for one in jax.device_get(
      [
        metrics['rollout/logprob_gap'][0],
        metrics['rollout/unscored'][0],
        metrics['reward'][1],
        metrics['rollout/length'][1],
        metrics['rollout/ended'][0],
      ]
    )
  )
  if not gap <= it.most_gap:  # NaN is no agreement
    raise errors.UserError(
      f'policy: in step {step + 1} the log-probabilities of sampler and '
      f'learner are {gap:.4f} apart in the mean, expected at most '
      f'{it.most_gap} (most_gap).'
    )
  if unscored and it.rewards.on_failure == rewards_lib.STOP:
    raise errors.UserError(
      f'reward: in step {step + 1} the reward model gave no number for '
      f'{unscored:.0f} of {answers:.0f} answers, expected one for each, or '
      "on_failure = 'drop'."
    )
  if not left:
    raise errors.UserError(
      f'policy: step {step + 1} has dropped all {answers:.0f} '
      'answers, expected some that are judged, by rules and reward model, '
      'and on which sampler and learner agree (most_gap).'
    )
  if not ended and jax.process_index() == 0:
    punished = f'all get {it.no_end_reward:g}'
    bindings.warn_once(
      f'policy: a step, of {answers:.0f} answers, had none that came to its '
      f'end within {it.sampling.longest} ids (ANSWER): '
      f'{"nothing is learnt of it" if it.no_end == "mask" else punished}, '
      'and rollout/ended says how many do.'
    )
