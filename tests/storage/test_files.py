"""Files are whole or absent; bad ones are told by name."""

import json
import os

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files

JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.text(),
  lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
  ),
  max_leaves=12,
)


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_atomic_write_makes_folders_and_leaves_only_the_file(tmp_path):
  path = tmp_path / 'a/b/x.bin'
  with files.atomic(path) as handle:
    handle.write(b'123')
    assert not path.exists()
  assert path.read_bytes() == b'123'
  assert names(path.parent) == ['x.bin']


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'x.txt'
  path.write_text('old')
  with pytest.raises(RuntimeError):
    with files.atomic(path, 'w') as handle:
      handle.write('half of the n')
      raise RuntimeError
  assert path.read_text() == 'old'
  assert names(tmp_path) == ['x.txt']


def test_a_kill_during_the_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'x.txt'
  path.write_text('old')
  child = os.fork()
  if not child:
    with files.atomic(path, 'w') as handle:
      handle.write('half')
      handle.flush()
      os._exit(9)
  os.waitpid(child, 0)
  assert path.read_text() == 'old'


@hypothesis.given(value=JSON)
def test_json_round_trip(tmp_path_factory, value):
  path = tmp_path_factory.mktemp('json') / 'x.json'
  files.write_json(path, value)
  assert files.read_json(path) == value


@hypothesis.given(items=st.lists(JSON, max_size=6))
def test_jsonl_round_trip(tmp_path_factory, items):
  path = tmp_path_factory.mktemp('jsonl') / 'x.jsonl'
  assert files.write_jsonl(path, items) == len(items)
  assert list(files.read_jsonl(path)) == items
  assert path.read_text(encoding='utf-8').count('\n') == len(items)


def test_json_is_readable_text(tmp_path):
  files.write_json(tmp_path / 'x.json', {'b': '你好', 'a': 1})
  text = (tmp_path / 'x.json').read_text(encoding='utf-8')
  assert '你好' in text and text.index('"a"') < text.index('"b"')


def test_jsonl_skips_blank_lines_and_a_byte_order_mark(tmp_path):
  (tmp_path / 'x.jsonl').write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n  \n2\n')
  assert list(files.read_jsonl(tmp_path / 'x.jsonl')) == [{'a': 1}, 2]


@pytest.mark.parametrize('read', [files.read_json, files.read_jsonl])
def test_missing_file(tmp_path, read):
  with pytest.raises(errors.UserError, match='x: no such file'):
    list(read(tmp_path / 'x'))


@pytest.mark.parametrize(
  'data', [b'{"a": ', b'', b'\xff\xfe\x00', b'RIFF....WAVE']
)
def test_bad_json_is_told_by_name(tmp_path, data):
  (tmp_path / 'x.json').write_bytes(data)
  with pytest.raises(errors.UserError, match='x.json: not valid JSON'):
    files.read_json(tmp_path / 'x.json')


DEEP = '[' * 100_000 + ']' * 100_000


def test_json_that_is_too_deep_is_told_by_name(tmp_path):
  (tmp_path / 'x.json').write_text(DEEP)
  with pytest.raises(errors.UserError, match='x.json: not valid .* too deep'):
    files.read_json(tmp_path / 'x.json')
  (tmp_path / 'x.jsonl').write_text(f'{{}}\n{DEEP}\n')
  with pytest.raises(errors.UserError, match='x.jsonl:2: not a .* too deep'):
    list(files.read_jsonl(tmp_path / 'x.jsonl'))


def test_bad_jsonl_line_is_told_by_number(tmp_path):
  good = json.dumps({'a': 1})
  (tmp_path / 'x.jsonl').write_text(f'{good}\n\n{good[:-1]}\n{good}\n')
  with pytest.raises(errors.UserError, match=r'x.jsonl:3: not a JSON line'):
    list(files.read_jsonl(tmp_path / 'x.jsonl'))


def test_a_line_that_is_no_text_is_named_though_many_are_read_at_once(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_bytes(b'{"a": 1}\n' * 40 + b'{"a": "\xff"}\n' + b'{"a": 1}\n')
  with pytest.raises(errors.UserError, match=r'x.jsonl:41: .* position 7'):
    list(files.read_jsonl(path))


def in_a_child(work):
  """Runs `work` in a process of its own; returns its exit status."""
  child = os.fork()
  if not child:
    try:
      os._exit(work() or 0)
    except BaseException:
      os._exit(99)
  _, status = os.waitpid(child, 0)
  return os.waitstatus_to_exitcode(status)


def enters(folder):
  try:
    with files.only_one(folder):
      return 0
  except errors.UserError as error:
    assert f'{folder}: another process is writing here' in str(error)
    return 3


def test_only_one_process_at_a_time(tmp_path):
  folder = tmp_path / 'deep' / 'run'
  with files.only_one(folder):
    assert folder.is_dir()
    assert in_a_child(lambda: enters(folder)) == 3
    assert in_a_child(lambda: enters(tmp_path / 'another')) == 0
  assert in_a_child(lambda: enters(folder)) == 0


def test_an_exception_lets_the_next_one_in(tmp_path):
  with pytest.raises(RuntimeError):
    with files.only_one(tmp_path):
      raise RuntimeError
  assert enters(tmp_path) == 0


def test_the_lock_dies_with_its_process(tmp_path):
  def die_inside():
    with files.only_one(tmp_path):
      os._exit(9)

  assert in_a_child(die_inside) == 9
  assert (tmp_path / '.lock').exists()
  assert enters(tmp_path) == 0


def test_the_lock_goes_along_with_atomic_writes(tmp_path):
  with files.only_one(tmp_path):
    files.write_json(tmp_path / 'x.json', 1)
  assert names(tmp_path) == ['.lock', 'x.json']
