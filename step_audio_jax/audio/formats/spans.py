"""Bytes of a recording without holding them, and files made of parts of them.

A decoder believes the header that it meets. `View` shows it another file: the
bytes of the recording without what is no sound, behind a header that tells
the truth.
"""

import bisect
import io
import itertools
import os
from typing import BinaryIO, Sequence

BLOCK = 2**22

# Bytes, or (begin, end) in the recording.
Part = bytes | tuple[int, int]


class Source:
  """Random access to a file, or to bytes.

  Attributes:
    raw: The open file.
    size: Of the file, bytes.
  """

  def __init__(self, raw: BinaryIO):
    self.raw = raw
    self.size = raw.seek(0, os.SEEK_END)
    self._held: bytes | None = None

  def hold(self) -> None:
    """Reads all of a file that is not large, where all of it is looked at."""
    if self._held is None and self.size <= BLOCK:
      self._held = self.read(0, self.size)

  def read(self, place: int, count: int = BLOCK) -> bytes:
    """Up to `count` bytes from `place` on; fewer only where the file ends."""
    if self._held is not None:
      return self._held[place : place + count]
    self.raw.seek(place)
    return self.raw.read(count)

  def find(self, pattern: bytes, begin: int, end: int) -> int:
    """Place of the first `pattern` in [begin, end), or -1."""
    while begin < end:
      block = self.read(begin, min(BLOCK, end - begin))
      found = block.find(pattern)
      if found >= 0:
        return begin + found
      if len(block) < len(pattern):
        return -1
      begin += len(block) - len(pattern) + 1
      if begin + len(pattern) > end:
        return -1
    return -1


def size_of(part: Part) -> int:
  """Bytes of a part."""
  return len(part) if isinstance(part, bytes) else part[1] - part[0]


class View(io.RawIOBase):
  """A file that consists of parts of another one and of other bytes."""

  def __init__(self, source: Source, parts: Sequence[Part]):
    super().__init__()
    self._source = source
    self._parts = [part for part in parts if size_of(part)]
    self._starts = [0, *itertools.accumulate(map(size_of, self._parts))]
    self._place = 0

  @property
  def size(self) -> int:
    """Bytes of all parts."""
    return self._starts[-1]

  def readall(self) -> bytes:
    """All parts as one."""
    return b''.join(
      p if isinstance(p, bytes) else self._source.read(p[0], size_of(p))
      for p in self._parts
    )

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def tell(self) -> int:
    return self._place

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    base = {
      os.SEEK_SET: 0,
      os.SEEK_CUR: self._place,
      os.SEEK_END: self._starts[-1],
    }[whence]
    self._place = max(0, base + offset)
    return self._place

  def readinto(self, buffer) -> int:
    view, done = memoryview(buffer).cast('B'), 0
    while done < len(view) and self._place < self._starts[-1]:
      number = bisect.bisect_right(self._starts, self._place) - 1
      part, inside = self._parts[number], self._place - self._starts[number]
      count = min(len(view) - done, size_of(part) - inside)
      if isinstance(part, bytes):
        content = part[inside : inside + count]
      else:
        content = self._source.read(part[0] + inside, count)
      if not content:
        break
      view[done : done + len(content)] = content
      done += len(content)
      self._place += len(content)
    return done
