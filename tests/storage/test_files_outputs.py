"""Outputs that cannot be written: told in one sentence, nothing half stays."""

import contextlib
import errno
import json
import os
import pathlib
import resource
import tempfile

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.storage import shards

LONG = 'x' * 300


def tree(folder):
  return sorted(str(path) for path in folder.rglob('*'))


def blocked(tmp_path):
  """Paths that cannot be files, and what is found instead."""
  (tmp_path / 'file').write_text('old')
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'dangling').symlink_to(tmp_path / 'gone')
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  os.mkfifo(tmp_path / 'pipe')
  return {
    tmp_path / 'file/x': 'file is a file, expected a folder',
    tmp_path / 'file/a/b/x': 'file is a file, expected a folder',
    tmp_path / 'folder': 'found a folder, expected a file',
    tmp_path / 'dangling/x': 'dangling is a link to nothing, expected a folder',
    tmp_path / 'loop/x': 'loop is a link to nothing, expected a folder',
    tmp_path / 'pipe': 'found a device or pipe, expected a file',
    pathlib.Path('/dev/full'): 'found a device or pipe, expected a file',
    pathlib.Path('/dev/null/x'): '/dev/null is a device or pipe, expected a',
    pathlib.Path('/proc/x'): 'cannot be written (No such file or directory)',
    pathlib.Path('/sys/kernel/a/x'): 'cannot be written (',
    tmp_path / LONG: 'cannot be written (File name too long)',
    tmp_path / LONG / 'x': 'cannot be written (File name too long)',
  }


def test_what_cannot_be_a_file_is_found_out_before_and_while(tmp_path):
  cases = blocked(tmp_path)
  before = tree(tmp_path)
  for path, told in cases.items():
    for attempt in (
      files.check_writable,
      lambda path: files.write_json(path, 1),
      lambda path: files.write_jsonl(path, [1]),
    ):
      with pytest.raises(errors.UserError) as caught:
        attempt(path)
      sentence = str(caught.value)
      assert sentence.startswith(f'{path}: ') and sentence.count('\n') == 0
      assert told in sentence or 'cannot be written' in sentence
    with pytest.raises(errors.UserError) as caught:
      files.check_writable(path, '--output')
    assert str(caught.value).startswith(f'--output={path}: ')
    assert told in str(caught.value)
    assert tree(tmp_path) == before
  assert (tmp_path / 'file').read_text() == 'old'


def test_what_cannot_be_a_folder(tmp_path):
  blocked(tmp_path)
  before = tree(tmp_path)
  for name, told in {
    'file': 'found a file, expected a folder',
    'file/x': 'file is a file, expected a folder',
    'dangling': 'found a link to nothing, expected a folder',
    'pipe': 'found a device or pipe, expected a folder',
    LONG: 'File name too long',
  }.items():
    path = tmp_path / name
    for attempt in (
      lambda path: files.check_writable(path, folder=True),
      lambda path: files.atomic_folder(path).__enter__(),
      lambda path: files.atomic_folder(path, replace=True).__enter__(),
      lambda path: files.only_one(path).__enter__(),
    ):
      with pytest.raises(errors.UserError, match='expected a') as caught:
        attempt(path)
      assert str(path) in str(caught.value)
    with pytest.raises(errors.UserError) as caught:
      files.check_writable(path, folder=True)
    assert told in str(caught.value)
    assert tree(tmp_path) == before


def test_what_can_be_written_is_not_touched_by_the_check(tmp_path):
  (tmp_path / 'old').write_text('old')
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'old')
  before = tree(tmp_path)
  for name in ('old', 'new', 'a/b/c', 'link', 'x' * 255, '名' * 85):
    assert files.check_writable(tmp_path / name) == tmp_path / name
  for name in ('folder', 'new', 'a/b/c'):
    files.check_writable(tmp_path / name, folder=True)
  assert tree(tmp_path) == before
  for name in ('new', 'a/b/c', 'x' * 255, '名' * 85):
    files.write_json(tmp_path / name, 1)
    assert files.read_json(tmp_path / name) == 1


@pytest.mark.parametrize('number', [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_no_permission_a_read_only_disk_a_used_up_quota(
  tmp_path, monkeypatch, number
):
  def refuse(*args, **kwargs):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(tempfile, 'TemporaryFile', refuse)
  with pytest.raises(errors.UserError, match=os.strerror(number)):
    files.check_writable(tmp_path / 'a/x')
  assert tree(tmp_path) == []


@contextlib.contextmanager
def disk_of(size):
  """No file grows beyond `size` bytes, as on a disk that is full."""
  old = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize('name', ['x', 'a/b/x'])
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path, name):
  path = tmp_path / name
  if name == 'x':
    path.write_text('old')
  before = tree(tmp_path)
  with disk_of(1000):
    for write in (
      lambda: files.write_json(path, 'y' * 10**6),
      lambda: files.write_jsonl(path, ['y'] * 10**6),
    ):
      with pytest.raises(
        errors.UserError, match='x: cannot be written .File t'
      ):
        write()
  assert tree(tmp_path) == before
  assert name != 'x' or path.read_text() == 'old'


@pytest.mark.parametrize('replace', [False, True])
def test_a_folder_on_a_disk_that_fills_up(tmp_path, replace):
  path = tmp_path / 'a/b'
  if replace:
    path.mkdir(parents=True)
    (path / 'old').write_text('old')
  before = tree(tmp_path)
  with disk_of(1000):
    with pytest.raises(errors.UserError, match='b: cannot be written'):
      with files.atomic_folder(path, replace=replace) as part:
        (part / 'first').write_text('new')
        (part / 'second').write_text('y' * 10**6)
  assert tree(tmp_path) == before
  with files.atomic_folder(path, replace=replace) as part:
    (part / 'first').write_text('new')
  assert tree(tmp_path / 'a') == [str(path), str(path / 'first')]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
  path = tmp_path / 'a'
  path.mkdir()

  def write(text):
    with files.atomic_folder(path, replace=True, expected={'x'}) as part:
      (part / 'x').write_text(text)

  write('first')
  write('second')
  assert (path / 'x').read_text() == 'second'
  (path / 'thesis.tex').write_text('old')
  with pytest.raises(
    errors.UserError, match="holds 'thesis.tex', expected a new or empty"
  ):
    write('third')
  assert tree(tmp_path) == [str(path), f'{path}/thesis.tex', f'{path}/x']


def test_a_folder_is_replaced_where_it_lies(tmp_path, monkeypatch):
  """Behind a link, under the name `.`, beside names that look like patterns."""
  for name in ('real', 'a*'):
    (tmp_path / name).mkdir()
  (tmp_path / 'link').symlink_to('real')
  other = tmp_path / '.ab.1.tmp'  # another process writes `ab`
  other.mkdir()
  monkeypatch.chdir(tmp_path / 'real')
  for path in (pathlib.Path('.'), tmp_path / 'link', tmp_path / 'a*'):
    with files.atomic_folder(path, replace=True) as part:
      (part / 'x').write_text(str(path))
    assert (path if path.name else tmp_path / 'real').joinpath('x').is_file()
  assert (tmp_path / 'link').is_symlink() and other.is_dir()
  assert (tmp_path / 'real/x').read_text() == str(tmp_path / 'link')
  assert (tmp_path / 'a*/x').is_file()


def test_the_old_folder_comes_back_where_the_new_one_cannot(
  tmp_path, monkeypatch
):
  path = tmp_path / 'a'
  path.mkdir()
  (path / 'x').write_text('old')
  rename = pathlib.Path.rename

  def failing(self, target):
    if self == files.temporary(path):
      raise OSError(errno.EIO, 'Input/output error')
    return rename(self, target)

  monkeypatch.setattr(pathlib.Path, 'rename', failing)
  with pytest.raises(errors.UserError, match='Input/output error'):
    with files.atomic_folder(path, replace=True) as part:
      (part / 'x').write_text('new')
  assert tree(tmp_path) == [str(path), f'{path}/x']
  assert (path / 'x').read_text() == 'old'


def test_errors_of_other_files_stay_what_they_are(tmp_path):
  with pytest.raises(FileNotFoundError, match='source'):
    with files.atomic(tmp_path / 'a/x'):
      open(tmp_path / 'source')
  with pytest.raises(BrokenPipeError):
    with files.atomic(tmp_path / 'a/x'):
      raise BrokenPipeError
  assert tree(tmp_path) == []


ADDRESSES = [
  'http://host/x', 'hdfs://host/x', 'file://host/x', 'gs:/bucket/x',
  'file:/tmp/x', 'abc+d.e-1://x',
]  # fmt: skip


@pytest.mark.parametrize('path', ADDRESSES)
def test_an_address_of_no_store_is_refused_wherever_a_path_is_taken(
  path, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for take in (
    files.path,
    files.local,
    files.check_writable,
    files.opened,
    files.read_json,
    lambda path: list(files.read_jsonl(path)),
    lambda path: files.write_json(path, 1),
    lambda path: files.write_json(pathlib.Path(path) / 'x.json', 1),
    lambda path: files.read_json(pathlib.Path(path) / 'x.json'),
    lambda path: files.atomic_folder(path).__enter__(),
    lambda path: files.only_one(path).__enter__(),
  ):
    with pytest.raises(errors.UserError, match='an address, exp|one slash'):
      take(path)
  assert tree(tmp_path) == []


@pytest.mark.parametrize(
  'path', ['x', './gs:/x', 'C:/x', 'a b/c: d/e', '12:/x', '/a/gs://b', 'gs:x']
)
def test_what_is_no_address(path):
  assert files.local(path) == pathlib.Path(path)


@pytest.mark.parametrize(
  ('path', 'found'), [('', 'nothing'), ('a\0b', 'a null character')]
)
def test_what_is_no_path_at_all(path, found):
  with pytest.raises(errors.UserError, match=f'--to.*found {found}, expected'):
    files.check_writable(path, '--to')


def test_a_name_that_is_not_utf_8_is_written_and_read(tmp_path):
  name = os.fsdecode(b'a\xff.wav')
  files.write_json(tmp_path / 'x.json', {'file': name, 'text': '你好'})
  raw = (tmp_path / 'x.json').read_text(encoding='utf-8')
  assert '你好' in raw
  assert json.loads(raw)['file'] == name
  files.write_jsonl(tmp_path / 'x.jsonl', [name])
  assert list(files.read_jsonl(tmp_path / 'x.jsonl')) == [name]


def test_a_pipe_can_be_read_more_than_once(tmp_path, monkeypatch):
  monkeypatch.setattr(files, '_HELD', {})
  data = bytes(range(256)) * 1000
  read, write = os.pipe()
  child = os.fork()
  if not child:
    os.close(read)
    with open(write, 'wb') as handle:
      handle.write(data)
    os._exit(0)
  os.close(write)
  path = f'/dev/fd/{read}'
  for keywords in ({}, {'buffering': 0}):
    with files.opened(path, **keywords) as handle:
      assert handle.seekable() and handle.read(3) == data[:3]
  with files.opened(path, mode='r', encoding='latin-1', newline='') as handle:
    assert handle.read() == data.decode('latin-1')
  os.waitpid(child, 0)
  os.close(read)


def test_a_device_without_an_end(monkeypatch):
  monkeypatch.setattr(files, '_MOST_HELD', 2**20)
  with pytest.raises(errors.UserError, match='zero: .* more than 1 MiB, expec'):
    files.opened('/dev/zero')
  with files.opened('/dev/null') as handle:
    assert handle.read() == b''


@pytest.mark.parametrize(
  'read',
  [files.opened, files.read_json, digests.of_file, shards.read_header],
)
def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path, read):
  os.mkfifo(tmp_path / 'x')
  (tmp_path / 'link').symlink_to(tmp_path / 'x')
  for path in (tmp_path / 'x', tmp_path / 'link'):
    with pytest.raises(errors.UserError, match='found a pipe, .* a file') as e:
      read(path)
    assert str(path) in str(e.value)


@pytest.mark.parametrize(
  'read', [files.open_read, files.read_bytes, files.read_text]
)
def test_so_it_is_where_others_tell_the_error(tmp_path, read):
  os.mkfifo(tmp_path / 'x')
  with pytest.raises(OSError, match='found a pipe, .* expected a file'):
    read(tmp_path / 'x')
