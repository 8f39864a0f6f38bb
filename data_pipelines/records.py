"""ArrayRecord shards of safetensors records, whole or absent.

A record is one `safetensors` blob: named arrays and string metadata. Shards
are called `<stem>-00000-of-00002.array_record`, one record a group, so that a
trainer can fetch any record by its number.
"""

import contextlib
import os
import pathlib
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax.storage import array_records
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

SUFFIX = '.array_record'
sha256 = digests.of_file


def pack(
  tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> bytes:
  """Arrays and metadata → the bytes of one record."""
  import safetensors.numpy

  return safetensors.numpy.save(
    {name: np.asarray(value, order='C') for name, value in tensors.items()},
    dict(metadata) if metadata else None,
  )


def shard_name(stem: str, shard: int, count: int) -> str:
  """`stem-00000-of-00002.array_record`."""
  return f'{stem}-{shard:05d}-of-{count:05d}{SUFFIX}'


class Written(NamedTuple):
  """A shard that was written: its records, digest and size in bytes."""

  count: int
  sha256: str
  size: int


def write_shard(path: str | os.PathLike, records: Iterable[bytes]) -> int:
  """Writes one shard atomically; returns the number of records."""
  return write_known(path, records).count


def write_known(path: str | os.PathLike, records: Iterable[bytes]) -> Written:
  """As `write_shard`; says what it wrote."""
  from array_record.python import array_record_module

  count = 0
  with files.atomic_path(path) as temporary:
    with _user_errors():
      writer = array_record_module.ArrayRecordWriter(
        str(temporary), 'group_size:1'
      )
    try:
      for record in records:
        with _user_errors():
          writer.write(record)
        count += 1
    except BaseException:
      with contextlib.suppress(RuntimeError):
        writer.close()
      raise
    with _user_errors():
      writer.close()
    # From a bucket it would have to come back.
    return Written(count, sha256(temporary), files.size(temporary))


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
  """What ArrayRecord says of a full disk, as an error of the system."""
  try:
    yield
  except RuntimeError as error:
    raise OSError(str(error).partition(';')[0]) from error


def read_shard(path: str | os.PathLike) -> list[bytes]:
  """All records of one shard.

  Raises:
    UserError: The shard is missing, cut short or changed.
  """
  return array_records.read_records(path)


def count(path: str | os.PathLike) -> int:
  """How many records a shard holds; raises as `read_shard`."""
  return array_records.count_records(path)


def stream_shard(path: str | os.PathLike, start: int = 0) -> Iterator[bytes]:
  """The records of one shard from `start` on, a few of them in memory.

  Raises:
    UserError: As `read_shard`.
  """
  return array_records.stream_records(path, start)


def shards_of(folder: str | os.PathLike, stem: str) -> Sequence[pathlib.Path]:
  """The shards called `stem` in a folder, in order."""
  return sorted(files.glob(folder, f'{stem}-*-of-*{SUFFIX}'))
