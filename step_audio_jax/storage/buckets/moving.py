"""Moves, copies and removes objects: `storage.moving` for addresses."""

import os
import pathlib
import shutil

from step_audio_jax import addresses
from step_audio_jax.storage.buckets import claims
from step_audio_jax.storage.buckets import listing
from step_audio_jax.storage.buckets import publishing
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

_BLOCK = 2**20


def make_folder(path: addresses.Address) -> addresses.Address:
  """Nothing: a folder is there with the first object in it."""
  return path


def remove(path: addresses.Address) -> None:
  """Removes an object, if it is there."""
  claims.check(path)
  stores.bucket_of(path).delete(path.key)


def remove_tree(folder: addresses.Address) -> None:
  """Removes all objects below a folder, and one of its name."""
  claims.check(folder)
  publishing.remove_below(folder)
  if folder.key:
    remove(folder)


def remove_empty(folder: addresses.Address) -> None:
  """Nothing: a folder goes with its last object."""
  del folder


def move(source: addresses.AnyPath, target: addresses.AnyPath) -> None:
  """As `moving.move`: copies, then removes, from or to a bucket."""
  _remove(source, _transfer(source, target))


def merge(folder: addresses.AnyPath, target: addresses.AnyPath) -> None:
  """As `moving.merge`."""
  move(folder, target)


def _transfer(source, target) -> list:
  """Copies an object or a folder; returns what of it was there.

  What tells readers that a folder is whole comes last.
  """
  found = _files(source)
  if not found:
    raise failures.Missing(source, 'nothing is there')

  def copy(one):
    copy_one(one, target.joinpath(*one.relative_to(source).parts))

  last = [one for one in found if one.name in publishing.KNOWN_BY]
  list(reading.in_parallel(copy, sorted(set(found) - set(last))))
  for one in sorted(last, key=lambda one: (-len(one.parts), one)):
    copy(one)
  return found


def _files(path) -> list:
  if isinstance(path, addresses.Address):
    below = list(listing.list_files(path))
    return ([path] if listing.is_file(path) else []) + below
  if path.is_dir():
    return [one for one in path.rglob('*') if one.is_file()]
  return [path] if path.exists() else []


def _remove(path, copied) -> None:
  if isinstance(path, addresses.Address):
    # Not what lies there, too, under names that no path can have.
    claims.check(path)
    bucket = stores.bucket_of(path)
    below = f'{path.key}/' if path.key else ''
    for one in list(bucket.list(below)):
      if one.key.endswith('/') and not one.size:
        bucket.delete(one.key)  # what consoles show an empty folder by
    first = [one for one in copied if one.name in publishing.KNOWN_BY]
    for part in (first, set(copied) - set(first)):
      list(reading.in_parallel(remove, sorted(part)))
  elif path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink()


def copy_one(source: addresses.AnyPath, target: addresses.AnyPath) -> None:
  """Copies a file or an object; inside a bucket the store does it."""
  if not isinstance(target, addresses.Address):
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'.{target.name[:60]}.{os.getpid()}.tmp')
    try:
      with reading.opened(source) as taken, open(part, 'wb') as out:
        shutil.copyfileobj(taken, out, _BLOCK)
      os.replace(part, target)
    finally:
      part.unlink(missing_ok=True)
    return
  if not isinstance(source, addresses.Address):
    publishing.put_file(source, target)
    return
  claims.check(target)
  if (source.scheme, source.bucket) == (target.scheme, target.bucket):
    stores.bucket_of(source).copy(source.key, target.key)
    return
  with publishing.atomic(target) as out, reading.opened(source) as taken:
    shutil.copyfileobj(taken, out, _BLOCK)


def put(
  content: addresses.Path | bytes, target: addresses.AnyPath, copy: bool = False
) -> None:
  """As `moving.put`."""
  del copy  # there is no other way
  if isinstance(target, addresses.Address) and isinstance(content, bytes):
    claims.check(target)
    stores.bucket_of(target).put(target.key, content, version=stores.ABSENT)
    return
  if _is_there(target):
    raise failures.Occupied(target, 'is there already')
  copy_one(addresses.path(content), target)


def _is_there(path: addresses.AnyPath) -> bool:
  """Whether a file or an object has this name."""
  if isinstance(path, addresses.Address):
    return listing.is_file(path)
  return pathlib.Path(path).exists()
