"""Runs over pairs: what they start from, what they keep, who opens them."""

import functools

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.objectives import preference
from step_audio_jax.alignment.objectives import reward
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training import run
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import transfer
from tests.alignment.objectives import toy_pairs

SFT = objectives.NextToken(toy_pairs.MODEL, toy_pairs.WORDS)
ADAPTERS = {'rank': 2, 'alpha': 2.0, 'targets': 'attention/q/kernel$'}


def write_run(folder, objective, variables):
  store = checkpoints.Checkpoints(folder)
  store.save(1, variables, {'count': np.zeros(())}, {'row': 0})
  store.close()
  files.write_json(folder / 'config.json', objective.describe())
  return str(folder)


@functools.cache
def batch():
  return toy_pairs.packings(toy_pairs.some(8))['one a row']


def train(folder, objective, source, steps=2):
  told = run.train(
    run_dir=str(folder),
    objective=objective,
    feed=toy_pairs.Feed(batch()),
    optimizer=optimizers.OptimizerConfig(learning_rate=0.01),
    config=loop.LoopConfig(steps=steps, log_every=1),
    init_from=(source,),
  )
  variables, _ = checkpoints.load_variables(folder)
  return told, variables


def flat(tree):
  return {k: np.asarray(v) for k, v in transfer.flatten(tree).items()}


def moved(before, after):
  """Whether leaves of the same paths are others, by path."""
  return {k: bool((before[k] != after[k]).any()) for k in before if k in after}


def test_a_reward_model_is_trained_from_a_language_model(tmp_path):
  params = toy_pairs.parameters()
  source = write_run(tmp_path / 'sft', SFT, {'params': params})
  objective = reward.RewardModel(toy_pairs.SCORER, toy_pairs.WORDS)
  told, variables = train(tmp_path / 'reward', objective, source)
  assert set(told['fresh']) == {'params/score/kernel', 'params/score/bias'}
  assert told['pair_accuracy'] >= 0.5
  # Two steps of Adam at 0.01: near where it started, and no longer there.
  before, after = flat(params), flat(variables['params'])
  assert all(moved(before, after).values())
  assert all(
    np.abs(before[k] - after[k]).max() < 0.05 for k in before if k in after
  )
  model, loaded, _ = restore.load_scorer(tmp_path / 'reward')
  assert model == toy_pairs.SCORER
  assert set(flat(loaded)) == set(flat(variables))
  with pytest.raises(errors.UserError, match='expected the run of a language'):
    restore.load_model(tmp_path / 'reward')
  # The next stage starts from all of it.
  again, _ = train(tmp_path / 'next', objective, str(tmp_path / 'reward'), 1)
  assert not again['fresh']
  # Who answers does not: its output table would be drawn at random.
  policy = preference.DirectPreference(toy_pairs.MODEL, toy_pairs.WORDS)
  for one in (policy, lora.Lora(policy, **ADAPTERS)):
    with pytest.raises(errors.UserError, match='reward/config.json: found .sc'):
      train(tmp_path / 'dpo', one, str(tmp_path / 'reward'))
  assert not (tmp_path / 'dpo' / 'config.json').exists()


def test_a_policy_is_compared_with_what_it_started_from(tmp_path):
  params = toy_pairs.parameters()
  source = write_run(tmp_path / 'sft', SFT, {'params': params})
  objective = preference.DirectPreference(toy_pairs.MODEL, toy_pairs.WORDS)
  told, variables = train(tmp_path / 'dpo', objective, source)
  assert not told['fresh'] and told['reward/margin'] > 0
  kept = flat(variables[objectives.REFERENCE])
  assert kept.keys() == flat(params).keys()
  assert not any(moved(flat(params), kept).values())
  assert any(moved(kept, flat(variables['params'])).values())
  # Every door opens it as a language model.
  model, loaded, _ = restore.load_model(tmp_path / 'dpo')
  assert model == toy_pairs.MODEL and set(loaded) == {'params'}


def test_adapters_that_were_learnt_before_are_part_of_the_reference(tmp_path):
  adapted = lora.Lora(SFT, **ADAPTERS)
  shapes = jax.eval_shape(adapted.init, jax.random.key(0), batch())
  tuned = toy_pairs.random_like(shapes, seed=5)
  source = write_run(tmp_path / 'sft', adapted, tuned)
  objective = lora.Lora(
    preference.DirectPreference(toy_pairs.MODEL, toy_pairs.WORDS), **ADAPTERS
  )
  told, variables = train(tmp_path / 'dpo', objective, source)
  assert set(variables) == {'base', 'params'}
  assert all('/a' in path or '/b' in path for path in told['fresh'])
  want = flat(jax.jit(adapted.effective)(tuned)['params'])
  for path, leaf in flat(variables['base']).items():
    np.testing.assert_allclose(leaf, want[path], atol=1e-6)
