"""A bucket as what is asked of it: seven requests, whoever the provider is.

The clients (`gcs`, `s3`) translate to and from their libraries and try
nothing twice; `Bucket` tries again (`failures`), finds its own objects after an
answer that was lost, and checks that what came is what was asked for.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import threading
from typing import Callable, Iterator, Protocol
import uuid

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage.clients import failures

# Written with every object: tells a lost answer from somebody else's object.
TOKEN = 'step-audio-jax-write'
ABSENT = ''  # the version of an object that is not there


@dataclasses.dataclass(frozen=True)
class Entry:
  """What a store knows of an object.

  Attributes:
    key: Its name.
    size: Bytes.
    changed: When it was written, nanoseconds.
    version: Changes with every write; text that only the store understands.
    token: Of the write that made it; '' where the listing does not tell.
    sum: Of the content, as the store has it: 'md5:…' in hexadecimal digits,
      or 'etag:…', which only this store can compare.
  """

  key: str
  size: int
  changed: int
  version: str
  token: str = ''
  sum: str = ''


def size_of(content: bytes | pathlib.Path) -> int:
  """Bytes of what is to be written."""
  if isinstance(content, bytes):
    return len(content)
  return os.path.getsize(content)


class Client(Protocol):
  """One bucket through a library.

  Every method raises `failures.Transient` for what may pass, `Missing`,
  `Denied` and `Occupied` (a precondition does not hold).
  """

  def head(self, key: str) -> Entry | None:
    """What is known of an object; None if there is none."""

  def get(
    self, key: str, begin: int, end: int | None, version: str | None
  ) -> tuple[bytes, str | None]:
    """Bytes begin..end, fewer where it ends before; and the version."""

  def put(
    self,
    key: str,
    content: bytes | pathlib.Path,
    token: str,
    version: str | None,
  ) -> Entry:
    """Writes an object; `version`: only over that one (`ABSENT`: over none)."""

  def page(
    self, prefix: str, flat: bool, at: str | None, most: int | None
  ) -> tuple[list[Entry | str], str | None]:
    """A page of the objects whose names begin so, and where the next is.

    Unless `flat`, names up to the next slash, with it, stand for what lies
    behind it. None is the place of the first page, and of the one behind the
    last.
    """

  def copy(self, key: str, target: str) -> None:
    """Copies an object inside the bucket, without its bytes coming here."""

  def delete(self, key: str) -> None:
    """Removes an object; where there is none it may raise `Missing`."""


class Bucket:
  """A bucket that is asked again where an answer may still come.

  Attributes:
    root: `gs://bucket`, for messages.
  """

  def __init__(self, root: str, client: Client):
    """Asks `client`."""
    self.root, self._client = root, client

  def where(self, key: str) -> str:
    """The address of an object."""
    return f'{self.root}/{key}'

  def head(self, key: str) -> Entry | None:
    """As `Client.head`."""
    return failures.persist(self.where(key), lambda _: self._client.head(key))

  def get(
    self,
    key: str,
    begin: int = 0,
    end: int | None = None,
    version: str | None = None,
    exact: bool = False,
  ) -> tuple[bytes, str | None]:
    """Bytes of an object, and the version that they are of.

    Args:
      key: Of the object.
      begin: First byte.
      end: The one behind the last; None for all.
      version: Which must be there; None for any.
      exact: Whether fewer bytes are an answer that was cut.

    Raises:
      Missing: There is no such object.
      Occupied: It is another version now.
    """

    def request(tried):
      del tried
      content, found = self._client.get(key, begin, end, version)
      if end is not None and len(content) > end - begin:
        raise failures.Transient('long')
      if exact and end is not None and len(content) < end - begin:
        raise failures.Transient('cut')
      return content, found

    content, found = failures.persist(self.where(key), request)
    failures.count('bytes_read', len(content))
    return content, found

  def put(
    self,
    key: str,
    content: bytes | pathlib.Path,
    version: str | None = None,
  ) -> Entry:
    """Writes an object, whole or not at all.

    Args:
      key: Of the object.
      content: Bytes, or a file of this machine.
      version: Only over this one; `ABSENT`: only where there is none.

    Raises:
      Occupied: Something else is there.
    """
    token = uuid.uuid4().hex

    def request(tried):
      del tried
      try:
        return self._client.put(key, content, token, version)
      except failures.Occupied:
        # A try before this one may have been done and not answered; a client
        # may have tried pieces again, too.
        found = self._client.head(key)
        if found is None or found.token != token:
          raise
        return found

    entry = failures.persist(self.where(key), request)
    failures.count('bytes_written', entry.size)
    return entry

  def list(
    self, prefix: str, flat: bool = True, most: int | None = None
  ) -> Iterator[Entry | str]:
    """The objects whose names begin so.

    Args:
      prefix: Of their names.
      flat: Else names up to the next slash stand for what lies behind it.
      most: How many are asked for at once.
    """
    at = None
    while True:
      entries, at = failures.persist(
        self.where(prefix),
        lambda _, at=at: self._client.page(prefix, flat, at, most),
      )
      yield from entries
      if at is None:
        return

  def copy(self, key: str, target: str) -> None:
    """Copies an object inside the bucket."""
    failures.persist(self.where(key), lambda _: self._client.copy(key, target))

  def delete(self, key: str, version: str | None = None) -> None:
    """Removes an object, if it is there.

    Args:
      key: Of the object.
      version: Which is there; a try after one that was not answered leaves
        another one alone, which was written meanwhile.
    """

    def request(tried):
      if tried and version is not None:
        found = self._client.head(key)
        if found is None or found.version != version:
          return
      with contextlib.suppress(failures.Missing):
        self._client.delete(key)

    failures.persist(self.where(key), request)


_EXTRAS = {'gs': ('gcs', 'google-cloud-storage'), 's3': ('s3', 'boto3')}
_LOCK = threading.Lock()


def bucket_of(address: addresses.Address) -> Bucket:
  """The bucket of an address, opened once in a process.

  Raises:
    UserError: The library that speaks to it is not installed, or knows nobody
      to speak as.
  """
  with _LOCK:
    return _opened(address.scheme, address.bucket, os.getpid())


@functools.lru_cache(maxsize=64)
def _opened(scheme: str, name: str, process: int) -> Bucket:
  del process  # connections do not outlive a fork
  root = f'{scheme}://{name}'
  return Bucket(root, _clients(scheme, root)(name))


def _clients(scheme: str, root: str) -> Callable[[str], Client]:
  try:
    if scheme == 'gs':
      from step_audio_jax.storage.clients import gcs

      return gcs.open_bucket
    from step_audio_jax.storage.clients import s3

    return s3.open_bucket
  except ImportError as error:
    extra, library = _EXTRAS[scheme]
    raise errors.UserError(
      f'{root}: {library} is not installed; expected '
      f"`pip install 'step_audio_jax[{extra}]'`."
    ) from error
