"""A failed save is told in one sentence; others' errors stay visible."""

import logging
import pathlib
import subprocess
import sys
import threading
import types

import pytest

from step_audio_jax.training.checkpoints import failed_saves

ROOT = pathlib.Path(failed_saves.__file__).parents[3]
# Saves under a limit of the file size, as on a disk that fills up.
SAVE = """
import resource, sys
import numpy as np
from absl import logging
from step_audio_jax.commands import console
from step_audio_jax import errors
from step_audio_jax.training.checkpoints import checkpoints
logging.set_verbosity(logging.ERROR)
def work():
  keeper = checkpoints.Checkpoints(sys.argv[1])
  rng = np.random.default_rng(0)
  tree = {'params': {str(k): rng.normal(size=9000) for k in range(20)}}
  resource.setrlimit(resource.RLIMIT_FSIZE, (50000, resource.RLIM_INFINITY))
  try:
    keeper.save(1, tree, tree, {'step': 1})
    keeper.close()
  except errors.UserError as error:
    print('error:', error, file=sys.stderr)
    return 2
  return 0
sys.exit(console.call('save', work))
"""


def test_a_full_disk_is_told_once_and_leaves_nothing(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', SAVE, str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith(
    f'error: {tmp_path}/checkpoints: a checkpoint could not be written, 1 or'
  )
  assert done.stderr.count('\n') == 1
  assert [p.name for p in tmp_path.rglob('*')] == ['checkpoints']


@pytest.fixture
def hooks(monkeypatch):
  seen = []
  monkeypatch.setattr(threading, 'excepthook', seen.append)
  monkeypatch.setattr(sys, 'unraisablehook', seen.append)
  failed_saves.silence_repeats()
  failed_saves.silence_repeats()
  yield seen


def test_exceptions_of_others_are_shown(hooks):
  for error in (ValueError('mine'), RuntimeError('mine'), None):
    args = types.SimpleNamespace(exc_value=error)
    threading.excepthook(args)
    sys.unraisablehook(args)
    assert hooks == [args, args]
    hooks.clear()
  closed = types.SimpleNamespace(exc_value=RuntimeError('Event loop is closed'))
  sys.unraisablehook(closed)
  assert hooks == []


def test_what_others_log_is_shown(hooks):
  def record(name, path, message, error):
    info = (type(error), error, None) if error else None
    return logging.LogRecord(
      name, logging.ERROR, path, 1, message, (), info
    )  # fmt: skip

  (ours,) = [
    one
    for one in logging.getLogger('absl').filters
    if one is failed_saves._is_no_echo
  ]
  failed = ValueError('full')
  assert not ours(record('absl', '/x/orbax/a.py', 'failed', failed))
  assert ours(record('absl', '/x/orbax/a.py', 'odd', None))
  assert ours(record('absl', '/x/mine/a.py', 'failed', failed))
  assert not ours(record('asyncio', '/x/asyncio/a.py', 'in orbax', failed))
  assert ours(record('asyncio', '/x/asyncio/a.py', 'Task', failed))
