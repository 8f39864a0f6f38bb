"""Records of ArrayRecord shards, and the safetensors blobs that they are."""

import contextlib
import os
import struct
from typing import Any, Iterator

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import files


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


def unpack(record: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Bytes of one safetensors record → (arrays by name, metadata)."""
  import safetensors.numpy

  if len(record) < 8:
    raise ValueError('the record is cut off')
  (size,) = struct.unpack('<Q', record[:8])
  header = files.parsed(record[8 : 8 + size])
  return safetensors.numpy.load(record), header.get('__metadata__', {})
