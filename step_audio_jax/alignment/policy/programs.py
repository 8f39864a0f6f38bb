"""The programs of a policy's step, to be compiled for devices that are absent.

What they are given is said by shapes alone, sharded as in a run: `plan` reads
off the compiled programs what fits and where the time of a step goes.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rollouts import decoder as decoder_lib
from step_audio_jax.alignment.rollouts import sampling
from step_audio_jax.training import loop
from step_audio_jax.training import programs as programs_lib
from step_audio_jax.training.objectives import objectives


def step_of(
  trainer: loop.Trainer,
  *,
  decoder: decoder_lib.MeshDecoder | None,
  grammar: Any,
  group: int,
  evaluate: Any,
  experience: Any | None,
  update: Any,
) -> programs_lib.Step:
  """What a step of a policy does on its mesh.

  Args:
    trainer: Of the policy.
    decoder: That draws its answers.
    grammar: Which ids may be drawn.
    group: Answers to one prompt that are computed together.
    evaluate: Compiled: (variables, rollout) → what the networks say of it.
    experience: Compiled: (rollout, evaluated, verdicts, coefficient) →
      (experience, metrics); None where the only update makes it.
    update: Compiled: (variables, optimizer state, part) → their successors.

  Raises:
    UserError: There is no decoder, since the mesh has one device, or answers
      are drawn ahead.
  """
  if decoder is None:
    raise errors.UserError(
      'plan: the mesh of the policy is of one device, expected several.'
    )
  if trainer.objective.staleness:
    raise errors.UserError(
      'plan: staleness is 1, expected 0: what a rollout that is drawn ahead '
      'takes is not planned (--gin.STALENESS=0).'
    )

  def lower(program):
    rules = decoder.rules if program.phase == 'rollout' else trainer.rules
    with jax.set_mesh(trainer.mesh), nn.logical_axis_rules(rules):
      return program.function.lower(*program.given, **program.keywords)

  place = _Places(trainer)
  with jax.set_mesh(trainer.mesh):
    with nn.logical_axis_rules(decoder.rules):
      *found, rollout = _drawing(trainer, place, decoder, grammar, group)
    with nn.logical_axis_rules(trainer.rules):
      found += _learning(trainer, place, rollout, evaluate, experience, update)
  return programs_lib.Step(_state(trainer), found, lower)


class _Places:
  """Shapes of a run's arrays of rows, and of its scalars, where they lie."""

  def __init__(self, trainer):
    self._rows = trainer.abstract_batch()['starts'].sharding
    self._scalar = jax.sharding.NamedSharding(
      trainer.mesh, jax.sharding.PartitionSpec()
    )

  def __call__(self, shapes):
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape,
        leaf.dtype,
        sharding=self._rows if leaf.ndim else self._scalar,
      ),
      shapes,
    )

  def scalar(self, dtype):
    return self(jax.ShapeDtypeStruct((), dtype))


def _state(trainer) -> dict[str, Any]:
  """What every program finds on the devices, by whose it is."""
  variables, optimizer = trainer.abstract_state()
  params = dict(variables['params'])
  parts = {
    'critic': params.pop(objective_lib.CRITIC, None),
    'policy': params,
    'reference': [
      variables.get(name) for name in (objectives.REFERENCE, 'base')
    ],
    'reward model': variables.get(objective_lib.REWARD),
    'optimizer': optimizer,
  }
  return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}


def _drawing(trainer, place, decoder, grammar, group):
  """The programs of `sampling.sample`, and the rollout that they make."""
  how, prompts = trainer.objective.sampling, trainer.abstract_batch()
  tokens, starts = prompts['tokens'], prompts['starts']
  B, P = tokens.shape
  places = P - 1 + how.longest
  laid, cache = decoder.abstract(), decoder.cache(B, places)
  prefill, decode = decoder.programs(B, places)
  variables, _ = trainer.abstract_state()
  heads = place(jax.eval_shape(lambda x: x[:, :-1], tokens))
  read = decoder.model, laid, heads, starts, None, None
  last, positions, *others = jax.eval_shape(
    lambda x: sampling.decoding_arguments(x, how, seed=0, step=0),
    {'tokens': tokens, 'starts': starts},
  )
  # The others come from the hosts, and are small.
  drawn = (decoder.model, laid, cache, *place((last, positions)), *others)
  drawn += (grammar,)
  keywords = {
    'sampler': how.sampler,
    'longest': how.longest,
    'replay': True,
  }
  *answers, _ = jax.eval_shape(
    lambda *rest: decode(decoder.model, *rest, grammar, **keywords),
    *drawn[1:-1],
  )
  one = programs_lib.Program
  return (
    one('layout', 'rollout', decoder.layout, (variables,), ()),
    one(
      *('prefill', 'rollout', prefill, read, read[1:]),
      keywords={'cache_length': places, 'group': group},
    ),
    one(
      *('decode', 'rollout', decode, drawn, drawn[1:-1]),
      keywords=keywords,
      turns=how.longest,
    ),
    place(jax.eval_shape(sampling.assembled, tokens, starts, *answers)),
  )


def _learning(trainer, place, rollout, evaluate, experience, update):
  """The programs behind a rollout, as `PolicyTrainer._learn` calls them."""
  it, one = trainer.objective, programs_lib.Program
  variables, optimizer = trainer.abstract_state()
  evaluated = place(jax.eval_shape(evaluate, variables, rollout))
  floats = jax.ShapeDtypeStruct(rollout.lengths.shape, jnp.float32)
  names = (rewards_lib.TOTAL, *(f'reward/{n}' for n in it.rewards.scorers))
  verdicts = {name: floats for name in names}
  verdicts['valid'] = jax.ShapeDtypeStruct(floats.shape, jnp.bool_)
  number, count = place.scalar(jnp.float32), place.scalar(jnp.int32)
  looked = one(
    'evaluate', 'evaluation', evaluate, (variables, rollout), rollout
  )
  if experience is None:
    batch = {
      'rollout': rollout,
      'evaluated': evaluated,
      'verdicts': place(verdicts),
      'learns': number,
    }
    given = variables, optimizer, batch
    return [looked, one('update', 'update', update, given, batch)]
  judged = rollout, evaluated, place(verdicts), number
  found, _ = jax.eval_shape(experience, *judged)
  part = {
    'experience': place(found),
    'coefficient': number,
    'learns': number,
    'part': count,
    'step': count,
  }
  return [
    looked,
    one('experience', 'evaluation', experience, judged, judged),
    one(
      *('update', 'update', update, (variables, optimizer, part), part),
      times=it.epochs * it.minibatches,
    ),
  ]
