"""A policy's step: it learns, repeats to the bit, and hides nothing."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import loop
from tests.alignment import toy_policy

NO_KL = objective_lib.Divergence(0.0, 'k2', 'loss')


def rewards(function, on_failure='stop'):
  return rewards_lib.Rewards({'it': (1.0, function)}, on_failure)


def one_step(trainer, variables=None):
  """(variables before, after, metrics) of the first step."""
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables() if variables is None else variables
    before = jax.tree.map(np.array, variables)
    after, _, metrics = trainer.step(
      variables, trainer.optimizer_state(variables), trainer.device_batch(0)
    )
  return before, jax.tree.map(np.array, after), jax.tree.map(np.array, metrics)


@functools.cache
def first(kind='grpo', minibatches=1, epochs=1):
  it = toy_policy.objective(kind, minibatches=minibatches, epochs=epochs)
  return one_step(toy_policy.trainer(it))


def mean(metrics, name):
  total, weight = metrics[name]
  return float(total) / float(weight)


def changed(before, after):
  """Paths of the leaves that moved."""
  flat = jax.tree_util.tree_flatten_with_path(before)[0]
  return {
    jax.tree_util.keystr(path)
    for (path, old), new in zip(flat, jax.tree.leaves(after))
    if (old != new).any()
  }


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
def test_sampler_and_trainer_agree_in_the_step(kind):
  _, _, metrics = first(kind)
  assert mean(metrics, 'rollout/logprob_gap') <= 1e-5
  assert mean(metrics, 'rollout/correlation') >= 0.9999
  assert mean(metrics, 'rollout/within') >= 0.99
  assert metrics['rollout/dropped'][0] == 0
  assert mean(metrics, 'policy/clipped') == 0


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
def test_only_parameters_learn(kind):
  before, after, _ = first(kind)
  moved = changed(before, after)
  assert any('transformer' in path for path in moved)
  assert not any(path.startswith("['reference']") for path in moved)
  assert any(path.startswith("['params']['critic']") for path in moved) == (
    kind == 'ppo'
  )


def test_the_reference_is_the_policy_as_it_was():
  _, _, metrics = first()
  # Each by a program of its own.
  assert abs(mean(metrics, 'kl')) < 1e-5
  assert abs(mean(metrics, 'kl/token')) < 1e-9


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
def test_it_learns_what_is_rewarded(kind, tmp_path):
  it = toy_policy.objective(kind, kl=NO_KL)
  trainer = toy_policy.trainer(it, steps=40, spikes=None)
  loop.run(trainer, tmp_path)
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').open()]
  at_first = np.mean([line['reward/liked'] for line in lines[:5]])
  at_last = np.mean([line['reward/liked'] for line in lines[-5:]])
  assert at_last > at_first + 0.3 * (1 - at_first)
  assert max(line['rollout/logprob_gap'] for line in lines) <= 1e-5


def test_equal_rewards_have_no_gradient_at_all():
  it = toy_policy.objective(
    kl=NO_KL, rewards=rewards(lambda s: [0.3] * len(s)), no_end_reward=0.0
  )
  before, after, metrics = one_step(toy_policy.trainer(it))
  assert not changed(before, after)
  assert metrics['gradient_norm'][0] == 0


def test_while_the_critic_warms_up_the_policy_stays():
  it = toy_policy.objective('ppo', warmup_steps=1, epochs=2)
  before, after, _ = one_step(toy_policy.trainer(it))
  moved = changed(before, after)
  assert moved and all('critic' in path for path in moved)


def same(one, two, tolerance):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


@functools.cache
def fresh(kind):
  """Of one seed for all meshes, and with a reference of its own."""
  trainer = toy_policy.trainer(toy_policy.objective(kind))
  with jax.set_mesh(trainer.mesh):
    found = jax.tree.map(np.asarray, trainer.fresh_variables())
  found['reference'] = jax.tree.map(lambda x: x * 1.1, found['reference'])
  return found


@functools.cache
def gradients(kind='grpo', devices=1, tensor=1, microbatches=1):
  """The gradients of the first update, of one rollout."""
  it = toy_policy.objective(
    kind, kl=objective_lib.Divergence(0.1, 'k2', 'loss')
  )
  mesh = mesh_lib.MeshConfig(tensor=tensor)
  trainer = toy_policy.trainer(it, devices, mesh, microbatches=microbatches)
  found = fresh(kind)
  with jax.set_mesh(trainer.mesh):
    variables = jax.tree.map(jax.device_put, found, trainer.shardings)
    batch = trainer.device_batch(0)
    rollout = trainer.rollout(variables, batch, 0)
    evaluated = trainer._evaluate(variables, rollout)
    verdicts = trainer.judge(rollout, 0)
    experience, _ = trainer._experience(
      rollout, evaluated, verdicts, np.float32(0.1)
    )
    part = {
      'experience': trainer.by_groups(experience),
      'coefficient': jnp.float32(0.1),
      'learns': jnp.float32(1),
      'step': jnp.int32(0),
    }
    (loss, _, _), grads = jax.jit(trainer.gradients)(variables, part)
  return float(loss), jax.tree.map(np.asarray, grads)


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
@pytest.mark.parametrize(
  'change',
  [
    {'microbatches': 2},
    {'microbatches': 4},  # no part has whole groups
    {'devices': 2},
    {'devices': 4, 'tensor': 2},
  ],
)
def test_microbatches_and_meshes_change_nothing(kind, change):
  loss, grads = gradients(kind)
  other, found = gradients(kind, **change)
  assert other == pytest.approx(loss, abs=1e-6)
  same(found, grads, 1e-6)


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
def test_a_single_update_may_tell_what_it_begins_with(kind):
  """One forward pass for both changes neither update nor figures."""

  class InParts(toy_policy.trainer_lib.PolicyTrainer):
    _at_once = False

  it = toy_policy.objective(
    kind,
    kl=objective_lib.Divergence(0.1, 'k1', 'reward'),
    rewards=rewards(Wrong(), 'drop'),
    entropy=0.01,
  )
  found = []
  for kind_of_trainer in (toy_policy.trainer_lib.PolicyTrainer, InParts):
    trainer = toy_policy.trainer(it, kind_of_trainer=kind_of_trainer)
    variables = jax.tree.map(jnp.array, fresh(kind))
    found.append(one_step(trainer, variables)[1:])
  (one, figures), (two, others) = found
  # Where a gradient is hardly one, an optimizer makes a step of noise.
  apart = jax.tree.map(lambda a, b: np.abs(a - b).mean(), one, two)
  assert max(jax.tree.leaves(apart)) < 1e-6
  assert figures.keys() == others.keys()
  assert figures['rollout/dropped'][0] == 1
  for name, value in figures.items():
    same(value, others[name], 1e-4)


class Wrong:
  """NaN for the first answer."""

  def __call__(self, samples):
    return [float('nan')] + [0.5] * (len(samples) - 1)


def test_what_no_scorer_has_judged_is_dropped_and_counted():
  it = toy_policy.objective(rewards=rewards(Wrong(), 'drop'))
  _, _, metrics = one_step(toy_policy.trainer(it))
  assert metrics['rollout/dropped'][0] == 1
  assert mean(metrics, 'reward/it') == 0.5
  assert np.isfinite(metrics['gradient_norm'][0])
  stopping = toy_policy.objective(rewards=rewards(Wrong()))
  with pytest.raises(errors.UserError, match='it gave nan for an answer to q'):
    one_step(toy_policy.trainer(stopping))


def test_a_step_that_nobody_has_judged_stops_the_run():
  def broken(samples):
    raise ConnectionError('gone')

  it = toy_policy.objective(rewards=rewards(broken, 'drop'))
  with pytest.raises(
    errors.UserError, match='step 1 has no answer that all sc'
  ):
    one_step(toy_policy.trainer(it))


def test_sampler_and_trainer_that_disagree_stop_the_run(monkeypatch):
  it = toy_policy.objective()
  trainer = toy_policy.trainer(it)
  honest = trainer.rollout

  def lying(*arguments):
    rollout = honest(*arguments)
    return rollout._replace(log_probs=rollout.log_probs - 0.2)

  monkeypatch.setattr(trainer, 'rollout', lying)
  with pytest.raises(errors.UserError, match='in step 1 the log-probabilities'):
    one_step(trainer)


def test_a_run_that_stops_between_steps_goes_on_to_the_same_bits(tmp_path):
  it = toy_policy.objective('ppo', epochs=2, minibatches=2)

  def run(folder, *lengths):
    for steps in lengths:
      trainer = toy_policy.trainer(it, steps=steps, checkpoint_every=1)
      loop.run(trainer, tmp_path / folder)
    with jax.set_mesh(trainer.mesh):
      from step_audio_jax.training.checkpoints import checkpoints

      return checkpoints.load_variables(tmp_path / folder)[0]

  same(run('whole', 4), run('parts', 1, 3, 4), 0)
  lines = [
    [
      {
        k: v
        for k, v in json.loads(line).items()
        if not k.startswith(('throughput', 'time'))
      }
      for line in (tmp_path / name / 'metrics.jsonl').open()
    ]
    for name in ('whole', 'parts')
  ]
  assert lines[0] == lines[1]


def test_the_coefficient_follows_its_target():
  kl = objective_lib.Divergence(0.1, 'k1', 'reward', target=1.0, horizon=100)
  assert kl.adapted(jnp.float32(0.1), jnp.float32(5.0), 10) == pytest.approx(
    0.1 * (1 + 0.2 * 0.1)
  )
  assert kl.adapted(jnp.float32(0.1), jnp.float32(0.9), 10) == pytest.approx(
    0.1 * (1 - 0.1 * 0.1)
  )
  it = toy_policy.objective('ppo', kl=kl)
  _, after, metrics = one_step(toy_policy.trainer(it))
  assert after['controller']['kl'] == pytest.approx(0.1 * (1 - 0.2 * 0.08))
  assert mean(metrics, 'kl/coefficient') == pytest.approx(0.1)


def test_groups_and_minibatches_that_do_not_divide():
  with pytest.raises(
    errors.UserError, match='minibatches times microbatches is'
  ):
    toy_policy.trainer(toy_policy.objective(minibatches=3))
  it = dataclasses.replace(toy_policy.objective(), group=3)
  with pytest.raises(errors.UserError, match='group'):
    toy_policy.trainer(it)


def test_what_is_masked_for_its_length_learns_nothing():
  it = toy_policy.objective(no_end='mask', kl=NO_KL)
  trainer = toy_policy.trainer(it)
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables()
    rollout = trainer.rollout(variables, trainer.device_batch(0), 0)
  counted = it.counted(rollout)
  ended = np.asarray(rollout.stopped)
  np.testing.assert_array_equal(np.asarray(counted.lengths) > 0, ended)
  assert not ended.all()
