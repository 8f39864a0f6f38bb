"""Copies on this machine, for libraries that open files by themselves."""

import hashlib
import os
import pathlib
import sys
import tempfile

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage.buckets import listing
from step_audio_jax.storage.buckets import moving
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import stores

_CACHE = 'STEP_AUDIO_JAX_COPIES'
_told: set[str] = set()


def root() -> pathlib.Path:
  """Where copies lie: `$STEP_AUDIO_JAX_COPIES`, or a temporary folder."""
  named = os.environ.get(_CACHE)
  if named:
    return pathlib.Path(named)
  return pathlib.Path(tempfile.gettempdir()) / f'step_audio_jax-{os.getuid()}'


def local_copy(path: addresses.Address) -> pathlib.Path:
  """A copy of an object, or of a folder of them; made once for each version.

  Raises:
    UserError: Nothing is there, or this machine has no room for it.
  """
  bucket = stores.bucket_of(path)
  found = bucket.head(path.key) if path.key else None
  if found is not None:
    told, parts = [found.version, found.size], [path]
  else:
    parts = sorted(listing.list_files(path))
    below = f'{path.key}/' if path.key else ''
    told = sorted([one.key, one.version] for one in bucket.list(below))
    if not parts:
      raise errors.UserError(f'{path}: nothing is there.')
  digest = hashlib.sha256(repr((str(path), told)).encode()).hexdigest()[:32]
  folder = root() / digest
  copy = folder / (path.name or path.bucket)
  _check_owner(folder.parent)
  if not copy.exists():
    try:
      _make(path, parts, folder, copy)
    except errors.UserError:
      raise
    except OSError as error:
      raise errors.UserError(
        f'{path}: cannot be copied to {folder.parent} ({error.strerror}); a '
        f'local copy is needed here, expected room for it, or another folder '
        f'in ${_CACHE}.'
      ) from error
  if str(path) not in _told:
    _told.add(str(path))
    print(
      f'note: {path} is read from a copy of this machine, {copy}.',
      file=sys.stderr,
      flush=True,
    )
  return copy


def _check_owner(folder) -> None:
  """Copies that somebody else could have made are not read."""
  if folder.exists() and folder.stat().st_uid != os.getuid():
    raise errors.UserError(
      f'{folder}: belongs to somebody else, expected a folder of copies '
      f'of your own; name one by ${_CACHE}.'
    )


def _make(path, parts, folder, copy) -> None:
  folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
  _check_owner(folder.parent)
  with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
    target = pathlib.Path(temporary) / 'made' / copy.name
    list(
      reading.in_parallel(
        lambda one: moving.copy_one(
          one, target.joinpath(*one.relative_to(path).parts)
        ),
        parts,
      )
    )
    try:
      os.rename(target.parent, folder)
    except OSError:
      if not copy.exists():  # else another process was as quick
        raise
