"""Texts, images with captions, and what corpora call their fields."""

import gzip

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.readers import texts
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested

BOM = b'\xef\xbb\xbf'


def test_lines_and_paragraphs(tmp_path):
  text = BOM + 'one\r\ntwo\r\n\r\n \t\r\n三\r\n\x0b\r\nend'.encode()
  path = trees.put(tmp_path / 'in' / 'a.txt', text)
  kept, left = ingested(path, tmp_path / 'out', 'text_txt')
  assert {u.id: u.text for u in kept.values()} == {
    'a-1': 'one', 'a-2': 'two', 'a-5': '三', 'a-7': 'end',
  }  # fmt: skip
  assert {u.kind for u in kept.values()} == {'text'} and left == []
  kept, _ = ingested(path, tmp_path / 'two', 'text_txt', document='paragraph')
  assert {u.id: u.text for u in kept.values()} == {
    'a-1': 'one\ntwo', 'a-5': '三', 'a-7': 'end',
  }  # fmt: skip
  for extra in ({'document': 'page'}, {'text': 'a'}):
    with pytest.raises(errors.UserError, match='--reader_option'):
      ingested(path, tmp_path / 'three', 'text_txt', **extra)


BLANK = st.sampled_from(['', ' ', '\t', '\u3000'])
LINE = st.text(
  st.characters(codec='utf-8', exclude_characters='\n\r'), max_size=5
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.one_of(BLANK, LINE)), st.sampled_from(['\n', '\r\n']))
def test_paragraphs_are_what_blank_lines_part(tmp_path_factory, lines, end):
  path = tmp_path_factory.getbasetemp() / 'paragraphs.txt'
  path.write_bytes(end.join(lines).encode())
  expected, fresh = [], True
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      fresh = True
    elif fresh:
      expected.append([number, line])
      fresh = False
    else:
      expected[-1][1] += '\n' + line
  if expected and lines[0].startswith('\ufeff'):
    return  # a byte order mark, not a character
  found = texts.paragraphs(path, base.text_lines(path))
  assert list(map(list, found)) == expected


def test_bad_lines_of_text(tmp_path, monkeypatch):
  monkeypatch.setattr(base, 'LINE_BYTES', 100)
  lines = [b'good', b'caf\xe9', b'x' * 300, b'last']
  path = trees.put(tmp_path / 'in' / 'a.txt', b'\n'.join(lines))
  kept, left = ingested(path, tmp_path / 'out', 'text_txt')
  assert [u.text for u in kept.values()] == ['good', 'last']
  assert [one['line'] for one in left] == [2, 3]
  assert 'not UTF-8' in left[0]['reason']
  assert 'a line of 30' in left[1]['reason']
  blocks = [lines[:2], [b'fine'], [b'y' * 60] * 3, [b'end']]
  path.write_bytes(b'\n\n'.join(map(b'\n'.join, blocks)))
  kept, left = ingested(
    path, tmp_path / 'two', 'text_txt', document='paragraph'
  )
  assert [u.text for u in kept.values()] == ['fine', 'end']
  assert 'not UTF-8' in left[0]['reason']
  assert 'a paragraph of more than 100' in left[1]['reason']


def test_documents_may_be_long_but_not_endless(tmp_path):
  sizes = (10_000_000, 16_000_001)
  trees.put(tmp_path / 'in' / 'a.jsonl', [{'text': 'x' * n} for n in sizes])
  kept, (left,) = ingested(tmp_path / 'in', tmp_path / 'out', 'text_jsonl')
  assert len(kept['a-1'].text) == 10_000_000
  assert '16000001 bytes, expected at most 16000000' in left['reason']


@pytest.mark.parametrize(
  'line, reason',
  [
    ({'text': ''}, 'text: missing'),
    ({'text': None}, 'text: missing'),
    ({'body': 'other'}, 'text: missing'),
    ({'text': ['a']}, "text: found ['a'], expected a string"),
    ({'text': 'a', 'id': 1.5}, 'id: found 1.5'),
    ({'text': 'a', 'id': 'good'}, 'occurs twice'),
    ({'text': 'a', 'split': 3}, 'split: found 3'),
    ({'text': 'a', 'language': ['en']}, 'language: found'),
    ({'text': '\ud800'}, 'half of a character'),
  ],
)
def test_bad_lines_of_json(line, reason, tmp_path):
  lines = [{'id': 'good', 'content': 'fine'}, line]
  path = tmp_path / 'a.jsonl'
  path.write_text(''.join(f'{base.json.dumps(line)}\n' for line in lines))
  kept, (left,) = ingested(path, tmp_path / 'out', 'text_jsonl')
  assert list(kept) == ['good'] and reason in left['reason']
  assert (left['line'], left['where']) == (2, f'{path}:2')


def test_a_column_of_another_name_and_files_below(tmp_path):
  source = tmp_path / 'in'
  trees.put(source / 'x' / 'a.jsonl', [{'body': 'one', 'text': 'no'}])
  trees.put(source / 'b.json.gz', [{'body': 'two', 'uuid': 5}])
  trees.put(source / 'c.txt', 'passed over')
  cut = gzip.compress(b'{"body": "three"}\n' * 9)[:-9]
  (source / 'd.jsonl.gz').write_bytes(cut)
  options = {'text': 'body'}
  kept, left = ingested(source, tmp_path / 'out', 'text_jsonl', **options)
  assert kept['x/a-1'].text == 'one' and kept['5'].text == 'two'
  assert 'cut short or damaged' in left[-1]['reason']


def test_images_beside_their_lines(tmp_path):
  source = tmp_path / 'in'
  trees.put(tmp_path / 'secret.png', trees.png('black'))
  trees.put(source / 'a' / 'img' / '1.png', trees.png('red'))
  trees.put(source / 'a' / 'text.png', 'these are words')
  (source / 'a' / 'link.png').symlink_to(tmp_path / 'secret.png')
  lines = [
    {'image': 'img/1.png', 'caption': 'red', 'id': 'good'},
    {'file_name': 'img/1.png', 'text': 'the same file', 'split': 'val'},
    {'image': 'gone.png', 'caption': 'a'},
    {'image': '../../secret.png', 'caption': 'a'},
    {'image': 'link.png', 'caption': 'a'},
    {'image': str(tmp_path / 'secret.png'), 'caption': 'a'},
    {'image': 'text.png', 'caption': 'a'},
    {'image': 'img', 'caption': 'a'},
    {'image': 3, 'caption': 'a'},
    {'caption': 'a'},
    {'image': 'img/1.png'},
    {'image': 'img/1.png', 'caption': ' '},
    {'image': 'img/1.png', 'caption': 'x' * 10**7},
    {'image': 'img/1.png', 'caption': 'a', 'id': 'good'},
  ]
  trees.put(source / 'a' / 'captions.jsonl', lines)
  kept, left = ingested(source, tmp_path / 'out', 'image_jsonl')
  assert {u.id: (u.image, u.split) for u in kept.values()} == {
    'good': ('images/a/img/1.png', kept['good'].split),
    'a/captions-2': ('images/a/img/1.png', 'dev'),
  }
  said = {one['line']: one['reason'] for one in left}
  for line, reason in {
    3: 'no such file', 4: "without '..'", 5: 'leads out of',
    6: 'leads out of', 7: 'not readable as an image', 8: 'not a regular file',
    9: 'expected a path inside', 10: 'expected a path inside',
    11: 'text: missing', 12: 'text: missing', 13: 'expected at most 1000000',
    14: 'occurs twice',
  }.items():  # fmt: skip
    assert reason in said[line], said[line]
  assert not list((tmp_path / 'out').rglob('*secret*'))
  kept, _ = ingested(source, tmp_path / 'two', 'image_jsonl', root=tmp_path)
  assert 'good' not in kept  # its path is below another folder now
  assert [u.text for u in kept.values()] == ['a']


@pytest.mark.parametrize(
  'value, told',
  [
    ('English', 'en'), ('en-US', 'en'), ('zh_CN', 'zh'), (' YUE ', 'yue'),
    ('-', '-'), ('', None), (None, None), ('tlh', 'tlh'),
  ],
)  # fmt: skip
def test_languages(value, told):
  assert columns.language(value) == told


@pytest.mark.parametrize(
  'path, told',
  [
    ('data/train-00000-of-00010', 'train'), ('validation', 'dev'),
    ('default/test/0000', 'test'), ('eval-00000-of-00001', 'test'),
    ('train/other-00000-of-00001', 'other'), ('a/b', None), ('trainer', None),
  ],
)  # fmt: skip
def test_the_split_that_a_file_tells(path, told):
  assert columns.split_of_file(path) == told


@pytest.mark.parametrize(
  'value, good',
  [
    (1, True), (-1.5, True), (0, True), (True, False), ('1', False),
    (None, False), (float('nan'), False), (float('inf'), False),
    (10**400, False), ([1], False),
  ],
)  # fmt: skip
def test_numbers(value, good):
  if good:
    assert columns.number(value, 'x') == value
  else:
    with pytest.raises(errors.UserError, match='x: found .*expected a number'):
      columns.number(value, 'x')
