"""A run whose rows and directory lie in a bucket is the run on a disk."""

import json

import jax
import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.storage import files
from step_audio_jax.storage.clients import failures
from step_audio_jax.training.checkpoints import checkpoints
from tests import stores
from tests.training import toy_rows


def train(gin_file, run_dir, *more):
  door = ['step_audio_jax', 'train', f'--gin_file={gin_file}']
  return cli.dispatch(
    'step_audio_jax',
    doors.DOORS,
    [*door, f"--gin.RUN_DIR='{run_dir}'", *more],
  )


@pytest.fixture(scope='module')
def here(tmp_path_factory):
  """Rows, a gin file and a finished run on this machine."""
  folder = tmp_path_factory.mktemp('run')
  toy_rows.write_source(folder / 'rows', 'a', 9)
  (folder / 'tiny.gin').write_text(toy_rows.gin_text(folder / 'rows'))
  assert train(folder / 'tiny.gin', folder / 'first') == 0
  return folder


@pytest.fixture(params=['gs', 's3'])
def root(request, bucket_servers, monkeypatch):
  name = request.node.name.partition('[')[0]
  with stores.folder(request.param, bucket_servers, name, monkeypatch) as one:
    yield one


def lines(run):
  text = files.read_text(run / 'metrics.jsonl')
  return [
    {
      name: value
      for name, value in json.loads(line).items()
      if not name.startswith(('throughput', 'store'))
    }
    for line in text.splitlines()
  ]


def test_rows_and_run_in_a_bucket(here, root, monkeypatch, capsys):
  stores.upload(here / 'rows', root / 'rows')
  gin = root / 'tiny.gin'
  files.write_bytes(gin, toy_rows.gin_text(root / 'rows').encode())
  run = root / 'runs/first'
  monkeypatch.setattr(failures, '_COUNTS', type(failures._COUNTS)())
  assert train(gin, run) == 0
  first = here / 'first'
  assert lines(run) == lines(first)
  one, two = (checkpoints.load_variables(r)[0] for r in (run, first))
  jax.tree.map(np.testing.assert_array_equal, one, two)
  names = {p.relative_to(run).parts[0] for p in files.list_files(run)}
  assert names == {path.name for path in first.iterdir()} - {'.lock'}
  assert list(files.glob(run, 'tensorboard/events*'))
  told = [files.read_json(r / 'sources.json') for r in (run, first)]
  assert told[0] == told[1]
  last = json.loads(files.read_text(run / 'metrics.jsonl').splitlines()[-1])
  assert last['store/requests'] > 10 and 'store/bytes_read' in last
  assert train(gin, run) == 0  # is over: says so and does nothing
  assert capsys.readouterr().err.count('Traceback') == 0
