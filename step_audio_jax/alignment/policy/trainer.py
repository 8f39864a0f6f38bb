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
import types
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
from step_audio_jax.alignment.policy import programs as policy_programs
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.alignment.rollouts import decoder as decoder_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling
from step_audio_jax.chats import rendering
from step_audio_jax.training import loop
from step_audio_jax.training import placement
from step_audio_jax.training import programs as programs_lib
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

  def _check_microbatches(self) -> None:
    rows = self.feed.batch_size
    each = self._rows_sharding((rows,)).shard_shape((rows,))[0]
    if each % self._parts:
      raise errors.UserError(
        f'policy: minibatches times microbatches is {self._parts}, expected a '
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
    self._decoder = self._mesh_decoder()
    # Pinned, so that rows stay where a plan expects them.
    rows = self._rows_sharding((self.feed.batch_size,))
    self._evaluate, self._compare = (
      jax.jit(
        functools.partial(self._evaluate_rollout, policy=policy),
        out_shardings=rows,
      )
      for policy in (True, False)
    )
    self._experience = jax.jit(
      functools.partial(experience_lib.made, it), out_shardings=(rows, None)
    )
    self._narrowed = jax.jit(ahead.Drawn.narrowed, static_argnums=(1, 2))
    learnt = dict(self.shardings)
    self._kept_ahead = jax.jit(
      self._keep_ahead, out_shardings=learnt.pop(objectives.PENDING, None)
    )
    self._update = self._compiled(self._update_state, learnt)
    self._update_at_once = self._compiled(self._update_state_at_once, learnt)
    return self._learn

  @property
  def _at_once(self) -> bool:
    """Whether a rollout has a single update.

    The policy at its beginning is then the one that it differentiates: one
    forward pass tells what it says of the answers, for both.
    """
    return self.objective.epochs * self._parts == 1 and not (
      self.objective.staleness
    )

  def _mesh_decoder(self) -> decoder_lib.MeshDecoder | None:
    """What lays the policy out for decoding; None on one device."""
    if self.mesh.size == 1:
      return None
    it = self.objective
    return decoder_lib.MeshDecoder(
      it.model,
      it.policy_variables,
      self.abstract_state()[0],
      self.mesh,
      it.sampling.rules or self.rules,
      self._rows_sharding((self.feed.batch_size,)),
    )

  def programs(self) -> programs_lib.Step:
    """What a step does on the devices, for who compiles but runs none."""
    return policy_programs.step_of(
      self,
      decoder=self._decoder,
      grammar=self._grammar,
      group=self._group.size,
      evaluate=self._compare if self._at_once else self._evaluate,
      experience=None if self._at_once else self._experience,
      update=self._update_at_once if self._at_once else self._update,
    )

  def _learn(self, variables, optimizer, batch):
    """(variables, optimizer state, metrics) behind a step."""
    batch = dict(batch)
    stop, step = batch.pop('stop', None), int(batch.pop('step'))
    began = time.monotonic()
    with nn.logical_axis_rules(self.rules):
      (rollout, log_sampler), variables, left = self._draw(
        variables, batch, step
      )
      given = time.monotonic()
      evaluate = self._compare if self._at_once else self._evaluate
      evaluated = evaluate(variables, rollout)
      evaluated = evaluated._replace(log_sampler=log_sampler)
      self._clock.until(step, 'evaluation', given, evaluated.log_reference)
      # The hosts judge while the devices evaluate.
      jax.block_until_ready(rollout.lengths)
      judging = time.monotonic()
      verdicts = self.judge(rollout, step)
      given = time.monotonic()
      self._clock.spent(step, 'judging', given - judging)
      learn = self._learn_at_once if self._at_once else self._learn_in_parts
      variables, optimizer, metrics = learn(
        variables, optimizer, rollout, evaluated, verdicts, step
      )
      norm = metrics['gradient_norm']
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

    scored = self._in_parts(part, rollout._replace(group=self._group))
    return ahead.pending(rollout, scored, step, self.feed.places)

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

  def _learns(self, step: int) -> np.float32:
    """0 while only the critic learns."""
    return np.float32(step >= self.objective.warmup_steps)

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
      variables if self._decoder else self._policy(variables),
      prompts,
      self._grammar,
      self.objective.sampling,
      seed=self.config.seed + 2,
      step=step,
      group=self._group.size,
      decoder=self._decoder,
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

  @property
  def _parts(self) -> int:
    """How many updates and microbatches a batch is cut into."""
    return self.objective.minibatches * self.config.microbatches

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

  def _evaluate_rollout(
    self, variables, rollout, policy=True
  ) -> experience_lib.Evaluated:
    it = self.objective
    # Once, not once for each part.
    compared = [it.reference_variables(variables)]
    if policy:
      compared.append(it.policy_variables(variables))

    def part(rollout):
      reference, *old = (
        rollout_lib.score(it.model, one, rollout, temperature=it.temperature)
        for one in compared
      )
      B = len(rollout.starts)
      values = it.values(variables, rollout)
      scores = it.scores(variables, rollout)
      return experience_lib.Evaluated(
        old[0].log_probs if policy else None,
        old[0].entropy if policy else None,
        reference.log_probs,
        jnp.zeros((B, 0)) if values is None else values,
        jnp.zeros(B) if scores is None else scores,
      )

    return self._in_parts(part, rollout._replace(group=self._group))

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
    new, optimizer, learnt = step_lib.update(
      self.chain,
      self.config.spikes,
      self.config.ema_decay,
      variables,
      optimizer,
      mean,
      learnt,
      updates,
      grads,
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
