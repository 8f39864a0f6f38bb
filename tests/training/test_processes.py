"""Several processes train one model, as on a pod."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.training import kills as kills_lib
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.training import preemption
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.transfer import transfer
from tests.training import toy_regression
from tests.training import toy_rows

ROOT = pathlib.Path(__file__).parents[2]


def environment(processes):
  """That of one of `processes` that share the devices of this process."""
  flags = os.environ['XLA_FLAGS']
  count = jax.device_count()
  assert f'_device_count={count}' in flags
  flags = re.sub(r'(_device_count=)\d+', rf'\g<1>{count // processes}', flags)
  return {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': flags}


def train(gin_file, run_dir, processes):
  """One run on eight devices, shared by `processes`; this one, if it is one."""
  command = [
    'step_audio_jax',
    'train',
    f'--gin_file={gin_file}',
    f'--gin.RUN_DIR={json.dumps(str(run_dir))}',
  ]
  if processes == 1:
    assert cli.dispatch('step_audio_jax', doors.DOORS, command) == 0
    return
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  shared = {
    'JAX_COORDINATOR_ADDRESS': address,
    'JAX_NUM_PROCESSES': str(processes),
  }
  workers = [
    subprocess.Popen(
      [sys.executable, '-m', *command],
      env=os.environ
      | environment(processes)
      | shared
      | {'JAX_PROCESS_ID': str(process)},
      cwd=ROOT,
    )
    for process in range(processes)
  ]
  assert [worker.wait(timeout=300) for worker in workers] == [0] * processes


def log_lines(run_dir):
  text = (run_dir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope='module')
def transformer(tmp_path_factory):
  folder = tmp_path_factory.mktemp('processes')
  toy_rows.write_source(folder / 'rows', 'a', 9)
  path = folder / 'tiny.gin'
  path.write_text(toy_rows.gin_text(folder / 'rows'))
  return path


@pytest.fixture(scope='module')
def regression(tmp_path_factory):
  path = tmp_path_factory.mktemp('processes') / 'toy.gin'
  path.write_text(toy_regression.GIN)
  return path


@pytest.fixture(scope='module')
def calm(regression, tmp_path_factory):
  """The regression in one process, undisturbed."""
  run_dir = tmp_path_factory.mktemp('calm') / 'run'
  train(regression, run_dir, 1)
  return run_dir


def same_run(left, right):
  one, other = (
    transfer.flatten(checkpoints.load_variables(run)[0])
    for run in (left, right)
  )
  assert one.keys() == other.keys()
  for path, value in one.items():
    np.testing.assert_allclose(other[path], value, atol=1e-5, err_msg=path)
  lines = [log_lines(run)[-1] for run in (left, right)]
  assert lines[0]['loss'] == pytest.approx(lines[1]['loss'], abs=1e-5)
  assert lines[0].get('rows/a') == lines[1].get('rows/a')


def test_two_processes_train_what_one_does(transformer, tmp_path):
  train(transformer, tmp_path / 'one', 1)
  train(transformer, tmp_path / 'two', 2)
  same_run(tmp_path / 'one', tmp_path / 'two')
  assert log_lines(tmp_path / 'two')[-1]['rows/a'] == 32


def test_four_processes_train_what_one_does(regression, calm, tmp_path):
  train(regression, tmp_path, 4)
  same_run(calm, tmp_path)


@pytest.mark.parametrize('processes, kills', [(1, 2), (2, 1)])
def test_kills_leave_no_trace(
  regression, calm, tmp_path, monkeypatch, capsys, processes, kills
):
  """SIGKILL at random moments, a SIGTERM, and the bits of an undisturbed run.

  With two processes either dies, and the launcher ends the other.
  """
  monkeypatch.chdir(ROOT)
  for name, value in environment(processes).items():
    monkeypatch.setenv(name, value)
  flags = [
    f'--kills={kills}',
    f'--processes={processes}',
    *([f'--calm={calm}'] if processes == 1 else []),
    f'--output={tmp_path / "kills"}',
    '--',
    f'--gin_file={regression}',
    '--gin.SECONDS=0.05',
  ]
  monkeypatch.setattr(sys, 'argv', ['kills.py', *flags])
  kills_lib.main()
  facts = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert facts['kills'] == kills and facts['steps'] == 40
  assert facts['parameters_bit_equal'] and facts['log_bit_equal']
  assert facts['sigterm_status'] == preemption.EXIT_STATUS
  assert facts['longest_end_seconds'] < 30
