"""What is compiled for absent devices is what a step runs."""

import dataclasses

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.language import scoring
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training.objectives import lora
from tests.alignment import toy_policy


def shaped(tree):
  """Shapes, dtypes and shardings of what is split; host arrays have none."""
  return [
    (np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    else (leaf.shape, leaf.dtype)
    for leaf in jax.tree.leaves(tree)
  ]


def lying(one, two):
  """Whether arrays that a run splits lie where a plan says."""
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    planned, found = (getattr(x, 'sharding', None) for x in (a, b))
    if planned is None or found is None or planned.is_fully_replicated:
      continue
    if not planned.is_equivalent_to(found, len(b.shape)):
      return False
  return True


def test_a_plan_knows_what_every_program_of_a_step_is_given(monkeypatch):
  it = toy_policy.objective(
    'ppo', minibatches=2, reward=scoring.ScoringModel(toy_policy.CONFIG)
  )
  trainer = toy_policy.trainer(it, 4, mesh_lib.MeshConfig(tensor=2))
  step = trainer.programs()
  names = [program.name for program in step.programs]
  assert names == [
    *('layout', 'prefill', 'decode'),
    *('evaluate', 'experience', 'update'),
  ]
  planned = {program.name: program for program in step.programs}
  assert planned['update'].times == 2
  assert planned['decode'].turns == toy_policy.ANSWER
  given = {}

  def recording(name, function):
    def call(*arguments, **keywords):
      # Before it runs: what it may write over is gone afterwards.
      given.setdefault(name, (shaped(arguments[name in MODELS :]), keywords))
      assert lying(planned[name].given, arguments), name
      return function(*arguments, **keywords)

    return call

  MODELS = ('prefill', 'decode')
  decoder = trainer._decoder
  pair = decoder.programs(8, toy_policy.PLACES - 1 + toy_policy.ANSWER)
  recorded = [recording(n, f) for n, f in zip(MODELS, pair)]
  monkeypatch.setattr(decoder, 'programs', lambda *sizes: recorded)
  monkeypatch.setattr(decoder, 'layout', recording('layout', decoder.layout))
  for name in ('evaluate', 'experience', 'update'):
    function = getattr(trainer, f'_{name}')
    monkeypatch.setattr(trainer, f'_{name}', recording(name, function))
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables()
    state = variables, trainer.optimizer_state(variables)
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    trainer.step(*state, trainer.device_batch(0))
  assert set(given) == set(names)
  for name, (shapes, keywords) in given.items():
    program = planned[name]
    arguments = program.given[name in MODELS :]
    assert shaped(arguments) == shapes, name
    assert program.keywords == keywords
  assert set(step.state) == {
    *('policy', 'critic', 'reference', 'reward model', 'optimizer')
  }
  told = sum(leaf.size for leaf in jax.tree.leaves(dict(step.state)))
  assert told == held


def test_adapters_stand_on_their_reference():
  it = toy_policy.objective()
  it = dataclasses.replace(it, policy=lora.Lora(it.policy, rank=2))
  step = toy_policy.trainer(it, 2).programs()
  assert set(step.state) == {'policy', 'reference', 'optimizer'}
  small, whole = (
    sum(leaf.size for leaf in jax.tree.leaves(step.state[name]))
    for name in ('policy', 'reference')
  )
  assert small < whole


def test_one_device_is_no_pod():
  with pytest.raises(errors.UserError, match='is of one device'):
    toy_policy.trainer().programs()


def test_answers_drawn_ahead_are_not_planned():
  it = toy_policy.objective(staleness=1)
  trainer = toy_policy.trainer(it, 4, mesh_lib.MeshConfig(tensor=2))
  with pytest.raises(errors.UserError, match='staleness is 1, expected 0'):
    trainer.programs()
