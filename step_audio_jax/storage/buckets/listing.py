"""What lies where in a bucket: `storage.listing` for addresses.

A folder is what names of objects have in common up to a slash. Objects whose
names no path can have (`a//b`, `a/../b`) are left out, and that is said.
"""

import fnmatch
import re
import sys
from typing import Iterator, Sequence

from step_audio_jax import addresses
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

_WILD = re.compile(r'[*?\[]')
_said: set[str] = set()


def exists(path: addresses.Address) -> bool:
  """Whether an object has this name, or a folder."""
  return is_file(path) or is_dir(path)


def is_file(path: addresses.Address) -> bool:
  """Whether an object has this name."""
  return bool(path.key) and _head(path) is not None


def is_dir(path: addresses.Address) -> bool:
  """Whether objects lie below this name."""
  found = stores.bucket_of(path).list(_below(path), most=1)
  return next(found, None) is not None or not path.key


def size(path: addresses.Address) -> int:
  """Bytes of an object; raises `Missing`."""
  return entry(path).size


def state(path: addresses.Address) -> addresses.State:
  """What is known of an object without reading it; raises `Missing`."""
  found = entry(path)
  return addresses.State(found.size, found.changed, (found.version,))


def entry(path: addresses.Address) -> stores.Entry:
  """What the store knows of an object; raises `Missing`."""
  found = _head(path) if path.key else None
  if found is None:
    raise failures.Missing(path, 'no such object')
  return found


def resolve(path: addresses.Address) -> addresses.Address:
  """The address itself: a bucket has no links."""
  return path


def look(path: addresses.Address) -> tuple[str, bool | None, int]:
  """As `listing.look`."""
  found = _head(path) if path.key else None
  if found is None:
    return str(path), None, 0
  return str(path), True, found.size


def list_folder(folder: addresses.Address) -> Iterator[addresses.Address]:
  """What lies in a folder, in the order of names; raises `Missing`."""
  found = False
  for name in _names(folder, '', flat=False):
    found = True
    yield folder / name.rstrip('/')
  if not found and not is_dir(folder):
    raise failures.Missing(folder, 'no such folder')


def list_folders(folder: addresses.Address) -> Iterator[addresses.Address]:
  """As `listing.list_folders`; raises `Missing`."""
  found = False
  for name in _names(folder, '', flat=False):
    found = True
    if name.endswith('/'):
      yield folder / name.rstrip('/')
  if not found and not is_dir(folder):
    raise failures.Missing(folder, 'no such folder')


def states(
  folder: addresses.Address, names: Sequence[str | None]
) -> Iterator[addresses.State | None]:
  """As `listing.states`, of one listing: it may name more than is asked."""
  below, wanted, known = _below(folder), set(names), {}
  for one in stores.bucket_of(folder).list(below):
    if (name := one.key[len(below) :]) in wanted:
      known[name] = addresses.State(one.size, one.changed, (one.version,))
  yield from map(known.get, names)


def glob(
  folder: addresses.Address, pattern: str
) -> Iterator[addresses.Address]:
  """As `listing.glob`."""
  wild = _WILD.search(pattern)
  start = pattern[: wild.start()] if wild else pattern
  flat = '/' in pattern[len(start) :] or '**' in pattern
  matches = _expression(pattern).fullmatch
  seen = set()
  for name in _names(folder, start, flat):
    parts = name.rstrip('/').split('/')
    for depth in range(1, len(parts) + 1):
      one = '/'.join(parts[:depth])
      if one not in seen and matches(one):
        seen.add(one)
        yield folder / one


def list_files(folder: addresses.Address) -> Iterator[addresses.Address]:
  """The objects below a folder."""
  for name in _names(folder, '', flat=True):
    yield folder / name


def entries(folder: addresses.Address) -> dict[str, stores.Entry]:
  """What the store knows of all objects below a folder, by their names."""
  below = _below(folder)
  return {
    one.key[len(below) :]: one
    for one in stores.bucket_of(folder).list(below)
    if isinstance(one, stores.Entry)
  }


def walk(
  folder: addresses.Address,
) -> Iterator[tuple[addresses.Address, list[str], list[str]]]:
  """As `listing.walk`."""
  folders, names = [], []
  for name in _names(folder, '', flat=False):
    (folders if name.endswith('/') else names).append(name.rstrip('/'))
  yield folder, folders, names
  for name in folders:
    yield from walk(folder / name)


def _head(path: addresses.Address) -> stores.Entry | None:
  return stores.bucket_of(path).head(path.key)


def _below(path: addresses.Address) -> str:
  return f'{path.key}/' if path.key else ''


def _names(folder: addresses.Address, start: str, flat: bool) -> Iterator[str]:
  """Names below a folder that begin so; folders end with a slash."""
  below = _below(folder)
  for one in stores.bucket_of(folder).list(below + start, flat):
    name = (one if isinstance(one, str) else one.key)[len(below) :]
    if not name or (not isinstance(one, str) and name.endswith('/')):
      continue  # what consoles write to show an empty folder
    if {'', '.', '..'} & set(name.removesuffix('/').split('/')):
      _tell_odd(folder, name)
      continue
    yield name


def _tell_odd(folder: addresses.Address, name: str) -> None:
  text = str(folder)
  if text not in _said:
    _said.add(text)
    print(
      f'note: {folder}: objects are left out whose names no path can have, '
      f'such as {name!r}.',
      file=sys.stderr,
      flush=True,
    )


def _expression(pattern: str) -> re.Pattern[str]:
  """A pattern of `pathlib` as an expression over names with slashes."""
  told = []
  for part in pattern.split('/'):
    if part == '**':
      told.append('(?:[^/]+/)*')
      continue
    text = fnmatch.translate(part).removeprefix('(?s:').removesuffix(r')\Z')
    # `fnmatch` has no slashes to spare.
    told.append(text.replace('.*', '[^/]*') + '/')
  whole = ''.join(told).removesuffix('/')
  if pattern.endswith('**'):
    whole = whole.removesuffix('(?:[^/]+/)*') + '(?:[^/]+/)*[^/]+'
  return re.compile(whole, re.DOTALL)
