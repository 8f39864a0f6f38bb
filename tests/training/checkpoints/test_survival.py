"""What a run lives through: other meshes, SIGTERM, bad disks, bad batches."""

import functools
import json
import os
import pathlib
import shutil
import signal
import threading

import jax
import numpy as np
from orbax.checkpoint._src.checkpointers import async_checkpointer
import pytest

from step_audio_jax import errors
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import guard
from step_audio_jax.training import loop
from step_audio_jax.training import metrics
from step_audio_jax.training import preemption
from step_audio_jax.training.checkpoints import checkpoints
from tests.training import toy_regression

CONFIG = {'steps': 12, 'checkpoint_every': 4, 'ema_decay': 0.9}


@functools.cache
def trainer():
  return toy_regression.trainer(**CONFIG)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp('finished')
  return folder, loop.run(trainer(), folder)


def lines(folder):
  """The log lines, without what a clock says."""
  text = (pathlib.Path(folder) / 'metrics.jsonl').read_text()
  return [
    {k: v for k, v in json.loads(line).items() if 'throughput' not in k}
    for line in text.splitlines()
  ]


def same_end(left, right):
  for ema in (False, True):
    a, step = checkpoints.load_variables(left, ema=ema)
    b, other = checkpoints.load_variables(right, ema=ema)
    assert step == other
    jax.tree.map(np.testing.assert_array_equal, a, b)
  assert lines(left) == lines(right)


def hooked(monkeypatch, made, at, action):
  """Calls `action` when step number `at` of a run has been started."""
  step, calls = made.step, []

  def hook(*args):
    out = step(*args)
    calls.append(None)
    if len(calls) == at:
      action()
    return out

  monkeypatch.setattr(made, 'step', hook)
  return lambda: monkeypatch.setattr(made, 'step', step)


# 3: in the middle of a log line; 4: on a checkpoint; 12: the last.
@pytest.mark.parametrize('at, saved', [(3, 4), (4, 5), (6, 7)])
def test_sigterm_saves_and_the_same_command_goes_on(
  finished, tmp_path, monkeypatch, at, saved
):
  before = signal.getsignal(signal.SIGTERM)

  def twice():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)

  unhook = hooked(monkeypatch, trainer(), at, twice)
  with pytest.raises(preemption.Preempted, match=f'after step {saved - 1}'):
    loop.run(trainer(), tmp_path)
  assert checkpoints.all_steps(tmp_path)[-1] == saved - 1
  assert signal.getsignal(signal.SIGTERM) is before
  unhook()
  result = loop.run(trainer(), tmp_path)
  assert result['loss'] == finished[1]['loss']
  same_end(finished[0], tmp_path)


def test_sigterm_at_the_last_step_is_a_finished_run(
  finished, tmp_path, monkeypatch
):
  unhook = hooked(
    monkeypatch, trainer(), 12, lambda: os.kill(os.getpid(), signal.SIGTERM)
  )
  assert loop.run(trainer(), tmp_path)['step'] == 12
  unhook()
  same_end(finished[0], tmp_path)
  again = loop.run(trainer(), tmp_path)  # the kill before done.json
  assert again['step'] == 12 and again['loss'] == finished[1]['loss']
  same_end(finished[0], tmp_path)


def test_an_interrupt_while_it_saves_leaves_a_whole_checkpoint(
  finished, tmp_path, monkeypatch
):
  restore = hooked(
    monkeypatch, trainer(), 6, lambda: os.kill(os.getpid(), signal.SIGTERM)
  )
  save = checkpoints.Checkpoints.save

  def impatient(self, step, *args, **kwargs):
    if step == 6:
      raise KeyboardInterrupt
    return save(self, step, *args, **kwargs)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', impatient)
  with pytest.raises(KeyboardInterrupt):
    loop.run(trainer(), tmp_path)
  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save)
  restore()
  assert checkpoints.all_steps(tmp_path) == [4]
  loop.run(trainer(), tmp_path)
  same_end(finished[0], tmp_path)


def test_a_checkpoint_is_restored_on_other_meshes(tmp_path):
  """8 → 4 → 2 devices: equal bits after the restore, equal losses on."""

  def made(devices):
    mesh = mesh_lib.MeshConfig(tensor=2 if devices > 2 else 1)
    return toy_regression.trainer(devices, mesh=mesh, **CONFIG)

  whole = tmp_path / 'whole'
  loop.run(made(8), whole)
  run = tmp_path / 'run'
  (run / 'checkpoints').mkdir(parents=True)
  shutil.copytree(whole / 'checkpoints' / '8', run / 'checkpoints' / '8')
  shutil.copytree(run, tmp_path / 'two')
  stored = jax.device_get(restored(made(8), run))
  for devices, folder in ((4, run), (2, tmp_path / 'two')):
    on = made(devices)
    state = restored(on, folder)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), stored)
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(
      lambda x: x.sharding, loop.parts(*on.abstract_state())
    )
    loop.run(on, folder)
    for one, wanted in zip(lines(folder), lines(whole)[-2:], strict=True):
      assert one['loss'] == pytest.approx(wanted['loss'], rel=1e-6)
  assert len(state[0]['params']['up'].sharding.device_set) == 2


def restored(made, folder):
  store = checkpoints.Checkpoints(folder)
  with jax.set_mesh(made.mesh):
    step, *state, data = store.restore(*loop.parts(*made.abstract_state()))
  store.close()
  assert step == 8 and data['row'] == 8 * 16
  return tuple(state)


def test_a_run_stops_when_a_save_fails(tmp_path, monkeypatch):
  commit, calls = async_checkpointer._on_commit_callback, []

  def second_fails(*args, **kwargs):
    calls.append(None)
    if len(calls) == 2:
      raise OSError(28, 'No space left on device')
    return commit(*args, **kwargs)

  monkeypatch.setattr(async_checkpointer, '_on_commit_callback', second_fails)
  with pytest.raises(errors.UserError, match='could not be .*No space left'):
    loop.run(trainer(), tmp_path)
  assert checkpoints.all_steps(tmp_path) == [4]
  assert lines(tmp_path)[-1]['step'] < 12 or len(calls) == 2


def test_a_folder_that_cannot_be_written_stops_a_run(tmp_path, monkeypatch):
  def spoil():
    shutil.rmtree(tmp_path / 'checkpoints')
    (tmp_path / 'checkpoints').write_text('in the way')

  hooked(monkeypatch, trainer(), 3, spoil)
  with pytest.raises(errors.UserError, match='could not be written'):
    loop.run(trainer(), tmp_path)


def test_a_run_of_bad_batches_stops_with_the_rows(tmp_path, capsys):
  made = toy_regression.trainer(
    poison={step: np.nan for step in (2, 5, 6, 7)},
    spikes=guard.SpikeConfig(give_up=3),
    **CONFIG,
  )
  with pytest.raises(errors.UserError) as caught:
    loop.run(made, tmp_path)
  text = str(caught.value)
  assert text.startswith('step 8: skipped, the last of 3 in a row, because')
  assert text.count('toy/') == 16 and 'toy/112, ' in text and '/127.' in text
  told = capsys.readouterr().err
  assert 'step 3 is skipped' in told and 'step 7 is skipped' in told
  assert [line.get('skipped_steps') for line in lines(tmp_path)] == [0, 1, 2]
  assert all(np.isfinite(list(line.values())).all() for line in lines(tmp_path))
  assert checkpoints.all_steps(tmp_path) == [4]


def test_a_run_leaves_a_sharp_point(tmp_path, capsys):
  """Every batch from step 6 on spikes, for good: the run learns them."""
  spikes = guard.SpikeConfig(factor=4, window=8, warmup=3, give_up=4)
  made = toy_regression.trainer(
    spikes=spikes, steps=24, checkpoint_every=8, log_every=1
  )
  batch = made.feed.batch
  made.feed.batch = lambda step, *span: {
    **batch(step, *span),
    **({'y': np.full(16, 500.0, np.float32)} if step >= 5 else {}),
  }
  loop.run(made, tmp_path)
  log = lines(tmp_path)
  assert [line['skipped_steps'] for line in log] == [0] * 5 + [1, 2] + [3] * 17
  taken = ['loss' in line for line in log]
  assert taken == [True] * 5 + [False] * 3 + [True] * 16
  told = capsys.readouterr().err
  assert 'step 8 is skipped' in told and 'step 9 is skipped' not in told
  assert told.count('from step 9 on gradients are cut to') == 1


def test_what_was_skipped_is_remembered(tmp_path, monkeypatch):
  """Stopped between two bad steps, a run still counts them as in a row."""
  poisoned = {step: np.nan for step in (4, 5, 6)}
  config = CONFIG | {'spikes': guard.SpikeConfig(give_up=4)}
  made = toy_regression.trainer(poison=poisoned, **config)
  loop.run(made, tmp_path / 'calm')
  unhook = hooked(
    monkeypatch, made, 6, lambda: os.kill(os.getpid(), signal.SIGTERM)
  )
  with pytest.raises(preemption.Preempted):
    loop.run(made, tmp_path / 'stopped')
  unhook()
  loop.run(made, tmp_path / 'stopped')
  same_end(tmp_path / 'calm', tmp_path / 'stopped')
  assert lines(tmp_path / 'calm')[-1]['skipped_steps'] == 3


def test_metrics_are_read_one_step_late_and_batches_are_there_early(
  tmp_path, monkeypatch
):
  made = toy_regression.trainer(steps=7, log_every=3)
  step, order = made.step, []
  early = threading.Event()
  batch = made.feed.batch

  def watched(number, *span):
    if number == 2:
      early.set()
    return batch(number, *span)

  class Told(metrics.Log):
    """Notes when the host looks into the metrics of a step."""

    def add(self, number, values):
      order.append(('read', number))
      return super().add(number, values)

  def hook(*args):
    number = len([o for o in order if o[0] == 'started']) + 1
    if number == 1:
      assert early.wait(10)  # two batches wait before the first step ends
    order.append(('started', number))
    return step(*args)

  monkeypatch.setattr(made, 'step', hook)
  monkeypatch.setattr(made.feed, 'batch', watched)
  monkeypatch.setattr(metrics, 'Log', Told)
  loop.run(made, tmp_path)
  place = {event: i for i, event in reversed(list(enumerate(order)))}
  for number in range(1, 7):  # also those that end a log line
    assert place['read', number] > place['started', number + 1]
  assert [line['step'] for line in lines(tmp_path)] == [3, 6, 7]


def test_settings_without_sense_are_refused():
  for wrong, words in (
    ({'best_is': 'low'}, "best_is is 'low'"),
    ({'ema_decay': 1.0}, 'ema_decay is 1.0'),
    ({'microbatches': 0}, 'microbatches is 0'),
    ({'keep': 0}, 'keep is 0'),
  ):
    with pytest.raises(errors.UserError, match=words):
      loop.LoopConfig(steps=2, **wrong)
