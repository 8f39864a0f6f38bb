"""What lies where: looks at paths and lists folders, and changes nothing.

What cannot be looked at is not there: `exists`, `is_file` and `is_dir` never
raise. `size` and `state` raise the `OSError` of the system.
"""

import os
import pathlib
import stat
from typing import Iterator, Sequence

from step_audio_jax import addresses

# Links are followed.
exists, is_file, is_dir = os.path.exists, os.path.isfile, os.path.isdir
size = os.path.getsize


def state(path: addresses.Path) -> addresses.State:
  """What is known of a file without reading it."""
  found = os.stat(path)
  return addresses.State(
    found.st_size, found.st_mtime_ns, (found.st_ctime_ns, found.st_ino)
  )


def is_named(path: addresses.Path) -> bool:
  """Whether something has this name, be it a link to nothing."""
  return os.path.lexists(path)


def resolve(path: addresses.Path) -> pathlib.Path:
  """The whole path without links; it need not be there."""
  return pathlib.Path(os.path.realpath(path))


def look(path: str) -> tuple[str, bool | None, int]:
  """A file that may be a link: one look where `resolve` takes many.

  Args:
    path: Its folder is without links.

  Returns:
    (path without links, whether it is a regular file, bytes); None where
    nothing is there.
  """
  try:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
      path = os.path.realpath(path)
      found = os.lstat(path)
    return path, stat.S_ISREG(found.st_mode), found.st_size
  except OSError:
    return path, None, 0


def list_folder(folder: addresses.Path) -> Iterator[pathlib.Path]:
  """What lies in a folder, in no order."""
  return pathlib.Path(folder).iterdir()


def list_folders(folder: addresses.Path) -> Iterator[pathlib.Path]:
  """The folders that lie in a folder, in no order."""
  return filter(is_dir, list_folder(folder))


def states(
  folder: addresses.Path, names: Sequence[str | None]
) -> Iterator[addresses.State | None]:
  """What is known of many files below a folder, without reading them.

  Args:
    folder: A folder.
    names: Relative to it, without `.` and `..`; None stands for none.

  Yields:
    For each name the file's state, or None where there is none.
  """
  for name in names:
    try:
      yield None if name is None else state(os.path.join(folder, name))
    except (OSError, ValueError):
      yield None


def glob(folder: addresses.Path, pattern: str) -> Iterator[pathlib.Path]:
  """What of a folder has such a name, in no order; `**/` goes deeper.

  A folder that is not there has nothing.
  """
  return pathlib.Path(folder).glob(pattern)


def list_files(folder: addresses.Path) -> Iterator[pathlib.Path]:
  """The files in a folder and in those below it, in no order."""
  return filter(is_file, glob(folder, '**/*'))


def walk(folder: addresses.Path) -> Iterator[tuple[str, list[str], list[str]]]:
  """(folder, names of folders in it, names of files) from here down.

  What is taken out of the names of folders is not gone into.
  """
  return os.walk(folder)
