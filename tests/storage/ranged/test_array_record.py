"""Records by ranges: those of ArrayRecord's own reader, or one sentence."""

import random
import struct

from array_record.python import array_record_module
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import zstandard

from step_audio_jax import errors
from step_audio_jax.storage.ranged import array_record
from step_audio_jax.storage.ranged import highway_hash
from step_audio_jax.storage.ranged import riegeli
from tests.storage.ranged import sources

BLOCK = riegeli.BLOCK
RNG = np.random.default_rng(0)
MATERIAL = {
  'none': [],
  'one': [b'one'],
  'empty': [b'', b'', b'', b'end', b''],
  # All lengths that the hash treats differently, and some blocks.
  'ragged': [RNG.bytes(n) for n in [*range(70), 3000, 0, 65_000, 2, 30_000]],
  'repeating': [bytes([n]) * (n * 997) for n in range(100)],
  'huge': [b'before', RNG.bytes(5 * BLOCK + 3), bytes(3 * BLOCK), b'after'],
}
OPTIONS = (
  *('group_size:1', 'group_size:3', 'group_size:1000', 'group_size:1,zstd:19'),
  *('group_size:1,uncompressed', 'group_size:7,uncompressed'),
  'group_size:1,pad_to_block_boundary:true',
)


def write(path, records, options='group_size:1'):
  writer = array_record_module.ArrayRecordWriter(str(path), options)
  for record in records:
    writer.write(record)
  writer.close()
  return path.read_bytes()


def theirs(path):
  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    return list(reader.read(0, reader.num_records()))
  finally:
    reader.close()


def opened(content):
  return array_record.RangedShard(sources.HeldSource(content), 'x.array_record')


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('material', MATERIAL)
def test_records_are_those_of_their_reader(tmp_path, material, options):
  path = tmp_path / 'x.array_record'
  content = write(path, MATERIAL[material], options)
  shard = opened(content)
  assert len(shard) == len(MATERIAL[material])
  if len(shard):  # theirs cannot read nothing
    assert theirs(path) == MATERIAL[material]
  assert shard.read(range(len(shard))) == MATERIAL[material]
  for index in random.Random(0).sample(range(len(shard)), min(len(shard), 9)):
    assert shard.read([index]) == [MATERIAL[material][index]]


def test_long_runs_of_records_take_several_requests(tmp_path, monkeypatch):
  monkeypatch.setattr(array_record, '_RUN', 10_000)
  records = [RNG.bytes(n) for n in (3000, 3000, 3000, 3000, 30_000, 9000)]
  source = sources.HeldSource(write(tmp_path / 'x', records))
  shard = array_record.RangedShard(source, 'x')
  assert shard.read(range(6)) == records
  sizes = [end - begin for begin, end in source.requests[1:]]
  assert [size // 1000 for size in sizes] == [9, 3, 30, 9]
  assert shard.read([3, 2, 1, 5]) == [records[i] for i in (3, 2, 1, 5)]


def test_a_record_is_a_request_and_opening_is_one_or_two(tmp_path):
  records = [b'%d' % i * (i % 40) for i in range(3000)]
  path = tmp_path / 'x.array_record'
  source = sources.HeldSource(write(path, records))
  shard = array_record.RangedShard(source, 'x')
  assert len(source.requests) == 1
  assert shard.read([2999, 7, 8, 7]) == [records[i] for i in (2999, 7, 8, 7)]
  # Neighbours come together.
  assert len(source.requests) == 1 + 2
  spans = source.requests[1:]
  assert max(end - begin for begin, end in spans) < 400
  assert shard.read([]) == []
  assert shard.read(range(3000)) == records
  assert len(source.requests) == 1 + 2 + 1
  # An index that is longer than what is read first.
  records = [b'%d' % i for i in range(20_000)]
  content = write(path, records, 'group_size:1,uncompressed')
  source = sources.HeldSource(content)
  shard = array_record.RangedShard(source, 'x')
  assert len(source.requests) == 2
  assert shard.read([0, 19_999]) == [b'0', b'19999']
  (first, second) = source.requests[:2]
  assert second[1] == first[0]  # nothing is read twice


@pytest.mark.parametrize('index', [-1, 3])
def test_numbers_that_are_not_there(tmp_path, index):
  shard = opened(write(tmp_path / 'x.array_record', [b'a'] * 3))
  with pytest.raises(IndexError, match='no record'):
    shard.read([0, index])


@pytest.mark.parametrize(
  ('options', 'found'),
  [
    ('brotli', 'found Brotli, expected Zstandard or no compression'),
    ('snappy', 'found Snappy, expected Zstandard or no compression'),
  ],
)
def test_other_compressions_are_named(tmp_path, options, found):
  content = write(tmp_path / 'x', [b'a' * 9] * 3, f'group_size:1,{options}')
  with pytest.raises(errors.UserError, match=f'^x.array_record: .*{found}'):
    opened(content)


def test_transposed_records_are_named(tmp_path):
  shard = opened(write(tmp_path / 'x', [b'ab'], 'group_size:1,transpose:true'))
  with pytest.raises(errors.UserError, match='record 0: found transposed rec'):
    shard.read([0])


def outcome(content):
  """All records, or the sentence; anything else fails the test."""
  try:
    shard = opened(content)
    return shard.read(range(len(shard)))
  except errors.UserError as error:
    assert str(error).startswith('x.array_record: not a whole ArrayRecord')
    assert str(error).count('\n') == 0
    return None


def places(content):
  """Where chunks and blocks begin, and the ends of their headers."""
  shard = opened(content)
  # Of the chunks and the index.
  begins = shard._edges.tolist()
  for begin in (*begins, *range(0, len(content), BLOCK)):
    yield from (begin + k for k in (-1, 0, 1, 8, 16, 24, 25, 40, 64, 65, 120))


def some_file(tmp_path, options='group_size:1'):
  records = [*MATERIAL['ragged'][60:], b'', *MATERIAL['repeating'][:3]]
  return write(tmp_path / 'x', records, options), records


def test_cut_files_are_told(tmp_path):
  content, records = some_file(tmp_path)
  cuts = {n for n in places(content) if 0 <= n < len(content)}
  assert len(cuts) > 200
  block = len(content) - BLOCK
  postscript = riegeli.read_chunk(content[block:], block)
  last = riegeli._end(block, len(postscript.data), postscript.count)
  for cut in sorted(cuts):
    assert outcome(content[:cut]) is None, cut
    # And where bytes are missing in the middle, or the block is filled again:
    # only what nobody reads, behind the postscript, may have been cut off.
    assert outcome(content[:cut] + content[cut + 1 :]) is None, cut
    filled = outcome(content[:cut] + bytes(-cut % BLOCK))
    assert filled == (records if cut >= last else None), cut
  assert outcome(content) == records


@pytest.mark.parametrize('options', ['group_size:1', 'group_size:4'])
def test_no_flipped_byte_gives_wrong_records(tmp_path, options):
  content, records = some_file(tmp_path, options)
  dice = random.Random(0)
  flips = [n for n in places(content) if 0 <= n < len(content)]
  flips += dice.choices(range(len(content)), k=700)
  told = 0
  for place in flips:
    spoilt = bytearray(content)
    spoilt[place] ^= 1 << dice.randrange(8)
    found = outcome(spoilt)
    assert found in (None, records), place
    told += found is None
  # What is not told lies in padding, which nobody reads.
  assert told > 0.5 * len(flips)


def test_records_name_themselves(tmp_path):
  content, _ = some_file(tmp_path)
  shard = opened(content)
  spoilt = bytearray(content)
  spoilt[shard._span(3)[0] + 45] ^= 1
  shard = opened(spoilt)
  shard.read([0, 1, 2, 4])
  with pytest.raises(errors.UserError, match='record 3: the data of the chunk'):
    shard.read([4, 3])
  shard._source.content = bytes(spoilt[:100])
  with pytest.raises(errors.UserError, match='record 2: found 0 bytes from'):
    shard.read([2])


def chunk_at(begin, data, count, decoded, kind='r'):
  """A chunk as it lies in a file, with headers of blocks and all hashes."""
  head = struct.pack(
    '<QQQQ',
    len(data),
    highway_hash.hash64(data),
    count << 8 | ord(kind),
    decoded,
  )
  body = struct.pack('<Q', highway_hash.hash64(head)) + head + data
  end = riegeli._end(begin, len(data), count)
  out = bytearray()
  while body:
    place = begin + len(out)
    if place % BLOCK == 0:
      told = struct.pack('<QQ', place - begin, end - place)
      out += struct.pack('<Q', highway_hash.hash64(told)) + told
      place += 24
    room = BLOCK - place % BLOCK
    out += body[:room]
    body = body[room:]
  return bytes(out) + bytes(end - begin - len(out))


def number(value):
  out = bytearray()
  while value >= 0x80:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*out, value])


def simple(records, lengths=None):
  lengths = [len(r) for r in records] if lengths is None else lengths
  sizes = b''.join(map(number, lengths))
  return b'\0' + number(len(sizes)) + sizes + b''.join(records)


def message(**fields):
  """Fields f1=…, f2=… as a protobuf message."""
  out = b''
  for name, value in fields.items():
    key = int(name[1:]) << 3
    if isinstance(value, bytes):
      out += number(key | 2) + number(len(value)) + value
    else:
      out += number(key) + number(value)
  return out


MAGIC = 0x71930E704FDAE05E


def made_file(records, *, about=None, index=None, offset=None, copies=None):
  """A file of one-record chunks, with another index or postscript."""
  out = bytearray(chunk_at(0, b'', 0, 0, 's'))
  entries = []
  for record in records:
    place = len(out)
    entries.append(message(f1=place, f2=len(record), f3=1))
    out += chunk_at(place, simple([record]), 1, len(record))
  footer = len(out)
  entries = entries if index is None else index
  fields = {'f1': 1, 'f2': len(entries), 'f3': len(entries)} | (about or {})
  told = [message(f1=message(**fields)), *entries]
  out += chunk_at(footer, simple(told), len(told), sum(map(len, told)))
  out += bytes(-len(out) % BLOCK)
  last = len(out)
  offset = footer if offset is None else offset
  told = copies or [message(f1=offset, f2=MAGIC)] * 3
  out += chunk_at(last, simple(told), len(told), sum(map(len, told)))
  return bytes(out) + bytes(-len(out) % BLOCK)


def entry(offset, decoded=2, count=1):
  return message(f1=offset, f2=decoded, f3=count)


def test_a_file_made_by_hand_is_one_to_their_reader(tmp_path):
  records = [b'ab', b'', bytes(70_000), b'c' * 100]
  path = tmp_path / 'x.array_record'
  path.write_bytes(made_file(records))
  assert theirs(path) == records == outcome(path.read_bytes())


@pytest.mark.parametrize(
  ('made', 'found'),
  [
    ({'about': {'f1': 2}}, 'index has version 2, expected 1'),
    ({'about': {'f1': b'1'}}, 'index has version'),
    ({'about': {'f2': 3}}, 'index has 2 chunks, expected 3'),
    ({'about': {'f3': 1}}, 'index has 2 records, expected 1'),
    ({'index': [entry(64), entry(64)]}, 'chunks that lie over others'),
    ({'index': [entry(20), entry(64)]}, 'chunks that lie over others'),
    ({'index': [entry(64), entry(2**62)]}, 'chunks that lie over others'),
    ({'index': [entry(64, 2, 1), entry(107, 2, 2)]}, 'chunks of odd sizes'),
    ({'index': [entry(64, 2, 0), entry(107, 2, 0)]}, 'chunks of odd sizes'),
    ({'index': [b'\x08\x40', entry(107)]}, 'something else than chunks'),
    ({'index': [message(f1=1, f3=1, f2=1)]}, 'something else than chunks'),
    ({'index': [entry(64, 3), entry(110)]}, 'record 0: found a chunk of 1'),
    ({'index': [entry(65), entry(110)]}, 'record 0: the header of the chunk'),
    ({'offset': 3}, 'the index is said to be at 3 of'),
    ({'offset': 2**50}, 'the index is said to be at'),
    ({'offset': 64}, 'its index has a field of type 1'),
    ({'copies': [message(f1=64, f2=1)]}, 'no postscript of ArrayRecord'),
    ({'copies': [message(f1=b'64', f2=MAGIC)]}, 'no postscript of ArrayRec'),
    ({'copies': [b'\x0d\x00']}, 'a field of type 5'),
    ({'copies': [b'\x0a\x7f']}, 'a field of its index is cut'),
    ({'copies': [b'\xff' * 11]}, 'found no number'),
  ],
)  # fmt: skip
def test_an_index_that_makes_no_sense_is_told(made, found):
  content = made_file([b'ab', b'cd'], **made)
  with pytest.raises(errors.UserError, match=found):
    shard = opened(content)
    shard.read(range(len(shard)))


def squeezed(record, told=None):
  told = len(record) if told is None else told
  return number(told) + zstandard.compress(record)


def chunk(sizes, values, count=1, decoded=4):
  data = b'z' + number(len(sizes)) + sizes + values
  return riegeli.Chunk(ord('r'), count, decoded, data)


@pytest.mark.parametrize(
  ('made', 'found'),
  [
    (chunk(squeezed(b'\4'), squeezed(b'abcd', 5)), 'a frame of 4 bytes, exp'),
    (chunk(squeezed(b'\4'), squeezed(b'abc')), '1 records in 3 bytes, expect'),
    (chunk(squeezed(b'\3'), squeezed(b'abcd')), 'lengths .* do not add up'),
    (chunk(squeezed(b'\4\0'), squeezed(b'abcd')), 'found 2 records in 4'),
    (chunk(squeezed(b'\x84'), squeezed(b'abcd')), 'a number is cut'),
    (chunk(squeezed(b'\x84' * 9 + b'\1'), squeezed(b'abcd')), 'too large'),
    (chunk(squeezed(b'\4'), squeezed(b'abcd')[:-1]), 'no whole Zstandard'),
    (chunk(squeezed(b'\4'), squeezed(b'abcd') + b'\0'), 'no whole Zstandard'),
    (chunk(squeezed(b'\4'), b'\4abcdabcd'), 'no whole Zstandard'),
    (chunk(squeezed(b'\4'), b''), 'found no number'),
    (
      chunk(
        squeezed(b'\4'),
        number(2**60) + zstandard.ZstdCompressor().compressobj().flush(),
      ),
      'a frame of',
    ),
    (riegeli.Chunk(ord('r'), 0, 0, b''), 'found an empty chunk'),
    (riegeli.Chunk(ord('r'), 1, 0, b'\0\7\1'), 'lengths .* are cut'),
    (riegeli.Chunk(ord('p'), 1, 0, b'\0'), 'found padding, expected'),
    (riegeli.Chunk(200, 1, 0, b'\0'), 'a chunk of kind 200, expected'),
    (riegeli.Chunk(ord('r'), 1, 0, b'q\0'), 'compression 113, expected'),
  ],
)
def test_records_that_make_no_sense_are_told(made, found):
  with pytest.raises(riegeli.Malformed, match=found):
    riegeli.records(made)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_bytes_of_a_chunk_end_in_a_traceback(data):
  content = data.draw(st.binary(max_size=40))
  if data.draw(st.booleans()):
    content = b'z' + number(5) + squeezed(content)
  count, decoded = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 40))
  try:
    found = riegeli.records(riegeli.Chunk(ord('r'), count, decoded, content))
  except riegeli.Malformed:
    return
  assert (len(found), sum(map(len, found))) == (count, decoded)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=30))
def test_numbers_in_a_row_come_back(numbers):
  joined = b''.join(map(number, numbers))
  assert riegeli.varints(joined).tolist() == numbers
  place = 0
  for expected in numbers:
    found, place = riegeli.varint(joined, place)
    assert found == expected
