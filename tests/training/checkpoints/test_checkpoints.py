"""Checkpoints: what is kept, found, restored and refused."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint._src.checkpointers import async_checkpointer
import pytest

from step_audio_jax import errors
from step_audio_jax.training.checkpoints import checkpoints


def state(step):
  """Variables and optimizer state of a step; every number tells the step."""
  variables = {
    'params': {'w': jnp.full((4, 2), float(step)), 'b': jnp.arange(3) + step},
    'codebook': {'counts': jnp.full((5,), step, jnp.int32)},
  }
  return variables, {'mu': {'w': jnp.full((4, 2), step / 2)}, 'count': step}


def save(run, steps, keep=2):
  store = checkpoints.Checkpoints(run, keep=keep)
  for step in steps:
    store.save(step, *state(step), {'batches': step * 8})
  store.close()


def empty():
  return jax.tree.map(jnp.zeros_like, state(0))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  save(folder, [2, 4, 10])
  return folder


def test_the_newest_are_kept_in_order(run):
  assert checkpoints.all_steps(run) == [4, 10]
  store = checkpoints.Checkpoints(run)
  assert store.steps() == [4, 10]
  store.close()
  assert sorted(p.name for p in (run / 'checkpoints').iterdir()) == ['10', '4']


def test_restore_takes_the_newest_whole(run):
  store = checkpoints.Checkpoints(run)
  variables, optimizer = empty()
  step, got, slots, _, data = store.restore(variables, optimizer)
  store.close()
  wanted, wanted_slots = state(10)
  assert step == 10 and data == {'batches': 80}
  jax.tree.map(np.testing.assert_array_equal, got, wanted)
  jax.tree.map(np.testing.assert_array_equal, slots, wanted_slots)
  assert got['codebook']['counts'].dtype == jnp.int32


def test_restore_lands_on_the_shardings_that_are_asked_for(run):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ('data',))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  variables, optimizer = empty()
  variables['params']['w'] = jax.device_put(variables['params']['w'], split)
  store = checkpoints.Checkpoints(run)
  _, got, *_ = store.restore(variables, optimizer)
  store.close()
  w = got['params']['w']
  assert w.sharding == split and len(w.addressable_shards) == 4
  assert w.addressable_shards[0].data.shape == (1, 2)
  np.testing.assert_array_equal(w, np.full((4, 2), 10.0))


def test_a_run_without_steps_restores_nothing(tmp_path):
  store = checkpoints.Checkpoints(tmp_path)
  assert store.restore(*empty()) is None and store.steps() == []
  store.close()
  assert (tmp_path / 'checkpoints').is_dir()


@pytest.mark.parametrize(('step', 'wanted'), [(None, 10), (4, 4), (10, 10)])
def test_variables_load_as_numpy(run, step, wanted):
  variables, found = checkpoints.load_variables(run, step)
  assert found == wanted
  expected, _ = state(wanted)
  assert jax.tree.structure(variables) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(expected)):
    assert type(a) is np.ndarray and a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_what_a_kill_left_is_no_step(tmp_path):
  """Half-written steps have other names, and files are not steps."""
  folder = tmp_path / 'checkpoints'
  for name in ('8', '12', '16.orbax-checkpoint-tmp-3', 'notes'):
    (folder / name).mkdir(parents=True)
  (folder / '20').write_text('')
  assert checkpoints.all_steps(tmp_path) == [8, 12]


@pytest.mark.parametrize('make', [False, True])
def test_a_folder_without_checkpoints_is_told(tmp_path, make):
  if make:
    (tmp_path / 'checkpoints' / 'x').mkdir(parents=True)
  with pytest.raises(errors.UserError, match='no finished checkpoint in .*'):
    checkpoints.all_steps(tmp_path)


def test_a_step_that_is_gone_is_told(run):
  with pytest.raises(
    errors.UserError, match=r'no checkpoint of step 2; it has \[4, 10\]'
  ):
    checkpoints.load_variables(run, 2)


def test_a_step_without_variables_is_told(tmp_path):
  (tmp_path / 'checkpoints' / '3' / 'variables').mkdir(parents=True)
  with pytest.raises(errors.UserError, match='3/variables: cannot be read'):
    checkpoints.load_variables(tmp_path)


def test_a_second_restore_after_an_unreadable_step(tmp_path, capsys):
  """The newest is cut: moved aside, and the one before counts as newest."""
  save(tmp_path, [1, 2])
  for path in (tmp_path / 'checkpoints' / '2' / 'variables').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  store = checkpoints.Checkpoints(tmp_path)
  step, variables, _, _, data = store.restore(*empty())
  assert step == 1 and data == {'batches': 8}
  assert float(variables['params']['w'][0, 0]) == 1.0
  assert store.steps() == [1]
  store.save(2, *state(7), {'batches': 16})  # the place is free again
  store.close()
  again, _ = checkpoints.load_variables(tmp_path, 2)
  assert again['params']['w'][0, 0] == 7.0
  err = capsys.readouterr().err
  assert err.startswith('warning: checkpoint ') and err.count('\n') == 1


def test_config_of_a_run(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'model': {'x': [1]}}))
  assert checkpoints.run_config(tmp_path) == {'model': {'x': [1]}}


@pytest.mark.parametrize(
  'text', [None, b'', b'{"model": ', b'[]', b'"x"', b'\xff\x00\x80', bytes(9)]
)
def test_a_broken_config_is_told(tmp_path, text):
  if text is not None:
    (tmp_path / 'config.json').write_bytes(text)
  with pytest.raises(errors.UserError, match='config.json: cannot be read'):
    checkpoints.run_config(tmp_path)


def test_the_newest_and_the_best_are_kept(tmp_path):
  losses = {1: 5.0, 2: 1.0, 3: float('nan'), 4: 3.0, 5: 2.0, 6: None}

  def store():
    return checkpoints.Checkpoints(tmp_path, keep=2, best='loss')

  held = store()
  for step, loss in losses.items():
    line = None if loss is None else {'loss': loss, 'other': 0.0}
    held.save(step, *state(step), {}, metrics=line)
    if step == 3:  # what is best is on disk, not in memory
      held.close()
      held = store()
  held.close()
  assert checkpoints.all_steps(tmp_path) == [2, 5, 6]
  most = checkpoints.Checkpoints(
    tmp_path / 'most', keep=1, best='loss', best_is='max'
  )
  for step in (1, 2, 4):
    most.save(step, *state(step), {}, metrics={'loss': losses[step]})
  most.close()
  assert checkpoints.all_steps(tmp_path / 'most') == [1, 4]


@pytest.mark.parametrize('best_is', ['min', 'max'])
def test_another_best_does_not_ask_old_steps(tmp_path, best_is):
  """Steps that were judged by another metric, or by none, are no best."""
  bests = ('loss', '', 'other', 'other', 'other')
  for step, best in enumerate(bests, start=1):
    store = checkpoints.Checkpoints(
      tmp_path, keep=2, best=best, best_is=best_is
    )
    value = {'loss': 1.0, 'other': 1.0 if step == 3 else 2.0}
    store.save(step, *state(step), {}, metrics=value)
    store.close()
  wanted = [3, 4, 5] if best_is == 'min' else [4, 5]
  assert checkpoints.all_steps(tmp_path) == wanted


def test_a_metric_that_is_not_there_is_told(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, best='los')
  with pytest.raises(errors.UserError, match=r"best is 'los', .*'loss'"):
    store.save(1, *state(1), {}, metrics={'loss': 1.0})
  store.close()


def test_the_mean_of_the_parameters_is_an_item_of_its_own(tmp_path):
  store = checkpoints.Checkpoints(tmp_path)
  variables, optimizer = state(3)
  mean = jax.tree.map(lambda x: x / 2, variables['params'])
  store.save(3, variables, optimizer, {}, ema=mean)
  store.save(4, *state(4), {})
  store.close()
  store = checkpoints.Checkpoints(tmp_path)
  shapes = jax.tree.map(jnp.zeros_like, (variables, optimizer, mean))
  with pytest.raises(errors.UserError, match='none of the checkpoints'):
    # Step 4 has none, and step 3 is cut below.
    (tmp_path / 'checkpoints' / '3' / 'ema' / '_METADATA').write_text('{')
    store.restore(*shapes)
  store.close()
  assert checkpoints.all_steps(tmp_path) == [3, 4]  # nothing was moved


def test_the_mean_is_loaded_in_place_of_the_parameters(tmp_path):
  store = checkpoints.Checkpoints(tmp_path)
  variables, optimizer = state(3)
  mean = jax.tree.map(lambda x: x / 2, variables['params'])
  store.save(3, variables, optimizer, {}, ema=mean)
  store.save(4, *state(4), {})
  store.close()
  loaded, step = checkpoints.load_variables(tmp_path, 3, ema=True)
  assert step == 3
  jax.tree.map(np.testing.assert_array_equal, loaded['params'], mean)
  assert type(loaded['params']['w']) is np.ndarray
  np.testing.assert_array_equal(loaded['codebook']['counts'], [3] * 5)
  plain, _ = checkpoints.load_variables(tmp_path, 3)
  jax.tree.map(np.testing.assert_array_equal, plain, variables)
  with pytest.raises(errors.UserError, match='4: has no mean of the param'):
    checkpoints.load_variables(tmp_path, ema=True)


def test_half_written_steps_of_a_kill_are_cleared(tmp_path):
  save(tmp_path, [2])
  left = tmp_path / 'checkpoints' / '4.orbax-checkpoint-tmp'
  (left / 'variables').mkdir(parents=True)
  (left / 'variables' / 'part').write_bytes(bytes(100))
  store = checkpoints.Checkpoints(tmp_path)
  store.save(6, *state(6), {})  # waits until it is clear
  store.close()
  names = {p.name for p in (tmp_path / 'checkpoints').iterdir()}
  assert names == {'2', '6'}


def test_a_save_that_fails_in_the_background_is_raised(tmp_path, monkeypatch):
  save(tmp_path, [1])
  store = checkpoints.Checkpoints(tmp_path)
  store.check()

  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  # What the thread in the background calls last, to put the step in place.
  monkeypatch.setattr(async_checkpointer, '_on_commit_callback', full)
  store.save(2, *state(2), {})
  with pytest.raises(errors.UserError, match='2 .*No space left .*room in it'):
    for _ in range(1000):
      store.check()
      time.sleep(0.01)
  assert checkpoints.all_steps(tmp_path) == [1]
