"""The trainer of a policy: what the one loop calls a step.

    answers    = decode(policy, prompts of the step)         on the mesh
    evaluated  = policy, reference, critic, reward model     on the mesh
    verdicts   = rules                                       on the hosts
    experience = rewards, advantages, returns                on the mesh
    policy'    = updates(policy, experience)                 on the mesh

At staleness 1 the answers of the next step are drawn in front of the updates
(`ahead`), and the hosts judge them while the devices still learn.

All of it is a function of (configuration, state, step), so that checkpoints,
resume, guard and metrics are those of every run, and a run that is killed
anywhere continues to the same bits.

Axes: B answers of a batch, N places of an answer.
"""

import functools
import time
from typing import Any, Callable, Mapping

from flax import linen as nn
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment.policy import ahead
from step_audio_jax.alignment.policy import clock
from step_audio_jax.alignment.policy import experience as experience_lib
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling
from step_audio_jax.chats import rendering
from step_audio_jax.training import loop
from step_audio_jax.training import placement
from step_audio_jax.training import step as step_lib
from step_audio_jax.training.objectives import objectives


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
    self._clock = clock.Clock()

  def _initial_variables(self, example):
    found = super()._initial_variables(example)
    if not self.objective.staleness:
      return found
    return {
      **found,
      objectives.PENDING: ahead.nothing(
        self.feed.batch_size,
        self.feed.places,
        self.objective.sampling.longest,
        self.objective.vocabulary.table_size,
      ),
    }

  def variables_from(self, sources):
    variables, fresh = super().variables_from(sources)
    start = objectives.PENDING + '/'
    return variables, [path for path in fresh if not path.startswith(start)]

  def device_batch(self, step):
    """As `Trainer.device_batch`, with as few places as its prompts need."""
    start, stop = self._local()
    host = self._host_batch(step, start, stop)
    less = self.feed.places - self._places(step)
    host['tokens'], host['starts'] = (
      host['tokens'][:, less:],
      host['starts'] - less,
    )
    return placement.global_batch(
      host, self.feed.batch_size, start, self._rows_sharding
    )

  def _places(self, step: int) -> int:
    """For prompts of a step: of the whole batch, on whatever host."""
    places, count = self.feed.places, self.objective.buckets
    if count == 1:
      return places
    longest = max(len(prompt.ids) for prompt in self.feed.rows(step))
    return sampling.bucket(longest, places, count)

  def times(self, stop: int) -> dict[str, float]:
    """Where the time of the steps before this one went, as `Clock.read`."""
    return self._clock.read(stop)

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
    self._experience = jax.jit(functools.partial(experience_lib.made, it))
    self._narrowed = jax.jit(ahead.Drawn.narrowed, static_argnums=(1, 2))
    learnt = dict(self.shardings)
    self._kept_ahead = jax.jit(
      self._keep_ahead, out_shardings=learnt.pop(objectives.PENDING, None)
    )
    self._update = self._compiled(self._update_state, learnt)
    return self._learn

  def _learn(self, variables, optimizer, batch):
    """(variables, optimizer state, metrics) behind a step."""
    batch = dict(batch)
    stop, step = batch.pop('stop', None), int(batch.pop('step'))
    it, began = self.objective, time.monotonic()
    with nn.logical_axis_rules(self.rules):
      (rollout, log_sampler), variables, left = self._draw(
        variables, batch, step
      )
      given = time.monotonic()
      evaluated = self._evaluate(variables, rollout)
      evaluated = evaluated._replace(log_sampler=log_sampler)
      self._clock.until(step, 'evaluation', given, evaluated.log_old)
      # The hosts judge while the devices evaluate.
      jax.block_until_ready(rollout.lengths)
      judging = time.monotonic()
      verdicts = self.judge(rollout, step)
      given = time.monotonic()
      self._clock.spent(step, 'judging', given - judging)
      experience, metrics = self._experience(
        rollout, evaluated, verdicts, self._coefficient(variables)
      )
      experience_lib.check(it, step, metrics)
      learns = float(step >= it.warmup_steps)
      for number in range(it.epochs * it.minibatches):
        part = {
          'experience': experience,
          'coefficient': self._coefficient(variables),
          'learns': np.float32(learns),
          'part': np.int32(number % it.minibatches),
          'step': np.int32(step),
        }
        variables, optimizer, more = self._update(variables, optimizer, part)
        metrics = _summed(metrics, more)
      norm = more['gradient_norm']
      self._clock.until(step, 'update', given, norm)
      self._clock.until(step, clock.STEP, began, norm)
    if objective_lib.CONTROLLER in variables:
      variables = {
        **variables,
        objective_lib.CONTROLLER: metrics.pop(objective_lib.CONTROLLER),
      }
    if stop is not None:
      metrics['stop'] = stop.max()
    return {**variables, **left}, optimizer, metrics

  def _draw(self, variables, batch, step):
    """(`Drawn`, variables that learn, what is left for the next step)."""
    it, given, left, drawn = self.objective, time.monotonic(), {}, None
    if it.staleness:
      variables = dict(variables)
      told = variables.pop(objectives.PENDING)
      # First of all: while the hosts judge, the devices have this to do.
      following = self.rollout(variables, self.device_batch(step + 1), step + 1)
      left = {
        objectives.PENDING: self._kept_ahead(
          variables, following, np.int32(step + 1)
        )
      }
      drawn = ahead.drawn_for(told, step)
      self._clock.until(
        step, 'rollout', given, left[objectives.PENDING]['log_sampler']
      )
    if drawn is None:
      drawn = ahead.Drawn(self.rollout(variables, batch, step))
      self._clock.until(step, 'rollout', given, drawn.rollout.lengths)
    if it.buckets > 1:
      N = it.sampling.longest
      longest = int(drawn.rollout.lengths.max())
      drawn = self._narrowed(
        drawn, self._places(step), sampling.bucket(longest, N, it.buckets)
      )
    return drawn, variables, left

  def _keep_ahead(self, variables, rollout, step):
    """The state that a rollout is until its step comes; traceable."""
    it = self.objective
    policy = it.policy_variables(variables)

    def part(rollout):
      return rollout_lib.score(
        it.model, policy, rollout, temperature=it.temperature
      ).log_probs

    scored = self._in_parts(part, rollout)
    return ahead.pending(rollout, scored, step, self.feed.places)

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

  def _evaluate_rollout(self, variables, rollout) -> experience_lib.Evaluated:
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
      return experience_lib.Evaluated(
        old.log_probs,
        old.entropy,
        reference.log_probs,
        jnp.zeros((B, 0)) if values is None else values,
        jnp.zeros(B) if scores is None else scores,
      )

    return self._in_parts(part, rollout)

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
