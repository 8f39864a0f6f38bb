"""Checkpoints whose bytes changed on disk are told and never loaded."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.checkpoints import sums


def state(step):
  variables = {
    'params': {'w': jnp.full((40, 20), step + 0.5), 'b': jnp.arange(3) + step},
    'codebook': {'counts': jnp.full((5,), step, jnp.int32)},
  }
  mean = jax.tree.map(lambda x: x / 2, variables['params'])
  return variables, {'mu': jnp.full((40, 20), step / 2), 'count': step}, mean


def empty():
  return jax.tree.map(jnp.zeros_like, state(0))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  store = checkpoints.Checkpoints(folder, best='loss')
  for step in (1, 2):
    variables, optimizer, mean = state(step)
    store.save(step, variables, optimizer, {'row': step}, mean, {'loss': 1.0})
  store.close()
  return folder


def names(run):
  folder = run / 'checkpoints' / '2'
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file()
  )


def damaged(content: bytes, how: str) -> bytes:
  middle = len(content) // 2
  if how == 'hole':  # what a disk gives back that lost power
    return content[:middle] + bytes(len(content) - middle)
  return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def copied(run, tmp_path, name, how):
  shutil.copytree(run, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'checkpoints' / '2' / name
  path.write_bytes(damaged(path.read_bytes(), how))
  return path


def restored(folder):
  store = checkpoints.Checkpoints(folder, best='loss')
  try:
    return store.restore(*empty())
  finally:
    store.close()


def test_a_step_has_the_sums_of_all_its_files(run):
  found = sums.read(run / 'checkpoints' / '2')
  assert sorted([*found, sums.NAME]) == names(run)
  items = {name.split('/')[0] for name in found}
  assert {'variables', 'optimizer', 'ema', 'data', 'metrics'} <= items
  assert restored(run)[0] == 2


@pytest.mark.parametrize('how', ['flip', 'hole'])
def test_a_changed_file_is_never_restored(run, tmp_path, capsys, how):
  """Whichever file it is, the step before is taken, and told."""
  for number, name in enumerate(names(run)):
    folder = tmp_path / str(number)
    copied(run, folder, name, how)
    step, variables, optimizer, ema, data = restored(folder)
    assert step == 1 and data == {'row': 1}, name
    jax.tree.map(
      np.testing.assert_array_equal, (variables, optimizer, ema), state(1)
    )
    told = capsys.readouterr().err
    assert told.startswith('warning: checkpoint ') and told.count('\n') == 1
    aside = folder / 'unreadable-checkpoint-2'
    assert (aside / name).exists() and str(aside) in told


@pytest.mark.parametrize('how', ['flip', 'hole'])
def test_a_changed_file_is_never_loaded(run, tmp_path, how):
  for number, name in enumerate(names(run)):
    item = name.split('/')[0]
    if (name, how) == (sums.NAME, 'flip'):
      continue  # the digest of one file alone
    folder = tmp_path / str(number)
    copied(run, folder, name, how)
    for load in (checkpoints.load_variables, stored.open_variables):
      for ema in (False, True):
        unread = {'optimizer', 'data', 'metrics', '' if ema else 'ema'}
        if item in unread:
          assert load(folder, 2, ema)[1] == 2  # nothing of it is read
          continue
        with pytest.raises(errors.UserError) as caught:
          load(folder, 2, ema)
        text = str(caught.value)
        assert 'checkpoints/2' in text and text.count('\n') == 0
        assert load(folder, 1, ema)[1] == 1


def test_a_file_that_is_gone_is_told(run, tmp_path):
  shutil.copytree(run, tmp_path, dirs_exist_ok=True)
  data = next((tmp_path / 'checkpoints' / '2' / 'variables').glob('d/*'))
  data.unlink()
  with pytest.raises(errors.UserError, match=f'{data.name}: no such file'):
    checkpoints.load_variables(tmp_path, 2)


def test_a_step_of_before_the_sums_is_taken_and_told_once(
  run, tmp_path, capsys
):
  shutil.copytree(run, tmp_path, dirs_exist_ok=True)
  (tmp_path / 'checkpoints' / '2' / sums.NAME).unlink()
  assert restored(tmp_path)[0] == 2
  checkpoints.load_variables(tmp_path, 2)
  told = capsys.readouterr().err
  assert told.count('\n') == 1
  assert 'has no sha256.json' in told and 'cannot be checked' in told


def test_what_is_written_slice_by_slice_has_sums_too(tmp_path):
  tree = {'params': {'w': np.arange(600, dtype=np.float32).reshape(20, 30)}}
  stored.write_variables(tmp_path, 3, tree)
  loaded, _ = checkpoints.load_variables(tmp_path)
  np.testing.assert_array_equal(loaded['params']['w'], tree['params']['w'])
  sums.check(tmp_path / 'checkpoints' / '3')
  path = max(
    (tmp_path / 'checkpoints' / '3' / 'variables').glob('d/*'),
    key=lambda path: path.stat().st_size,
  )
  path.write_bytes(damaged(path.read_bytes(), 'flip'))
  with pytest.raises(errors.UserError, match='not the bytes that were saved'):
    stored.open_variables(tmp_path)


def test_processes_share_the_reading(run, tmp_path):
  shutil.copytree(run, tmp_path, dirs_exist_ok=True)
  folder = tmp_path / 'checkpoints' / '2'
  copied(run, tmp_path, 'data/metadata', 'flip')
  failed = []
  for index in range(4):
    try:
      sums.check(folder, part=(index, 4))
    except errors.UserError:
      failed.append(index)
  assert len(failed) == 1


def test_half_a_step_with_sums_is_no_step(run, tmp_path):
  """A kill between the sums and the rename leaves what is cleared."""
  shutil.copytree(run, tmp_path, dirs_exist_ok=True)
  left = tmp_path / 'checkpoints' / '3.orbax-checkpoint-tmp-summed'
  shutil.copytree(tmp_path / 'checkpoints' / '2', left)
  assert checkpoints.all_steps(tmp_path) == [1, 2]
  assert restored(tmp_path)[0] == 2
  assert not pathlib.Path(left).exists()
