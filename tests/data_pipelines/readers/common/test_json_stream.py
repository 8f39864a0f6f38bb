"""One big JSON file read as a stream, against `json.loads` of the whole."""

import json
import tracemalloc

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.readers.common import base
from data_pipelines.readers.common import json_stream
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

VALUES = st.recursive(
  st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(['}', '{"a": [', '\\', '"', ']]', '\u2028', '\x7f', '😀']),
  ),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.dictionaries(st.text(max_size=3), inner, max_size=3),
  ),
  max_leaves=6,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)
FILES = st.fixed_dictionaries(
  {'before': VALUES, 'audios': st.lists(OBJECTS, max_size=6), 'after': VALUES}
)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  return tmp_path_factory.mktemp('stream') / 'all.json'


def read(path, raw, chunk=json_stream.CHUNK):
  """(elements, what was refused) of bytes."""
  path.write_bytes(raw)
  before, json_stream.CHUNK = json_stream.CHUNK, chunk
  try:
    found = list(json_stream.elements(path, 'audios'))
  finally:
    json_stream.CHUNK = before
  left = [one for one in found if isinstance(one, base.Rejected)]
  kept = [one for one in found if not isinstance(one, base.Rejected)]
  for where, _ in kept:
    assert where.startswith(f'{path}: audios[')
  return [one for _, one in kept], left


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
  FILES, st.integers(1, 40), st.booleans(), st.sampled_from([None, 0, 2]),
  st.booleans(),
)  # fmt: skip
def test_it_is_what_json_says(path, value, chunk, ascii, indent, mark):
  text = json.dumps(value, ensure_ascii=ascii, indent=indent)
  raw = b'\xef\xbb\xbf' * mark + text.encode()
  kept, left = read(path, raw, chunk)
  assert kept == value['audios'] and left == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.floats(0, 1), st.data())
def test_a_file_cut_short_gives_what_is_whole(path, elements, share, data):
  raw = json.dumps({'audios': elements}, ensure_ascii=False).encode()
  begin = len('{"audios": [')
  last = len(raw) - len(']}')
  place = begin + int(share * (last - begin))
  kept, left = read(path, raw[:place], data.draw(st.integers(1, 30)))
  assert kept == elements[: len(kept)]
  assert len(left) == 1
  reason = left[0].reason
  assert 'cut short or damaged' in reason or 'not JSON' in reason
  ends, total = [], begin
  for element in elements:
    total += len(json.dumps(element, ensure_ascii=False).encode())
    ends.append(total)
    total += len(', ')
  assert len(kept) == sum(end <= place for end in ends)


@pytest.mark.parametrize(
  'broken',
  [
    '{"sid": tru}', '{"sid": 1,}', '{"a": [1, 2}', '{"a": "}"} {', '{"a" 1}',
    '{"a": {"b": [}, "c": "]]"}}', '{1: 2}', '{"a": "\\x"}', "{'a': 1}",
    '{"a": ' + '[' * 100_000 + ']' * 100_000 + '}',
  ],
)  # fmt: skip
@pytest.mark.parametrize('chunk', [3, 2**20])
def test_a_broken_element_is_passed_over(broken, chunk, path):
  chunk = max(chunk, len(broken) // 50)
  text = f'{{"audios": [{{"n": 1}}, {broken}, {{"n": 2}}]}}'
  kept, left = read(path, text.encode(), chunk)
  assert kept[0] == {'n': 1} and 1 <= len(left) <= 2
  if '} {' not in broken and '2}' not in broken:  # else brackets mislead
    assert kept == [{'n': 1}, {'n': 2}]
    assert 'not JSON' in left[0].reason
    assert left[0].where == f'{path}: audios[1]'


def test_elements_that_are_no_objects(path):
  kept, left = read(path, b'{"audios": [7, {"n": 1}, "x", null, [{}]]}')
  assert kept == [{'n': 1}]
  assert [one.where[-2:] for one in left] == ['0]', '2]', '3]', '4]']
  assert 'found 7, expected an object' in left[0].reason


@pytest.mark.parametrize(
  'raw',
  [
    b'', b' ', b'[]', b'{}', b'{"a": 1}', b'{"audios": 3}', b'{"audios"',
    b'{"audios": {"a": 1}}', b'{"a": }', b'\xff\xfe{', b'{"a": [1, 2',
    b'{"a": 1 "audios": []}', b'{"a": ' + b'[' * 10**5,
  ],
)  # fmt: skip
def test_what_is_no_such_file(raw, path):
  with pytest.raises(errors.UserError, match="with an array 'audios'"):
    read(path, raw)


def test_no_file(tmp_path):
  for there, words in (
    (tmp_path / 'no', 'no such'),
    (tmp_path, 'not readable'),
  ):
    with pytest.raises(errors.UserError, match=words):
      list(json_stream.elements(there, 'audios'))


def test_memory_does_not_grow_with_the_file(tmp_path):
  """40 MB of elements; the buffer and one element are held."""
  path = tmp_path / 'large.json'
  element = json.dumps({'segments': [{'text': 'x' * 1000}] * 40})
  with open(path, 'w') as out:
    out.write('{"audios": [' + element)
    for _ in range(999):
      out.write(',\n' + element)
    out.write(']}')
  assert path.stat().st_size > 40e6
  tracemalloc.start()
  count = sum(1 for _ in json_stream.elements(path, 'audios'))
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert count == 1000 and peak < 10e6


def test_subsets_and_signs(tmp_path):
  trees.put(tmp_path / 'in' / 'p.wav', trees.tone(1.0))
  told = [
    ('a', 'AS IT <COMMA> IS <PERIOD>', ['{XS}', '{XL}']),
    ('b', 'WHY <QUESTIONMARK> GO <EXCLAMATIONPOINT>', ['{XL}']),
    ('c', '<MUSIC>', ['{XS}']),
    ('d', 'A <NOISE> B', ['{XL}']),
    ('e', 'HELD OUT', ['{TEST}']),
    ('f', 'TUNED', ['{DEV}']),
  ]
  segments = [
    {'sid': name, 'begin_time': 0.0, 'end_time': 0.5, 'text_tn': text,
     'subsets': subsets}
    for name, text, subsets in told
  ]  # fmt: skip
  audio = {'aid': 'p', 'path': 'p.wav', 'speaker': 'N/A', 'segments': segments}
  trees.put(
    tmp_path / 'in' / 'GigaSpeech.json', json.dumps({'audios': [audio]})
  )
  kept, left = ingesting.ingested(
    tmp_path / 'in', tmp_path / 'out', 'gigaspeech'
  )
  assert {name: (u.text, u.split) for name, u in kept.items()} == {
    'a': ('AS IT, IS.', 'train'),
    'b': ('WHY? GO!', 'train'),
    'e': ('HELD OUT', 'test'),
    'f': ('TUNED', 'dev'),
  }
  assert {u.speaker for u in kept.values()} == {None}
  assert [one['id'] for one in left] == ['c', 'd']
  assert 'found <MUSIC>, expected speech' in left[0]['reason']
  kept, left = ingesting.ingested(
    tmp_path / 'in', tmp_path / 'xs', 'gigaspeech', subset='XS'
  )
  assert set(kept) == {'a'} and [one['id'] for one in left] == ['c']
