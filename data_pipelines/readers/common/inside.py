"""Files of a corpus: what a name in it means lies in the corpus' folder.

Names come from strangers. On a disk links are followed before it is asked
where a file lies; in a bucket, which has none, the name alone says it.
"""

import functools
import os
import pathlib
import posixpath
from typing import Any

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs


@functools.lru_cache(maxsize=2**16)
def _real(folder: str) -> str:
  return str(files.resolve(folder))


def resolve_inside(
  root: str | os.PathLike, name: str | os.PathLike, field: str = 'audio'
) -> pathlib.Path:
  """The file that `name` means, which lies in `root` whatever links say.

  Args:
    root: A folder.
    name: Relative to `root`; an absolute path must lie in it. Where no file
      has a name with backslashes, they are taken for slashes.
    field: What messages call the path.

  Returns:
    The path without links. The file need not exist; in a bucket nothing is
    asked for it.

  Raises:
    UserError: `name` leads out of `root`, is no regular file, or is a Git LFS
      pointer.
  """
  text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else None
  if text:
    text = with_slashes(root, text)
  if not text or '\0' in text or '..' in text.split('/'):
    raise errors.UserError(
      f'{field}: found {name!r}, expected a path inside the corpus folder '
      f"{root}, without '..'."
    )
  if files.is_address(root) or files.address(text) in files.SCHEMES:
    return _inside_bucket(files.path(root), text, name, field)
  try:
    # Folders are resolved once: a corpus has many files and few folders.
    whole = os.path.join(os.fspath(root), text)
    if text.endswith(('/', '/.')):  # pathlib opens `pipe` for `pipe/.`
      whole = os.path.normpath(whole)
    folder, last = os.path.split(whole)
    whole = os.path.join(_real(folder), last)
    # Of what is not there, who opens it will say so.
    whole, is_regular, size = files.look(whole)
    good = os.path.join(whole, '').startswith(
      os.path.join(_real(os.fspath(root)), '')
    )
  except (OSError, ValueError) as error:
    raise errors.UserError(f'{field}: {name!r} is no path: {error}.') from error
  if not good:
    raise _leads_out(field, text, root)
  if is_regular is False:
    raise errors.UserError(
      f'{field}: {text!r} is not a regular file, expected one.'
    )
  if is_regular is None and text != os.fspath(name):
    raise _backslashes(field, text, name, root)
  if 0 < size < lfs.LARGEST:
    lfs.refuse_path(whole, f'{field}: {text}')
  return files.path(whole)


def _inside_bucket(
  root: files.AnyPath, text: str, name: Any, field: str
) -> files.Address:
  """`resolve_inside` where the folder or the name is an address."""
  whole = text if files.address(text) else os.fspath(root / text)
  if fault := files.address_fault(whole):
    raise errors.UserError(f'{field}: {text!a:.80}: {fault}.')
  whole = files.path(whole)
  if not (isinstance(whole, files.Address) and whole.is_relative_to(root)):
    raise _leads_out(field, text, root)
  if text != os.fspath(name) and not files.is_file(whole):
    raise _backslashes(field, text, name, root)
  return whole


def _leads_out(field, text, root) -> errors.UserError:
  return errors.UserError(
    f'{field}: {text!r} leads out of {root}; --audio_root names another folder.'
  )


def _backslashes(field, text, name, root) -> errors.UserError:
  return errors.UserError(
    f'{field}: found {name!r}, a path with backslashes, and no file {text} in '
    f'{root}; expected a path below that folder, with slashes.'
  )


def with_slashes(root: str | os.PathLike, name: str) -> str:
  """A path of Windows with slashes, unless a file has the name as it is."""
  if '\\' not in name or '\0' in name:
    return name
  if files.is_named(files.path(root) / name):
    return name
  return name.replace('\\', '/')


def locate(
  root: str | os.PathLike, name: Any, field: str = 'audio'
) -> tuple[pathlib.Path, str]:
  """A file of a corpus → (its path, its name below `audio/` or `images/`).

  Raises:
    UserError: As `resolve_inside`.
  """
  path = resolve_inside(root, name, field)
  if isinstance(path, files.Address):
    return path, path.relative_to(files.path(root)).as_posix()
  text = with_slashes(root, os.fspath(name))
  if not text.startswith('/'):
    return path, posixpath.normpath(text)  # `./a//b` → `a/b`
  folder = files.path(root).absolute()
  given = pathlib.PurePosixPath(text)
  if given.is_relative_to(folder):
    return path, str(given.relative_to(folder))
  return path, os.path.relpath(path, _real(os.fspath(root)))
