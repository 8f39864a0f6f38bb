"""A vocoder run: it learns, survives a kill, and gives its generator away."""

import dataclasses
import json

from flax import linen as nn
import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder.exports import vocoder
from step_audio_jax.decoder.vocoder import feed
from step_audio_jax.models.vocoder import hift
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import storage
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.checkpoints import checkpoints
from tests.decoder.vocoder import tiny_vocoder

GROUPS = optimizers.OptimizerGroups(
  {
    'generator': ('^params/generator/', optimizers.OptimizerConfig(5e-3)),
    'discriminators': (
      '^params/discriminators/',
      optimizers.OptimizerConfig(2e-3, beta1=0.8, clip=0.0),
    ),
  }
)


@pytest.fixture(scope='module')
def trainer(tmp_path_factory):
  """On a mesh of four devices: rows, and with them phases, are split."""
  lines = [(f'u{i}', 110.0 + 25 * i, 0.5, 8000) for i in range(5)]
  corpus = tiny_vocoder.make_corpus(tmp_path_factory.mktemp('corpus'), lines)
  mesh = mesh_lib.MeshConfig(fsdp=4)
  return loop.Trainer(
    objective=tiny_vocoder.objective(adversarial_start=4),
    feed=feed.WaveFeed(
      corpus=corpus, batch_size=4, frames=32, mel=tiny_vocoder.MEL
    ),
    optimizer=GROUPS,
    config=loop.LoopConfig(
      steps=8, log_every=2, checkpoint_every=2, ema_decay=0.9
    ),
    mesh=mesh.build(jax.devices()[:4]),
    rules=mesh.rules,
  )


@pytest.fixture(scope='module')
def finished(trainer, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  loop.run(trainer, folder)
  description = {**trainer.objective.describe(), 'mesh': {}}
  files.write_json(folder / 'config.json', description)
  return folder


def lines_of(folder):
  lines = [json.loads(line) for line in open(folder / 'metrics.jsonl')]
  return [
    {k: v for k, v in line.items() if 'throughput' not in k} for line in lines
  ]


def test_judges_wait_and_then_learn(trainer, finished):
  lines = lines_of(finished)
  assert [('loss/discriminator' in line) for line in lines] == [
    *(False, False),
    *(True, True),
  ]
  assert lines[-1]['loss/mel'] < lines[0]['loss/mel']
  with jax.set_mesh(trainer.mesh):
    start = jax.device_get(trainer.fresh_variables())['params']
  end = checkpoints.load_variables(finished)[0]['params']
  for name in ('generator', 'discriminators'):
    moved = jax.tree.map(
      lambda a, b: np.abs(a - b).max(), start[name], end[name]
    )
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_a_killed_run_of_two_players_ends_in_the_same_bits(
  trainer, finished, tmp_path, monkeypatch
):
  step, calls = trainer.step, []

  def dying(*args):
    calls.append(None)
    if len(calls) == 6:
      raise KeyboardInterrupt
    return step(*args)

  monkeypatch.setattr(trainer, 'step', dying)
  with pytest.raises(KeyboardInterrupt):
    loop.run(trainer, tmp_path)
  monkeypatch.setattr(trainer, 'step', step)
  loop.run(trainer, tmp_path)
  for ema in (False, True):
    a, b = (
      checkpoints.load_variables(d, ema=ema)[0] for d in (finished, tmp_path)
    )
    jax.tree.map(np.testing.assert_array_equal, a, b)
  assert lines_of(finished) == lines_of(tmp_path)


def test_the_generator_is_given_away(finished):
  config, params = vocoder.load(finished)
  assert config == tiny_vocoder.CONFIG  # through JSON and back
  mean = checkpoints.load_variables(finished, ema=True)[0]['params']
  jax.tree.map(np.testing.assert_array_equal, params, mean['generator'])
  shapes = jax.eval_shape(
    hift.Hift(config).init,
    jax.random.key(0),
    np.zeros((1, 8, 12), np.float32),
    np.zeros((1, 4), np.float32),
    np.zeros((1, 128, 4), np.float32),
  )['params']
  found, wanted = (
    jax.tree.map(np.shape, tree) for tree in (params, nn.unbox(shapes))
  )
  assert found == wanted
  early, _ = checkpoints.load_variables(finished, 6, ema=True)
  _, params = vocoder.load(finished, 6)
  jax.tree.map(
    np.testing.assert_array_equal, params, early['params']['generator']
  )


def test_a_run_starts_from_a_decoders_vocoder(trainer, finished, tmp_path):
  config, params = vocoder.load(finished)
  storage.write_tree(tmp_path / 'vocoder.safetensors', params)
  told = {'vocoder': dataclasses.asdict(config)}
  files.write_json(tmp_path / 'config.json', told)
  description = trainer.objective.describe()
  source = vocoder.read(tmp_path, description)
  with jax.set_mesh(trainer.mesh):
    variables, fresh = trainer.variables_from([('decoder', source)])
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.device_get(variables['params']['generator']),
    params,
  )
  assert fresh and all('/discriminators/' in path for path in fresh)
  # What is no decoder is left to others; one of another shape is told.
  assert vocoder.read(finished, description) is None
  other = description['model'] | {'harmonics': 8}
  with pytest.raises(errors.UserError, match='harmonics: found 3, expected 8'):
    vocoder.read(tmp_path, {'model': other})


def test_another_kind_of_run_is_refused(finished, tmp_path):
  with pytest.raises(errors.UserError, match='cannot be read'):
    vocoder.load(tmp_path)
  (tmp_path / 'config.json').write_text('{"tokenizer": "semantic"}')
  with pytest.raises(errors.UserError, match='expected one of the vocoder'):
    vocoder.load(tmp_path)
  (tmp_path / 'config.json').write_bytes(
    (finished / 'config.json').read_bytes()
  )
  with pytest.raises(errors.UserError, match='no finished checkpoint'):
    vocoder.load(tmp_path)
