"""Objects and folders that appear whole, or not at all: `storage.publishing`.

An object is there when its upload has ended. A folder is made under another
name and copied, inside the store, into place; the one object by which readers
know it is removed first, where an older folder is replaced, and written last.
What a killed job leaves has a name that ends with `.tmp`, or lies below one.
"""

import contextlib
import os
import pathlib
import tempfile
from typing import Any, Collection, Iterator
import uuid

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage.buckets import claims
from step_audio_jax.storage.buckets import listing
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

SUFFIX = '.tmp'
# By the first of these that a folder has, its readers know that it is there,
# unless who makes it says otherwise.
LAST = ('stats.json', 'config.json')
# What tells that a folder is whole; the last is Orbax's.
KNOWN_BY = (*LAST, 'commit_success.txt')
_IN_MEMORY = 8 * 2**20
_PROCESS = uuid.uuid4().hex[:8]


@contextlib.contextmanager
def writing(path: addresses.Address) -> Iterator[addresses.Address]:
  """As `publishing.writing`; a store needs no folders, and tells its errors."""
  yield path


def temporary(path: addresses.Address) -> addresses.Address:
  """The neighbour under whose name this process writes `path`."""
  name = path.name[:100]
  return path.with_name(f'.{name}.{_PROCESS}-{os.getpid()}{SUFFIX}')


@contextlib.contextmanager
def atomic(path: addresses.Address, mode: str = 'wb') -> Iterator[Any]:
  """As `publishing.atomic`; what is written waits on this machine."""
  text = {'encoding': 'utf-8', 'errors': 'backslashreplace'}
  with atomic_path(path) as part:
    with open(part, mode, **({} if 'b' in mode else text)) as handle:
      yield handle


@contextlib.contextmanager
def atomic_path(path: addresses.Address) -> Iterator[pathlib.Path]:
  """As `publishing.atomic_path`."""
  with tempfile.TemporaryDirectory(prefix='step_audio_jax.') as folder:
    part = pathlib.Path(folder) / path.name[-100:]
    yield part
    put_file(part, path)


def put_file(source: pathlib.Path, path: addresses.Address) -> None:
  """Uploads a file of this machine."""
  claims.check(path)
  small = os.path.getsize(source) <= _IN_MEMORY
  stores.bucket_of(path).put(path.key, source.read_bytes() if small else source)


@contextlib.contextmanager
def atomic_folder(
  path: addresses.Address,
  *,
  replace: bool = False,
  expected: Collection[str] | None = None,
  last: str | None = None,
) -> Iterator[addresses.Address]:
  """As `publishing.atomic_folder`."""
  trouble = obstacle(path, folder=True)
  there = {one.name for one in listing.glob(path, '*')}
  if not trouble and not replace and there:
    trouble = 'is there already, expected a new folder'
  if not trouble and expected is not None:
    if foreign := sorted(there - set(expected)):
      trouble = (
        f'holds {ascii(foreign[0])}, expected a new or empty folder, or one '
        f'with nothing but {", ".join(sorted(expected))}, which is replaced'
      )
  if not path.key:
    trouble = 'found a whole bucket, expected a folder in it'
  if trouble:
    raise errors.UserError(f'{path}: {trouble}.')
  part = temporary(path)
  if replace:
    pattern = f'.{path.name[:100]}.*{SUFFIX}'
    for stale in list(_literal(path.parent, pattern)):
      remove_below(stale)  # left by a job that was killed
  try:
    yield part
    replace_folder(part, path, last)
  finally:
    with contextlib.suppress(failures.StoreError):
      remove_below(part)


def _literal(folder, pattern) -> Iterator[addresses.Address]:
  head, _, tail = pattern.partition('*')
  for one in listing.glob(folder, '*'):
    if one.name.startswith(head) and one.name.endswith(tail):
      # Else it is of a neighbour, whose name goes on behind a dot.
      if '.' not in one.name[len(head) : -len(tail)]:
        yield one


def replace_folder(
  new: addresses.Address, folder: addresses.Address, last: str | None = None
) -> None:
  """Copies `new` into the place of `folder`, of which nothing else stays.

  Args:
    new: The folder that was made.
    folder: Where it comes to lie.
    last: Name of the object that is copied behind all others; by default the
      first of `LAST` that is there.
  """
  claims.check(folder)
  bucket = stores.bucket_of(folder)
  made = [one.relative_to(new).as_posix() for one in listing.list_files(new)]
  old = [
    one.relative_to(folder).as_posix() for one in listing.list_files(folder)
  ]
  names = (*LAST, last) if last else LAST
  if last not in made:
    last = next((name for name in LAST if name in made), max(made, default=''))
  # Whoever looks from now on finds no folder, until it is whole.
  for name in {*names, last}:
    if name in old:
      bucket.delete(f'{folder.key}/{name}')

  def copy(name):
    bucket.copy(f'{new.key}/{name}', f'{folder.key}/{name}')

  list(reading.in_parallel(copy, [name for name in made if name != last]))
  gone = sorted(set(old) - set(made) - set(names))
  list(
    reading.in_parallel(
      lambda name: bucket.delete(f'{folder.key}/{name}'), gone
    )
  )
  if last:
    copy(last)


def remove_below(folder: addresses.Address) -> None:
  """Removes all objects of a folder, first those by which it is known."""
  bucket = stores.bucket_of(folder)
  below = f'{folder.key}/'
  names = [one.key for one in bucket.list(below)]
  first = [name for name in names if name.removeprefix(below) in KNOWN_BY]
  for name in first:
    bucket.delete(name)
  list(reading.in_parallel(bucket.delete, sorted(set(names) - set(first))))


def obstacle(path: addresses.Address, folder: bool) -> str | None:
  """What stands in the way of an output; None if nothing does."""
  if folder and listing.is_file(path):
    return 'found an object, expected a folder'
  if not folder and (not path.key or listing.is_dir(path)):
    return 'found a folder, expected an object'
  return None


def check_writable(
  path: addresses.Address, what: str | None, folder: bool
) -> None:
  """As `places.check_writable`: an object is written, and goes again."""
  where = f'{what}={path}' if what else f'{path}'
  if trouble := obstacle(path, folder):
    raise errors.UserError(f'{where}: {trouble}.')
  probe = temporary(path / 'writable' if folder or not path.key else path)
  bucket = stores.bucket_of(path)
  bucket.put(probe.key, b'')
  bucket.delete(probe.key)
