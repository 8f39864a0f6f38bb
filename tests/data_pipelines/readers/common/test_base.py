"""What every reader stands on: lines of files, and paths that stay inside."""

import gzip
import json
import os
import pathlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.readers.common import base
from step_audio_jax import errors
from tests.data_pipelines.readers import trees

TEXT = st.text(
  st.characters(codec='utf-8', exclude_characters='\r\n'), max_size=12
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('base')


def parted(found):
  """(lines, refused) of what a reader of lines yields."""
  found = list(found)
  refused = [one for one in found if isinstance(one, base.Rejected)]
  return [one for one in found if not isinstance(one, base.Rejected)], refused


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
  st.lists(st.one_of(TEXT, st.binary(max_size=6)), max_size=8),
  st.booleans(),
  st.sampled_from([b'\n', b'\r\n']),
  st.booleans(),
  st.booleans(),
)
def test_lines_are_those_of_the_file(folder, lines, mark, end, last, zipped):
  raw = [
    line.encode() if isinstance(line, str) else line.replace(b'\n', b'')
    for line in lines
  ]
  data = b'\xef\xbb\xbf' * mark + end.join(raw) + end * last
  path = folder / ('x.gz' if zipped else 'x.txt')
  path.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
  expected, broken = [], []
  if not mark and raw and raw[0].startswith(b'\xef\xbb\xbf'):
    raw[0] = raw[0][3:]
  for number, line in enumerate(raw, start=1):
    try:
      text = line.decode().rstrip('\r')
    except UnicodeDecodeError:
      broken.append(number)
      continue
    if text.strip():
      expected.append((number, text))
  found, refused = parted(base.text_lines(path))
  assert found == expected
  assert [one.line for one in refused] == broken
  assert all('not UTF-8' in one.reason for one in refused)


def test_a_line_that_is_too_long_is_not_held(folder, monkeypatch):
  monkeypatch.setattr(base, 'LINE_BYTES', 100)
  path = folder / 'long.txt'
  for size in (99, 100, 101, 250, 300):
    path.write_bytes(b'one\n' + b'x' * size + b'\nthree\n' + b'y' * 500)
    found, refused = parted(base.text_lines(path))
    fits = size <= 99
    assert [number for number, _ in found] == ([1, 2, 3] if fits else [1, 3])
    assert [one.line for one in refused] == ([4] if fits else [2, 4])
    assert 'expected at most 100' in refused[-1].reason
    assert refused[-1].reason.startswith('a line of 500 bytes')


@pytest.mark.parametrize('cut', [1, 9, 20, -1])
def test_a_damaged_gzip_gives_what_came_before(cut, folder):
  whole = gzip.compress(b''.join(b'%d\n' % n for n in range(2000)), mtime=0)
  path = trees.put(folder / 'cut', b'').with_suffix('.gz')
  path.write_bytes(whole[:cut])
  found, refused = parted(base.text_lines(path))
  assert found == [(n + 1, str(n)) for n in range(len(found))]
  assert len(refused) == 1 and 'cut short or damaged' in refused[0].reason
  assert refused[0].line == len(found) + 1


def test_files_that_cannot_be_opened(folder):
  for path, words in ((folder / 'gone', 'no such file'), (folder, 'not read')):
    with pytest.raises(errors.UserError, match=words):
      list(base.text_lines(path))


@pytest.mark.parametrize(
  'line, words',
  [
    ('[1]', 'found list, expected a JSON object'),
    ('null', 'found NoneType'),
    ('{"a": 1', 'not a JSON line'),
    ("{'a': 1}", 'not a JSON line'),
    ('[' * 100_000, 'not a JSON line'),
    ('{"a": ' + '9' * 5000 + '}', 'not a JSON line'),
  ],
)
def test_lines_that_are_no_objects(line, words, folder):
  path = trees.put(folder / 'x.jsonl', f'{{"n": 1}}\n{line}\n{{"n": 3}}\n')
  found, refused = parted(base.json_lines(path))
  assert found == [(1, {'n': 1}), (3, {'n': 3})]
  assert words in refused[0].reason and refused[0].line == 2


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """A folder with files, folders and links, and a secret beside it."""
  top = tmp_path_factory.mktemp('paths')
  root = top / 'root'
  trees.put(root / 'a' / 'b' / 'f', b'inside')
  trees.put(root / 'f', b'inside')
  trees.put(top / 'secret', b'secret')
  trees.put(top / 'rooted' / 'f', b'secret')
  (root / 'up').symlink_to(top)
  (root / 'a' / 'in').symlink_to(root / 'a' / 'b')
  (root / 'a' / 'l').symlink_to(top / 'secret')
  (root / 'a' / 'g').symlink_to(root / 'f')
  (root / 'loop').symlink_to(root / 'loop')
  (root / 'hang').symlink_to(top / 'not there')
  os.mkfifo(root / 'pipe')
  return root


PARTS = st.sampled_from(
  ['a', 'b', 'f', 'g', 'l', 'in', 'up', '..', '.', '', '~', 'loop', 'hang',
   'pipe', 'root', 'rooted', 'secret', 'x\0y', 'n' * 300, '\ud800']
)  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
  st.lists(PARTS, min_size=1, max_size=5).map('/'.join),
  st.sampled_from(['', 'root', 'top', '/']),
)
def test_no_path_leads_out(root, name, start):
  name = {'': '', 'root': f'{root}/', 'top': f'{root.parent}/', '/': '/'}[
    start
  ] + name
  try:
    path, below = base.locate(root, name)
  except errors.UserError as error:
    assert str(error).startswith('audio: ')
    return
  real = os.path.realpath(path)
  assert real == str(path) and real.startswith(f'{root}/')
  assert not below.startswith('/') and '..' not in below.split('/')
  assert below == os.path.normpath(below)
  if os.path.exists(path):
    assert path.read_bytes() == b'inside'
    assert (root / below).read_bytes() == b'inside'


@pytest.mark.parametrize('name', ['pipe', 'pipe/.', 'pipe/', './pipe//.'])
def test_a_pipe_is_no_file_however_it_is_written(name, root):
  with pytest.raises(errors.UserError, match='not a regular file'):
    base.locate(root, name)


@pytest.mark.parametrize(
  'name, found',
  [
    ('f', 'f'),
    ('a/b/f', 'a/b/f'),
    ('a/in/f', 'a/b/f'),
    ('a/g', 'f'),
    ('./a//b/./f', 'a/b/f'),
    ('up/root/f', 'f'),
    ('not/yet/there', 'not/yet/there'),
  ],
)
def test_paths_that_stay_inside(name, found, root):
  assert base.resolve_inside(root, name) == root / found
  assert base.resolve_inside(root, str(root / name)) == root / found
  assert base.resolve_inside(root, pathlib.Path(name)) == root / found


@pytest.mark.parametrize(
  'name, words',
  [
    (None, "without '..'"),
    (7, "without '..'"),
    ('', "without '..'"),
    ('a/../f', "without '..'"),
    ('a\0f', "without '..'"),
    ('up/secret', '--audio_root names another'),
    ('a/l', 'leads out of'),
    ('hang', 'leads out of'),
    ('up/rooted/f', 'leads out of'),
    ('pipe', 'not a regular file'),
    ('a', 'not a regular file'),
  ],
)
def test_paths_that_are_refused(name, words, root):
  with pytest.raises(errors.UserError, match=words):
    base.resolve_inside(root, name)


def test_a_link_may_lead_into_the_folder_that_is_named(root, monkeypatch):
  (root / 'table').unlink(missing_ok=True)
  (root / 'table').symlink_to(root.parent / 'rooted' / 'f')
  with pytest.raises(errors.UserError, match='source: .* leads out'):
    base.file_of(root, base.Options(), 'table')
  options = base.Options(audio_root=root.parent / 'rooted')
  expected = root.parent / 'rooted' / 'f'
  assert base.file_of(root, options, 'table') == expected
  monkeypatch.chdir(root.parent)
  assert base.file_of(pathlib.Path('root'), options, 'table') == expected
  elsewhere = base.Options(audio_root=root / 'a')
  with pytest.raises(errors.UserError, match='leads out'):
    base.file_of(root, elsewhere, 'table')


def test_options_that_no_reader_knows():
  base.check_options({'text': 'x'}, ('id', 'text'))
  with pytest.raises(errors.UserError, match="option 'b', expected id, text"):
    base.check_options({'text': 'x', 'b': '1'}, ('id', 'text'))
  with pytest.raises(errors.UserError, match='none for this format'):
    base.check_options({'b': '1'}, ())


def test_a_sentence_becomes_a_refusal():
  assert base.reject_on_error('here', json.loads, '[1]') == [1]

  def fails():
    raise errors.UserError('audio: gone.')

  found = base.reject_on_error('here', fails, id='a', line=3, file='f')
  assert found == base.Rejected(
    'here', 'audio: gone.', id='a', line=3, file='f'
  )
  with pytest.raises(ValueError):
    base.reject_on_error(
      'here', json.loads, 'no'
    )  # a fault of the program stays one
