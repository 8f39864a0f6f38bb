"""Looking at rows, codes and corpora."""

import json

import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines import build
from data_pipelines import definitions
from data_pipelines import inspect
from data_pipelines import inspect_page
from data_pipelines import inspect_rows
from step_audio_jax import cli
from step_audio_jax import files
from step_audio_jax import manifest


@pytest.fixture
def call(capsys):
  def go(*flags):
    argv = ['data_pipelines', 'inspect', '--json', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    if status:
      return status, out.err
    return status, json.loads(out.out.splitlines()[-1])

  return go


@pytest.fixture(scope='module')
def folder(made, tmp_path_factory):
  output = tmp_path_factory.mktemp('shown')
  tasks = {
    task.name: task
    for task in definitions.speech(
      'shown', made / 'speech', made / 'codes', made / 'text.model'
    )
    if task.name == 'shown_tts'
  }
  build.build(tasks, ['train'], output, build.Settings(200))
  return output / 'shown_tts' / 'train'


def test_a_row_is_shown_as_people_read_it(folder, made, call):
  told = {u.id: u for u in manifest.read(made / 'speech')}
  status, shown = call(f'--path={folder}', '--row=1')
  assert status == 0 and shown['row'] == 1
  for document in shown['documents']:
    text = told[document['id']].text
    assert document['text'].startswith(
      f'<s> <|TTS|> <text_start> {text!r} <audio_start> ['
    )
    assert document['text'].endswith(' …] <|EOT|>')
    assert document['loss_tokens'] == document['tokens'] - 3
  status, said = call(f'--path={folder}', '--row=999')
  assert status == 2 and '--row: found 999, expected 0..' in said


def test_everything_verifies(folder, made, call):
  for path, kind in (
    (folder, 'rows'),
    (made / 'codes', 'codes'),
    (made / 'speech', 'corpus'),
    (made / 'images', 'corpus'),
  ):
    status, told = call(f'--path={path}', '--verify')
    assert (status, told['kind'], told['faults']) == (0, kind, 0)
    assert told['checked'] and all(told['checked'].values())
    assert call(f'--path={path}', '--dry_run')[1]['kind'] == kind


def test_a_page_shows_rows_with_sound_and_mask(folder, made, tmp_path, call):
  page = tmp_path / 'rows.html'
  status, told = call(f'--path={folder}', f'--html={page}', '--rows=2')
  assert status == 0 and told['rows'] == 2
  assert told['documents'] == told['players'] > 2
  text = page.read_text(encoding='utf-8')
  assert text.count('<audio') == told['players'] == text.count('data:audio')
  for word in ('linguistic', 'semantic', 'learnt', 'loss weight 1'):
    assert word in text
  assert 'src="http' not in text and '<script src' not in text
  # Without its corpus the page says so, and still shows the rows.
  status, told = call(
    f'--path={folder}', f'--html={page}', f'--corpus={tmp_path}/gone'
  )
  assert status == 0 and told['players'] == 0
  assert 'is not here' in page.read_text(encoding='utf-8')
  status, said = call(f'--path={made}/codes', f'--html={page}')
  assert status == 2 and 'holds codes, expected rows' in said


def test_a_page_escapes_what_the_corpus_says(tmp_path):
  table = inspect.vocabulary.Vocabulary()
  segment = inspect_rows.Segment(
    '<b>id</b>', 0, np.array([1, 90, 3]), np.ones(3), np.zeros((0, 1, 1, 3))
  )
  recordings = inspect_page.Recordings(None)
  text = inspect_page._segment(1, segment, table, recordings, [])
  assert '<b>id' not in text and '&lt;b&gt;id' in text


def test_shares_of_a_stage_over_built_rows(folder, call):
  root = folder.parents[1]
  status, told = call(
    '--schedule', f'--path={root}', '--prefix=shown_',
    '--ratios={"tts": 1}', '--window=5:25', '--budget=20000',
  )  # fmt: skip
  assert status == 0, told
  (line,) = told['sources']
  assert (line['rows'], line['tokens']) == (20, 4000)
  assert line['requested'] == line['realised'] == 1
  rows = files.read_json(folder / 'stats.json')['rows']
  assert line['stored_rows'] == rows
  assert line['budget_epochs'] == pytest.approx(100 / rows)
  (sentence,) = told['warnings']
  assert 'tts: 100 rows are drawn from' in sentence
  for flags, said in (
    (['--ratios={"tts": 1}', '--window=9:3'], '--window'),
    (['--ratios={"asr": 1}'], 'stats.json'),
    (['--ratios=[1]'], '--ratios'),
    ([], '--stage: missing'),
  ):
    status, told = call(
      '--schedule', f'--path={root}', '--prefix=shown_', *flags
    )
    assert status == 2 and said in told


def test_faults_end_with_status_two(corpus, call):
  (corpus / 'speech' / 'wav' / 'dev-00000.wav').unlink()
  status, said = call(f'--path={corpus}/speech', '--verify')
  assert status == 2 and "dev-00000: audio 'wav/dev-00000.wav'" in said
  stats = files.read_json(corpus / 'codes' / 'stats.json')
  files.write_json(corpus / 'codes' / 'stats.json', {**stats, 'kept': 3})
  status, said = call(f'--path={corpus}/codes', '--verify')
  assert status == 2 and 'kept is 3, found 37' in said
  status, said = call(f'--path={corpus}')
  assert status == 2 and 'holds no rows, codes or manifest' in said


def test_codes_and_corpora_are_summed_up(made, call):
  _, shown = call(f'--path={made}/codes')
  assert shown['utterances'] == 37
  assert shown['linguistic']['largest'] < 64
  assert 1 < shown['semantic']['perplexity'] <= shown['semantic']['used']
  _, shown = call(f'--path={made}/speech')
  assert shown['utterances'] == 37 and len(shown['speakers']) > 4


def test_runs_are_shortened():
  table = inspect.vocabulary.Vocabulary()
  shown = inspect.show_tokens([1, 13, 13, 13, 90, 91, 65536, 65537, 3], table)
  assert shown == (
    '<s> <im_patch>x3 2 text [0.05 s of speech: 65536 65537 …] <|EOT|>'
  )
