"""The same bad utterances in every layout of speech: each costs itself."""

import csv
import io
import json
import pathlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines import readers
from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested

TONE = trees.tone(0.5)
LONG = 'x' * 10_000_000
# id, text, bytes of the recording (None: there is none), what is said of it.
ROWS = (
  ('good', 'fine', TONE, None),
  ('empty', '', TONE, 'text: missing'),
  ('blank', ' \t\u3000', TONE, 'text: missing'),
  ('long', LONG, TONE, '10000000 bytes, expected at most 1000000'),
  ('good', 'again', TONE, 'twice'),
  ('absent', 'no audio', None, 'audio|no such file|recording'),
  ('words', 'no audio', b'these are words', 'audio'),
  ('short', 'cut', TONE[:-1000], 'cut short'),
  ('last', 'fine', TONE, None),
)


def lines(rows, form='{} {}\n'):
  return ''.join(form.format(name, text) for name, text, *_ in rows)


def recordings(root, rows, form='{}.wav'):
  """Writes the recordings; a name that comes twice is one file."""
  for name, _, audio, _ in rows:
    if audio is not None:
      trees.put(root / form.format(name), audio)


def folder(root, rows):
  out = io.StringIO(newline='')
  told = [(f'{name}.wav', text, name) for name, text, *_ in rows]
  csv.writer(out).writerows([('file', 'text', 'id'), *told])
  trees.put(root / 'metadata.csv', out.getvalue())
  recordings(root, rows)


def librispeech(root, rows):
  chapter = root / 'train-clean-100' / '19' / '198'
  trees.put(chapter / '19-198.trans.txt', lines(rows))
  recordings(chapter, rows)


def aishell1(root, rows):
  table = root / 'transcript' / 'aishell_transcript_v0.8.txt'
  trees.put(table, lines(rows))
  recordings(root / 'wav' / 'train' / 'S1', rows)


def aishell2(root, rows):
  trees.put(root / 'wav.scp', lines(rows, '{0}\twav/S1/{0}.wav\n'))
  trees.put(root / 'trans.txt', lines(rows, '{}\t{}\n'))
  recordings(root / 'wav' / 'S1', rows)


def kaldi(root, rows):
  trees.put(root / 'wav.scp', lines(rows, '{0} {0}.wav\n'))
  trees.put(root / 'text', lines(rows))
  recordings(root, rows)


def segmented(name, rows, field):
  audios = [
    {
      'aid': name, 'path': f'{name}.wav', 'segments': [
        {'sid': name, 'begin_time': 0.0, 'end_time': 0.5, field: text,
         'subsets': ['L']},
      ],
    }
    for name, text, *_ in rows
  ]  # fmt: skip
  return json.dumps({'audios': audios})


def wenetspeech(root, rows):
  trees.put(root / 'WenetSpeech.json', segmented('a', rows, 'text'))
  recordings(root, rows)


def gigaspeech(root, rows):
  trees.put(root / 'GigaSpeech.json', segmented('a', rows, 'text_tn'))
  recordings(root, rows)


def wenet(root, rows):
  told = [{'key': n, 'wav': f'{n}.wav', 'txt': text} for n, text, *_ in rows]
  trees.put(root / 'data.list', told)
  recordings(root, rows)


def wenet_shards(root, rows):
  for number, (name, text, audio, _) in enumerate(rows):
    members = [(f'{name}.txt', text)]
    if audio is not None:
      members.append((f'{name}.wav', audio))
    trees.tar(root / f'{number}.tar', members)
  trees.put(root / 'shards.list', [])
  names = ''.join(f'{number}.tar\n' for number in range(len(rows)))
  trees.put(root / 'shards.list', names)


def nemo(root, rows):
  told = [
    {'audio_filepath': f'{n}.wav', 'duration': 0.5, 'text': text}
    for n, text, *_ in rows
  ]
  recordings(root, rows)
  return trees.put(root / 'manifest.json', told)


def nemo_tarred(root, rows):
  told = [
    {
      'audio_filepath': f'{n}.wav', 'duration': 0.5, 'text': text,
      'shard_id': 0, 'id': n,
    }
    for n, text, *_ in rows
  ]  # fmt: skip
  members = {n: audio for n, _, audio, _ in rows if audio is not None}
  named = [(f'{n}.wav', audio) for n, audio in members.items()]
  trees.tar(root / 'audio_0.tar', named)
  trees.put(root / 'tarred_audio_manifest.json', told)


LAYOUTS = (
  folder, librispeech, aishell1, aishell2, kaldi, wenetspeech, gigaspeech,
  wenet, wenet_shards, nemo, nemo_tarred,
)  # fmt: skip


@pytest.mark.parametrize('make', LAYOUTS)
def test_bad_rows_of_speech(make, tmp_path):
  rows = ROWS
  if make is aishell1:  # its recordings are files with the utterance's name
    rows = [row for row in ROWS if row[1] != 'again'] + [ROWS[4]]
  (tmp_path / 'in').mkdir()
  source = make(tmp_path / 'in', rows) or tmp_path / 'in'
  kept, left = ingested(source, tmp_path / 'out', make.__name__)
  assert [(u.id, u.text) for u in kept.values()] == [
    ('good', 'fine'), ('last', 'fine'),
  ]  # fmt: skip
  found = [one['reason'] for one in left]
  for name, _, _, reasons in rows:
    if reasons and not (name == 'good' and make in (aishell2, kaldi)):
      assert any(
        reason in one for one in found for reason in reasons.split('|')
      ), (name, found)
  assert all(0 < len(one) <= 500 for one in found)
  # Tables that are joined tell a name that comes twice in each of them.
  joined = {aishell2: 1, kaldi: 1}
  expected = sum(bool(reason) for *_, reason in rows) + joined.get(make, 0)
  assert len(left) == expected, found


def timed_folder(root, begin, end):
  told = {'file': 'r.wav', 'text': 'hi', 'offset': begin, 'id': 'u'}
  told['duration'] = end - begin
  good = {'file': 'r.wav', 'text': 'hi', 'id': 'good'}
  trees.put(root / 'metadata.jsonl', [told, good])


def timed_kaldi(root, begin, end):
  trees.put(root / 'wav.scp', 'r r.wav\n')
  trees.put(root / 'segments', f'u r {begin} {end}\ngood r 0 -1\n')
  trees.put(root / 'text', 'u hi\ngood hi\n')


def timed_wenetspeech(root, begin, end, name='WenetSpeech.json', field='text'):
  segments = [
    {'sid': 'u', 'begin_time': begin, 'end_time': end, field: 'hi'},
    {'sid': 'good', 'begin_time': 0, 'end_time': 0.5, field: 'hi'},
  ]
  audio = {'aid': 'r', 'path': 'r.wav', 'segments': segments}
  trees.put(root / name, json.dumps({'audios': [audio]}))


def timed_gigaspeech(root, begin, end):
  timed_wenetspeech(root, begin, end, 'GigaSpeech.json', 'text_tn')


def timed_wenet(root, begin, end):
  told = {'key': 'u', 'wav': 'r.wav', 'txt': 'hi', 'start': begin, 'end': end}
  good = {'key': 'good', 'wav': 'r.wav', 'txt': 'hi'}
  trees.put(root / 'data.list', [told, good])


def timed_nemo(root, begin, end, name='train_manifest.json', **fields):
  told = {'audio_filepath': 'r.wav', 'text': 'hi', 'offset': begin, 'id': 'u'}
  told['duration'] = end - begin
  good = {'audio_filepath': 'r.wav', 'text': 'hi', 'id': 'good'}
  return trees.put(root / name, [{**told, **fields}, {**good, **fields}])


def timed_nemo_tarred(root, begin, end):
  trees.tar(root / 'audio_0.tar', [('r.wav', TONE)])
  timed_nemo(root, begin, end, 'tarred_audio_manifest.json', shard_id=0)


TIMED = (
  timed_folder, timed_kaldi, timed_wenetspeech, timed_gigaspeech, timed_wenet,
  timed_nemo, timed_nemo_tarred,
)  # fmt: skip
NAN = float('nan')


@pytest.mark.parametrize('make', TIMED)
@pytest.mark.parametrize(
  'begin, end, reason',
  [
    (0.125, 0.375, None),
    (0.0, 0.509, None),  # a hundredth is rounding
    (0.0, 0.52, 'has only 0.500 s there'),
    (0.25, 0.125, 'duration: found -0.125'),
    (-0.25, 0.25, 'offset: found -0.25'),
    (0.5, 0.75, 'lies outside the recording'),
    (9.0, 9.5, 'lies outside the recording'),
    (NAN, 0.5, 'found nan'),
    (0.0, NAN, 'found nan'),
    (0.0, float('inf'), 'found inf'),
    (0.25, 0.25, 'duration, sample_rate: found 0.0'),
  ],
)
def test_times(make, begin, end, reason, tmp_path):
  trees.put(tmp_path / 'in' / 'r.wav', TONE)
  source = make(tmp_path / 'in', begin, end) or tmp_path / 'in'
  name = make.__name__.removeprefix('timed_')
  kept, left = ingested(source, tmp_path / 'out', name)
  assert kept['good'].duration == 0.5
  if reason is None:
    assert left == []
    assert kept['u'].offset == begin
    # What is rounding is cut off: the sound decides.
    assert kept['u'].duration == pytest.approx(min(end, 0.5) - begin)
  else:
    (one,) = left
    assert reason in one['reason'], one


def placed_librispeech(root, path):
  """The recording of an utterance is a link."""
  chapter = root / 'train-clean-100' / '19' / '198'
  trees.put(chapter / '19-198.trans.txt', 'bad A\ngood B\n')
  trees.put(chapter / 'good.wav', TONE)
  (chapter / 'bad.wav').symlink_to(root / path)


def placed_aishell1(root, path):
  table = root / 'transcript' / 'aishell_transcript_v0.8.txt'
  trees.put(table, 'bad A\ngood B\n')
  speaker = root / 'wav' / 'train' / 'S1'
  trees.put(speaker / 'good.wav', TONE)
  (speaker / 'bad.wav').symlink_to(root / path)


def placed(root, make, path):
  """A layout whose `bad` names any path."""
  if make.__name__.startswith('placed_'):
    return make(root, path)
  rows = [(n, 'hi', TONE, None) for n in ('bad', 'good')]
  source = make(root, rows)
  name = {
    folder: 'metadata.csv', aishell2: 'wav.scp', kaldi: 'wav.scp',
    wenetspeech: 'WenetSpeech.json', gigaspeech: 'GigaSpeech.json',
    wenet: 'data.list', nemo: 'manifest.json', wenet_shards: 'shards.list',
  }[make]  # fmt: skip
  old = {aishell2: 'wav/S1/bad.wav', wenet_shards: '0.tar'}.get(make, 'bad.wav')
  text = (root / name).read_text()
  assert old in text
  (root / name).write_text(text.replace(old, path))
  return source


@pytest.mark.parametrize(
  'make',
  [
    folder, aishell2, kaldi, wenetspeech, gigaspeech, wenet, nemo,
    wenet_shards, placed_librispeech, placed_aishell1,
  ],
)  # fmt: skip
@pytest.mark.parametrize(
  'path', ['../secret.wav', '/etc/passwd', 'link.wav', 'up/secret.wav', 'dir']
)
def test_paths_that_lead_out(make, path, tmp_path):
  root = tmp_path / 'in'
  secret = trees.put(tmp_path / 'secret.wav', trees.tone(0.25))
  root.mkdir()
  (root / 'link.wav').symlink_to(secret)
  (root / 'up').symlink_to(tmp_path)
  (root / 'dir').mkdir()
  source = placed(root, make, path) or root
  name = make.__name__.removeprefix('placed_')
  kept, left = ingested(source, tmp_path / 'out', name)
  assert [u.text for u in kept.values()] == [
    'B' if make.__name__.startswith('placed_') else 'hi'
  ]
  (one,) = left
  words = ('leads out of', "without '..'", 'not a regular file')
  assert any(word in one['reason'] for word in words), one
  raw = secret.read_bytes()
  audio = [p for p in (tmp_path / 'out' / 'audio').rglob('*') if p.is_file()]
  assert len(audio) == 1 and audio[0].read_bytes() != raw


@pytest.mark.parametrize(
  'make, table',
  [
    (folder, 'metadata.csv'),
    (librispeech, 'train-clean-100/19/198/19-198.trans.txt'),
    (aishell1, 'transcript/aishell_transcript_v0.8.txt'),
    (aishell2, 'trans.txt'),
    (kaldi, 'text'),
    (kaldi, 'wav.scp'),
    (wenetspeech, 'WenetSpeech.json'),
    (gigaspeech, 'GigaSpeech.json'),
    (wenet, 'data.list'),
    (wenet_shards, 'shards.list'),
    (wenet_shards, '0.tar'),
    (nemo_tarred, 'tarred_audio_manifest.json'),
    (nemo_tarred, 'audio_0.tar'),
  ],
)
def test_tables_that_are_links(make, table, tmp_path):
  root = tmp_path / 'in'
  root.mkdir()
  make(root, [('good', 'fine', TONE, None)])
  (tmp_path / 'elsewhere').mkdir()
  (root / table).rename(tmp_path / 'elsewhere' / 'table')
  (root / table).symlink_to(tmp_path / 'elsewhere' / 'table')
  with pytest.raises(errors.UserError, match='leads out of'):
    ingested(root, tmp_path / 'out', make.__name__)
  # Into a folder that the user names, links may lead.
  reader, options = readers.READERS[make.__name__], base.Options(tmp_path)
  for one in reader.read(root, options):
    assert 'leads out' not in getattr(one, 'reason', '')


MARKED = (folder, librispeech, aishell1, aishell2, kaldi, wenet, nemo)


@pytest.mark.parametrize('make', MARKED)
@pytest.mark.parametrize('end', [b'\n', b'\r\n'])
@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_marks_line_ends_and_encodings(make, mark, end, tmp_path):
  root = tmp_path / 'in'
  root.mkdir()
  rows = [(f'u{n}', f'caf\u00e9 {n}', TONE, None) for n in range(3)]
  source = make(root, rows) or root
  for path in root.rglob('*'):
    if not path.is_file() or path.suffix == '.wav':
      continue
    raw = path.read_bytes().replace(b'\r\n', b'\n')
    raw = raw.replace(b'\\u00e9', 'é'.encode())
    # The second transcript is in Latin-1.
    raw = raw.replace('é 1'.encode(), b'\xe9 1')
    path.write_bytes(mark + raw.replace(b'\n', end))
  kept, left = ingested(source, tmp_path / 'out', make.__name__)
  found = [u.text.replace(' ', '') for u in kept.values()]
  assert found == ['café0', 'café2']
  reasons = [one['reason'] for one in left]
  assert sum('not UTF-8' in one for one in reasons) == 1, reasons
  # Where tables are joined, the recording is left without its transcript.
  alone = make in (librispeech, aishell1, aishell2, kaldi)
  assert len(reasons) == 1 + alone


@pytest.mark.parametrize('make', [wenetspeech, gigaspeech])
def test_bytes_of_another_encoding_in_a_stream(make, tmp_path):
  root = tmp_path / 'in'
  root.mkdir()
  make(root, [(f'u{n}', f'text-{n}', TONE, None) for n in range(3)])
  (path,) = root.glob('*.json')
  path.write_bytes(
    b'\xef\xbb\xbf' + path.read_bytes().replace(b'text-1', b'caf\xe9')
  )
  kept, (left,) = ingested(root, tmp_path / 'out', make.__name__)
  assert list(kept) == ['u0', 'u2'] and left['id'] == 'u1'
  assert "'\\udce9', not UTF-8" in left['reason']


def one_line(make):
  """A line of a layout of JSON lines, as (name of the table, object)."""
  return {
    'folder': lambda name: {
      'file': '1.wav', 'text': 'hi', 'id': name, 'language': 'fr',
      'speaker': 's', 'split': 'dev', 'offset': 0.1, 'duration': 0.1,
      'words': [['hi', 0.0, 0.05]],
    },
    'wenet': lambda name: {
      'key': name, 'wav': '1.wav', 'txt': 'hi', 'start': 0.0, 'end': 0.25,
      'speaker': 's', 'lang': 'fr',
    },
    'nemo': lambda name: {
      'audio_filepath': '1.wav', 'duration': 0.2, 'offset': 0.1, 'text': 'hi',
      'id': name, 'lang': 'fr', 'speaker': 's',
    },
    'nemo_tarred': lambda name: {
      'audio_filepath': '1.wav', 'duration': 0.2, 'offset': 0.1, 'text': 'hi',
      'id': name, 'shard_id': 0,
    },
    'wenetspeech': lambda name: {
      'aid': 'a', 'path': '1.wav', 'duration': 0.5, 'segments': [
        {'sid': name, 'begin_time': 0.0, 'end_time': 0.25, 'text': 'hi',
         'subsets': ['L', 'DEV']},
      ],
    },
    'gigaspeech': lambda name: {
      'aid': 'a', 'path': '1.wav', 'sample_rate': 8000, 'segments': [
        {'sid': name, 'begin_time': 0.0, 'end_time': 0.25, 'speaker': 'N/A',
         'text_tn': 'GO <COMMA> ON', 'subsets': ['{XL}']},
      ],
    },
  }[make]  # fmt: skip


TABLES = {
  'folder': 'metadata.jsonl', 'wenet': 'data.list', 'nemo': 'manifest.json',
  'nemo_tarred': 'tarred_audio_manifest.json',
  'wenetspeech': 'WenetSpeech.json', 'gigaspeech': 'GigaSpeech.json',
}  # fmt: skip


@pytest.mark.parametrize('format', TABLES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_in_any_place_costs_that_line_alone(
  format, tmp_path_factory, data
):
  source = tmp_path_factory.getbasetemp() / f'any_{format}'
  if not source.exists():
    trees.put(source / '1.wav', TONE)
    trees.tar(source / 'audio_0.tar', [('1.wav', TONE)])
  value = one_line(format)('bad')
  place = data.draw(st.sampled_from(list(ingesting.places(value))))
  told = [
    ingesting.put_at(value, place, data.draw(ingesting.ANY)),
    one_line(format)('good'),
  ]
  text = ''.join(f'{json.dumps(one)}\n' for one in told)
  if format in ('wenetspeech', 'gigaspeech'):
    text = json.dumps({'audios': told})
  path = trees.put(source / TABLES[format], text)
  start = path if format == 'nemo' else source
  kept = []
  for one in readers.READERS[format].read(start, base.Options()):
    assert isinstance(one, (base.Item, base.Rejected))
    if isinstance(one, base.Rejected):
      assert len(one.reason) > 10
      continue
    try:
      kept.append(admission.admit(one, admission.Rules()).id)
    except errors.UserError as error:
      assert len(str(error)) > 10
  assert 'good' in kept


def test_what_is_no_corpus_has_no_format(tmp_path):
  for text in ('[1]\n', '{"other": 1}\n', 'not JSON\n', '\xff\n'):
    trees.put(tmp_path / 'in' / 'a.jsonl', text)
    for source in (tmp_path / 'in', tmp_path / 'in' / 'a.jsonl'):
      with pytest.raises(errors.UserError, match='looks like no format; name'):
        readers.choose('auto', source)
  with pytest.raises(errors.UserError, match='no such file or folder'):
    readers.choose('kaldi', pathlib.Path(tmp_path / 'nowhere'))
