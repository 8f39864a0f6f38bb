"""A run of before modules moved goes on, by its own text and by another."""

import json
import shutil

import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.commands import moved
from step_audio_jax.commands import old_names
from step_audio_jax.training import resume
from tests.training import toy_rows

TEXTS = ('config.gin', 'operative_config.gin')


def train(gin_file, run_dir, *more):
  argv = ['step_audio_jax', 'train', f'--gin_file={gin_file}']
  argv += [f"--gin.RUN_DIR='{run_dir}'", *more]
  return cli.dispatch('step_audio_jax', doors.DOORS, argv)


def losses(run):
  lines = (run / 'metrics.jsonl').read_text().splitlines()
  return {line['step']: line['loss'] for line in map(json.loads, lines)}


def as_written_before(text):
  """A gin text with the names that modules had."""
  names = {moved.place(old): old for old in moved.table()}
  for one in old_names.in_gin(text).imports:
    if old := names.get(one.module):
      new = one.renamed(one.module)
      folder, _, last = old.rpartition('.')
      assert new in text and last == one.name
      text = text.replace(new, f'from {folder} import {last}')
  return text


@pytest.fixture(scope='module')
def gin_file(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  toy_rows.write_source(folder / 'rows', 'a', 9)
  text = toy_rows.gin_text(folder / 'rows')
  path = folder / 'tiny.gin'
  path.write_text(f'{text}\nloop.LoopConfig.checkpoint_every = 2\n')
  return path


@pytest.fixture(scope='module')
def whole(gin_file, tmp_path_factory):
  """A run that nothing disturbed."""
  run = tmp_path_factory.mktemp('runs') / 'whole'
  assert train(gin_file, run) == 0
  return run


@pytest.fixture
def old(whole, tmp_path):
  """The same as a kill after step 2 left it, before modules moved."""
  run = tmp_path / 'old'
  shutil.copytree(whole, run)
  (run / 'done.json').unlink()
  shutil.rmtree(run / 'checkpoints' / '4')
  for name in TEXTS:
    text = as_written_before((run / name).read_text())
    assert 'from step_audio_jax.training import objectives' in text
    assert old_names.in_gin(text).faults()
    (run / name).write_text(text)
  return run


@pytest.mark.parametrize(
  'by, record',
  [('its own text', False), ('what it used', True), ('another', False)],
)
def test_an_old_run_goes_on(gin_file, whole, old, by, record):
  if not record:
    (old / resume.NAME).unlink()
  path = {'its own text': old / TEXTS[0], 'what it used': old / TEXTS[1]}
  assert train(path.get(by, gin_file), old) == 0
  assert losses(old) == losses(whole)
  # Its files say today's names, all of them.
  for name in TEXTS:
    assert not old_names.in_gin((old / name).read_text()).faults()


def test_another_configuration_is_still_refused(gin_file, old, capsys):
  (old / resume.NAME).unlink()
  before = {path: path.read_bytes() for path in old.glob('*.*')}
  more = '--gin.optimizers.OptimizerConfig.learning_rate=0.5'
  assert train(gin_file, old, more) == 2
  assert 'learning_rate is 0.5, expected 0.01' in capsys.readouterr().err
  assert {path: path.read_bytes() for path in old.glob('*.*')} == before


def test_a_class_of_another_name_is_the_same_run(gin_file, old, monkeypatch):
  feeds = 'step_audio_jax.training.feeds.feed'
  record = json.loads((old / resume.NAME).read_text())
  record['settings']['feed.class'] = 'RowReader'
  (old / resume.NAME).write_text(json.dumps(record))
  assert train(gin_file, old) == 2
  names = {f'{feeds}.RowReader': f'{feeds}.RowFeed'}
  monkeypatch.setattr(moved, '_NAMES', {**moved._NAMES, **names})
  assert train(gin_file, old) == 0
