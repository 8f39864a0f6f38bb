"""The trainer of a policy: what the one loop calls a step.

    answers    = decode(policy, prompts of the step)         on the mesh
    evaluated  = policy, reference, critic, reward model     on the mesh
    verdicts   = rules                                       on the hosts
    experience = rewards, advantages, returns                on the mesh
    policy'    = updates(policy, experience)                 on the mesh

All of it is a function of (configuration, state, step), so that checkpoints,
resume, guard and metrics are those of every run, and a run that is killed
anywhere continues to the same bits.

Axes: B answers of a batch, N places of an answer.
"""

import functools
from typing import Any, Callable, Mapping, NamedTuple

from flax import linen as nn
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment import divergence
from step_audio_jax.alignment import losses
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling
from step_audio_jax.chats import rendering
from step_audio_jax.training import loop
from step_audio_jax.training import placement
from step_audio_jax.training import step as step_lib

HEARD_GAP = 'reward/heard_gap'


class Evaluated(NamedTuple):
  """What the networks say of a rollout before the update; a pytree.

  Attributes:
    log_old: Of the policy, (B, N).
    entropy: Of the policy, (B, N).
    log_reference: Of the reference, (B, N).
    values: Of the critic, (B, N); empty without one.
    scores: Of the reward model, (B,); zeros without one.
  """

  log_old: jax.Array
  entropy: jax.Array
  log_reference: jax.Array
  values: jax.Array
  scores: jax.Array


class PolicyTrainer(loop.Trainer):
  """A policy on a mesh: as `loop.Trainer`, whose step rolls out and learns."""

  objective: objective_lib.PolicyGradient

  def __post_init__(self):
    group = getattr(self.objective, 'group', 1)
    if self.feed.group % group or self.feed.batch_size % group:
      raise errors.UserError(
        f'prompts: group is {self.feed.group}, expected {group}, the answers '
        'to a prompt that the objective compares.'
      )
    super().__post_init__()
    self._grammar = self.objective.sampling.grammar(self.objective.vocabulary)

  def _horizon(self) -> int:
    """Updates of the run, which schedules count."""
    it = self.objective
    return self.config.steps * it.epochs * it.minibatches

  def _check_microbatches(self) -> None:
    rows = self.feed.batch_size
    each = self._rows_sharding((rows,)).shard_shape((rows,))[0]
    parts = self.objective.minibatches * self.config.microbatches
    if each % parts:
      raise errors.UserError(
        f'policy: minibatches times microbatches is {parts}, expected a '
        f'divisor of {each}, the answers of a batch of {rows} that lie on one '
        'device.'
      )

  def _compiled_step(self) -> Callable[..., Any]:
    it = self.objective
    # Where nothing has to be computed the sampler reads the trainer's arrays.
    plain = (
      it.adapters is None and it.model.config.transformer.dtype == 'float32'
    )
    self._policy = (
      it.policy_variables if plain else jax.jit(it.policy_variables)
    )
    self._evaluate = jax.jit(self._evaluate_rollout)
    self._experience = jax.jit(self._make_experience)
    self._gap = jax.jit(self._heard_gap)
    self._update = self._compiled(self._update_state)
    return self._learn

  def _learn(self, variables, optimizer, batch):
    """(variables, optimizer state, metrics) behind a step."""
    batch = dict(batch)
    stop, step = batch.pop('stop', None), int(batch.pop('step'))
    with nn.logical_axis_rules(self.rules):
      rollout = self.rollout(variables, batch, step)
      evaluated = self._evaluate(variables, rollout)
      # The hosts judge while the devices evaluate.
      verdicts = self.judge(rollout, step)
      experience, metrics = self._experience(
        rollout, evaluated, verdicts, self._coefficient(variables)
      )
      self._check_gap(step, metrics)
      metrics |= self._heard(variables, rollout, evaluated, experience, step)
      learns = float(step >= self.objective.warmup_steps)
      for number in range(self.objective.epochs * self.objective.minibatches):
        part = {
          'experience': experience,
          'coefficient': self._coefficient(variables),
          'learns': np.float32(learns),
          'part': np.int32(number % self.objective.minibatches),
          'step': np.int32(step),
        }
        variables, optimizer, more = self._update(variables, optimizer, part)
        metrics = _summed(metrics, more)
    if objective_lib.CONTROLLER in variables:
      variables = {
        **variables,
        objective_lib.CONTROLLER: metrics.pop(objective_lib.CONTROLLER),
      }
    if stop is not None:
      metrics['stop'] = stop.max()
    return variables, optimizer, metrics

  def _coefficient(self, variables) -> Any:
    told = variables.get(objective_lib.CONTROLLER)
    if told is None:
      return np.float32(self.objective.kl.coefficient)
    return told['kl']

  def rollout(
    self, variables: Any, prompts: Mapping[str, Any], step: int
  ) -> rollout_lib.Rollout:
    """Answers to the prompts of a step."""
    return sampling.sample(
      self.objective.model,
      self._policy(variables),
      prompts,
      self._grammar,
      self.objective.sampling,
      seed=self.config.seed + 2,
      step=step,
    )

  def samples(
    self, rollout: rollout_lib.Rollout, step: int
  ) -> list[sample_lib.Sample]:
    """The answers of this host's rows, as they are judged."""
    start, stop = self._local()
    answers, lengths, stopped = (
      _local_rows(x)
      for x in (rollout.answers, rollout.lengths, rollout.stopped)
    )
    table = self.objective.vocabulary
    found = []
    for prompt, ids, length, ended in zip(
      self.feed.rows(step, start, stop), answers, lengths, stopped, strict=True
    ):
      ids = ids[: length - ended]
      text = ''
      if table.text is not None:
        text, _ = rendering.answer_of(table, ids[table.is_text(ids)])
      found.append(prompt.answered(text, ids, bool(ended)))
    return found

  def judge(self, rollout: rollout_lib.Rollout, step: int) -> dict[str, Any]:
    """Rewards and validity of all answers, (B,), on the mesh.

    Raises:
      UserError: A scorer failed and the run is to stop, or none said anything
        of any answer.
    """
    found = self.objective.rewards(self.samples(rollout, step))
    valid = int(found.valid.sum())
    if jax.process_count() > 1:
      valid = int(multihost_utils.process_allgather(np.int32(valid)).sum())
    if not valid:
      raise errors.UserError(
        f'rewards: step {step + 1} has no answer that all scorers have judged, '
        'expected some.'
      )
    host = {rewards_lib.TOTAL: found.rewards, 'valid': found.valid}
    host |= {f'reward/{name}': x for name, x in found.scores.items()}
    return placement.global_batch(
      host, self.feed.batch_size, self._local()[0], self._rows_sharding
    )

  def _local(self) -> tuple[int, int]:
    rows = self.feed.batch_size
    return placement.local_rows(self._rows_sharding((rows,)), rows)

  def _in_parts(self, function, *trees):
    """Rows of trees through a function, as many at a time as in an update."""
    count = self.objective.minibatches * self.config.microbatches
    if count == 1:
      return function(*trees)

    def parted(x):
      return step_lib.part(x, count, self._pin_parts)

    def whole(x):
      rows = x.shape[0] * x.shape[1]  # -1 means nothing where x is empty
      return x.swapaxes(0, 1).reshape(rows, *x.shape[2:])

    found = jax.lax.map(lambda x: function(*x), jax.tree.map(parted, trees))
    return jax.tree.map(whole, found)

  def _evaluate_rollout(self, variables, rollout) -> Evaluated:
    it = self.objective
    # Once, not once for each part.
    compared = it.policy_variables(variables), it.reference_variables(variables)

    def part(rollout):
      old, reference = (
        rollout_lib.score(it.model, one, rollout, temperature=it.temperature)
        for one in compared
      )
      B = len(rollout.starts)
      values = it.values(variables, rollout)
      scores = it.scores(variables, rollout)
      return Evaluated(
        old.log_probs,
        old.entropy,
        reference.log_probs,
        jnp.zeros((B, 0)) if values is None else values,
        jnp.zeros(B) if scores is None else scores,
      )

    return self._in_parts(part, rollout)

  def _make_experience(self, rollout, evaluated, verdicts, coefficient):
    """(Experience, metrics) of a rollout that was judged."""
    it = self.objective
    gap = rollout_lib.gap(rollout, evaluated.log_old)
    apart_B = gap['rows'] > it.most_gap
    kept_B = verdicts['valid'] & ~apart_B
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

  def _heard(self, variables, rollout, evaluated, experience, step):
    """What the reward model makes of silence, as a metric; {} without it."""
    if self.objective.reward is None:
      return {}
    start, stop = self._local()
    host = self.feed.silenced(step, start, stop)
    if host is None:
      return {}
    silenced = placement.global_batch(
      host, self.feed.batch_size, start, self._rows_sharding
    )
    lengths = experience.rollout.lengths
    return self._gap(variables, rollout, evaluated.scores, lengths, silenced)

  def _heard_gap(self, variables, rollout, scores_B, lengths_B, silenced):
    """Score less that of the same answer behind silence, in the mean."""
    silent_B = self._in_parts(
      lambda some: self.objective.scores(variables, some),
      rollout.behind(silenced),
    )
    # Prompts in which nothing is heard have no silence of their own, and
    # answers that were dropped no length.
    heard_B = silenced['starts'] < silenced['tokens'].shape[1]
    counted_B = heard_B & (lengths_B > 0)
    gaps_B = jnp.where(counted_B, scores_B - silent_B, 0.0)
    return {HEARD_GAP: (gaps_B.sum(), counted_B.sum().astype(jnp.float32))}

  def _check_gap(self, step, metrics) -> None:
    """Sampler and learner agree, or the run stops."""
    gap = float(metrics['rollout/logprob_gap'][0])
    if gap <= self.objective.most_gap:  # NaN is no agreement
      return
    raise errors.UserError(
      f'policy: in step {step + 1} the log-probabilities of sampler and '
      f'learner are {gap:.4f} apart in the mean, expected at most '
      f'{self.objective.most_gap} (most_gap).'
    )

  def _update_state(self, variables, optimizer, batch):
    """One update, on one minibatch of an experience."""
    part, count = batch['part'], self.objective.minibatches

    def chosen(x):
      x = x.reshape(len(x) // count, count, *x.shape[1:])
      return jax.lax.dynamic_index_in_dim(x, part, axis=1, keepdims=False)

    experience = batch['experience']
    if count > 1:
      experience = jax.tree.map(chosen, experience)
    rows = {
      'experience': experience,
      'coefficient': jnp.float32(batch['coefficient']),
      'learns': batch['learns'],
      'step': batch['step'],
    }
    new, optimizer, metrics = self._updated(variables, optimizer, rows)
    if self.objective.warmup_steps:
      # Neither decay nor momentum moves what does not learn yet.
      learns = batch['learns'] > 0
      old = variables['params']
      new['params'] = {
        name: value
        if name == objective_lib.CRITIC
        else jax.tree.map(
          functools.partial(jnp.where, learns), value, old[name]
        )
        for name, value in new['params'].items()
      }
    return new, optimizer, metrics


def _local_rows(array: jax.Array) -> np.ndarray:
  """The rows of a global array that this host's devices hold, in order."""
  if array.is_fully_addressable:
    return np.asarray(array)
  found = {}
  for shard in array.addressable_shards:
    found.setdefault(shard.index[0].start or 0, shard.data)
  return np.concatenate([np.asarray(found[start]) for start in sorted(found)])


def _summed(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
  """Metrics of both; where both have one, (sum, weight) pairs are added.

  What the guard tells and the state of a controller are the latest.
  """
  found = dict(one)
  for name, value in two.items():
    both = name in found and isinstance(value, tuple) and len(value) == 2
    if both and name != 'guard':
      value = tuple(a + b for a, b in zip(found[name], value))
    found[name] = value
  return found
