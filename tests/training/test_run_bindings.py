"""Runs whose rows, sources or text model belong to another vocabulary."""

import json
import shutil

import numpy as np
import pytest

from data_pipelines.tasks import vocabulary as trainer
from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.generation import restore
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies
from step_audio_jax.training import run_bindings
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.feeds import feed
from tests.training import toy_rows

ONE = bindings.tokenizer('runs/one', '1' * 64)
TWO = bindings.tokenizer('runs/two', '2' * 64)
CONTROL = vocabulary.CONTROL_SIZE
TEXT = 'the cat'  # 't' is learnt from both, '#' and '%' from one each


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
  monkeypatch.setattr(bindings, '_said', set())


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Text models of one size but other pieces, and of another size."""
  folder = tmp_path_factory.mktemp('bound')
  for name, texts in (
    ('one', ['the cat#']), ('two', ['the cat%']), ('more', ['%the cat#!']),
  ):  # fmt: skip
    (folder / f'{name}.model').write_bytes(trainer.train(texts))
  text = toy_rows.gin_text(folder / 'rows')
  unused = ('vocabulary.Vocabulary', 'CODES =', 'VOCAB =')
  lines = [x for x in text.splitlines() if not x.startswith(unused)]
  lines = [x for x in lines if '@vocabulary.Vocabulary' not in x]
  text = '\n'.join(lines) + (
    '\nfrom step_audio_jax.tokenizers.text import vocabularies'
    '\nTEXT_MODEL = %gin.REQUIRED\nSPEECH = True\nSPEECH_ROWS = "match"'
    '\nROWS = %gin.REQUIRED'
    '\nvocabularies.load.text_model = %TEXT_MODEL'
    '\nvocabularies.load.speech = %SPEECH'
    '\nvocabulary.table_size.vocabulary = @vocabularies.load()'
    '\nVOCAB = @vocabulary.table_size()'
    '\nobjectives.NextToken.vocabulary = @vocabularies.load()'
    '\nfeed.RowFeed.rows = %ROWS'
    '\nrun.train.speech_rows = %SPEECH_ROWS\n'
  )
  (folder / 'tiny.gin').write_text(text)
  return folder


def rows_of(root, name, model, tokenizer=ONE, tasks=('a',)):
  """Rows that say what they belong to; returns their folder."""
  told = vocabularies.load(text_model=str(root / f'{model}.model')).describe()
  for task in tasks:
    path = toy_rows.write_source(root / name, task, 9) / 'stats.json'
    stats = json.loads(path.read_text())
    stats |= {'vocabulary': told, 'largest_id': 39, 'tokens_by_kind': {}}
    if tokenizer:
      stats |= {'speech_tokenizer': tokenizer}
      stats['tokens_by_kind'] = {'text': 1, 'linguistic': 1}
    files.write_json(path, stats)
  return root / name


def train(root, run, rows, model, **macros):
  macros = {'RUN_DIR': str(run), 'ROWS': str(rows), **macros}
  macros['TEXT_MODEL'] = str(root / f'{model}.model')
  words = [f'--gin.{name}={value!r}' for name, value in macros.items()]
  door = ['step_audio_jax', 'train', f'--gin_file={root}/tiny.gin', *words]
  return cli.dispatch('step_audio_jax', doors.DOORS, door)


@pytest.fixture(scope='module')
def first(root):
  """A finished run over the text model `one`."""
  rows = rows_of(root, 'rows_one', 'one')
  assert train(root, root / 'first', rows, 'one') == 0
  return root / 'first'


def table(run):
  variables, _ = checkpoints.load_variables(run)
  return variables['params']['transformer']['embedding']


def test_a_run_says_what_its_ids_belong_to(root, first):
  config = json.loads((first / 'config.json').read_text())
  described = vocabularies.load(text_model=str(root / 'one.model')).describe()
  assert config['vocabulary'] == described
  assert config['speech_tokenizer'] == ONE
  own = (first / 'tokenizer.model').read_bytes()
  assert own == (root / 'one.model').read_bytes()


def test_rows_of_another_text_model_are_refused_before_training(
  root, first, tmp_path, capsys
):
  # The sizes are equal: they alone would let it pass.
  assert (root / 'one.model').stat().st_size == (
    (root / 'two.model').stat().st_size
  )
  rows = root / 'rows_one'
  assert train(root, tmp_path / 'run', rows, 'two') == 2
  told = capsys.readouterr().err
  assert 'one.model' in told and 'two.model' in told and 'TEXT_MODEL' in told
  assert not (tmp_path / 'run').exists()
  assert train(root, tmp_path / 'run', rows, 'more') == 2
  assert train(root, tmp_path / 'deaf', rows, 'one', SPEECH=False) == 2
  assert 'linguistic_size' in capsys.readouterr().err


def test_tasks_of_one_mixture_must_agree(root, tmp_path):
  def mixed(**other):
    rows_of(tmp_path, 'rows', 'one', tasks=('a',))
    rows_of(tmp_path, 'rows', tasks=('bb',), **{'model': 'one', **other})
    feed.RowFeed(
      rows=str(tmp_path / 'rows'), ratios={'a': 1, 'bb': 1}, batch_size=2
    )

  for name in ('one', 'two', 'more'):
    shutil.copy(root / f'{name}.model', tmp_path)
  mixed()
  mixed(tokenizer=None)
  with pytest.raises(errors.UserError, match=r'bb/train: .*two\.model.*one\.m'):
    mixed(model='two')
  with pytest.raises(errors.UserError, match='runs/two .*runs/one'):
    mixed(tokenizer=TWO)


def test_ids_beyond_the_table_are_refused(root, tmp_path, capsys):
  rows = rows_of(root, 'rows_large', 'one')
  path = rows / 'a/train/stats.json'
  stats = json.loads(path.read_text())
  files.write_json(path, stats | {'largest_id': 10**4})
  assert train(root, tmp_path / 'run', rows, 'one') == 2
  assert 'the id 10000' in capsys.readouterr().err
  # Rows that do not say so are watched batch by batch.
  old = toy_rows.write_source(tmp_path / 'rows', 'a', 9, vocab=9000)
  assert train(root, tmp_path / 'run', old.parents[1], 'one') == 2
  assert 'a row has the id' in capsys.readouterr().err


def test_rows_without_digests_train_and_say_so(root, tmp_path, capsys):
  rows = rows_of(root, 'rows_old', 'one', tokenizer=None)
  path = rows / 'a/train/stats.json'
  stats = json.loads(path.read_text())
  for name in ('pieces_sha256', 'encoder_sha256'):
    del stats['vocabulary'][name]
  files.write_json(path, {**stats, 'text_model': 'old.model'})
  assert train(root, tmp_path / 'run', rows, 'one') == 0
  assert 'cannot be checked' in capsys.readouterr().err
  assert train(root, tmp_path / 'other', rows, 'more') == 2


def test_the_own_copy_outlives_the_file(root, first, tmp_path, capsys):
  own = tmp_path / 'text.model'
  moved = tmp_path / 'moved'
  shutil.copytree(first, moved)
  config = json.loads((moved / 'config.json').read_text())
  config['vocabulary']['text_model'] = str(own)
  files.write_json(moved / 'config.json', config)
  ids = vocabularies.load(text_model=str(root / 'one.model')).encode('cat#')
  for content in (None, (root / 'two.model').read_bytes()):
    if content:
      own.write_bytes(content)
    _, _, found = restore.load_model(moved)
    assert found.encode('cat#') == ids
  assert 'its own copy' in capsys.readouterr().err
  # Without the copy, another file is not taken for it.
  (moved / 'tokenizer.model').unlink()
  with pytest.raises(errors.UserError, match='but this is'):
    restore.load_model(moved)


def test_a_text_model_that_was_written_again_stops_a_resume(
  root, first, tmp_path, capsys
):
  for name in ('rows_one', 'tiny.gin', 'first'):
    copy = shutil.copytree if (root / name).is_dir() else shutil.copy
    copy(root / name, tmp_path / name)
  shutil.copy(root / 'two.model', tmp_path / 'one.model')
  rows = rows_of(tmp_path, 'rows_one', 'one')  # built again as well
  shutil.rmtree(tmp_path / 'first/evaluation', ignore_errors=True)
  status = train(tmp_path, tmp_path / 'first', rows, 'one')
  told = capsys.readouterr().err
  assert status == 2 and 'began with the vocabulary' in told
  assert str(tmp_path / 'first/tokenizer.model') in told


def test_init_from_takes_text_rows_by_piece(root, first, tmp_path, capsys):
  rows = rows_of(root, 'rows_more', 'more')
  run = tmp_path / 'run'
  start = [str(first)]
  still = {'optimizers.OptimizerConfig.learning_rate': 1e-30}
  assert train(root, run, rows, 'more', INIT_FROM=start, **still) == 0
  said = capsys.readouterr().err
  assert 'text rows by their piece' in said and '2 new ones drawn' in said
  old, new = table(first), table(run)
  one = vocabularies.load(text_model=str(root / 'one.model'))
  more = vocabularies.load(text_model=str(root / 'more.model'))
  assert len(new) == len(old) + 2
  for piece in TEXT:
    before, after = one.encode(piece)[-1], more.encode(piece)[-1]
    np.testing.assert_allclose(new[after], old[before], atol=1e-6)
  drawn = new[more.encode('!')[-1]]
  assert np.abs(drawn - old).max(1).min() > 1e-4
  np.testing.assert_allclose(new[:CONTROL], old[:CONTROL], atol=1e-6)
  np.testing.assert_allclose(
    new[more.text_size :], old[one.text_size :], atol=1e-6
  )


def test_init_from_codes_of_another_tokenizer_needs_a_word(
  root, first, tmp_path, capsys
):
  rows = rows_of(root, 'rows_two_codes', 'one', tokenizer=TWO)
  start = {'INIT_FROM': [str(first)]}
  assert train(root, tmp_path / 'run', rows, 'one', **start) == 2
  told = capsys.readouterr().err
  assert 'runs/one' in told and 'runs/two' in told and 'fresh' in told
  assert not (tmp_path / 'run').exists()
  run = tmp_path / 'kept'
  assert train(root, run, rows, 'one', SPEECH_ROWS='keep', **start) == 0
  config = json.loads((run / 'config.json').read_text())
  assert config['speech_tokenizer'] == TWO


@pytest.mark.parametrize('rows', [5120, 4096])
def test_a_flow_is_bound_to_its_codes_as_well(tmp_path, rows):
  described = {'decoder': 'flow', 'model': {'vocabulary': rows}}
  (tmp_path / 'flow/checkpoints').mkdir(parents=True)
  told = {**described, 'speech_tokenizer': ONE}
  files.write_json(tmp_path / 'flow/config.json', told)

  def start(tokenizer, policy='match'):
    return run_bindings.table_starts(
      [tmp_path / 'flow'], described, {'speech_tokenizer': tokenizer}, policy
    )[0]

  assert start(ONE).rows.is_identity() and start(TWO, 'keep').rows.is_identity()
  with pytest.raises(errors.UserError, match='runs/one.*runs/two'):
    start(TWO)
  assert (start(TWO, 'fresh').rows.index == -1).all()
  with pytest.raises(errors.UserError, match='expected one of match, keep'):
    start(ONE, 'drop')


def test_a_run_on_text_alone_passes_its_tokenizer_on(root, first, tmp_path):
  rows = rows_of(root, 'rows_text', 'one', tokenizer=None)
  run = tmp_path / 'run'
  assert train(root, run, rows, 'one', INIT_FROM=[str(first)]) == 0
  config = json.loads((run / 'config.json').read_text())
  assert config['speech_tokenizer'] == ONE
  assert train(root, run, rows, 'one', INIT_FROM=[str(first)]) == 0  # again
  again = json.loads((run / 'config.json').read_text())
  assert again['speech_tokenizer'] == ONE
