"""Several processes train one model, as on a pod."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import toy_rows

from step_audio_jax.training import checkpoints
from step_audio_jax.training import transfer

DEVICES = 4


def train(gin_file, run_dir, processes):
  """One run on four devices, shared by `processes`; returns its parameters."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  devices = DEVICES // processes
  environment = os.environ | {
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'
  }
  if processes > 1:
    environment |= {
      'JAX_COORDINATOR_ADDRESS': address,
      'JAX_NUM_PROCESSES': str(processes),
    }
  workers = [
    subprocess.Popen(
      [
        sys.executable,
        '-m',
        'step_audio_jax',
        'train',
        f'--gin_file={gin_file}',
        f'--gin.RUN_DIR={json.dumps(str(run_dir))}',
      ],
      env=environment | {'JAX_PROCESS_ID': str(process)},
      cwd=pathlib.Path(__file__).parents[2],
    )
    for process in range(processes)
  ]
  assert [worker.wait(timeout=300) for worker in workers] == [0] * processes
  return transfer.flatten(checkpoints.load_variables(run_dir)[0])


@pytest.fixture(scope='module')
def gin_file(tmp_path_factory):
  folder = tmp_path_factory.mktemp('processes')
  toy_rows.write_source(folder / 'rows', 'a', 9)
  path = folder / 'tiny.gin'
  path.write_text(toy_rows.gin_text(folder / 'rows'))
  return path


def test_two_processes_train_what_one_does(gin_file, tmp_path):
  one = train(gin_file, tmp_path / 'one', 1)
  two = train(gin_file, tmp_path / 'two', 2)
  assert one.keys() == two.keys()
  for path, value in one.items():
    np.testing.assert_allclose(two[path], value, atol=1e-5, err_msg=path)
  lines = [
    json.loads((tmp_path / run / 'metrics.jsonl').read_text().splitlines()[-1])
    for run in ('one', 'two')
  ]
  assert lines[0]['loss'] == pytest.approx(lines[1]['loss'], abs=1e-5)
  assert lines[0]['rows/a'] == lines[1]['rows/a'] == 32
