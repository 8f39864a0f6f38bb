"""What a store answers instead of what was asked for, and when to ask again.

What may pass (a time-out, 429, 5xx, an answer cut short) is tried again
(`retries`), up to a limit; what will not pass (403, 404, a precondition) is
told at once. The errors are those of the system, `OSError`, and sentences for
users at the same time.
"""

import collections
import contextlib
import dataclasses
import errno
import threading
from typing import Any, Callable, Iterator, TypeVar

from step_audio_jax import errors
from step_audio_jax import retries

_T = TypeVar('_T')


class StoreError(OSError, errors.UserError):
  """A store did not do what was asked of it.

  Attributes:
    filename: The address.
    strerror: What was wrong, without the address.
  """

  number = errno.EIO

  def __init__(self, where: Any, fault: str):
    """Tells `fault` of the address `where`."""
    super().__init__(self.number, fault, str(where))

  def __str__(self) -> str:
    return f'{self.filename}: {self.strerror}.'

  def __reduce__(self):
    return type(self), (self.filename, self.strerror)


class Missing(StoreError, FileNotFoundError):
  """There is no such object, or no such bucket."""

  number = errno.ENOENT


class Denied(StoreError, PermissionError):
  """The store knows who asks, or does not, and refuses."""

  number = errno.EACCES


class Occupied(StoreError, FileExistsError):
  """An object is there that should not be, or is another than expected."""

  number = errno.EEXIST


def raise_outage(error: BaseException, refused: bool = False) -> None:
  """Raises `error` if it says nothing of one object, but that a store is gone.

  For those who leave out what cannot be read: what nobody answered for is not
  theirs to leave out.

  Args:
    error: What was raised.
    refused: Whether a store that is there and refuses is as good as gone.
  """
  told = (Missing,) if refused else (Missing, Denied, Occupied)
  found: BaseException | None = error
  while found is not None:
    if isinstance(found, StoreError) and not isinstance(found, told):
      raise error
    found = found.__cause__


Transient, Limits = retries.Transient, retries.Limits
LIMITS = Limits()
_OWN = threading.local()


def limits() -> Limits:
  """What holds for this thread."""
  return getattr(_OWN, 'limits', None) or LIMITS


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
  """In the block, requests of this thread are tried for about `seconds`.

  One that hangs is given up in half of it, and asked again.
  """
  before, most = getattr(_OWN, 'limits', None), seconds / 2
  held = limits()
  _OWN.limits = dataclasses.replace(
    held,
    seconds=min(held.seconds, most),
    first_pause=min(held.first_pause, most / 8),
    longest_pause=min(held.longest_pause, most / 4),
    connect=min(held.connect, most),
    read=min(held.read, most),
  )
  try:
    yield
  finally:
    _OWN.limits = before


_LOCK = threading.Lock()
_COUNTS: collections.Counter[str] = collections.Counter()


def count(name: str, by: int = 1) -> None:
  """Adds to one of the counters of this process."""
  with _LOCK:
    _COUNTS[name] += by


def counts() -> dict[str, int]:
  """Requests, retries by reason and bytes of this process, by name."""
  with _LOCK:
    return dict(_COUNTS)


def persist(where: Any, request: Callable[[int], _T]) -> _T:
  """Asks until there is an answer, as long as `limits` says.

  Args:
    where: The address, for messages.
    request: Given the number of tries before it.

  Raises:
    StoreError: As `request`; or all tries failed.
  """
  try:
    return retries.persist(request, limits(), count)
  except retries.GaveUp as error:
    raise StoreError(
      where, f'{error} (the last: {error.last.reason})'
    ) from error.last
