"""Chunks of a Riegeli file, out of a span of its bytes.

A file is chunks of records, one after the other. Wherever a block of 64 KiB
begins, a block header of 24 bytes interrupts them. A chunk has a header of 40
bytes (hash, size, hash of the data, kind and number of records, bytes of the
records) and its data; simple chunks hold the lengths of the records, then the
records, each as they are or compressed. Numbers are little-endian. See "Riegeli
records file format" in google/riegeli.

Everything that can be checked is: both hashes of a chunk, those of the block
headers inside it, and that they tell its beginning and end.
"""

import struct
from typing import NamedTuple

import numpy as np

from step_audio_jax.storage.ranged import highway_hash

BLOCK = 2**16
_BLOCK_HEADER = struct.Struct('<QQQ')  # hash, to the beginning, to the end
_CHUNK_HEADER = struct.Struct('<QQQQQ')
_ROOM = BLOCK - _BLOCK_HEADER.size  # bytes of chunks in a block
_SIMPLE = ord('r')
_KINDS = {
  **{ord('t'): 'transposed records', ord('m'): 'metadata'},
  **{ord('p'): 'padding', ord('s'): 'a signature'},
}
_PLAIN, _ZSTD = 0, ord('z')
_COMPRESSIONS = {ord('b'): 'Brotli', ord('s'): 'Snappy'}
# Zstandard's own bound: a block of 128 KiB takes at least four bytes.
_MOST_TIMES = 2**15


class Malformed(ValueError):
  """Bytes are not what the format says, told as a part of a sentence."""


class Chunk(NamedTuple):
  """A chunk whose hashes are right.

  Attributes:
    kind: The letter of its kind, as a number.
    count: Records in it.
    decoded: Bytes of these, once decoded.
    data: The records, encoded.
  """

  kind: int
  count: int
  decoded: int
  data: bytes


def read_chunk(span: bytes, begin: int) -> Chunk:
  """The first chunk of a span.

  Args:
    span: Bytes of the file that hold the chunk; more may follow it.
    begin: Where they begin in the file.

  Raises:
    Malformed: There is no whole chunk.
  """
  if 0 < begin % BLOCK <= _BLOCK_HEADER.size:
    raise Malformed(f'a chunk is said to be in the block header at {begin}')
  body, blocks = _without_block_headers(span, begin)
  if len(body) < _CHUNK_HEADER.size:
    raise Malformed(f'the chunk at {begin} is cut')
  head, size, told, kinds, decoded = _CHUNK_HEADER.unpack_from(body)
  if highway_hash.hash64(body[8 : _CHUNK_HEADER.size]) != head:
    raise Malformed(f'the header of the chunk at {begin} has another hash')
  data = body[_CHUNK_HEADER.size : _CHUNK_HEADER.size + size]
  if len(data) != size:
    raise Malformed(
      f'the chunk at {begin} is cut: found {len(data)} bytes, expected {size}'
    )
  if highway_hash.hash64(data) != told:
    raise Malformed(f'the data of the chunk at {begin} have another hash')
  end = _end(begin, size, kinds >> 8)
  for place, header in blocks:
    if place < end:
      _check_block(place, header, begin, end)
  return Chunk(kinds & 0xFF, kinds >> 8, decoded, data)


def _without_block_headers(span, begin):
  """Bytes of chunks alone, and (place, bytes) of each block header."""
  first = -begin % BLOCK
  parts, blocks = [span[:first]], []
  for at in range(first, len(span), BLOCK):
    blocks.append((begin + at, span[at : at + _BLOCK_HEADER.size]))
    parts.append(span[at + _BLOCK_HEADER.size : at + BLOCK])
  return b''.join(parts), blocks


def _end(begin: int, size: int, count: int) -> int:
  """Where a chunk ends, headers of blocks and padding included."""
  size += _CHUNK_HEADER.size
  headers = (size + (begin + _ROOM - 1) % BLOCK) // _ROOM
  end = begin + size + headers * _BLOCK_HEADER.size
  # Records are numbered by bytes, and no chunk ends in a block header.
  least = begin + count
  rest = -least % BLOCK
  return max(end, least + max(0, rest - (_ROOM - 1)))


def _check_block(place: int, header: bytes, begin: int, end: int) -> None:
  if len(header) < _BLOCK_HEADER.size:
    raise Malformed(f'the block header at {place} is cut')
  told, before, after = _BLOCK_HEADER.unpack(header)
  if highway_hash.hash64(header[8:]) != told:
    raise Malformed(f'the block header at {place} has another hash')
  if (before, after) != (place - begin, end - place):
    raise Malformed(
      f'the block header at {place} tells of a chunk from {place - before} to '
      f'{place + after}, found one from {begin} to {end}'
    )


def records(chunk: Chunk) -> list[bytes]:
  """The records of a simple chunk; raises as `joined_records`."""
  values, lengths = joined_records(chunk)
  if len(lengths) == 1:
    return [values]
  ends = np.cumsum(lengths).tolist()
  return [values[a:b] for a, b in zip([0, *ends], ends)]


def joined_records(chunk: Chunk) -> tuple[bytes, np.ndarray]:
  """The records of a simple chunk as one, and their lengths, uint64.

  Raises:
    Malformed: It is no simple chunk, is compressed in a way that is not read
      here, or its numbers do not fit.
  """
  if chunk.kind != _SIMPLE:
    found = _KINDS.get(chunk.kind, f'a chunk of kind {chunk.kind}')
    raise Malformed(f'found {found}, expected a chunk of simple records')
  data = memoryview(chunk.data)
  if not len(data):
    raise Malformed('found an empty chunk, expected one of simple records')
  size, place = varint(data, 1)
  if size > len(data) - place:
    raise Malformed('the lengths of the records are cut')
  lengths = varints(_decoded(data[0], data[place : place + size]))
  values = _decoded(data[0], data[place + size :])
  if len(lengths) != chunk.count or len(values) != chunk.decoded:
    raise Malformed(
      f'found {len(lengths)} records in {len(values)} bytes, expected '
      f'{chunk.count} in {chunk.decoded}'
    )
  # One by one first: the sum of numbers that are too large may come round.
  if (lengths > len(values)).any() or lengths.sum() != len(values):
    raise Malformed('the lengths of the records do not add up')
  return values, lengths


def _decoded(compression: int, data: memoryview) -> bytes:
  """What was compressed; it tells its own size."""
  if compression == _PLAIN:
    return bytes(data)
  if compression != _ZSTD:
    found = _COMPRESSIONS.get(compression, f'compression {compression}')
    raise Malformed(f'found {found}, expected Zstandard or no compression')
  import zstandard

  size, place = varint(data, 0)
  data = data[place:]
  try:
    told = zstandard.frame_content_size(data)
    if told not in (-1, size) or size > _MOST_TIMES * len(data):
      raise Malformed(f'found a frame of {told} bytes, expected {size}')
    # An object for each call: they are not to be shared by threads.
    found = zstandard.ZstdDecompressor().decompress(
      data, max_output_size=size or 1, allow_extra_data=False
    )
  except zstandard.ZstdError as error:
    raise Malformed(f'found no whole Zstandard frame ({error})') from error
  if len(found) != size:
    raise Malformed(f'found {len(found)} bytes in a frame, expected {size}')
  return found


def varint(data: bytes | memoryview, place: int) -> tuple[int, int]:
  """A number of seven bits a byte, and where it ends.

  Raises:
    Malformed: It is cut, or longer than such numbers are.
  """
  number = 0
  for shift, byte in enumerate(data[place : place + 10]):
    number |= (byte & 0x7F) << 7 * shift
    if byte < 0x80:
      return number, place + shift + 1
  raise Malformed('found no number where one was expected')


def varints(data: bytes) -> np.ndarray:
  """All numbers of seven bits a byte that stand in a row, uint64.

  Raises:
    Malformed: The last is cut, or one has more than 63 bits.
  """
  found = np.frombuffer(data, np.uint8)
  ends = np.flatnonzero(found < 0x80) + 1
  if len(found) and (not len(ends) or ends[-1] != len(found)):
    raise Malformed('a number is cut')
  begins = np.concatenate([np.zeros(1, ends.dtype), ends[:-1]])[: len(ends)]
  sizes = ends - begins
  longest = int(sizes.max(initial=0))
  if longest > 9:
    raise Malformed('a number is too large')
  numbers = np.zeros(len(ends), np.uint64)
  for shift in range(longest):
    has = sizes > shift
    bits = found[begins[has] + shift] & 0x7F
    numbers[has] |= bits.astype(np.uint64) << np.uint64(7 * shift)
  return numbers
