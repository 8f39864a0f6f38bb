"""The `train` door, through gin files, as a user opens it."""

import json
import pathlib
import re

import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints
from tests.training import toy_rows


@pytest.fixture(scope='module')
def gin_file(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  toy_rows.write_source(folder / 'rows', 'a', 9)
  path = folder / 'tiny.gin'
  path.write_text(toy_rows.gin_text(folder / 'rows'))
  return path


def train(gin_file, run_dir, *more):
  return cli.dispatch(
    'step_audio_jax',
    doors.DOORS,
    [
      'step_audio_jax',
      'train',
      f'--gin_file={gin_file}',
      f"--gin.RUN_DIR='{run_dir}'",
      *more,
    ],
  )


@pytest.fixture(scope='module')
def finished(gin_file, tmp_path_factory):
  run_dir = tmp_path_factory.mktemp('runs') / 'first'
  assert train(gin_file, run_dir) == 0
  return run_dir


def test_a_run_directory_holds_what_the_readme_says(finished):
  config = (finished / 'config.gin').read_text()
  assert str(finished) in config and 'learning_rate = 0.01' in config
  assert 'weight_decay' in (finished / 'operative_config.gin').read_text()
  lines = (finished / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [2, 4]
  assert list((finished / 'tensorboard').glob('events*'))
  assert checkpoints.all_steps(finished) == [4]
  sources = np.load(finished / 'sources.npy')
  assert sources.shape == (32,) and (sources == 0).all()
  facts = json.loads((finished / 'sources.json').read_text())
  assert facts['names'] == ['a'] and facts['shares'] == ['1']
  assert facts['phases'] == [{'row': 0, 'shares': ['1']}]


def test_the_model_is_rebuilt_from_the_run(finished):
  model, variables, found = restore.load_model(finished)
  assert model.config.transformer.width == 8
  assert variables['params']['transformer']['embedding'].shape == (40, 8)
  assert found == vocabulary.Vocabulary(20, 40, 10, 10)


def test_the_same_command_again_does_nothing(gin_file, finished, capsys):
  before = (finished / 'metrics.jsonl').stat().st_mtime_ns
  assert train(gin_file, finished, '--json') == 0
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result['step'] == 4 and np.isfinite(result['loss'])
  assert (finished / 'metrics.jsonl').stat().st_mtime_ns == before


def test_another_configuration_is_refused(gin_file, finished, capsys):
  change = '--gin.optimizers.OptimizerConfig.learning_rate=0.02'
  assert train(gin_file, finished, change) == 2
  message = capsys.readouterr().err
  assert re.search(r'config.gin: .*another configuration.*0\.01', message)


def test_a_second_process_is_kept_out(gin_file, tmp_path, capsys):
  with files.only_one(tmp_path / 'held'):
    assert train(gin_file, tmp_path / 'held') == 2
  assert 'another process is writing here' in capsys.readouterr().err


def test_epochs_are_told_and_many_are_warned_of(gin_file, tmp_path, capsys):
  few = ['--dry_run', '--json', '--gin.run.train.most_epochs=3']
  assert train(gin_file, tmp_path / 'none', *few) == 0
  out = capsys.readouterr()
  told = json.loads(out.out.splitlines()[-1])
  assert told['epochs'] == {'a': round(32 / 9, 4)}
  assert 'warning: a: 32 rows are drawn from 9, which is 3.6 epochs' in out.err
  assert train(gin_file, tmp_path / 'none', '--dry_run') == 0
  assert 'warning' not in capsys.readouterr().err


def test_a_curriculum_of_gin_is_in_the_record_of_the_run(tmp_path, capsys):
  for name, count in (('a', 9), ('b', 5)):
    toy_rows.write_source(tmp_path / 'rows', name, count)
  path = tmp_path / 'tiny.gin'
  path.write_text(toy_rows.gin_text(tmp_path / 'rows'))
  ratios = "--gin.RATIOS=[(0, {'a': 1}), (3, {'a': 1, 'b': 1})]"
  assert train(path, tmp_path / 'run', ratios) == 0
  sources = np.load(tmp_path / 'run' / 'sources.npy')
  assert not sources[:24].any() and sources[24:].sum() == 4
  record = json.loads((tmp_path / 'run' / 'sources.json').read_text())
  assert record['phases'] == [
    {'row': 0, 'shares': ['1', '0']},
    {'row': 24, 'shares': ['1/2', '1/2']},
  ]
  config = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert config['feed']['phases'] == record['phases']
  assert config['epochs'] == {'a': round(28 / 9, 4), 'b': 0.8}
  # Another curriculum is another configuration.
  other = "--gin.RATIOS=[(0, {'a': 1}), (2, {'a': 1, 'b': 1})]"
  assert train(path, tmp_path / 'run', other) == 2
  assert 'another configuration' in capsys.readouterr().err


def test_dry_run_writes_nothing(gin_file, tmp_path, capsys):
  assert train(gin_file, tmp_path / 'new', '--dry_run') == 0
  out = capsys.readouterr().out
  assert 'would train' in out and not (tmp_path / 'new').exists()


def test_a_grown_vocabulary_starts_from_the_small_one(
  gin_file, finished, tmp_path
):
  bigger = tmp_path / 'bigger'
  assert (
    train(
      gin_file,
      bigger,
      f"--gin.INIT_FROM=['{finished}']",
      '--gin.VOCAB=47',
      '--gin.CODES=17',
      '--gin.optimizers.OptimizerConfig.learning_rate=1e-9',
    )
    == 0
  )
  old = checkpoints.load_variables(finished)[0]['params']['transformer']
  new = checkpoints.load_variables(bigger)[0]['params']['transformer']
  np.testing.assert_allclose(new['head'][:40], old['head'], atol=1e-6)
  assert new['head'].shape == (47, 8)


@pytest.mark.parametrize(
  'more, words',
  [
    (["--gin.RATIOS={'a': 1, 'b': 1}"], "names the task 'b'"),
    (["--gin.INIT_FROM=['nowhere']"], 'nowhere: no finished checkpoint'),
    (['--gin.VOCAB=30'], 'vocab_size is 30, expected 40'),
    (['--gin.WIDHT=9'], 'nothing reads the macro WIDHT'),
    (['--gin.WIDTH=9'], 'width 9 is no multiple of heads'),
  ],
)
def test_bad_input_is_one_sentence_and_status_2(
  gin_file, tmp_path, capsys, more, words
):
  assert train(gin_file, tmp_path / 'bad', *more) == 2
  message = capsys.readouterr().err.strip().splitlines()
  assert words in message[-1] and message[-1].startswith('error: ')


def test_a_run_that_is_no_language_model_is_named(finished, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'steps': 3}))
  with pytest.raises(ValueError, match='expected the run of a language model'):
    restore.load_model(tmp_path)
  with pytest.raises(ValueError, match='expected a run directory'):
    restore.load_model(pathlib.Path(tmp_path) / 'none')
