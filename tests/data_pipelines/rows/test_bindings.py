"""One folder of rows: one vocabulary, one speech tokenizer."""

import json

import pytest
import seqio

from data_pipelines import __main__ as doors
from data_pipelines.inspection import rows
from data_pipelines.rows import folders as rows_lib
from data_pipelines.tasks import corpora
from data_pipelines.tasks import vocabulary as trainer
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies
from tests.data_pipelines import tiny

ONE, TWO = '1' * 64, '2' * 64


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
  monkeypatch.setattr(bindings, '_said', set())


def forget():
  """A new process would know no task yet."""
  for name in {*corpora.DEFINITIONS}:
    if name.startswith('bound_'):
      seqio.TaskRegistry.remove(name)
      corpora.DEFINITIONS.pop(name)


def made_by(folder, digest):
  """Codes that say which tokenizer made them."""
  path = folder / 'codes/stats.json'
  told = {'tokenizer': 'runs/tokenizer', 'tokenizer_sha256': digest}
  files.write_json(path, {**files.read_json(path), 'digest': digest, **told})


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  root = tiny.make(tmp_path_factory.mktemp('bound') / 'corpus')
  made_by(root, ONE)
  words = ' '.join(tiny.WORDS)
  other = words.replace('d', 'j').replace('g', 'q')  # as many characters
  (root / 'other.model').write_bytes(trainer.train([other]))
  return root


def build(root, output, *words, text_model='text.model'):
  forget()
  return cli.dispatch(
    'data_pipelines',
    doors.DOORS,
    [
      *('data_pipelines', 'build', '--name=bound', '--length=96'),
      f'--text_model={root / text_model}',
      f'--output={output}',
      *words,
    ],
  )


@pytest.fixture(scope='module')
def built(root, tmp_path_factory):
  output = tmp_path_factory.mktemp('rows')
  speech = [f'--speech={root}/speech', f'--codes={root}/codes']
  tasks = '--tasks=bound_asr,bound_text'
  assert build(root, output, *speech, f'--text={root}/text', tasks) == 0
  return output


def stats_of(output, task):
  return files.read_json(output / task / 'train/stats.json')


def test_rows_say_what_their_ids_belong_to(root, built):
  asr, text = (stats_of(built, f'bound_{task}') for task in ('asr', 'text'))
  described = vocabularies.load(text_model=str(root / 'text.model')).describe()
  assert asr['vocabulary'] == text['vocabulary'] == described
  tokenizer = {'folder': 'runs/tokenizer', 'sha256': ONE}
  assert asr['speech_tokenizer'] == tokenizer
  assert 'speech_tokenizer' not in text
  folder = rows_lib.open_folder(built / 'bound_asr/train')
  assert asr['largest_id'] == max(int(r['tokens'].max()) for r, _ in folder)
  assert asr['largest_id'] >= described['text_size']


def test_another_text_model_does_not_join_the_folder(root, built, capsys):
  text = f'--text={root}/text'
  same = vocabularies.load(text_model=str(root / 'text.model'))
  other = vocabularies.load(text_model=str(root / 'other.model'))
  assert same == other  # sizes alone do not tell
  status = build(root, built, text, text_model='other.model')
  told = capsys.readouterr().err
  assert status == 2 and 'bound_asr' in told
  assert 'text.model' in told and 'other.model' in told and '--output' in told
  assert stats_of(built, 'bound_text')['vocabulary']['text_model'].endswith(
    '/text.model'
  )
  # The way on that the sentence names.
  assert build(root, built / 'else', text, text_model='other.model') == 0


def test_codes_of_a_tokenizer_that_was_trained_again_are_refused(
  root, built, capsys
):
  made_by(root, TWO)  # into the same folder
  try:
    speech = [f'--speech={root}/speech', f'--codes={root}/codes']
    assert build(root, built, *speech, '--tasks=bound_tts') == 2
    told = capsys.readouterr().err
    assert '222222222222' in told and '111111111111' in told
    assert not (built / 'bound_tts').exists()
    # The way on that the sentence names: all of them in one call.
    both = '--tasks=bound_asr,bound_tts'
    assert build(root, built, *speech, both) == 0
    for task in ('asr', 'tts'):
      told = stats_of(built, f'bound_{task}')['speech_tokenizer']
      assert told['sha256'] == TWO
  finally:
    made_by(root, ONE)


def test_inspect_reads_rows_with_their_own_text_model(
  root, built, tmp_path, capsys
):
  stats = stats_of(built, 'bound_text')
  assert rows.table_of(stats, None).text is not None
  with pytest.raises(errors.UserError, match='leave the flag out'):
    rows.table_of(stats, str(root / 'other.model'))
  stats['text_model'] = str(root / 'other.model')
  assert rows.table_of(stats, None).text is None
  assert 'not the text model' in capsys.readouterr().err


def test_a_vocabulary_in_use_is_not_overwritten(root, tmp_path, capsys):
  output = tmp_path / 'text.model'

  def make(corpus, *words):
    return cli.dispatch(
      'data_pipelines',
      doors.DOORS,
      [
        *('data_pipelines', 'vocabulary', f'--corpus={root}/{corpus}'),
        *(f'--output={output}', *words),
      ],
    )

  assert make('text') == 0
  first = output.read_bytes()
  (tmp_path / 'text.json').unlink()
  assert make('text') == 0 and output.read_bytes() == first  # equal content
  capsys.readouterr()
  settings = '--model_type=bpe', '--size=345'
  assert make('text', *settings) == 2
  assert 'another vocabulary' in capsys.readouterr().err
  assert output.read_bytes() == first
  record = json.loads((tmp_path / 'text.json').read_text())
  assert record['model_type'] == 'char'
  assert make('text', *settings, '--overwrite') == 0
  assert output.read_bytes() != first
  # A file that took its place is found out, whatever the record says.
  output.write_bytes(first)
  assert make('text', *settings) == 2
