"""Tables of recordings as people really write them, and what they point at."""

import csv
import errno
import io
import json
import os

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import soundfile

from data_pipelines.ingestion import admission
from data_pipelines.readers.speech import folder
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.ingestion import ingesting

BOM = '\ufeff'.encode()
CELLS = st.text(
  st.characters(codec='utf-8', exclude_characters='\x00\r\n'), max_size=12
)


@pytest.fixture
def source(tmp_path):
  """A folder with three recordings of ragged length, two of one name."""
  root = tmp_path / 'source'
  rng = np.random.default_rng(0)
  for name, count in (('a/x.wav', 5000), ('b/x.wav', 7001), ('y.wav', 3210)):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(root / name, rng.normal(0, 0.1, count), 16000)
  return root


def quarantined(output):
  lines = files.read_jsonl(output / 'quarantine.jsonl')
  return {line['line']: line['reason'] for line in lines}


def tree(root):
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in root.rglob('*')
    if path.is_file()
  }


@hypothesis.settings(max_examples=60)
@hypothesis.given(
  st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6),
  st.booleans(),
  st.sampled_from(['\r\n', '\n']),
)
def test_any_text_survives_a_csv_table(tmp_path_factory, cells, bom, end):
  path = tmp_path_factory.mktemp('csv') / 'metadata.csv'
  out = io.StringIO(newline='')
  writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator=end)
  writer.writerow(['file', 'text', 'speaker'])
  writer.writerows(cells)
  path.write_bytes(BOM * bom + out.getvalue().encode())
  found = [fields for _, fields in folder.read_table(path)]
  names = ('file', 'text', 'speaker')
  assert found == [
    {name: cell for name, cell in zip(names, row) if cell} for row in cells
  ]


@hypothesis.settings(max_examples=60)
@hypothesis.given(
  st.lists(st.one_of(st.none(), CELLS), max_size=8),
  st.booleans(),
  st.sampled_from(['\r\n', '\n']),
)
def test_any_text_survives_a_jsonl_table(tmp_path_factory, texts, bom, end):
  path = tmp_path_factory.mktemp('jsonl') / 'metadata.jsonl'
  lines = [
    '' if text is None else json.dumps({'file': 'a', 'text': text})
    for text in texts
  ]
  path.write_bytes(BOM * bom + end.join([*lines, '']).encode())
  # Blank lines (None) are skipped, and the others keep their numbers.
  assert list(folder.read_table(path)) == [
    (number, {'file': 'a', 'text': text})
    for number, text in enumerate(texts, start=1)
    if text is not None
  ]


@pytest.mark.parametrize(
  'raw, said',
  [
    (b'', 'found the columns none; expected `file`'),
    (b'text\nhello\n', 'found the columns text; expected `file`'),
    (b'file, text\na,b\n', 'found the columns file,  text'),
    (b'file,text\ny.wav\n', 'csv:2: found 1 cells, expected 2'),
    (b'file,text\n\ny.wav,a,b,c\n', 'csv:3: found 4 cells, expected 2'),
    (b'file,text\ny.wav,"a\n', 'csv:2: a quotation mark opens a cell that'),
    (b'0.wav,hello\ny.wav,a\n', 'found the columns 0.wav, hello; expected'),
    (b'File,Text\ny.wav,a\n', 'found the columns File, Text; expected `file`'),
    (b'file,text,,\ny.wav,a,b,\n', "csv:2: found 'b' in a column without a n"),
    (b'"file","te\ny.wav,a\n', 'not a CSV file: a quotation mark opens'),
    (b'file,text\ny.wav,a\0b\n', 'csv:2: a NUL at character 7, expected text'),
    ('file,text\ny.wav,ä\n'.encode('latin-1'), 'csv:2: not UTF-8: '),
    ('file,text\ny.wav,a\n'.encode('utf-16'), 'not a CSV file'),
    (b'file,text,file\ny.wav,a,b\n', 'the column file twice'),
  ],
)
def test_what_is_no_table_writes_nothing(source, tmp_path, raw, said):
  (source / 'metadata.csv').write_bytes(raw)
  with pytest.raises(errors.UserError) as caught:
    ingesting.ingest_folder(source, tmp_path / 'out')
  assert said in str(caught.value)
  assert str(source / 'metadata.csv') in str(caught.value)
  assert not (tmp_path / 'out').exists()


def test_a_broken_line_costs_itself_alone(source, tmp_path):
  lines = [
    b'{"file": "y.wav", "text": "a"}', b'', b'{"file": "y.w', b'[]',
    b'{"file": "\xff"}', b'{"file": "y.wav", "text": "b", "id": "z"}',
  ]  # fmt: skip
  (source / 'metadata.jsonl').write_bytes(b'\r\n'.join(lines))
  result = ingesting.ingest_folder(source, tmp_path / 'one')
  assert (result['read'], result['kept'], result['quarantined']) == (5, 2, 3)
  found = quarantined(tmp_path / 'one')
  assert set(found) == {3, 4, 5}
  assert 'not a JSON line' in found[3] and 'expected a JSON obj' in found[4]
  assert 'not UTF-8' in found[5]
  (source / 'metadata.jsonl').unlink()
  lines = [
    b'file,text', b'y.wav,one', b'y.wav,a,b', b'y.wav,caf\xe9', b'',
    b'y.wav,"tw"o', b'a/x.wav,"two', b'lines"', b'b/x.wav,"open',
  ]  # fmt: skip
  (source / 'metadata.csv').write_bytes(b'\n'.join(lines))
  result = ingesting.ingest_folder(source, tmp_path / 'two')
  assert (result['read'], result['kept'], result['quarantined']) == (7, 1, 6)
  found = quarantined(tmp_path / 'two')
  assert set(found) == {3, 4, 6, 7, 8, 9}
  assert 'found 3 cells, expected 2' in found[3] and 'UTF-8' in found[4]
  assert "',' expected after" in found[6]
  assert 'a cell cannot span lines' in found[7] == found[9]
  assert 'quotation mark that line 7 does not close' in found[8]
  assert [u.text for u in manifest.read(tmp_path / 'two')] == ['one']


def test_two_tables_are_one_too_many(source, tmp_path):
  (source / 'metadata.jsonl').write_text('{"file": "y.wav", "text": "a"}\n')
  (source / 'metadata.csv').write_text('file,text\ny.wav,a\n')
  with pytest.raises(errors.UserError, match='found 2 of metadata.csv, meta'):
    ingesting.ingest_folder(source, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_nothing_outside_the_folder_is_taken(source, tmp_path):
  soundfile.write(tmp_path / 'secret.wav', np.full(4000, 0.1), 16000)
  (source / 'link.wav').symlink_to(tmp_path / 'secret.wav')
  (source / 'up').symlink_to(tmp_path)
  (source / 'inside.wav').symlink_to(source / 'y.wav')
  escapes = [
    '../secret.wav', 'a/../../secret.wav', str(tmp_path / 'secret.wav'),
    'link.wav', 'up/secret.wav', '~/secret.wav', 'a\\..\\secret.wav', 'a',
    'nul\0.wav', 'x' * 300 + '.wav',
  ]  # fmt: skip
  lines = [{'file': name, 'text': 'a'} for name in [*escapes, 'inside.wav']]
  files.write_jsonl(source / 'metadata.jsonl', lines)
  result = ingesting.ingest_folder(source, tmp_path / 'out')
  assert (result['kept'], result['quarantined']) == (1, len(escapes))
  (utterance,) = manifest.read(tmp_path / 'out')
  assert utterance.id == 'inside' and utterance.duration == 3210 / 16000
  secret = (tmp_path / 'secret.wav').read_bytes()
  assert secret not in tree(tmp_path / 'out').values()
  assert all(
    len(r.splitlines()) == 1 for r in quarantined(tmp_path / 'out').values()
  )


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'id': 7}, 'id: found 7, expected a string'),
    ({'id': ['y']}, 'id: found'),
    ({'file': 7}, 'file: found 7'),
    ({'file': ''}, 'a transcript without audio belongs into a text corpus'),
    ({'text': None}, 'text: missing'),
    ({'text': 5}, 'text: missing'),
    ({'text': '\t \u3000'}, 'text: missing'),
    ({'split': 3}, 'split: found 3'),
    ({'speaker': 4}, 'speaker: found 4'),
    ({'language': {}}, 'language: found {}'),
    ({'offset': 'nan'}, 'offset: found nan'),
    ({'offset': -1}, 'offset: found -1.0'),
    ({'offset': [1]}, 'offset: found [1], expected seconds'),
    ({'offset': 99}, 'offset 99.0 s lies outside the recording'),
    ({'duration': 'long'}, "duration: found 'long', expected seconds"),
    ({'duration': 0}, 'duration, sample_rate: found 0.0'),
    ({'duration': 1e9}, 'y.wav has only 0.201 s there'),
    ({'words': 'a'}, 'words: found'),
    ({'words': [['a', 0.2, 0.1]]}, 'rising order'),
    ({'words': [['a', 0, None]]}, 'rising order'),
  ],
)
def test_one_bad_field_costs_one_line(source, tmp_path, fields, said):
  good = {'file': 'a/x.wav', 'text': 'a'}
  bad = {'file': 'y.wav', 'text': 'b', **fields}
  files.write_jsonl(source / 'metadata.jsonl', [good, bad, good | {'id': 'z'}])
  result = ingesting.ingest_folder(source, tmp_path / 'out')
  assert (result['read'], result['kept'], result['quarantined']) == (3, 2, 1)
  found = quarantined(tmp_path / 'out')
  assert set(found) == {2} and said in found[2]
  assert {u.id for u in manifest.read(tmp_path / 'out')} == {'x', 'z'}
  assert not (tmp_path / 'out' / 'audio' / 'y.wav').exists()


def test_counts_add_up_and_lines_are_those_of_the_editor(source, tmp_path):
  (source / 'metadata.jsonl').write_text(
    '\n'.join(
      [
        '{"file": "a/x.wav", "text": "one"}',
        '',
        '{"file": "b/x.wav", "text": "the same name in another folder"}',
        '   ',
        '{"file": "b/x.wav", "text": "two", "id": "b-x"}',
        '{"file": "gone.wav", "text": "three"}',
      ]
    )
  )
  result = ingesting.ingest_folder(source, tmp_path / 'out')
  assert result['read'] == result['kept'] + result['quarantined'] == 4
  found = quarantined(tmp_path / 'out')
  assert set(found) == {6}
  assert {u.id for u in manifest.read(tmp_path / 'out')} == {
    'a/x', 'b/x', 'b-x',
  }  # fmt: skip
  assert f'{source}/gone.wav: no such file' in found[6]
  assert set(tree(tmp_path / 'out')) == {
    'manifest.jsonl', 'quarantine.jsonl', 'stats.json', 'audio/a/x.wav',
    'audio/b/x.wav',
  }  # fmt: skip


def written(source, lines):
  files.write_jsonl(
    source / 'metadata.jsonl', [{'text': 'a', **line} for line in lines]
  )


def test_speakers_with_equal_names_of_files(source, tmp_path):
  for name in ('spk1/001.wav', 'spk2/001.wav', 'spk2/002.wav', '003.wav'):
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_bytes((source / 'y.wav').read_bytes())
  names = ['spk1/001.wav', 'spk2/001.wav', 'spk2/002.wav', '003.wav']
  expected = {'spk1/001', 'spk2/001', '002', '003'}
  for order in (names, names[::-1]):
    written(source, [{'file': name} for name in order])
    result = ingesting.ingest_folder(source, tmp_path / 'out')
    found = {u.id: u for u in manifest.read(tmp_path / 'out')}
    assert set(found) == expected and result['quarantined'] == 0
    assert found['spk2/001'].audio == 'audio/spk2/001.wav'
    assert {u.speaker for u in found.values()} == {None}
  kept, _ = ingesting.ingested(
    source, tmp_path / 'two', 'folder', speaker='folder'
  )
  assert {u.id: u.speaker for u in kept.values()} == {
    'spk1/001': 'spk1', 'spk2/001': 'spk2', '002': 'spk2', '003': None,
  }  # fmt: skip
  with pytest.raises(errors.UserError, match="found 'x', expected folder"):
    ingesting.ingested(source, tmp_path / 'three', 'folder', speaker='x')


def test_names_that_others_have(source, tmp_path):
  raw = (source / 'y.wav').read_bytes()
  for name in ('a/z.wav', 'a/z.y.wav', 'q/y.wav', 'q/y.1.wav'):
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_bytes(raw)
  soundfile.write(source / 'q' / 'y.flac', np.full(3000, 0.1), 16000)
  written(
    source,
    [
      {'file': './a//x.wav'}, {'file': f'{source}/b/x.wav'},
      {'file': 'y.wav'}, {'file': 'q/y.wav'}, {'file': 'q/y.flac'},
      {'file': 'a/z.wav'}, {'file': 'a/z.y.wav', 'id': 'z'},
      {'file': 'q/y.1.wav', 'id': 'q/y.wav-1'}, {'file': 'gone/y.1.wav'},
      {'file': 'q/y.wav'},
    ],
  )  # fmt: skip
  ingesting.ingest_folder(source, tmp_path / 'out')
  found = {u.id: u.audio for u in manifest.read(tmp_path / 'out')}
  assert found == {
    'a/x': 'audio/a/x.wav', 'b/x': 'audio/b/x.wav', 'y': 'audio/y.wav',
    'q/y.wav': 'audio/q/y.wav', 'q/y.flac': 'audio/q/y.flac',
    'a/z': 'audio/a/z.wav', 'z': 'audio/a/z.y.wav',
    'q/y.wav-1': 'audio/q/y.1.wav',
  }  # fmt: skip
  left = quarantined(tmp_path / 'out')
  assert set(left) == {9, 10} and 'no such file' in left[9]
  # Two parts of a file have one name, of which an `id` is the way out.
  assert "id: 'q/y.wav' occurs twice; give each line an `id`" in left[10]


def test_links_copies_and_other_file_systems(source, tmp_path, monkeypatch):
  (source / 'metadata.csv').write_text('file,text\ny.wav,a\n')
  raw = (source / 'y.wav').read_bytes()

  def placed(name, **settings):
    ingesting.ingest_folder(source, tmp_path / name, **settings)
    path = tmp_path / name / 'audio' / 'y.wav'
    assert path.read_bytes() == raw
    assert [p.name for p in path.parent.iterdir()] == ['y.wav']
    return path.samefile(source / 'y.wav')

  assert placed('linked')
  assert placed('linked')  # a second time over the first
  assert not placed('copied', copy=True)

  def refuse(*_):
    raise OSError(errno.EXDEV, 'cross-device link')

  monkeypatch.setattr(os, 'link', refuse)
  assert not placed('elsewhere')


def test_a_second_run_gives_the_same_corpus(source, tmp_path):
  (source / 'metadata.csv').write_bytes(
    BOM + b'file,text,id\r\ny.wav, a  b ,\r\na/x.wav,c,q\r\n'
  )
  first = ingesting.ingest_folder(source, tmp_path / 'out')
  before = tree(tmp_path / 'out')
  assert ingesting.ingest_folder(source, tmp_path / 'out') == first
  assert tree(tmp_path / 'out') == before
  assert [(u.id, u.text) for u in manifest.read(tmp_path / 'out')] == [
    ('y', 'a b'), ('q', 'c')
  ]  # fmt: skip


def test_parts_of_one_recording(source, tmp_path):
  lines = [
    {'file': 'y.wav', 'text': 'a', 'id': f'p{k}', 'offset': 0.05 * k,
     'duration': 0.05, 'split': 'dev'}
    for k in range(4)
  ]  # fmt: skip
  files.write_jsonl(source / 'metadata.jsonl', lines)
  ingesting.ingest_folder(source, tmp_path / 'out')
  found = manifest.read(tmp_path / 'out')
  assert [u.offset for u in found] == pytest.approx([0, 0.05, 0.1, 0.15])
  assert {u.duration for u in found} == {0.05}
  assert {u.audio for u in found} == {'audio/y.wav'}
  # A hundredth of a second over the end is forgiven, more is not.
  lines[3]['duration'] = 3210 / 16000 - 0.15 + 0.009
  lines[2]['duration'] = 3210 / 16000 - 0.1 + 0.02
  files.write_jsonl(source / 'metadata.jsonl', lines)
  assert ingesting.ingest_folder(source, tmp_path / 'out')['quarantined'] == 1


@hypothesis.given(
  st.text(max_size=20), st.floats(0, 0.5), st.floats(0, 0.49),
  st.floats(0, 0.1),
)  # fmt: skip
def test_a_split_depends_on_the_id_and_grows_at_its_end(name, dev, test, more):
  split = admission.split_of(name, dev, test)
  assert split == admission.split_of(name, dev, test)
  assert split in ('train', 'dev', 'test')
  assert admission.split_of(name, 1.0, 0) == 'dev'
  assert admission.split_of(name, 0, 1.0) == 'test'
  assert admission.split_of(name, 0, 0) == 'train'
  if split == 'dev':
    assert admission.split_of(name, dev + more, test) == 'dev'
  if split != 'train':
    assert admission.split_of(name, dev, test + more) == split


@pytest.mark.parametrize(
  'dev, test', [(-0.1, 0), (0, -0.1), (0.5, 0.5), (float('nan'), 0), (1, 0)]
)
def test_shares_that_leave_nothing_to_train(source, tmp_path, dev, test):
  (source / 'metadata.csv').write_text('file,text\ny.wav,a\n')
  with pytest.raises(errors.UserError, match='--dev, --test: found'):
    ingesting.ingest_folder(source, tmp_path / 'out', dev=dev, test=test)
  assert not (tmp_path / 'out').exists()
