"""A corpus appears whole: kills, refusals, earlier corpora, other processes."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from data_pipelines.ingestion import ingest
from data_pipelines.ingestion import staging
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.readers import trees

FILES = {'manifest.jsonl', 'quarantine.jsonl', 'stats.json', 'audio'}


@pytest.fixture
def source(tmp_path):
  """Three recordings and their table."""
  for number in range(3):
    trees.put(tmp_path / 'in' / f'{number}.wav', trees.tone(0.25 + number / 8))
  table(tmp_path / 'in', 'one', 'two', 'three')
  return tmp_path / 'in'


def table(root, *texts):
  lines = [{'file': f'{n}.wav', 'text': text} for n, text in enumerate(texts)]
  trees.put(root / 'metadata.jsonl', lines)


def tree(root):
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in root.rglob('*')
    if path.is_file()
  }


def stop_at(monkeypatch, name, count, error):
  """The `count`th call of a function that ingests raises."""
  module = files if name == 'put' else staging
  real, calls = getattr(module, name), []

  def stops(*args):
    calls.append(args)
    if len(calls) == count:
      raise error
    return real(*args)

  monkeypatch.setattr(module, name, stops)


def test_what_a_corpus_folder_holds(source, tmp_path):
  (source / '1.wav').unlink()
  result = ingest.ingest(source, tmp_path / 'out')
  assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES
  stats = files.read_json(tmp_path / 'out' / 'stats.json')
  assert stats == result and stats['read'] == 3
  assert (stats['kept'], stats['quarantined']) == (2, 1)
  assert stats['utterances'] == 2 and stats['mean_seconds'] == 0.375
  (left,) = files.read_jsonl(tmp_path / 'out' / 'quarantine.jsonl')
  assert left['id'] == '1' and left['line'] == 2
  assert left['where'] == f'{source}/metadata.jsonl:2'


@pytest.mark.parametrize('error', [KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize('name, count', [('put', 2), ('_commit', 1)])
def test_a_first_run_that_stops_leaves_nothing(
  name, count, error, source, tmp_path, monkeypatch
):
  stop_at(monkeypatch, name, count, error)
  with pytest.raises(type(error)):
    ingest.ingest(source, tmp_path / 'out')
  assert [path.name for path in tmp_path.iterdir()] == ['in']
  monkeypatch.undo()
  assert ingest.ingest(source, tmp_path / 'out')['kept'] == 3


@pytest.mark.parametrize(
  'error', [KeyboardInterrupt(), errors.UserError('x'), OSError(28, 'full')]
)
def test_a_second_run_that_stops_leaves_the_first(
  error, source, tmp_path, monkeypatch
):
  ingest.ingest(source, tmp_path / 'out')
  before = tree(tmp_path / 'out')
  table(source, 'eins', 'zwei', 'drei')
  stop_at(monkeypatch, '_commit', 1, error)
  with pytest.raises((KeyboardInterrupt, errors.UserError)):
    ingest.ingest(source, tmp_path / 'out')
  assert tree(tmp_path / 'out') == before
  monkeypatch.undo()
  ingest.ingest(source, tmp_path / 'out')
  texts = [u.text for u in manifest.read(tmp_path / 'out')]
  assert texts == ['eins', 'zwei', 'drei']


def test_a_full_disk_is_told_and_a_bad_recording_costs_itself(
  source, tmp_path, monkeypatch
):
  stop_at(monkeypatch, 'put', 2, OSError(5, 'Input/output error'))
  result = ingest.ingest(source, tmp_path / 'out')
  assert (result['kept'], result['quarantined']) == (2, 1)
  (left,) = files.read_jsonl(tmp_path / 'out' / 'quarantine.jsonl')
  assert 'Input/output error' in left['reason']
  monkeypatch.undo()
  stop_at(monkeypatch, 'put', 2, OSError(28, 'No space left on device'))
  with pytest.raises(errors.UserError, match='audio/1.wav: No space left'):
    ingest.ingest(source, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('step', range(1, 6))
def test_killed_between_two_renamings_there_is_no_corpus(
  step, source, tmp_path, monkeypatch
):
  out = tmp_path / 'out'
  ingest.ingest(source, out)
  table(source, 'eins', 'zwei', 'drei')
  real, calls = os.replace, []

  def stops(old, new):
    if pathlib.Path(new).is_relative_to(out) and '.ingest' not in str(new):
      calls.append(new)
      if len(calls) == step:
        raise KeyboardInterrupt
    real(old, new)

  monkeypatch.setattr(os, 'replace', stops)
  with pytest.raises(KeyboardInterrupt):
    ingest.ingest(source, out)
  assert not (out / 'manifest.jsonl').exists()
  monkeypatch.undo()
  assert ingest.ingest(source, out)['kept'] == 3
  assert {path.name for path in out.iterdir()} == FILES


KILLED = """
import os, signal, sys
from data_pipelines.ingestion import ingest
from step_audio_jax.storage import files
real, calls = files.put, []
def place(*args):
  calls.append(1)
  if len(calls) == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  real(*args)
files.put = place
ingest.ingest(sys.argv[1], sys.argv[2])
"""


def test_what_a_killed_process_left_is_cleared(source, tmp_path):
  out = tmp_path / 'out'
  done = subprocess.run([sys.executable, '-c', KILLED, str(source), str(out)])
  assert done.returncode == -signal.SIGKILL
  assert [path.name for path in out.iterdir()] == ['.ingest']
  assert (out / '.ingest' / 'audio' / '1.wav').exists()
  table(source, 'one')  # the second recording is no longer in the corpus
  assert ingest.ingest(source, out)['kept'] == 1
  assert {path.name for path in out.iterdir()} == FILES
  assert [path.name for path in (out / 'audio').iterdir()] == ['0.wav']


def test_two_processes_do_not_write_one_corpus(source, tmp_path):
  with files.only_one(tmp_path / 'out' / '.ingest'):
    with pytest.raises(errors.UserError, match='another process is writing'):
      ingest.ingest(source, tmp_path / 'out')
  assert ingest.ingest(source, tmp_path / 'out')['kept'] == 3


@pytest.mark.parametrize('below', ['', 'audio', 'audio/deep', 'images'])
def test_a_source_is_not_overwritten(below, source, tmp_path):
  where = tmp_path / 'out' / below
  where.parent.mkdir(parents=True, exist_ok=True)
  source.rename(where)
  before = tree(tmp_path)
  with pytest.raises(errors.UserError, match='would be overwritten'):
    ingest.ingest(where, tmp_path / 'out')
  assert tree(tmp_path) == before


def test_a_corpus_may_lie_beside_or_in_its_source(source):
  assert ingest.ingest(source, source / 'corpus')['kept'] == 3
  assert ingest.ingest(source, source / 'corpus')['kept'] == 3


def test_an_output_that_is_a_file(source, tmp_path):
  path = trees.put(tmp_path / 'file', 'mine')
  for output in (path, path / 'below'):
    with pytest.raises(errors.UserError, match='file'):
      ingest.ingest(source, output)
  assert path.read_text() == 'mine'


@pytest.mark.parametrize('copy', [False, True])
def test_no_link_is_written_through(copy, tmp_path):
  ours = trees.put(tmp_path / 'ours.wav', b'ours')
  other = trees.put(tmp_path / 'other.wav', b'other')
  target = tmp_path / 'out' / 'a.wav'
  files.put(ours, target, copy)
  for content in (other, b'bytes'):
    with pytest.raises(FileExistsError):
      files.put(content, target, copy)
  assert ours.read_bytes() == target.read_bytes() == b'ours'
  assert target.samefile(ours) != copy


def test_a_copy_that_fails_leaves_no_part(tmp_path, monkeypatch):
  ours = trees.put(tmp_path / 'ours.wav', b'ours')

  def fails(taken, out, size):
    out.write(taken.read(1))
    raise OSError(5, 'Input/output error')

  monkeypatch.setattr(shutil, 'copyfileobj', fails)
  with pytest.raises(OSError, match='Input/output'):
    files.put(ours, tmp_path / 'out' / 'a.wav', True)
  assert not list((tmp_path / 'out').iterdir())


def test_a_dry_run_counts_what_a_run_counts(source, tmp_path):
  (source / '2.wav').unlink()
  (source / '1.wav').write_text('no audio')
  before = tree(tmp_path)
  run = ingest.preview(source)
  assert tree(tmp_path) == before
  assert run.counts() == {'read': 3, 'kept': 1, 'quarantined': 2}
  result = ingest.ingest(source, tmp_path / 'out')
  assert run.result() == result
  assert 'metadata.jsonl:2: ' in run.first and 'as audio' in run.first
