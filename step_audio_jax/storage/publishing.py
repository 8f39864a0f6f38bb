"""Files and folders that appear whole, or not at all.

The block of each context manager writes under another name; what it wrote is
published when it ends well, and gone when it does not. On this machine that is
a rename, in a store of objects the end of an upload: nobody who calls may
count on the one or the other.
"""

import contextlib
import glob
import os
import pathlib
import shutil
from typing import Any, Collection, Iterator

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage import places


@contextlib.contextmanager
def writing(path: addresses.Path) -> Iterator[pathlib.Path]:
  """Around all that writes `path`: makes the folders above it, tells errors.

  Folders made here go again where the block fails, unless they hold something.

  Raises:
    UserError: As `check_writable`, but found while writing: errors of the
      operating system that name `path` or a neighbour of it, or nothing.
  """
  path = addresses.local(path)
  made = []
  try:
    for parent in path.parents:
      if os.path.lexists(parent):
        break
      made.append(parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
      os.lstat(path)  # says now whether the name is too long
    yield path
  except BaseException as error:
    for parent in made:
      with contextlib.suppress(OSError):
        parent.rmdir()
    if isinstance(error, OSError) and _is_of(error, path):
      raise places.unwritable(str(path), error) from error
    raise


def _is_of(error: OSError, path: pathlib.Path) -> bool:
  """Whether an error comes from writing `path` and not from another file."""
  if isinstance(error, BrokenPipeError):
    return False
  if error.filename is None or isinstance(error.filename, int):
    return True  # of an open file
  named = pathlib.Path(os.fsdecode(error.filename))
  return named.is_relative_to(temporary(path)) or path.is_relative_to(named)


def temporary(path: pathlib.Path) -> pathlib.Path:
  """The neighbour under whose name this process writes `path`."""
  name = path.name
  while len(os.fsencode(name)) > 200:  # file systems take 255 bytes
    name = name[:-1]
  return path.with_name(f'.{name}.{os.getpid()}.tmp')


@contextlib.contextmanager
def atomic(path: addresses.Path, mode: str = 'wb') -> Iterator[Any]:
  """Opens a temporary neighbour of `path`; it becomes `path` on success.

  On an exception the temporary file is removed and `path` is left as it was,
  so a reader never sees half a file. In a text, what is no UTF-8 of a file's
  name is written with a backslash, as Python and JSON read it.

  Raises:
    UserError: `path` cannot be written, or no longer: the disk is full.
  """
  text = {'encoding': 'utf-8', 'errors': 'backslashreplace'}
  with atomic_path(path) as part:
    with open(part, mode, **({} if 'b' in mode else text)) as handle:
      yield handle


@contextlib.contextmanager
def atomic_path(path: addresses.Path) -> Iterator[pathlib.Path]:
  """As `atomic`, for a library that opens files itself: gives their name."""
  with writing(path) as path:
    if trouble := places.obstacle(path, folder=False):
      raise errors.UserError(f'{path}: {trouble}.')
    part = temporary(path)
    try:
      yield part
      with open(part, 'rb') as handle:
        os.fsync(handle.fileno())
      os.replace(part, path)
    except BaseException:
      part.unlink(missing_ok=True)
      raise


@contextlib.contextmanager
def atomic_folder(
  path: addresses.Path,
  *,
  replace: bool = False,
  expected: Collection[str] | None = None,
  last: str | None = None,
) -> Iterator[pathlib.Path]:
  """Makes a temporary neighbour of `path`; it becomes `path` on success.

  On an exception the temporary folder goes. What earlier processes left of
  theirs when they were killed goes, too.

  Args:
    path: The folder.
    replace: Whether an older folder goes.
    expected: Names that such a folder may hold; None takes all. One with
      anything else in it stays: it is not ours to remove.
    last: Name of the file in it by which its readers know that it is there;
      by default `stats.json`, or else `config.json`. It counts where a folder
      appears file by file, as in a bucket.

  Raises:
    UserError: `path` cannot be written, or no longer: the disk is full; or it
      is there already, or is another kind of folder than the one that goes.
  """
  del last  # a rename shows all at once
  path = addresses.local(path)
  if replace and os.path.isdir(path):
    path = path.resolve()  # a link stays; `.` and `..` have no neighbours
  with writing(path) as path:
    trouble = places.obstacle(path, folder=True)
    if not trouble and not replace and path.exists():
      trouble = 'is there already, expected a new folder'
    if not trouble and expected is not None and path.exists():
      if foreign := sorted(set(os.listdir(path)) - set(expected)):
        trouble = (
          f'holds {ascii(foreign[0])}, expected a new or empty folder, or one '
          f'with nothing but {", ".join(sorted(expected))}, which is replaced'
        )
    if trouble:
      raise errors.UserError(f'{path}: {trouble}.')
    part = temporary(path)
    if replace:
      for stale in path.parent.glob(f'.{glob.escape(path.name)}.*.tmp'):
        shutil.rmtree(stale)  # left by a job that was killed
    try:
      part.mkdir()
      yield part
      if replace:
        replace_folder(part, path)
      else:
        os.rename(part, path)
    except BaseException:
      shutil.rmtree(part, ignore_errors=True)
      raise


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
  """Renames `new` to `folder`; an older `folder` goes, or is put back."""
  old = folder.with_name(f'.{folder.name}.{os.getpid()}.old.tmp')
  if folder.exists():
    folder.rename(old)
  try:
    new.rename(folder)
  except BaseException:
    if old.exists():
      old.rename(folder)
    raise
  shutil.rmtree(old, ignore_errors=True)
