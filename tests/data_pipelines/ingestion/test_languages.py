"""The language of a line, however its corpus names it."""

import json

import pytest

from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from tests.data_pipelines.readers import trees


def of_rows(tmp_path, format, rows):
  """The corpus that rows of JSON lines become, and what ingest says."""
  trees.put(tmp_path / 'in' / 'a.wav', trees.tone(0.5))
  path = trees.put(tmp_path / 'in' / 'manifest.jsonl', rows)
  result = ingest.ingest(
    path,
    tmp_path / 'out',
    format=format,
    rules=admission.Rules(language='French'),
  )
  return manifest.read(tmp_path / 'out'), result


def spoken(**said):
  return {'audio_filepath': 'a.wav', 'duration': 0.5, 'text': 'x', **said}


@pytest.mark.parametrize(
  'said, language',
  [
    ({'lang': 'zh_CN'}, 'zh'),
    ({'language': 'Chinese'}, 'zh'),
    ({'source_lang': 'ja_jp'}, 'ja'),
    ({'source_lang': 'en', 'target_lang': 'de-DE'}, 'de'),  # of the text
    ({'lang': ''}, 'fr'),
    ({}, 'fr'),
    ({'lang': 'klang'}, 'klang'),
  ],
)
def test_nemo(tmp_path, said, language):
  (line,), result = of_rows(tmp_path, 'nemo', [spoken(**said)])
  assert line.language == language and result['languages'] == {language: 1}
  notes = ' '.join(result.get('notes', ()))
  assert ('in no registry' in notes) == (language == 'klang')
  assert ("'en > de'" in notes) == (language == 'de')


@pytest.mark.parametrize(
  'said, language',
  [
    ({'locale': 'zh-TW'}, 'zh'),
    ({'lang_code': 'cmn_hans_cn'}, 'zh'),
    ({'target_lang': 'th', 'source_lang': 'en'}, 'th'),
    ({'source_lang': 'yue'}, 'yue'),
  ],
)
def test_columns(tmp_path, said, language):
  (line,), _ = of_rows(tmp_path, 'text_jsonl', [{'text': 'x', **said}])
  assert line.language == language


def test_a_language_that_is_no_text_costs_its_line(tmp_path):
  rows = [
    spoken(id=n, lang=lang)
    for n, lang in (('a', 3), ('b', ['en']), ('c', 'en'))
  ]
  _, result = of_rows(tmp_path, 'nemo', rows)
  assert (result['kept'], result['quarantined']) == (1, 2)
  first, _ = (tmp_path / 'out/quarantine.jsonl').read_text().splitlines()
  assert json.loads(first)['reason'] == 'language: found 3, expected a string.'


def test_the_door_tells_of_tags_that_cannot_be_believed(tmp_path, capsys):
  trees.put(tmp_path / 'in' / 'a.wav', trees.tone(0.5))
  rows = [
    spoken(id=f'{n}', text=text, lang=lang)
    for n, (text, lang) in enumerate(
      [('a cat', 'en'), ('今天天气', 'en'), ('今天天气', 'cn'), ('今天', 'zh')]
    )
  ]
  path = trees.put(tmp_path / 'in' / 'manifest.jsonl', rows)
  words = ['--format=nemo', f'--source={path}', f'--output={tmp_path / "out"}']
  assert cli.run('ingest', ingest.DOOR, [*words, '--dry_run']) == 0
  dry = capsys.readouterr().err
  assert cli.run('ingest', ingest.DOOR, words) == 0
  told = capsys.readouterr().err
  notes = [x for x in told.splitlines() if x.startswith('note: ')]
  assert len(notes) == 2 and notes == [
    x for x in dry.splitlines() if x.startswith('note: ')
  ]
  assert "the tag 'cn' (1 line) is in no registry" in notes[0]
  assert "the tag 'en' (1 line) is not of the script" in notes[1]
  saved = json.loads((tmp_path / 'out' / 'stats.json').read_text())
  assert saved['languages'] == {'cn': 1, 'en': 2, 'zh': 1}
  assert len(saved['notes']) == 2
