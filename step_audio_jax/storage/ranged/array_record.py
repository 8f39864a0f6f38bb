"""Records of an ArrayRecord shard, read by ranges of its bytes.

An ArrayRecord file is a Riegeli file (see `riegeli`) whose last block holds a
postscript, which says where the footer is; the footer says where each chunk of
records begins. Opening a shard takes one request, two if the footer is large;
after that, each record takes one of its own size (those that lie side by side
take one together), and many are in flight.

Every byte of a record is covered by hashes. What is not found is a shard that
was replaced by another whole one; a source that reads one version of its object
alone finds that.
"""

from typing import Iterable, Protocol, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage.ranged import riegeli

_TAIL = 4 * riegeli.BLOCK  # what is read first: the footer is seldom longer
_RUN = 8 * 2**20  # records that lie side by side come in one request
_FIRST = 64  # a signature comes before all else
_MAGIC = 0x71930E704FDAE05E
_VERSION = 1
# Keys of protobuf messages: number << 3 | wire type.
_OFFSET, _DECODED, _COUNT = 0x08, 0x10, 0x18


class Source(Protocol):
  """The bytes of one file.

  Attributes:
    size: How many.
  """

  size: int

  def read(self, begin: int, end: int) -> bytes:
    """Bytes begin..end."""

  def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """Bytes of each span; many requests are in flight."""


class RangedShard:
  """The records of one shard.

  Attributes:
    name: Of the file, for messages.
  """

  def __init__(self, source: Source, name: str):
    """Reads the index of the shard.

    Raises:
      UserError: The file is cut, changed, or no ArrayRecord file that can be
        read by ranges.
    """
    self.name = name
    self._source = source
    try:
      self._open()
    except riegeli.Malformed as error:
      raise self._broken(error) from error

  def __len__(self) -> int:
    return self._count

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """The records with these numbers, in their order.

    Raises:
      IndexError: There is no such record.
      UserError: A record is cut or changed.
    """
    for index in indices:
      if not 0 <= index < self._count:
        raise IndexError(f'{self.name}: no record {index} of {self._count}')
    places = [divmod(index, self._group) for index in indices]
    # A chunk that holds several of them is read once, neighbours at a time.
    chunks = {chunk: index for (chunk, _), index in zip(places, indices)}
    runs = self._runs(chunks)
    spans = [(self._span(run[0])[0], self._span(run[-1])[1]) for run in runs]
    answers = self._source.read_many(spans)
    found = {}
    for run, (first, last), content in zip(runs, spans, answers, strict=True):
      try:
        content = _whole(content, first, last)
      except riegeli.Malformed as error:
        raise self._broken(f'record {chunks[run[0]]}: {error}') from error
      for chunk in run:
        begin, end = self._span(chunk)
        part = content[begin - first : end - first]
        found[chunk] = self._records(chunk, begin, part, chunks[chunk])
    return [found[chunk][place] for chunk, place in places]

  def _runs(self, chunks: Iterable[int]) -> list[list[int]]:
    """Chunks that follow each other in the file, in one request's measure."""
    runs: list[list[int]] = []
    for chunk in chunks:
      follows = runs and runs[-1][-1] == chunk - 1
      if follows and self._edges[chunk + 1] - self._edges[runs[-1][0]] <= _RUN:
        runs[-1].append(chunk)
      else:
        runs.append([chunk])
    return runs

  def _span(self, chunk: int) -> tuple[int, int]:
    return int(self._edges[chunk]), int(self._edges[chunk + 1])

  def _records(self, chunk, begin, content, index) -> list[bytes]:
    """The records of a chunk, which the index has to tell the same of."""
    try:
      found = riegeli.read_chunk(content, begin)
      told = found.count, found.decoded
      count = min(self._group, self._count - chunk * self._group)
      if told != (count, int(self._decoded[chunk])):
        raise riegeli.Malformed(
          f'found a chunk of {told[0]} records and {told[1]} bytes, expected '
          f'{count} and {self._decoded[chunk]} as the index says'
        )
      return riegeli.records(found)
    except riegeli.Malformed as error:
      raise self._broken(f'record {index}: {error}') from error

  def _broken(self, reason: object) -> errors.UserError:
    return errors.UserError(
      f'{self.name}: not a whole ArrayRecord file, make it again: {reason}.'
    )

  def _open(self) -> None:
    size = self._source.size
    if size < 2 * riegeli.BLOCK or size % riegeli.BLOCK:
      raise riegeli.Malformed(
        f'found {size} bytes, expected two or more blocks of {riegeli.BLOCK}'
      )
    begin, last = max(0, size - _TAIL), size - riegeli.BLOCK
    tail = _whole(self._source.read(begin, size), begin, size)
    footer = _footer_offset(tail[last - begin :], last)
    if not _FIRST <= footer < last:
      raise riegeli.Malformed(f'the index is said to be at {footer} of {size}')
    if footer < begin:
      tail = _whole(self._source.read(footer, begin), footer, begin) + tail
      begin = footer
    chunk = riegeli.read_chunk(tail[footer - begin : last - begin], footer)
    self._index(*riegeli.joined_records(chunk), footer)

  def _index(self, values: bytes, lengths: np.ndarray, footer: int) -> None:
    """Takes over where the chunks are, once it is known to make sense."""
    about = int(lengths[0]) if len(lengths) else 0
    told = _fields(values[:about]).get(1)
    told = _fields(told) if isinstance(told, bytes) else {}
    version, chunks, self._count = (told.get(key) for key in (1, 2, 3))
    if version != _VERSION:
      raise riegeli.Malformed(
        f'its index has version {version}, expected {_VERSION}'
      )
    if chunks != len(lengths) - 1:
      raise riegeli.Malformed(
        f'its index has {len(lengths) - 1} chunks, expected {chunks}'
      )
    # Each of them is three keys with their numbers.
    table = riegeli.varints(values[about:])
    if len(table) != 6 * chunks:
      raise riegeli.Malformed('its index holds something else than chunks')
    table = table.reshape(chunks, 3, 2)
    if (table[..., 0] != [_OFFSET, _DECODED, _COUNT]).any():
      raise riegeli.Malformed('its index holds something else than chunks')
    offsets, self._decoded, counts = np.moveaxis(table[..., 1], 1, 0).copy()
    self._edges = np.append(offsets, np.uint64(footer))
    if chunks and (
      offsets[0] < _FIRST or (self._edges[1:] <= self._edges[:-1]).any()
    ):
      raise riegeli.Malformed('its index has chunks that lie over others')
    self._group = int(counts[0]) if chunks else 1
    whole = (counts[:-1] == self._group).all() if chunks else True
    last = int(counts[-1]) if chunks else 0
    if not whole or chunks and not 1 <= last <= self._group:
      raise riegeli.Malformed('its index has chunks of odd sizes')
    found = (chunks - 1) * self._group + last if chunks else 0
    if self._count != found:
      raise riegeli.Malformed(
        f'its index has {found} records, expected {self._count}'
      )


def _whole(content: bytes, begin: int, end: int) -> bytes:
  if len(content) != end - begin:
    raise riegeli.Malformed(
      f'found {len(content)} bytes from {begin} on, expected {end - begin}'
    )
  return content


def _footer_offset(block: bytes, begin: int) -> int:
  """Where the index begins, as the last block says."""
  copies = riegeli.records(riegeli.read_chunk(block, begin))
  told = _fields(copies[0]) if copies else {}
  offset = told.get(1)
  if told.get(2) != _MAGIC or not isinstance(offset, int):
    raise riegeli.Malformed('its last block is no postscript of ArrayRecord')
  return offset


def _fields(message: bytes) -> dict[int, int | bytes]:
  """Numbers and byte strings of a protobuf message, by the field's number."""
  found, place = {}, 0
  while place < len(message):
    key, place = riegeli.varint(message, place)
    number, place = riegeli.varint(message, place)
    if key & 7 == 2:
      value, place = message[place : place + number], place + number
      if place > len(message):
        raise riegeli.Malformed('a field of its index is cut')
      found[key >> 3] = value
    elif key & 7 == 0:
      found[key >> 3] = number
    else:
      raise riegeli.Malformed(f'its index has a field of type {key & 7}')
  return found
