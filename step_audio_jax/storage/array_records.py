"""Records of ArrayRecord shards, and the safetensors blobs that they are."""

import bisect
from concurrent import futures
import contextlib
import functools
import itertools
import os
import struct
from typing import (
  Any,
  Callable,
  Iterable,
  Iterator,
  Protocol,
  Sequence,
  TypeVar,
)

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage.ranged import array_record

# Shards that are asked at once: their answers take long and are short.
_IN_FLIGHT = 64

_Item = TypeVar('_Item')
_Answer = TypeVar('_Answer')


class Records(Protocol):
  """Records of several shards, by their number."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> bytes: ...


class RangedRecords:
  """Records of several shards that are read by ranges of their bytes."""

  def __init__(self, shards: Sequence[array_record.RangedShard]):
    """Counts what is in `shards`, which come one after the other."""
    self._shards = shards
    self._ends = list(itertools.accumulate(map(len, shards)))

  def __len__(self) -> int:
    return self._ends[-1] if self._ends else 0

  def __getitem__(self, index: int) -> bytes:
    shard, place = self.locate(index)
    return shard.read([place])[0]

  def locate(self, index: int) -> tuple[array_record.RangedShard, int]:
    """The shard of a record, and its number there.

    Raises:
      IndexError: There is no such record.
    """
    if not 0 <= index < len(self):
      raise IndexError(f'no record {index} of {len(self)}')
    number = bisect.bisect_right(self._ends, index)
    before = self._ends[number - 1] if number else 0
    return self._shards[number], index - before


def open_records(
  paths: Sequence[files.Path],
  ranged: Callable[[files.Path], array_record.Source] | None = None,
) -> Records:
  """The records of shards that come one after the other, at random access.

  Args:
    paths: Of the shards.
    ranged: Opens one as bytes that are read by ranges, in place of what opens
      it where it lies: in a bucket by ranges, on this machine mapped.

  Raises:
    UserError: One of them is missing, cut short or changed.
  """
  if ranged is None and any(map(files.is_address, paths)):
    ranged = files.ranged
  if ranged is not None:
    shards = in_flight(
      lambda path: array_record.RangedShard(ranged(path), str(path)), paths
    )
    return RangedRecords(list(shards))
  from array_record.python import array_record_data_source

  try:
    return array_record_data_source.ArrayRecordDataSource(
      [os.fspath(path) for path in paths]
    )
  except (RuntimeError, ValueError, IndexError) as error:
    reason = str(error).partition(';')[0]
    raise errors.UserError(
      f'{os.path.dirname(paths[0])}: a shard is not a whole ArrayRecord file, '
      f'build the rows again: {reason}.'
    ) from error


def fetch(wanted: Sequence[tuple[Records, int]]) -> Iterator[bytes]:
  """Records of several sequences; those read by ranges are asked for at once.

  Args:
    wanted: (sequence, number of the record there) of each.

  Returns:
    The records in this order. An error is raised where its record would come:
    a UserError, or what the reader of local files says.
  """
  places = [
    records.locate(index) if isinstance(records, RangedRecords) else None
    for records, index in wanted
  ]
  by_shard: dict[array_record.RangedShard, list[int]] = {}
  for shard, place in filter(None, places):
    by_shard.setdefault(shard, []).append(place)
  asked = {
    shard: _threads().submit(shard.read, numbers)
    for shard, numbers in by_shard.items()
  }

  def found():
    answers = {}
    for (records, index), where in zip(wanted, places):
      if where is None:
        yield records[index]
        continue
      shard, _ = where
      if shard not in answers:
        answers[shard] = iter(asked[shard].result())
      yield next(answers[shard])

  return found()


def in_flight(
  ask: Callable[[_Item], _Answer], items: Iterable[_Item]
) -> Iterator[_Answer]:
  """As `map` for what waits for another machine: many are asked at once."""
  return _threads().map(ask, items)


def _threads() -> futures.ThreadPoolExecutor:
  return _threads_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _threads_of(process: int) -> futures.ThreadPoolExecutor:
  del process  # threads do not outlive a fork
  return futures.ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix='records')


def read_records(path: str | os.PathLike) -> list[bytes]:
  """All records of one ArrayRecord shard.

  Raises:
    UserError: The shard is missing, cut short or changed.
  """
  return list(stream_records(path))


def count_records(path: str | os.PathLike) -> int:
  """How many records a shard holds; raises as `read_records`."""
  with _reader(path) as reader:
    return reader.num_records()


def stream_records(
  path: str | os.PathLike, start: int = 0, chunk: int = 64
) -> Iterator[bytes]:
  """Yields the records of a shard from `start` on, `chunk` in memory.

  Raises:
    UserError: As `read_records`.
  """
  with _reader(path) as reader:
    count = reader.num_records()
    for first in range(start, count, chunk):
      yield from reader.read(first, min(first + chunk, count))


@contextlib.contextmanager
def _reader(path: str | os.PathLike) -> Iterator[Any]:
  """An open shard; what its reader raises becomes one sentence."""
  if files.is_address(path):
    source = files.ranged(path)
    try:
      yield _RangedReader(array_record.RangedShard(source, str(path)))
    finally:
      source.close()
    return
  from array_record.python import array_record_module

  try:
    with files.as_local(path) as name:
      reader = array_record_module.ArrayRecordReader(str(name))
      try:
        yield reader
      finally:
        reader.close()
  except (RuntimeError, ValueError, IndexError) as error:
    reason = str(error).partition(';')[0]
    raise errors.UserError(
      f'{path}: not a whole ArrayRecord file, make it again: {reason}.'
    ) from error


class _RangedReader:
  """What is asked of a local reader, of a shard in a bucket."""

  def __init__(self, shard: array_record.RangedShard):
    self._shard = shard

  def num_records(self) -> int:
    return len(self._shard)

  def read(self, first: int, stop: int) -> list[bytes]:
    return self._shard.read(range(first, stop))


def unpack(record: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Bytes of one safetensors record → (arrays by name, metadata)."""
  import safetensors.numpy

  if len(record) < 8:
    raise ValueError('the record is cut off')
  (size,) = struct.unpack('<Q', record[:8])
  header = files.parsed(record[8 : 8 + size])
  return safetensors.numpy.load(record), header.get('__metadata__', {})
