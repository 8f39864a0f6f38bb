"""What `--format=auto` takes a source for."""

import json
import os
import shutil

import pyarrow as pa
from pyarrow import parquet as pq
import pytest

from data_pipelines import readers
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

WAV = trees.tone(0.25)


def chosen(source):
  found = readers.choose('auto', source)
  (name,) = [key for key, one in readers.READERS.items() if one is found]
  return name


@pytest.mark.parametrize('name', trees.TREES)
def test_a_format_is_found_without_its_name(name, tmp_path):
  source, _ = trees.TREES[name](tmp_path)
  assert chosen(source) == name
  # What people leave beside a corpus says nothing.
  if source.is_dir():
    trees.put(source / 'README.md', '# A corpus\n')
    if name != 'text_txt':
      trees.put(source / 'LICENSE.txt', 'Yours.\n')
    trees.put(source / '.cache' / 'x.parquet', b'hidden')
    assert chosen(source) == name


FILES = {
  'folder': 'metadata.csv',
  'wenetspeech': 'WenetSpeech.json',
  'gigaspeech': 'GigaSpeech.json',
  'wenet': 'data.list',
  'wenet_shards': 'shards.list',
  'lhotse': 'my_cuts_train.jsonl.gz',
  'webdataset': 'shard-000000.tar',
  'parquet': 'data/validation-00000-of-00001.parquet',
  'text_parquet': 't.parquet',
  'seed_tts': 'meta.lst',
  'image_jsonl': 'captions.jsonl',
  'text_jsonl': 'a.jsonl',
  'text_txt': 'a.txt',
  'chat_jsonl': 'chats.jsonl',
  'preference_jsonl': 'prefs.jsonl',
  'preference_parquet': 'prefs.parquet',
}


@pytest.mark.parametrize('name', FILES)
def test_a_file_alone(name, tmp_path):
  source, _ = trees.TREES[name](tmp_path)
  path = source / FILES[name]
  assert chosen(path) == name
  kept, _ = ingesting.ingested(path, tmp_path / 'out', 'auto')
  assert kept


@pytest.mark.parametrize(
  'columns, name',
  [
    ({'audio': [{'bytes': WAV, 'path': None}], 'text': ['x']}, 'parquet'),
    ({'audio': ['a.wav'], 'sentence': ['x']}, 'parquet'),
    ({'wav': [WAV], 'text': ['x'], 'path': ['a']}, 'parquet'),
    ({'image': [{'bytes': b''}], 'caption': ['x']}, 'parquet'),
    ({'path': ['a.wav'], 'sentence': ['x']}, 'parquet'),
    ({'file_name': ['b/a.MP3'], 'text': ['x']}, 'parquet'),
    ({'audio_filepath': ['a.wav'], 'text': ['x']}, 'parquet'),
    ({'path': [None, '', 'a.m4a'], 'text': ['x', 'y', 'z']}, 'parquet'),
    ({'file': pa.array(['a.wav']).dictionary_encode()}, 'parquet'),
    ({'path': ['a.png', 'b.JPG'], 'caption': ['x', 'y']}, 'parquet'),
    ({'path': ['a.py', 'b.png'], 'text': ['x', 'y']}, 'text_parquet'),
    ({'jpg': [b''], 'caption': ['x']}, 'parquet'),
    ({'text': ['x'], 'path': ['src/a.py'], 'size': [1]}, 'text_parquet'),
    ({'content': ['x'], 'file_name': ['a.py']}, 'text_parquet'),
    ({'speech': ['four score and'], 'text': ['x']}, None),
    ({'other': [1]}, ''),
  ],
)
def test_columns_tell_what_a_parquet_file_holds(columns, name, tmp_path):
  for k in range(2):  # as `datasets` writes them
    path = tmp_path / 'in' / 'data' / f'train-0000{k}-of-00002.parquet'
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
  for source in (tmp_path / 'in', path.parent, path):
    if name:
      assert chosen(source) == name
      continue
    both = 'parquet and text_parquet' if name is None else 'no format'
    with pytest.raises(errors.UserError, match=f'it looks like {both}; name'):
      chosen(source)
  path.write_bytes(b'PAR1')
  with pytest.raises(errors.UserError, match='parquet and text_parquet'):
    chosen(path)


@pytest.mark.parametrize(
  'line, name',
  [
    ({'text': 'x', 'url': 'y'}, 'text_jsonl'),
    ({'text': 'x', 'path': 'a.py'}, 'text_jsonl'),
    ({'text': 'x', 'audio': 'a.wav'}, None),
    ({'text': 'x', 'path': 'clips/a.MP3'}, None),
    ({'id': 'a', 'kind': 'speech', 'audio': 'a.wav', 'text': 'x'}, None),
    ({'text': 'x', 'file': 'a.wav'}, 'folder'),
    ({'text': 'x', 'wav': 'a.wav', 'key': 'k'}, 'wenet'),
    ({'text': 'x', 'audio_filepath': 'a.wav'}, 'nemo'),
    ({'id': 's', 'recording_id': 'r', 'text': 'x'}, 'lhotse'),
    ({'messages': []}, 'chat_jsonl'),
    ({'messages': [], 'answers': []}, 'preference_jsonl'),
    ({'chosen': 'a', 'rejected': 'b'}, 'preference_jsonl'),
    ({'instruction': 'a', 'completions': []}, 'preference_jsonl'),
    ({'image': 'a.png', 'text': 'x'}, 'image_jsonl'),
  ],
)
def test_a_line_of_json(line, name, tmp_path):
  path = trees.put(tmp_path / 'in' / 'x.jsonl', [line])
  for source in (path, path.parent):
    if name is None:
      # Texts alone would be kept of what names recordings.
      with pytest.raises(errors.UserError, match='looks like no format; name'):
        chosen(source)
    else:
      assert chosen(source) == name


def test_files_of_several_formats(tmp_path):
  trees.text_jsonl(tmp_path)
  trees.webdataset(tmp_path)
  trees.chat_jsonl(tmp_path)
  said = 'it looks like webdataset and text_jsonl and chat_jsonl; name one by'
  with pytest.raises(errors.UserError, match=said):
    chosen(tmp_path)


def test_what_lies_deeper(tmp_path):
  for name in ('text_jsonl', 'webdataset', 'text_txt', 'lhotse', 'tfds'):
    folder = tmp_path / name / 'deep' / 'er'
    folder.mkdir(parents=True)
    trees.TREES[name](folder) if name != 'tfds' else trees.put(
      folder / '1.0.0' / 'features.json', '{}'
    )
    source = tmp_path / name / ('deep' if name == 'tfds' else '')
    assert chosen(source) == name
  for ending in ('.tar.gz', '.tgz'):
    source = tmp_path / ending
    trees.put(source / f'x{ending}', b'')
    assert chosen(source) == 'webdataset'
  os.mkfifo(tmp_path / 'pipe.parquet')  # nobody waits for it
  for name in os.listdir(tmp_path):
    if name != 'pipe.parquet':
      shutil.rmtree(tmp_path / name)
  with pytest.raises(errors.UserError, match='looks like no format'):
    chosen(tmp_path)


def test_manifests_of_a_folder(tmp_path):
  source, _ = trees.nemo(tmp_path / 'in')
  line = {'audio_filepath': 'wavs/y.wav', 'duration': 1.0, 'text': 'dev'}
  trees.put(source.parent / 'wavs' / 'y.wav', trees.tone(1.0))
  trees.put(source.parent / 'dev_manifest.json', [line])
  trees.put(source.parent / 'stats.json', json.dumps({'hours': 1}))
  kept, left = ingesting.ingested(source.parent, tmp_path / 'out', 'auto')
  assert left == [] and {n: u.split for n, u in kept.items()} == {
    'wavs/y': 'dev', 'wavs/x': 'train', 'wavs/x-500': 'train',
  }  # fmt: skip
  source.unlink()
  (source.parent / 'dev_manifest.json').unlink()
  with pytest.raises(errors.UserError, match='no file with a line'):
    ingesting.ingested(source.parent, tmp_path / 'out', 'nemo')


def test_files_that_differ_by_their_ending(tmp_path):
  trees.put(tmp_path / 'in' / 'a.jsonl', [{'text': 'one'}])
  trees.put(tmp_path / 'in' / 'a.jsonl.gz', [{'text': 'two'}])
  trees.put(tmp_path / 'in' / 'b.jsonl.gz', [{'text': 'three'}])
  kept, left = ingesting.ingested(tmp_path / 'in', tmp_path / 'out', 'auto')
  assert left == [] and {n: u.text for n, u in kept.items()} == {
    'a.jsonl-1': 'one', 'a.jsonl.gz-1': 'two', 'b-1': 'three',
  }  # fmt: skip
