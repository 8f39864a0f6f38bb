"""The same bad rows in every format: each costs itself, with its reason."""

import json
import pathlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pyarrow as pa
from pyarrow import parquet as pq
import pytest

from data_pipelines import __main__ as doors
from data_pipelines import readers
from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested

TONE = trees.tone(0.5)
LONG = 'x' * 10_000_000
# id, text, bytes of the recording (None: there is none), what is said of it.
SPEECH = (
  ('good', 'fine', TONE, None),
  ('empty', '', TONE, 'text: missing'),
  ('blank', ' \t\u3000', TONE, 'text: missing'),
  ('silent', None, TONE, 'text: missing'),
  ('long', LONG, TONE, '10000000 bytes, expected at most 1000000'),
  ('good', 'again', TONE, 'occurs twice'),
  ('absent', 'no audio', None, 'audio'),
  ('words', 'no audio', b'these are words', 'audio'),
  ('short', 'cut', TONE[:-1000], 'cut short'),
  ('last', 'fine', TONE, None),
)


def lhotse(root, rows):
  cuts = []
  for number, (name, text, audio, _) in enumerate(rows):
    if audio is not None:
      trees.put(root / f'{number}.wav', audio)
    cuts.append(cut(name, text, f'{number}.wav'))
  trees.put(root / 'cuts.jsonl', cuts)


def cut(name, text, path, kind='file', **fields):
  supervision = {
    'id': name, 'recording_id': name, 'start': 0.0, 'duration': 0.5,
    'channel': 0, 'text': text, **fields,
  }  # fmt: skip
  recording = trees._recording(name, path, 0.5, kind=kind)
  return {
    'id': f'c-{path}', 'type': 'MonoCut', 'start': 0.0, 'duration': 0.5,
    'channel': 0, 'recording': recording, 'supervisions': [supervision],
  }  # fmt: skip


def lhotse_shar(root, rows):
  cuts, members = [], []
  for number, (name, text, audio, _) in enumerate(rows):
    cuts.append(cut(name, text, number, 'shar'))
    ending = 'nodata' if audio is None else 'wav'
    members.append((f'c-{number}.{ending}', audio or b''))
  trees.put(root / 'cuts.000000.jsonl.gz', cuts)
  trees.tar(root / 'recording.000000.tar', members)


def webdataset(root, rows):
  members = []
  for number, (name, text, audio, _) in enumerate(rows):
    told = json.dumps({'id': name, 'text': text})
    members.append((f'{number:03}.json', told))
    if audio is not None:
      members.append((f'{number:03}.wav', audio))
  trees.tar(root / 'a.tar', members)


def parquet(root, rows):
  table = pa.table(
    {
      'id': [row[0] for row in rows],
      'sentence': [row[1] for row in rows],
      'audio': [row[2] and {'bytes': row[2], 'path': None} for row in rows],
      'path': ['not_an_image.mp3' for _ in rows],
    }
  )
  pq.write_table(table, root / 'train.parquet')


def escaped(lines):
  """JSON lines that may hold halves of surrogate pairs."""
  return ''.join(f'{json.dumps(line)}\n' for line in lines)


@pytest.mark.parametrize('make', [lhotse, lhotse_shar, webdataset, parquet])
def test_bad_rows_of_speech(make, tmp_path):
  (tmp_path / 'in').mkdir()
  make(tmp_path / 'in', SPEECH)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', make.__name__)
  assert [(u.id, u.text) for u in kept.values()] == [
    ('good', 'fine'), ('last', 'fine'),
  ]  # fmt: skip
  reasons = [reason for *_, reason in SPEECH if reason]
  # Where bytes are looked at by the reader, its lines come first.
  assert len(left) == len(reasons)
  found = [one['reason'] for one in left]
  for reason in reasons:
    assert any(reason in one for one in found), (reason, found)
  assert all(len(one) <= 500 for one in found)


@pytest.mark.parametrize(
  'fields, reason',
  [
    ({'start': -0.25}, 'offset: found -0.25'),
    ({'duration': -0.25}, 'duration: found -0.25'),
    ({'duration': 0.75}, 'has only 0.500 s there'),
    ({'start': 0.25}, 'has only 0.250 s there'),
    ({'start': 7.0}, 'lies outside the recording'),
    ({'duration': None}, 'duration: found None, expected a number'),
    ({'start': float('nan')}, 'start: found nan, expected a number'),
    ({'duration': float('inf')}, 'duration: found inf, expected a number'),
    ({'start': 10**400}, 'expected a number'),
    ({'start': True}, 'start: found True'),
    ({'text': ['a']}, "text: found ['a'], expected a string"),
    ({'text': '\udc00'}, 'half of a character'),
    ({'id': None}, 'id: found None'),
    ({'speaker': 1.5}, 'speaker: found 1.5'),
    ({'alignment': {'word': [['a']]}}, 'expected [symbol, start, duration]'),
    ({'alignment': {'word': [['a', 0, 9]]}}, 'words: the last one ends at 9'),
  ],
)
@pytest.mark.parametrize('format', ['lhotse', 'lhotse_shar'])
def test_bad_fields_of_cuts(format, fields, reason, tmp_path):
  source = tmp_path / 'in'
  names = ('good', 'a.wav'), ('bad', 'b.wav')
  if format == 'lhotse':
    for _, path in names:
      trees.put(source / path, TONE)
    cuts = [cut(*names[0][:1], 't', 'a.wav'), cut('bad', 't', 'b.wav')]
  else:
    members = [(f'c-{path}.wav', TONE) for _, path in names]
    trees.tar(source / 'recording.000000.tar', members)
    cuts = [cut(name, 't', path, 'shar') for name, path in names]
  cuts[1]['supervisions'][0].update(fields)
  trees.put(source / 'cuts.000000.jsonl.gz', escaped(cuts))
  kept, (left,) = ingested(source, tmp_path / 'out', format)
  assert list(kept) == ['good']
  assert reason in left['reason'] and left['line'] == 2


JSONL = {
  'text_jsonl': lambda name: {'id': name, 'text': 'café'},
  'image_jsonl': lambda name: {'id': name, 'image': '1.png', 'caption': 'café'},
  'chat_jsonl': lambda name: {
    'id': name,
    'messages': [
      {'role': 'user', 'content': 'café'},
      {'role': 'assistant', 'content': 'oui'},
    ],
  },
  'lhotse': lambda name: cut(name, 'café', '1.wav'),
}


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('format', JSONL)
def test_marks_line_ends_and_encodings(format, mark, end, tmp_path):
  source = tmp_path / 'in'
  trees.put(source / '1.png', trees.png('red'))
  trees.put(source / '1.wav', TONE)
  lines = [
    json.dumps(JSONL[format](f'k{n}'), ensure_ascii=False).encode(code)
    for n, code in enumerate(('utf-8', 'latin-1', 'utf-16', 'utf-8'))
  ]
  lines += [b'{"id": "k4', b'[1]', b'', lines[0]]
  trees.put(source / 'cuts.jsonl', mark + end.encode().join([*lines, b'']))
  kept, left = ingested(source, tmp_path / 'out', format)
  assert list(kept) == ['k0', 'k3'] and len(left) == 5
  said = {line['line']: line['reason'] for line in left}
  assert 'not UTF-8' in said[2] and 'not UTF-8' in said[3]
  assert 'not a JSON line' in said[5] and 'expected a JSON object' in said[6]
  assert 'occurs twice' in said[8]
  for one in kept.values():
    assert 'café' in (one.text, one.turns and one.turns[0]['text'])


def spoken_chat(name):
  part = {'type': 'audio', 'audio': '1.wav'}
  inline = {'type': 'input_audio', 'input_audio': {'data': 'UklGRg=='}}
  return {
    'id': name, 'language': 'fr', 'split': 'dev', 'system': 'be brief',
    'messages': [
      {'role': 'user', 'content': [part]},
      {'role': 'assistant', 'content': 'oui', 'audio': '1.wav'},
      {'role': 'user', 'content': [inline]},
      {'role': 'assistant', 'content': [{'type': 'text', 'text': 'non'}]},
    ],
  }  # fmt: skip


def stereo_cut(name):
  value = cut(name, 'a b', '1.wav', language='French', speaker='s')
  words = [['a', 0.0, 0.1, 0.5], {'symbol': 'b', 'start': 0.1, 'duration': 0.1}]
  value['supervisions'][0]['alignment'] = {'word': words}
  value['recording']['sources'][0]['channels'] = [0, 1]
  return value


@pytest.mark.parametrize(
  'format, make',
  [
    ('text_jsonl', JSONL['text_jsonl']),
    ('image_jsonl', JSONL['image_jsonl']),
    ('chat_jsonl', spoken_chat),
    ('lhotse', stereo_cut),
    ('lhotse_shar', stereo_cut),
  ],
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_in_any_place_costs_that_line_alone(
  format, make, tmp_path_factory, data
):
  source = tmp_path_factory.getbasetemp() / f'any_{format}'
  if not source.exists():
    trees.put(source / '1.wav', trees.tone(0.5, channels=2))
    trees.put(source / '1.png', trees.png('red'))
    names = ('c-1.wav.wav', 'c-good.wav')
    trees.tar(source / 'recording.tar', [(name, TONE) for name in names])
  value = make('bad')
  place = data.draw(st.sampled_from(list(ingesting.places(value))))
  good = make('good')
  if 'supervisions' in good:
    good['id'] = 'c-good'
  lines = [ingesting.put_at(value, place, data.draw(ingesting.ANY)), good]
  trees.put(source / 'cuts.jsonl', escaped(lines))
  kept = []
  for one in readers.READERS[format].read(source, base.Options()):
    assert isinstance(one, (base.Item, base.Rejected))
    if isinstance(one, base.Item):
      try:
        kept.append(admission.admit(one, admission.Rules()).id)
      except errors.UserError as error:
        assert len(str(error)) > 10
  assert 'good' in kept


@pytest.mark.parametrize('name', trees.TREES)
def test_through_the_door(name, tmp_path, capsys):
  (tmp_path / 'in').mkdir()
  source, expected = trees.TREES[name](tmp_path / 'in')
  argv = ['data_pipelines', 'ingest', '--json', f'--format={name}']
  argv += [f'--source={source}', f'--output={tmp_path}/out']
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  told = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert (told['read'], told['kept']) == (len(expected), len(expected))
  for one in manifest.read(tmp_path / 'out'):
    kind = expected[one.id].get('kind', one.kind)
    assert one.kind == kind
    for path in filter(None, (one.audio, one.image)):
      assert pathlib.Path(tmp_path / 'out' / path).is_file()
