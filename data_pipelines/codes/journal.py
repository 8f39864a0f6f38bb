"""A journal: what of a job is done already, in a file that survives a kill.

    entry = length (uint32), CRC-32 of the payload (uint32), payload

Entries are appended and flushed to disk one by one. The first holds the digest
of the job; a journal of another job is begun anew. Reading stops at the first
entry that is not whole: what a kill cut in half is cut off, and what stands
before it counts.
"""

import contextlib
import os
import struct
from typing import BinaryIO, Iterator
import zlib

from step_audio_jax.storage import files

_HEAD = struct.Struct('<II')


class Journal:
  """An open journal.

  Attributes:
    entries: The payloads that were found, in order.
    is_done: Whether the job is finished elsewhere.
  """

  def __init__(self, handle: BinaryIO, entries: list[bytes]):
    """Use `open_journal`."""
    self._handle, self.entries, self.is_done = handle, entries, False

  def append(self, payload: bytes) -> None:
    """Adds an entry; it is on the disk when this returns."""
    head = _HEAD.pack(len(payload), zlib.crc32(payload))
    self._handle.write(head + payload)
    files.persist(self._handle)

  def done(self) -> None:
    """The job is finished elsewhere: empties the journal."""
    self._handle.truncate(0)
    self.is_done = True


@contextlib.contextmanager
def open_journal(path: str | os.PathLike, digest: str) -> Iterator[Journal]:
  """Opens the journal of a job; one process at a time, others wait.

  Args:
    path: Of the file; made where it is missing, removed when it was `done`.
    digest: Of the job.
  """
  with files.claim_file(path) as handle:
    payloads, end = complete_entries(handle.read())
    if payloads[:1] == [digest.encode()]:
      handle.truncate(end)
      handle.seek(end)
      book = Journal(handle, payloads[1:])
    else:
      handle.truncate(0)
      handle.seek(0)
      book = Journal(handle, [])
      book.append(digest.encode())
    yield book
    if book.is_done:
      files.remove(path)


def complete_entries(data: bytes) -> tuple[list[bytes], int]:
  """The payloads of whole entries, and where the last of them ends."""
  payloads, place = [], 0
  while place + _HEAD.size <= len(data):
    length, check = _HEAD.unpack_from(data, place)
    payload = data[place + _HEAD.size : place + _HEAD.size + length]
    if len(payload) < length or zlib.crc32(payload) != check:
      break
    payloads.append(payload)
    place += _HEAD.size + length
  return payloads, place
