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
from step_audio_jax.alignment.policy import heard as heard_lib
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.policy import programs as policy_programs
from step_audio_jax.alignment.policy import sources as sources_lib
from step_audio_jax.alignment.policy import updates
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.alignment.rollouts import decoder as decoder_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling
from step_audio_jax.chats import rendering
from step_audio_jax.training import placement
from step_audio_jax.training import programs as programs_lib
from step_audio_jax.training.objectives import objectives


class PolicyTrainer(updates.UpdatingTrainer):
  """A policy on a mesh: as `loop.Trainer`, whose step rolls out and learns."""

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
    sources_lib.check_fresh(fresh, [source[0] for source in sources])
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
    self._narrowed = jax.jit(
      ahead.Drawn.narrowed, static_argnums=(1, 2), out_shardings=rows
    )
    learnt = dict(self.shardings)
    self._kept_ahead = jax.jit(
      self._keep_ahead, out_shardings=learnt.pop(objectives.PENDING, None)
    )
    self._update = self._compiled(self._update_state, learnt)
    self._update_at_once = self._compiled(self._update_state_at_once, learnt)
    self._heard_gap = jax.jit(self._gap_to_silence)
    return self._learn

  def _mesh_decoder(self) -> decoder_lib.MeshDecoder | None:
    """What lays the policy out for decoding; None on one device."""
    if self.mesh.size == 1:
      return None
    it = self.objective
    return decoder_lib.MeshDecoder(
      it.model,
      it.policy_variables,
      ahead.without(self.abstract_state()[0]),
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
      heard = self._heard(variables, rollout, evaluated.scores, step)
      looked = evaluated.log_reference, heard
      self._clock.until(step, 'evaluation', given, looked)
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
      metrics |= heard
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
    tokens, lengths, stopped = (
      _local_rows(x) for x in (rollout.tokens, rollout.lengths, rollout.stopped)
    )
    # Cut on the host: a device would do it behind all that it was given.
    answers = tokens[:, rollout.prompt_places :]
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

  def _heard(self, variables, rollout, scores_B, step):
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
    return self._heard_gap(variables, rollout, scores_B, silenced)

  def _gap_to_silence(self, variables, rollout, scores_B, silenced):
    def scores_of(rollout):
      return self._in_parts(
        lambda some: self.objective.scores(variables, some),
        rollout._replace(group=self._group),
      )

    return heard_lib.gap(scores_of, rollout, scores_B, silenced)


def _local_rows(array: jax.Array) -> np.ndarray:
  """The rows of a global array that this host's devices hold, in order."""
  if array.is_fully_addressable:
    return np.asarray(array)
  found = {}
  for shard in array.addressable_shards:
    found.setdefault(shard.index[0].start or 0, shard.data)
  return np.concatenate([np.asarray(found[start]) for start in sorted(found)])
