"""Makes, moves, copies and removes what lies somewhere already."""

import contextlib
import errno
import io
import os
import pathlib
import shutil

from step_audio_jax import addresses

_BLOCK = 2**20


def make_folder(path: addresses.Path) -> pathlib.Path:
  """Makes a folder, and those above it, where there is none."""
  path = addresses.local(path)
  path.mkdir(parents=True, exist_ok=True)
  return path


def remove(path: addresses.Path) -> None:
  """Removes a file, if it is there."""
  pathlib.Path(path).unlink(missing_ok=True)


def remove_tree(folder: addresses.Path) -> None:
  """Removes a folder with all that is in it, as far as that is possible."""
  shutil.rmtree(folder, ignore_errors=True)


def remove_empty(folder: addresses.Path) -> None:
  """Removes a folder, unless something is in it."""
  with contextlib.suppress(OSError):
    os.rmdir(folder)


def move(source: addresses.Path, target: addresses.Path) -> None:
  """Gives a file or a folder another name; a file there goes."""
  try:
    os.replace(source, target)
  except OSError as error:
    if error.errno != errno.EXDEV:
      raise
    shutil.move(source, target)  # to another file system


def merge(folder: addresses.Path, target: addresses.Path) -> None:
  """Moves a folder; into one that is there, file by file."""
  if not os.path.exists(target):
    os.rename(folder, target)
    return
  with os.scandir(folder) as entries:
    for entry in entries:
      place = os.path.join(target, entry.name)
      if entry.is_dir(follow_symlinks=False):
        merge(entry, place)
      else:
        os.replace(entry, place)


def put(
  content: addresses.Path | bytes, target: addresses.Path, copy: bool = False
) -> None:
  """Writes a new file: without a copy of the content where that is possible.

  Args:
    content: Bytes, or a file; it must not change from now on.
    target: Where; the folders above it are made.
    copy: Takes a copy in any case.

  Raises:
    OSError: It cannot be written, or is there already; nothing is written.
  """
  if not copy and not isinstance(content, bytes):
    try:
      _link(content, target)
      return
    except FileExistsError:
      raise
    except OSError:
      pass  # another file system
  target = pathlib.Path(target)
  make_folder(target.parent)
  raw = io.BytesIO(content) if isinstance(content, bytes) else None
  with raw or open(content, 'rb') as taken:
    # `x`: a link that is there already would lead to somebody's recording.
    with open(target, 'xb') as out:
      try:
        shutil.copyfileobj(taken, out, _BLOCK)
      except BaseException:
        target.unlink()
        raise


def _link(content, target) -> None:
  try:
    os.link(content, target)
  except FileNotFoundError:  # the first of its folder; or there is no content
    make_folder(pathlib.Path(target).parent)
    os.link(content, target)
