"""The loop: meshes agree, kills leave no trace, metrics add up."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.models.language import speech_text
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import array_records
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.feeds import feed as feed_lib
from step_audio_jax.training.objectives import objectives
from tests.storage.ranged import sources as held
from tests.training import toy_rows

VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=20, linguistic_size=10, semantic_size=10
)
MODEL = speech_text.SpeechTextModel(
  speech_text.SpeechTextConfig(
    speech_text.TransformerConfig(
      vocab_size=40, width=16, layers=2, heads=4, kv_heads=2, mlp_width=32
    ),
    speech_text.VisionConfig(
      image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=8
    ),
  )
)


@pytest.fixture(scope='module')
def rows(tmp_path_factory):
  folder = tmp_path_factory.mktemp('rows')
  toy_rows.write_source(folder, 'a', 11)
  toy_rows.write_source(folder, 'b', 5, images=2)
  return folder


def make_trainer(rows, mesh=None, devices=1, **config):
  mesh = mesh or mesh_lib.MeshConfig()
  return loop.Trainer(
    objective=objectives.NextToken(MODEL, VOCABULARY, z_loss=1e-4),
    feed=feed_lib.RowFeed(
      rows=str(rows), ratios={'a': 2, 'b': 1}, batch_size=8
    ),
    optimizer=optimizers.OptimizerConfig(
      1e-2, multipliers=(('embedding|head', 5.0), ('vision', 0.0))
    ),
    config=loop.LoopConfig(**{'steps': 12, 'log_every': 2} | config),
    mesh=mesh.build(jax.devices()[:devices]),
    rules=mesh.rules,
  )


def gradients(trainer):
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables()
    batch = trainer.device_batch(1)
    lowered = jax.jit(trainer.gradients).lower(variables, batch)
    (loss, _, _), grads = lowered.compile()(variables, batch)
  return float(loss), jax.device_get(grads), lowered.as_text()


@pytest.fixture(scope='module')
def one_device(rows):
  return gradients(make_trainer(rows))


@pytest.mark.parametrize(
  'sizes',
  [
    {'fsdp': 8},
    {'tensor': 8, 'fsdp': 1},
    {'replica': 2, 'fsdp': 2, 'tensor': 2},  # two slices
    {'context': 2, 'fsdp': 2, 'tensor': 2},
  ],
  ids=str,
)
def test_eight_devices_give_the_loss_and_gradients_of_one(
  rows, one_device, sizes
):
  trainer = make_trainer(rows, mesh_lib.MeshConfig(**sizes), devices=8)
  loss, grads, text = gradients(trainer)
  assert loss == pytest.approx(one_device[0], abs=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    grads,
    one_device[1],
  )
  # Constraints vanish silently where no mesh is set.
  assert 'sharding_constraint' in text or '@Sharding' in text


def test_parameters_lie_where_the_rules_say(rows):
  trainer = make_trainer(rows, mesh_lib.MeshConfig(fsdp=4, tensor=2), devices=8)
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables()
    state = trainer.optimizer_state(variables)
  gate = variables['params']['transformer']['blocks']['mlp']['gate']['kernel']
  assert gate.sharding.spec == jax.P(None, 'fsdp', 'tensor')
  moments = state.chain[1].mu['transformer']['blocks']['mlp']['gate']['kernel']
  assert moments.sharding.spec == gate.sharding.spec


@functools.lru_cache
def shared_trainer(rows):
  return make_trainer(rows, checkpoint_every=4)


@pytest.fixture(scope='module')
def finished(rows, tmp_path_factory):
  folder = tmp_path_factory.mktemp('finished')
  result = loop.run(shared_trainer(rows), folder)
  return folder, result


def same_end(left, right):
  a, step = checkpoints.load_variables(left)
  b, other = checkpoints.load_variables(right)
  assert step == other
  jax.tree.map(np.testing.assert_array_equal, a, b)

  def drop(line):
    line = json.loads(line)
    return {k: v for k, v in line.items() if 'throughput' not in k}

  lines = [
    [drop(line) for line in open(pathlib.Path(d) / 'metrics.jsonl')]
    for d in (left, right)
  ]
  assert lines[0] == lines[1]


@pytest.mark.parametrize('dies_at', [3, 5, 9])
def test_a_stopped_run_continues_to_the_same_bits(
  rows, finished, tmp_path, monkeypatch, dies_at
):
  trainer = shared_trainer(rows)
  step, calls = trainer.step, []

  def dying(*args):
    calls.append(None)
    if len(calls) == dies_at:
      raise KeyboardInterrupt
    return step(*args)

  monkeypatch.setattr(trainer, 'step', dying)
  with pytest.raises(KeyboardInterrupt):
    loop.run(trainer, tmp_path)
  monkeypatch.setattr(trainer, 'step', step)
  result = loop.run(trainer, tmp_path)
  assert result['loss'] == finished[1]['loss']
  same_end(finished[0], tmp_path)


def test_rows_that_are_far_train_to_the_same_bits(
  rows, finished, tmp_path, monkeypatch
):
  trainer = shared_trainer(rows)
  for source in trainer.feed.sources:
    far = array_records.open_records(
      sorted(source.folder.glob('*.array_record')),
      lambda path: held.HeldSource(path.read_bytes(), seconds=0.005),
    )
    monkeypatch.setattr(source, 'records', far)
  assert trainer.feed.read_ahead > 1
  loop.run(trainer, tmp_path)
  same_end(finished[0], tmp_path)


def test_loss_falls_and_frozen_parameters_stay(rows, finished):
  folder, result = finished
  lines = [json.loads(line) for line in open(folder / 'metrics.jsonl')]
  assert [line['step'] for line in lines] == [2, 4, 6, 8, 10, 12]
  assert result['loss'] < lines[0]['loss']
  assert lines[-1]['rows/a'] + lines[-1]['rows/b'] == 96
  trainer = shared_trainer(rows)
  with jax.set_mesh(trainer.mesh):
    start = jax.device_get(trainer.fresh_variables())['params']
  end = checkpoints.load_variables(folder)[0]['params']
  jax.tree.map(np.testing.assert_array_equal, start['vision'], end['vision'])
  moved = np.abs(
    start['projector']['up']['kernel'] - end['projector']['up']['kernel']
  )
  assert moved.max() > 0


def test_the_text_loss_is_the_mean_over_text_tokens(rows):
  trainer = make_trainer(rows)
  with jax.set_mesh(trainer.mesh):
    variables = trainer.fresh_variables()
  batch = trainer.feed.batch(0)
  _, weight, metrics, _ = jax.jit(trainer.objective.loss)(
    variables, batch, jax.random.key(0)
  )
  logits = jax.jit(trainer.objective.model.apply)(
    variables,
    batch['tokens'],
    segment_ids_BT=batch['segment_ids'],
    positions_BT=batch['positions'],
    images_BNHWC=batch['images'],
    image_slots_BN=batch['image_slots'],
  )
  logp = np.asarray(jax.nn.log_softmax(logits))
  total = count = 0.0
  for b in range(8):
    for t in range(31):
      same = batch['segment_ids'][b, t] == batch['segment_ids'][b, t + 1] > 0
      target = batch['tokens'][b, t + 1]
      if same and batch['loss_weights'][b, t + 1] and target < 20:
        total -= logp[b, t, target]
        count += 1
  assert metrics['loss/text'][1] == count > 0
  assert metrics['loss/text'][0] == pytest.approx(total, rel=1e-5)
  assert weight == sum(
    metrics[f'loss/{n}'][1] for n in ('text', 'linguistic', 'semantic')
  )


def test_a_cut_checkpoint_is_moved_aside_and_named(
  rows, finished, tmp_path, capsys
):
  run = tmp_path / 'run'
  shutil.copytree(finished[0], run)
  victims = [
    p
    for p in (run / 'checkpoints' / '12' / 'variables').rglob('*')
    if p.is_file()
  ]
  for path in victims:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(errors.UserError, match='cannot be read'):
    checkpoints.load_variables(run, 12)
  loop.run(shared_trainer(rows), run)
  assert 'checkpoints/12 cannot be read' in capsys.readouterr().err
  assert (run / 'unreadable-checkpoint-12').is_dir()
  same_end(finished[0], run)


def test_no_readable_checkpoint_is_an_error(rows, tmp_path):
  store = checkpoints.Checkpoints(tmp_path)
  store.save(4, {'params': np.ones(3)}, {'m': np.ones(3)}, {'row': 1})
  store.close()
  for path in (tmp_path / 'checkpoints' / '4').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  with pytest.raises(errors.UserError, match='none of the checkpoints'):
    loop.run(shared_trainer(rows), tmp_path)


def test_missing_runs_and_steps_are_named(finished, tmp_path):
  with pytest.raises(errors.UserError, match='no finished checkpoint'):
    checkpoints.load_variables(tmp_path)
  with pytest.raises(errors.UserError, match=r'no checkpoint of step 3.*8, 12'):
    checkpoints.load_variables(finished[0], 3)


def test_loop_config_says_what_is_wrong():
  with pytest.raises(errors.UserError, match='multiple of log_every'):
    loop.LoopConfig(steps=10, log_every=4, checkpoint_every=6)
  with pytest.raises(errors.UserError, match='steps is 0'):
    loop.LoopConfig(steps=0)
