"""What lies somewhere already: found, moved, linked, claimed, removed."""

import errno
import os

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_text()
    for path in files.list_files(folder)
  }


def test_what_cannot_be_looked_at_is_not_there(tmp_path):
  (tmp_path / 'file').write_text('abc')
  (tmp_path / 'lost').symlink_to(tmp_path / 'gone')
  for path in (tmp_path / 'no', tmp_path / 'file/x', '', 'a\0b', 'x' * 300):
    assert not (files.exists(path) or files.is_file(path) or files.is_dir(path))
  assert files.is_named(tmp_path / 'lost') and not files.exists(
    tmp_path / 'lost'
  )
  assert files.size(str(tmp_path / 'file')) == 3
  with pytest.raises(FileNotFoundError):
    files.state(tmp_path / 'no')


def test_a_changed_file_has_another_state(tmp_path):
  path = tmp_path / 'x'
  files.write_bytes(path, b'one')
  before = files.state(path)
  assert before == files.state(str(path)) and before.size == 3
  files.write_bytes(path, b'two')
  assert files.state(path) != before


def test_one_look_at_a_file(tmp_path):
  (tmp_path / 'file').write_text('abc')
  (tmp_path / 'link').symlink_to('file')
  (tmp_path / 'lost').symlink_to('gone')
  whole = os.path.realpath(tmp_path)
  assert files.look(f'{whole}/file') == (f'{whole}/file', True, 3)
  assert files.look(f'{whole}/link') == (f'{whole}/file', True, 3)
  assert files.look(f'{whole}/lost') == (f'{whole}/gone', None, 0)
  assert files.look(whole)[1] is False


def test_folders_are_merged(tmp_path):
  for name in ('new/a/x', 'new/b/y', 'old/a/x', 'old/a/z'):
    files.write_bytes(tmp_path / name, name.encode())
  files.merge(tmp_path / 'new', tmp_path / 'old')
  assert tree(tmp_path / 'old') == {
    'a/x': 'new/a/x',
    'a/z': 'old/a/z',
    'b/y': 'new/b/y',
  }
  files.merge(tmp_path / 'old', tmp_path / 'other')
  assert len(tree(tmp_path / 'other')) == 3
  assert not files.exists(tmp_path / 'old')


def test_moved_also_to_another_disk(tmp_path, monkeypatch):
  def refuse(*_):
    raise OSError(errno.EXDEV, 'cross-device link')

  files.write_bytes(tmp_path / 'a/x', b'1')
  files.move(tmp_path / 'a', tmp_path / 'b')
  monkeypatch.setattr(os, 'replace', refuse)
  files.move(tmp_path / 'b', tmp_path / 'c')
  assert tree(tmp_path) == {'c/x': '1'}


@pytest.mark.parametrize('copy', [False, True])
def test_what_is_put_somewhere_takes_no_place_of_another(tmp_path, copy):
  (tmp_path / 'x').write_text('abc')
  files.put(tmp_path / 'x', tmp_path / 'a/b/x', copy)
  files.put(b'def', str(tmp_path / 'c/y'), copy)
  for name in ('a/b/x', 'c/y'):
    with pytest.raises(FileExistsError):
      files.put(tmp_path / 'x', tmp_path / name, copy)
  assert tree(tmp_path) == {'x': 'abc', 'a/b/x': 'abc', 'c/y': 'def'}


def test_removed_or_not_there(tmp_path):
  files.write_bytes(tmp_path / 'a/x', b'1')
  files.remove_empty(tmp_path / 'a')
  assert tree(tmp_path) == {'a/x': '1'}
  for _ in range(2):
    files.remove(tmp_path / 'a/x')
  for _ in range(2):
    files.remove_empty(tmp_path / 'a')
    files.remove_tree(tmp_path / 'a')
  assert not list(files.list_folder(tmp_path))


def test_a_claimed_folder_is_emptied_and_stays_claimed(tmp_path):
  (tmp_path / 'outside').write_text('1')
  folder = tmp_path / 'a'
  with files.only_one(folder):
    files.write_bytes(folder / 'b/x', b'1')
    files.write_bytes(folder / 'y', b'1')
    (folder / 'link').symlink_to(tmp_path)
    files.empty(folder)
    assert [path.name for path in files.list_folder(folder)] == ['.lock']
    with pytest.raises(errors.UserError, match='another process is writing'):
      with files.only_one(folder):
        pass
  assert files.exists(tmp_path / 'outside')


def test_a_claimed_file_is_read_and_appended_to(tmp_path):
  path = tmp_path / 'a/x'
  for text in (b'one', b'two'):
    with files.claim_file(path) as handle:
      before = handle.read()
      handle.write(text)
  assert before == b'one' and files.read_bytes(path) == b'onetwo'


def test_a_log_is_seen_while_it_grows(tmp_path):
  with files.open_log(tmp_path / 'x') as log:
    log.write('你')
    log.flush()
    assert files.read_text(tmp_path / 'x') == '你'
  with files.open_log(tmp_path / 'x', 'a') as log:
    log.write('好')
  assert files.read_text(tmp_path / 'x') == '你好'
