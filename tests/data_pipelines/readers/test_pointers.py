"""Corpora that were cloned without Git LFS, and paths written on Windows."""

import pyarrow as pa
from pyarrow import parquet as pq
import pytest

from data_pipelines import readers
from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.storage import files
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested

POINTER = (
  b'version https://git-lfs.github.com/spec/v1\noid sha256:' + b'0' * 64
) + b'\nsize 12345\n'
LARGE = ('.wav', '.flac', '.opus', '.png', '.tar', '.parquet', '.tfrecord')


@pytest.mark.parametrize('name', [n for n in trees.TREES if n != 'tfds'])
def test_a_corpus_of_pointers(name, tmp_path):
  """Every large file is a pointer: nothing is kept, and the reason is told."""
  (tmp_path / 'in').mkdir()
  source, _ = trees.TREES[name](tmp_path / 'in')
  paths = [p for p in (tmp_path / 'in').rglob('*') if p.suffix in LARGE]
  for path in paths or [p for p in (tmp_path / 'in').rglob('*') if p.is_file()]:
    path.write_bytes(POINTER)
  for trust in (False, True):
    rules = admission.Rules(trust_durations=trust)
    try:
      kept, left = ingested(source, tmp_path / 'out', name, rules=rules)
    except errors.UserError as error:
      assert 'run `git lfs pull`' in str(error)
    else:
      # What needs no recording: chats, and texts that are to be spoken.
      assert all(u.audio is None and u.image is None for u in kept.values())
      assert any('run `git lfs pull`' in one['reason'] for one in left)


def test_one_pointer_costs_itself_alone(tmp_path):
  source = tmp_path / 'in'
  for name in 'ab':
    path = trees.tar(
      source / f'{name}.tar', [('k.wav', trees.tone(0.25)), ('k.txt', name)]
    )
    table = pa.table({'audio': [{'bytes': trees.tone(0.25)}], 'text': [name]})
    pq.write_table(table, source / f'{name}.parquet')
  path.write_bytes(POINTER)
  (source / 'b.parquet').write_bytes(POINTER)
  for format in ('webdataset', 'parquet'):
    kept, (left,) = ingested(source, tmp_path / format, format)
    assert [u.text for u in kept.values()] == ['a']
    assert 'a Git LFS pointer' in left['reason']
  for path in (source / 'b.tar', source / 'b.parquet'):
    with pytest.raises(errors.UserError, match='a Git LFS pointer'):
      ingested(path, tmp_path / 'none', 'auto')


def test_a_pointer_inside_of_an_archive(tmp_path):
  members = [('a.wav', POINTER), ('a.txt', 'x'), ('b.png', POINTER)]
  members += [('b.txt', 'x'), ('c.wav', trees.tone(0.25)), ('c.txt', 'x')]
  path = trees.tar(tmp_path / 'x.tar', members)
  kept, left = ingested(path, tmp_path / 'out', 'webdataset')
  assert list(kept) == ['x/c'] and len(left) == 2
  assert all('a Git LFS pointer' in one['reason'] for one in left)


def test_a_path_of_windows(tmp_path):
  source = tmp_path / 'in'
  trees.put(source / 'wavs' / '001.wav', trees.tone(0.25))
  trees.put(source / 'sub' / 'x.wav', trees.tone(0.25))
  trees.put(tmp_path / 'secret.wav', trees.tone(0.25))
  lines = [
    {'file': 'wavs\\001.wav', 'text': 'one'},
    {'file': '.\\sub\\x.wav', 'text': 'two'},
    {'file': 'wavs\\002.wav', 'text': 'not there'},
    {'file': 'C:\\corpus\\wavs\\3.wav', 'text': 'elsewhere'},
    {'file': 'wavs\\..\\..\\secret.wav', 'text': 'outside'},
    {'file': '..\\secret.wav', 'text': 'outside'},
    {'file': '\\\\server\\secret.wav', 'text': 'outside'},
  ]
  files.write_jsonl(source / 'metadata.jsonl', lines)
  kept, left = ingested(source, tmp_path / 'out', 'folder')
  assert {n: u.audio for n, u in kept.items()} == {
    '001': 'audio/wavs/001.wav', 'x': 'audio/sub/x.wav',
  }  # fmt: skip
  reasons = [one['reason'] for one in left]
  assert len(reasons) == 5
  for reason in reasons[:2]:
    assert 'a path with backslashes, and no file' in reason
  assert 'no file wavs/002.wav' in reasons[0]
  assert all("without '..'" in reason for reason in reasons[2:4])
  assert 'leads out of' in reasons[4]


@pytest.mark.parametrize('format', ['nemo', 'wenet', 'kaldi', 'seed_tts'])
def test_paths_of_windows_in_other_tables(format, tmp_path):
  (tmp_path / 'in').mkdir()
  source, expected = trees.TREES[format](tmp_path / 'in')
  name = {'nemo': '', 'wenet': 'data.list', 'kaldi': 'wav.scp'}
  table = source / name.get(format, 'meta.lst')
  text = table.read_text()
  escaped = '\\\\' if format in ('nemo', 'wenet') else '\\'
  for folder in ('wavs', 'wav', 'prompt-wavs'):
    text = text.replace(f'{folder}/', f'{folder}{escaped}')
  assert escaped in text
  table.write_text(text)
  kept, left = ingested(source, tmp_path / 'out', format)
  assert left == []
  paths = {u.audio for u in kept.values() if u.audio}
  assert paths and not any('\\' in path for path in paths)
  assert len(kept) == len(expected)


def test_a_name_that_has_a_backslash(tmp_path):
  """A file of that very name counts; its name cannot go into a corpus."""
  trees.put(tmp_path / 'a\\b.wav', trees.tone(0.25))
  trees.put(tmp_path / 'a' / 'b.wav', b'another')
  assert base.resolve_inside(tmp_path, 'a\\b.wav').name == 'a\\b.wav'
  assert base.with_slashes(tmp_path, 'a\\c.wav') == 'a/c.wav'
  trees.put(tmp_path / 'metadata.csv', 'file,text\na\\b.wav,x\n')
  (item,) = readers.READERS['folder'].read(tmp_path, base.Options())
  assert isinstance(item, base.Item)
  with pytest.raises(errors.UserError, match='backslash'):
    admission.admit(item, admission.Rules())
