"""Answers drawn ahead: weighted, shown to agree, and kept through a kill."""

import functools
import json

import jax
import numpy as np
import pytest

from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from step_audio_jax.training import loop
from step_audio_jax.training.checkpoints import checkpoints
from tests.alignment import toy_policy

MOST = 1.02


def copied(tree):
  return jax.tree.map(np.array, tree)


def trainer_of(steps):
  it = toy_policy.objective(
    staleness=1,
    buckets=2,
    most_importance=MOST,
    sampling=sampling_lib.Sampling(longest=12, sampler=toy_policy.SAMPLER),
  )
  return toy_policy.trainer(
    it, learning_rate=0.02, spikes=None, steps=steps, checkpoint_every=1
  )


@functools.cache
def two_steps():
  """[(parameters before, experience, metrics)] of two steps, drawn ahead."""
  trainer = trainer_of(4)
  make, made, found = trainer._experience, [], []
  trainer._experience = lambda *given: made.append(make(*given)) or made[-1]
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables()
    optimizer = trainer.optimizer_state(variables)
    for step in range(2):
      before = copied(variables['params'])
      variables, optimizer, metrics = trainer.step(
        variables, optimizer, trainer.device_batch(step)
      )
      found.append((before, copied(made[-1][0]), copied(metrics)))
  return found


scored = jax.jit(rollout_lib.score, static_argnums=0)


def test_weights_are_those_of_the_policy_over_its_sampler():
  (first, _, _), (second, experience, metrics) = two_steps()
  rollout = experience.rollout
  sampler, policy = (
    np.asarray(scored(toy_policy.MODEL, {'params': params}, rollout).log_probs)
    for params in (first, second)
  )
  mask = np.asarray(rollout.mask)
  ratio = np.exp(policy - sampler)[mask]
  assert np.abs(ratio - 1).max() > 0.05
  found = np.asarray(experience.importance)[mask]
  np.testing.assert_allclose(found, np.minimum(ratio, MOST), atol=1e-5)
  cut = int((ratio > MOST).sum())
  assert 0 < cut < mask.sum()
  assert metrics['rollout/cut'][0] == cut
  total, weight = metrics['rollout/importance']
  assert total / weight == pytest.approx(found.mean(), abs=1e-6)


def test_agreement_is_that_with_the_parameters_that_sampled():
  for step, (_, _, metrics) in enumerate(two_steps()):
    assert metrics['rollout/logprob_gap'][0] <= 1e-5
    assert metrics['rollout/within'][0] >= 0.99
    assert metrics['rollout/dropped'][0] == 0
    assert metrics['rollout/staleness'][0] == step


class Killed(BaseException):
  """What no one catches."""


def run(folder, steps, kill=None):
  """A run, killed in the update of a step; its last variables and lines."""
  trainer = trainer_of(steps)
  if kill is not None:
    update = trainer._update

    def dying(*given):
      done = update(*given)
      if given[-1]['step'] == kill:
        raise Killed
      return done

    trainer._update = dying
    with pytest.raises(Killed):
      loop.run(trainer, folder)
    return None
  loop.run(trainer, folder)
  with jax.set_mesh(trainer.mesh):
    variables = checkpoints.load_variables(folder)[0]
  return variables, [
    json.loads(line) for line in (folder / 'metrics.jsonl').open()
  ]


def timeless(lines):
  return [
    {k: v for k, v in one.items() if not k.startswith(('throughput', 'time'))}
    for one in lines
  ]


def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path):
  whole, lines = run(tmp_path / 'whole', 4)
  parts = tmp_path / 'parts'
  run(parts, 4, kill=2)
  killed, again = run(parts, 4)
  assert timeless(lines) == timeless(again)
  one, two = (
    jax.tree_util.tree_flatten_with_path(x)[0] for x in (whole, killed)
  )
  for (path, a), (_, b) in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
  assert whole['pending']['step'] == 4
  assert [line['rollout/staleness'] for line in lines] == [0, 1, 1, 1]
  for line in lines[1:]:
    assert 0 < line['time/rollout'] and 0 < line['time/update']
    assert 0 < line['time/rollout_share'] <= 1
