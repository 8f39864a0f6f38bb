"""Checkpoints in buckets are those on a disk, and a kill leaves whole ones."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.checkpoints import sums
from tests.training.checkpoints.test_checkpoints import empty
from tests.training.checkpoints.test_checkpoints import save
from tests.training.checkpoints.test_checkpoints import state

SAVER = """
import sys
from tests.training.checkpoints.test_checkpoints import state
from step_audio_jax.training.checkpoints import checkpoints
store = checkpoints.Checkpoints(sys.argv[1], keep=2)
steps = store.steps()
print('open', steps, flush=True)
for step in range((steps or [0])[-1] + 1, 10**6):
  store.save(step, *state(step), {'batches': step * 8})
"""


def restored(run):
  store = checkpoints.Checkpoints(run)
  step, variables, slots, _, data = store.restore(*empty())
  store.close()
  assert data == {'batches': step * 8}
  jax.tree.map(np.testing.assert_array_equal, (variables, slots), state(step))
  return step


def test_what_is_saved_is_restored(root, tmp_path, capsys):
  save(root, [2, 4, 10])
  assert checkpoints.all_steps(root) == [4, 10]
  assert restored(root) == 10
  for load in (checkpoints.load_variables, stored.open_variables):
    variables, step = load(root, 4)
    assert step == 4
    jax.tree.map(
      lambda a, b: np.testing.assert_array_equal(np.asarray(a), b),
      variables,
      state(4)[0],
    )
  assert not list(checkpoints.half_written(root / 'checkpoints'))
  assert capsys.readouterr().err == ''


def test_a_checkpoint_moves_between_a_bucket_and_a_disk(root, tmp_path):
  save(root / 'a', [3])
  files.move(root / 'a/checkpoints', tmp_path / 'checkpoints')
  assert restored(tmp_path) == 3
  save(tmp_path, [5])
  files.move(tmp_path / 'checkpoints/5', root / 'b/checkpoints/5')
  assert restored(root / 'b') == 5


def test_changed_and_lost_objects_are_found(root, capsys):
  save(root, [1, 2, 3], keep=3)
  folder = root / 'checkpoints'
  found = sorted(files.list_files(folder / '3/variables'))
  big = max(found, key=files.size)
  content = files.read_bytes(big)
  files.write_bytes(big, content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(errors.UserError, match='not the bytes that were saved'):
    sums.check(folder / '3')
  files.remove(max(files.list_files(folder / '2/variables'), key=files.size))
  with pytest.raises(errors.UserError):
    sums.check(folder / '2')
  assert restored(root) == 1
  told = capsys.readouterr().err
  assert 'checkpoints/3 cannot be read' in told and 'moved to' in told
  assert checkpoints.all_steps(root) == [1]


def test_a_step_without_its_commit_is_no_step(root):
  save(root, [1, 2])
  files.remove(root / 'checkpoints/2/commit_success.txt')
  assert checkpoints.all_steps(root) == [1]
  half = list(checkpoints.half_written(root / 'checkpoints'))
  assert half == [root / 'checkpoints/2']
  assert restored(root) == 1
  assert not files.exists(root / 'checkpoints/2')


def test_kills_while_saving_leave_whole_checkpoints(root):
  if root.scheme == 's3':
    pytest.skip('the same code; one store is enough for kills')
  newest = 0
  for round_ in range(3):
    process = subprocess.Popen(
      [sys.executable, '-c', SAVER, str(root)],
      stdout=subprocess.PIPE,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )
    assert process.stdout.readline().startswith(b'open')
    deadline = time.monotonic() + 60
    while max(checkpoints.steps_of(root), default=0) < newest + 2:
      assert time.monotonic() < deadline
      time.sleep(0.05)
    time.sleep(0.037 * round_)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = restored(root)
    assert step >= newest
    newest = step
  assert newest > 2
