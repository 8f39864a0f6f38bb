"""How a policy learns from an experience: in parts, whole groups in each.

    experience = rewards, advantages, returns                on the mesh
    policy'    = updates(policy, experience)                 on the mesh

Axes: B answers of a batch.
"""

import functools
import types
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment.policy import experience as experience_lib
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.training import loop
from step_audio_jax.training import step as step_lib


class UpdatingTrainer(loop.Trainer):
  """The updates of a `PolicyTrainer`.

  Who inherits compiles `_experience`, `_update` and `_update_at_once`.
  """

  objective: objective_lib.PolicyGradient

  def _horizon(self) -> int:
    """Updates of the run, which schedules count."""
    it = self.objective
    return self.config.steps * it.epochs * it.minibatches

  @functools.cached_property
  def _group(self) -> rollout_lib.Group:
    """Answers to one prompt that are computed together, the prompt once.

    A device and every part of a batch must have whole groups, else each answer
    is computed with a prompt of its own.
    """
    rows, size = self.feed.batch_size, self.feed.group
    each, groups = (
      self._rows_sharding((count,)).shard_shape((count,))[0]
      for count in (rows, rows // size)
    )
    whole = each == groups * size and groups % self._parts == 0
    return rollout_lib.Group(size if whole else 1)

  @property
  def _parts(self) -> int:
    """How many updates and microbatches a batch is cut into."""
    return self.objective.minibatches * self.config.microbatches

  @property
  def _at_once(self) -> bool:
    """Whether a rollout has a single update.

    The policy at its beginning is then the one that it differentiates: one
    forward pass tells what it says of the answers, for both.
    """
    return self.objective.epochs * self._parts == 1 and not (
      self.objective.staleness
    )

  def _check_microbatches(self) -> None:
    rows = self.feed.batch_size
    each = self._rows_sharding((rows,)).shard_shape((rows,))[0]
    if each % self._parts:
      raise errors.UserError(
        f'policy: minibatches times microbatches is {self._parts}, expected a '
        f'divisor of {each}, the answers of a batch of {rows} that lie on one '
        'device.'
      )

  def _by_parts(self, tree, back: bool = False):
    """Rows in the order in which every part has whole groups, and back."""
    return rollout_lib.by_parts(tree, self._parts, self._group.size, back)

  def by_groups(
    self, experience: objective_lib.Experience
  ) -> objective_lib.Experience:
    """An experience as it is cut into parts; traceable."""
    laid = self._by_parts(experience)
    return laid._replace(rollout=laid.rollout._replace(group=self._group))

  def _in_parts(self, function, tree):
    """Rows of a tree through a function, as many at a time as in an update."""
    count = self._parts
    if count == 1:
      return function(tree)

    def parted(x):
      return step_lib.part(x, count, self._pin_parts)

    def whole(x):
      rows = x.shape[0] * x.shape[1]
      return x.swapaxes(0, 1).reshape(rows, *x.shape[2:])

    found = jax.lax.map(function, jax.tree.map(parted, self._by_parts(tree)))
    return self._by_parts(jax.tree.map(whole, found), back=True)

  def _coefficient(self, variables) -> Any:
    told = variables.get(objective_lib.CONTROLLER)
    if told is None:
      return np.float32(self.objective.kl.coefficient)
    return told['kl']

  def _learns(self, step: int) -> np.float32:
    """0 while only the critic learns."""
    return np.float32(step >= self.objective.warmup_steps)

  def _learn_in_parts(
    self, variables, optimizer, rollout, evaluated, verdicts, step
  ):
    """(variables, optimizer state, metrics) behind all updates."""
    experience, metrics = self._experience(
      rollout, evaluated, verdicts, self._coefficient(variables)
    )
    experience_lib.check(self.objective, step, metrics)
    for number in range(self.objective.epochs * self.objective.minibatches):
      part = {
        'experience': experience,
        'coefficient': self._coefficient(variables),
        'learns': self._learns(step),
        'part': np.int32(number % self.objective.minibatches),
        'step': np.int32(step),
      }
      variables, optimizer, more = self._update(variables, optimizer, part)
      metrics = _summed(metrics, more)
    return variables, optimizer, metrics

  def _learn_at_once(
    self, variables, optimizer, rollout, evaluated, verdicts, step
  ):
    """As `_learn_in_parts`, of a single update."""
    batch = {
      'rollout': rollout,
      'evaluated': evaluated,
      'verdicts': verdicts,
      'learns': self._learns(step),
    }
    found = self._update_at_once(variables, optimizer, batch)
    experience_lib.check(self.objective, step, found[-1])
    return found

  def _update_state(self, variables, optimizer, batch):
    """One update, on one minibatch of an experience."""
    part, count = batch['part'], self.objective.minibatches

    def chosen(x):
      x = x.reshape(len(x) // count, count, *x.shape[1:])
      return jax.lax.dynamic_index_in_dim(x, part, axis=1, keepdims=False)

    experience = self.by_groups(batch['experience'])
    if count > 1:
      experience = jax.tree.map(chosen, experience)
    rows = {
      'experience': experience,
      'coefficient': jnp.float32(batch['coefficient']),
      'learns': batch['learns'],
      'step': batch['step'],
    }
    new, optimizer, metrics = self._updated(variables, optimizer, rows)
    self._hold_back(new, variables, batch['learns'])
    return new, optimizer, metrics

  def _update_state_at_once(self, variables, optimizer, batch):
    """What is said of a rollout, and its only update; traceable."""
    coefficient = jnp.float32(self._coefficient(variables))

    def loss(variables, batch, rng):
      rollout = batch['rollout']._replace(group=self._group)
      scored = self.objective.scored(variables, rollout)
      told = jax.lax.stop_gradient(scored)
      evaluated = batch['evaluated']._replace(
        log_old=told.log_probs, entropy=told.entropy
      )
      experience, judged = experience_lib.made(
        self.objective, rollout, evaluated, batch['verdicts'], coefficient
      )
      rows = {
        'experience': experience,
        'coefficient': coefficient,
        'learns': batch['learns'],
        'scored': scored,
      }
      total, weight, learnt, updates = self.objective.loss(variables, rows, rng)
      return total, weight, (judged, learnt), updates

    with nn.logical_axis_rules(self.rules):
      total, weight, (judged, learnt), updates, grads = (
        step_lib.batch_gradients(
          types.SimpleNamespace(loss=loss), variables, batch, None
        )
      )
    mean, grads = step_lib.weighted_mean(total, weight, grads)
    new, optimizer, learnt = self._applied(
      variables, optimizer, (mean, learnt, updates), grads
    )
    self._hold_back(new, variables, batch['learns'])
    return new, optimizer, _summed(judged, learnt)

  def _hold_back(self, new, old, learns) -> None:
    """Of new variables only the critic's stay while only it learns."""
    if not self.objective.warmup_steps:
      return
    # Neither decay nor momentum moves what does not learn yet.
    new['params'] = {
      name: value
      if name == objective_lib.CRITIC
      else jax.tree.map(
        functools.partial(jnp.where, learns > 0), value, old['params'][name]
      )
      for name, value in new['params'].items()
    }


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
