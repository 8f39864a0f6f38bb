"""Objects as files that are read, and as bytes that are read by ranges."""

import collections
from concurrent import futures
import contextlib
import functools
import io
import os
import threading
from typing import Callable, Iterable, Iterator, Sequence, TypeVar

from step_audio_jax import addresses
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

# What most files of a corpus are smaller than: they take one request.
_FIRST = 4 * 2**20
_BLOCK = 16 * 2**20
# A jump is followed by little more often than by much.
_AFTER_JUMP = 2**20
_BUFFER = 256 * 2**10
_IN_FLIGHT = 48
_WORKERS, _BLOCKS = 'buckets', 'blocks'

_Item, _Result = TypeVar('_Item'), TypeVar('_Result')


@functools.lru_cache(maxsize=2)
def pool(process: int, name: str = _WORKERS) -> futures.ThreadPoolExecutor:
  """Threads that wait for answers; call with `os.getpid()`.

  Those that fetch blocks of open files are others than those that do whole
  pieces of work: a piece may wait for a block, and a block waits for nobody.
  """
  del process  # threads do not outlive a fork
  return futures.ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix=name)


def opened(address: addresses.Address) -> io.BufferedReader:
  """An object as an open file: sequential reads are read ahead.

  Raises:
    Missing: There is no such object.
  """
  if not address.key:
    raise failures.Missing(address, 'found a bucket, expected an object')
  return io.BufferedReader(_Reading(address), _BUFFER)


class _Reading(io.RawIOBase):
  """An object, block by block, all of one version."""

  def __init__(self, address: addresses.Address):
    super().__init__()
    self.name = str(address)
    self._bucket, self._key = stores.bucket_of(address), address.key
    self._at = 0
    self._block, self._begin = b'', 0
    self._ahead: tuple[int, futures.Future] | None = None
    self._block, self._version = self._bucket.get(self._key, 0, _FIRST)
    self._size = len(self._block)
    if self._size == _FIRST:
      entry = self._bucket.head(self._key)
      if entry is None or self._version not in (None, entry.version):
        raise failures.Occupied(
          address, 'it is another object now than when it was opened'
        )
      self._size, self._version = entry.size, entry.version

  @property
  def identity(self) -> tuple[str, str] | None:
    """What tells this content from any other, if the store told it."""
    return (self.name, self._version) if self._version else None

  def readable(self):
    return True

  def seekable(self):
    return True

  def tell(self):
    return self._at

  def seek(self, offset, whence=os.SEEK_SET):
    base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}
    self._at = max(0, base[whence] + offset)
    return self._at

  def readinto(self, buffer):
    if self._at >= self._size or not len(buffer):
      return 0
    place = self._at - self._begin
    if not 0 <= place < len(self._block):
      self._turn()
      place = self._at - self._begin
    part = memoryview(self._block)[place : place + len(buffer)]
    buffer[: len(part)] = part
    self._at += len(part)
    return len(part)

  def readall(self):
    place = self._at - self._begin
    held = self._block[place:] if 0 <= place < len(self._block) else b''
    begin = self._at + len(held)
    rest = in_parallel(
      lambda at: self._fetch(at, _BLOCK), range(begin, self._size, _BLOCK)
    )
    self._at = max(self._at, self._size)
    return b''.join([held, *rest])

  def _turn(self) -> None:
    """Brings the block that begins where the file stands."""
    follows = self._at == self._begin + len(self._block)
    if self._ahead and self._ahead[0] == self._at:
      self._block = self._ahead[1].result()
    else:
      self._block = self._fetch(self._at, _BLOCK if follows else _AFTER_JUMP)
    self._begin, self._ahead = self._at, None
    behind = self._begin + len(self._block)
    if follows and behind < self._size:
      future = pool(os.getpid(), _BLOCKS).submit(self._fetch, behind, _BLOCK)
      self._ahead = behind, future

  def _fetch(self, begin: int, size: int) -> bytes:
    end = min(begin + size, self._size)
    content, _ = self._bucket.get(
      self._key, begin, end, self._version, exact=True
    )
    return content

  def close(self):
    if self._ahead:
      self._ahead[1].cancel()
    self._block, self._ahead = b'', None
    super().close()


class Ranged:
  """An object that is read by ranges, many of them in flight.

  Attributes:
    size: Bytes.
    name: Its address.
  """

  def __init__(
    self, address: addresses.Address, state: addresses.State | None = None
  ):
    """Asks for its size and version; what is read later is of that one.

    Args:
      address: Of the object.
      state: Its size and version, if they are known.

    Raises:
      Missing: There is no such object.
    """
    self.name = str(address)
    self._bucket, self._key = stores.bucket_of(address), address.key
    if state is None:
      entry = self._bucket.head(self._key)
      if entry is None:
        raise failures.Missing(address, 'no such object')
      self.size, self._version = entry.size, entry.version
    else:
      self.size, (self._version, *_) = state.size, state.version

  def read(self, begin: int, end: int) -> bytes:
    """Bytes begin..end, which are there."""
    return self._bucket.get(self._key, begin, end, self._version, exact=True)[0]

  def read_many(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """As `read` of each (begin, end), asked for side by side."""
    return list(in_parallel(lambda span: self.read(*span), spans))

  def close(self) -> None:
    """Nothing: every request stands by itself, and may still be made."""


def in_parallel(function, items: Iterable):
  """`map` with many requests in flight; the first error is raised.

  Called by a thread of the pool itself, it does one after the other: threads
  that wait for threads of their own pool would wait for ever.
  """
  items = list(items)
  if len(items) < 2 or _is_worker():
    return map(function, items)
  return pool(os.getpid()).map(function, items)


def ahead(
  function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
  """As `in_parallel`, a stream: a limited number of items is taken ahead."""
  if _is_worker():
    yield from map(function, items)
    return
  waiting: collections.deque[futures.Future] = collections.deque()
  try:
    for item in items:
      waiting.append(pool(os.getpid()).submit(function, item))
      if len(waiting) > _IN_FLIGHT:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    for future in waiting:
      future.cancel()


@contextlib.contextmanager
def background() -> Iterator[Callable[..., None]]:
  """`call(function, *args)` many times at once; all are done at the end.

  The first error is raised by a later call, or at the end.
  """
  waiting: collections.deque[futures.Future] = collections.deque()

  def call(function, *args):
    waiting.append(pool(os.getpid()).submit(function, *args))
    while len(waiting) > 2 * _IN_FLIGHT or waiting and waiting[0].done():
      waiting.popleft().result()

  try:
    yield call
    while waiting:
      waiting.popleft().result()
  finally:
    for future in waiting:
      future.cancel()
    futures.wait(waiting)


def _is_worker() -> bool:
  return threading.current_thread().name.startswith(_WORKERS)
