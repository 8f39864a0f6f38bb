"""What a user names by a path: on this machine, in a bucket, or neither.

A path of this machine is a `pathlib.Path`, a place in a bucket (`gs://…`,
`s3://…`) an `Address`; both join and take apart names alike. What lies there is
reached through `storage.files`.
"""

import os
import pathlib
import re
from typing import NamedTuple

from step_audio_jax import errors

Path = str | os.PathLike

# `gs://bucket/x`, and what pathlib makes of it. Two letters at least: `C:/`.
_ADDRESS = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):/')
SCHEMES = ('gs', 's3')
_ROOTS = tuple(f'{scheme}:' for scheme in SCHEMES)
_FILE = 'file'
NO_ADDRESS = (
  'an address, expected a path on this machine, gs://bucket/…, s3://bucket/… '
  'or file:///…'
)
_BUCKET = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{1,221}')
# Both stores take 1,024 bytes.
_LONGEST_KEY = 1024


class Address(pathlib.PurePosixPath):
  """A place in a bucket: `gs://bucket/key`, `s3://bucket/key`.

  It joins and takes apart names as every path does, and does nothing else:
  what lies there is reached through `files`. Made by `path`.
  """

  def __str__(self) -> str:
    text = super().__str__()
    if self.parts and self.parts[0] in _ROOTS:
      return text.replace(':/', '://', 1)
    return text  # what `relative_to` leaves

  def __fspath__(self) -> str:
    return str(self)

  def __repr__(self) -> str:
    return f'{type(self).__name__}({str(self)!r})'

  def __reduce__(self):
    return type(self), (str(self),)

  @property
  def scheme(self) -> str:
    """`gs` or `s3`."""
    return self.parts[0][:-1]

  @property
  def bucket(self) -> str:
    """Name of the bucket."""
    return self.parts[1]

  @property
  def key(self) -> str:
    """Name of the object in its bucket; '' for the bucket itself."""
    return '/'.join(self.parts[2:])

  def absolute(self) -> 'Address':
    """Itself: an address begins nowhere else."""
    return self

  def is_absolute(self) -> bool:
    return True


AnyPath = pathlib.Path | Address


def path(named: Path, what: str | None = None) -> AnyPath:
  """What a user wrote as a path; whoever takes one from a user asks here.

  Args:
    named: As the user wrote it.
    what: What named it, such as `--output`, for messages.

  Returns:
    An `Address` for `gs://…` and `s3://…`; a path of this machine for what is
    none and for `file:///…`.

  Raises:
    UserError: It is empty, the address of a store that is not known, or names
      no bucket, or an object as no bucket should hold it. A local folder of
      such a name is reached as `./gs:/…`.
  """
  if isinstance(named, Address):
    return named
  text = os.fsdecode(named)
  if ':/' in text and (scheme := address(text)):
    if fault := address_fault(text):
      where = f'{what}={text}' if what else text
      raise errors.UserError(f'{where}: {fault}.')
    if scheme == _FILE:
      return pathlib.Path(text.removeprefix('file://'))
    return Address(text)
  if not text or '\0' in text:
    found = 'a null character' if text else 'nothing'
    raise errors.UserError(
      f'{what or ascii(text)}: found {found}, expected a path.'
    )
  return pathlib.Path(named)


def address_fault(text: str) -> str | None:
  """What is wrong with an address; None if nothing is, or it is none."""
  scheme = address(text)
  if scheme is None or (scheme == _FILE and text.startswith('file:///')):
    return None
  if scheme not in SCHEMES:
    return f'found {NO_ADDRESS}'
  expected = f'expected {scheme}://bucket/…'
  rest = text[len(scheme) + 1 :]
  if not rest.startswith('//'):
    return f'found one slash behind {scheme}:, {expected}'
  bucket, _, key = rest[2:].partition('/')
  if not bucket or bucket in ('.', '..'):
    return f'found no bucket, {expected}'
  if bucket != bucket.strip() or not _BUCKET.fullmatch(bucket):
    return f'found {bucket!r}, which is no name of a bucket, {expected}'
  parts = key.rstrip('/').split('/')
  if key and any(part in ('', '.', '..') for part in parts):
    odd = next(part for part in parts if part in ('', '.', '..'))
    told = f'{odd!r} between slashes' if odd else 'two slashes in a row'
    return f'found {told}, expected the name of an object without them'
  if any(ord(letter) < 32 for letter in key):
    return 'found a control character, expected the name of an object'
  if len(os.fsencode(key)) > _LONGEST_KEY:
    return (
      f'found a name of {len(os.fsencode(key))} bytes, expected at most '
      f'{_LONGEST_KEY}'
    )
  return None


def is_address(named: Path) -> bool:
  """Whether a path is that of a bucket.

  Raises:
    UserError: As `path`, of what looks like an address.
  """
  if isinstance(named, Address):
    return True
  text = os.fspath(named)
  if isinstance(text, bytes) or ':/' not in text or not address(text):
    return False
  return isinstance(path(text), Address)


def local(named: Path, what: str | None = None) -> pathlib.Path:
  """A path of this machine, for what no other store can stand behind.

  Raises:
    UserError: As `path`; or it is in a bucket.
  """
  found = path(named, what)
  if isinstance(found, Address):
    where = f'{what}={found}' if what else f'{found}'
    raise errors.UserError(
      f'{where}: found a bucket, expected a path on this machine.'
    )
  return found


def address(text: str) -> str | None:
  """The scheme of `gs://bucket/x`, `file:/x` and their like, else None."""
  found = _ADDRESS.match(text)
  return found[1] if found else None


class State(NamedTuple):
  """What tells a content from the one that was there before.

  Attributes:
    size: Bytes.
    changed: When it was written, nanoseconds.
    version: More that changes with the content: of a file the time of its
      state and its number, of an object what its store calls its version.
  """

  size: int
  changed: int
  version: tuple[int | str, ...]
