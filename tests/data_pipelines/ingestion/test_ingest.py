"""From a folder of recordings to a corpus."""

import csv
import json

import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.ingestion import ingesting


@pytest.fixture
def recordings(tmp_path):
  """Two good recordings: 8 kHz mono wav and 44.1 kHz stereo flac."""
  root = tmp_path / 'recordings'
  (root / 'a').mkdir(parents=True)
  rng = np.random.default_rng(0)
  soundfile.write(root / 'a' / 'one.wav', rng.normal(0, 0.1, 8000), 8000)
  soundfile.write(root / 'two.flac', rng.normal(0, 0.1, (44100 * 2, 2)), 44100)
  return root


def table(root, rows, columns=('file', 'text')):
  with open(root / 'metadata.csv', 'w', newline='') as handle:
    writer = csv.writer(handle)
    writer.writerows([columns, *rows])


def test_csv_becomes_a_corpus(recordings, tmp_path):
  table(
    recordings,
    [
      ('a/one.wav', '  the  cat, again ', 'train', 'zoe'),
      ('two.flac', '小猫', 'dev', ''),
    ],
    ('file', 'text', 'split', 'speaker'),
  )
  result = ingesting.ingest_folder(recordings, tmp_path / 'corpus')
  assert (result['read'], result['kept'], result['quarantined']) == (2, 2, 0)
  one, two = manifest.read(tmp_path / 'corpus')
  assert (one.id, one.text, one.split) == ('one', 'the cat, again', 'train')
  assert (one.speaker, two.speaker) == ('zoe', None)
  assert (one.duration, one.sample_rate) == (1.0, 8000)
  assert (two.duration, two.sample_rate) == (2.0, 44100)
  for utterance, source in ((one, 'a/one.wav'), (two, 'two.flac')):
    path = utterance.audio_path(tmp_path / 'corpus')
    assert path.read_bytes() == (recordings / source).read_bytes()


def test_jsonl_with_offsets_and_words(recordings, tmp_path):
  files.write_jsonl(
    recordings / 'metadata.jsonl',
    [
      {'id': 'x', 'file': 'two.flac', 'text': 'a b', 'offset': 0.5,
       'duration': 1, 'words': [['a', 0, 0.2], ['b', 0.2, 0.9]]},
      {'id': 'y', 'file': 'two.flac', 'text': 'c', 'offset': 1.5},
    ],
  )  # fmt: skip
  ingesting.ingest_folder(recordings, tmp_path / 'corpus', copy=True)
  x, y = manifest.read(tmp_path / 'corpus')
  assert (x.offset, x.duration, len(x.words)) == (0.5, 1.0, 2)
  assert (y.offset, y.duration) == (1.5, 0.5)


def test_splits_come_from_the_id_alone():
  splits = [admission.split_of(f'u{k}', 0.1, 0.2) for k in range(3000)]
  assert splits == [admission.split_of(f'u{k}', 0.1, 0.2) for k in range(3000)]
  for split, share in (('dev', 0.1), ('test', 0.2), ('train', 0.7)):
    assert abs(splits.count(split) / 3000 - share) < 0.03
  # A line that was in dev stays out of train when dev grows.
  wider = [admission.split_of(f'u{k}', 0.2, 0.2) for k in range(3000)]
  assert all(b == 'dev' for a, b in zip(splits, wider) if a == 'dev')


def test_bad_lines_are_quarantined(recordings, tmp_path):
  (recordings / 'empty.wav').write_bytes(b'')
  (recordings / 'text.wav').write_text('hello')
  files.write_jsonl(
    recordings / 'metadata.jsonl',
    [
      {'file': 'a/one.wav', 'text': 'fine'},
      {'file': 'a/one.wav', 'text': 'twice'},
      {'file': 'none.wav', 'text': 'a'},
      {'file': 'empty.wav', 'text': 'a'},
      {'file': 'text.wav', 'text': 'a'},
      {'file': '../x.wav', 'text': 'a'},
      {'file': 'two.flac', 'text': ' '},
      {'text': 'a transcript without audio'},
      {'file': 'two.flac', 'text': 'a', 'duration': 9.0},
      {'file': 'two.flac', 'text': 'a', 'offset': 'x'},
      {'file': 'two.flac', 'text': 'a', 'colour': 'red'},
      ['two.flac'],
    ],
  )
  result = ingesting.ingest_folder(recordings, tmp_path / 'corpus')
  assert (result['read'], result['kept'], result['quarantined']) == (12, 1, 11)
  lines = list(files.read_jsonl(tmp_path / 'corpus' / 'quarantine.jsonl'))
  said = {line['line']: line['reason'] for line in lines}
  for line, words in {
    2: 'occurs twice',
    3: 'no such file',
    4: 'the file is empty',
    5: 'not readable as audio',
    6: 'inside the corpus folder',
    7: 'text: missing',
    8: 'file: found None',
    9: 'has only 2.000 s there',
    10: "offset: found 'x'",
    11: 'colour: unknown field',
    12: 'expected a JSON object',
  }.items():
    assert words in said[line], said[line]


def test_what_cannot_start_writes_nothing(recordings, tmp_path):
  output = tmp_path / 'corpus'
  with pytest.raises(errors.UserError, match='found 0 of metadata.csv'):
    ingesting.ingest_folder(recordings, output)
  table(recordings, [('none.wav', 'a')])
  with pytest.raises(errors.UserError, match='none of 1 lines can be used'):
    ingesting.ingest_folder(recordings, output)
  table(recordings, [('a/one.wav', 'a')], ('path', 'text'))
  with pytest.raises(errors.UserError, match='columns path, text; expected'):
    ingesting.ingest_folder(recordings, output)
  (recordings / 'metadata.csv').write_text('file,text\na/one.wav,a, b\n')
  with pytest.raises(errors.UserError, match='csv:2: found 3 cells'):
    ingesting.ingest_folder(recordings, output)
  with pytest.raises(errors.UserError, match='expected shares below 1'):
    ingesting.ingest_folder(recordings, output, dev=0.6, test=0.5)
  assert not output.exists()


def test_the_door(recordings, tmp_path, capsys):
  table(recordings, [('a/one.wav', 'a')])
  flags = [f'--source={recordings}', f'--output={tmp_path}/corpus', '--json']

  def call(*more):
    argv = ['data_pipelines', 'ingest', *flags, *more]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr().out
    return status, json.loads(out.splitlines()[-1]) if out else None

  told = {'dry_run': True, 'read': 1, 'kept': 1, 'quarantined': 0}
  assert call('--dry_run') == (0, told)
  assert not (tmp_path / 'corpus').exists()
  status, result = call('--language=de')
  assert status == 0 and result['languages'] == {'de': 1}
  assert call('--format=kaldi')[0] == 2


def test_a_held_out_speaker_is_heard_only_in_its_own_split(
  recordings, tmp_path
):
  rows = [
    ('a/one.wav', 'a', 'ann', 'train'),
    ('b/three.wav', 'b', 'bob', 'train'),
    ('b/two.wav', 'c', 'bob', 'dev'),
  ]
  for name, *_ in rows:
    path = recordings / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
      path.write_bytes((recordings / 'a/one.wav').read_bytes())
  table(recordings, rows, ('file', 'text', 'speaker', 'split'))
  rules = admission.Rules(held_out_speakers=('bob',))
  ingest.ingest(recordings, tmp_path / 'corpus', rules=rules)
  splits = {u.audio: u.split for u in manifest.read(tmp_path / 'corpus')}
  assert splits == {
    'audio/a/one.wav': 'train',
    'audio/b/three.wav': manifest.UNSEEN_VOICE,
    'audio/b/two.wav': manifest.UNSEEN_VOICE,
  }
  rules = admission.Rules(held_out_speakers=('bop',))
  with pytest.raises(errors.UserError, match=r"'bop'.*\(ann, bob\)"):
    ingest.ingest(recordings, tmp_path / 'other', rules=rules)
  assert not (tmp_path / 'other').exists()
