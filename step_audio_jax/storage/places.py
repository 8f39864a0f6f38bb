"""Places of this machine: whether something can be written there.

What the operating system says of a path that cannot be written is told here,
as a `UserError`, once.
"""

import contextlib
import os
import pathlib
import stat
import tempfile

from step_audio_jax import addresses
from step_audio_jax import errors


def check_writable(
  path: addresses.Path,
  what: str | None = None,
  *,
  folder: bool = False,
) -> pathlib.Path:
  """Finds out, before any work, whether an output could be written.

  A nameless file is written where the output would come to lie; nothing stays.

  Args:
    path: Of the output; it need not be there, nor the folders above it.
    what: What named it, such as `--output`, for messages.
    folder: Whether it is a folder.

  Returns:
    The path.

  Raises:
    UserError: As `local`; something else is in its place, or what is there
      takes no new file (permission, a full or read-only disk).
  """
  path = addresses.local(path, what)
  where = f'{what}={path}' if what else f'{path}'
  try:
    if trouble := obstacle(path, folder):
      raise errors.UserError(f'{where}: {trouble}.')
    with contextlib.suppress(FileNotFoundError):
      os.lstat(path)  # says whether the name is too long
    nearest = path if folder else path.parent
    while not nearest.exists():
      nearest = nearest.parent
    with tempfile.TemporaryFile(dir=nearest, prefix='.writable.') as probe:
      probe.write(b'\0')
  except OSError as error:
    raise unwritable(where, error) from error
  return path


def obstacle(path: pathlib.Path, folder: bool) -> str | None:
  """What stands in the way of an output; None if nothing does."""
  if folder:
    if os.path.lexists(path) and not path.is_dir():
      return f'found {kind(path)}, expected a folder'
  elif path.is_dir():
    return 'found a folder, expected a file'
  elif path.exists() and not path.is_file():
    return f'found {kind(path)}, expected a file'
  for parent in path.parents:
    if parent.is_dir():
      return None
    if os.path.lexists(parent):
      return f'{parent} is {kind(parent)}, expected a folder'
  return None


def kind(path: addresses.AnyPath) -> str:
  """What is there that is no folder, for messages."""
  if isinstance(path, addresses.Address):
    return 'an object'
  if not path.exists():
    return 'a link to nothing'
  mode = path.stat().st_mode
  return 'a file' if stat.S_ISREG(mode) else 'a device or pipe'


def unwritable(where: str, error: OSError) -> errors.UserError:
  """What the system says of writing, as a sentence."""
  return errors.UserError(
    f'{where}: cannot be written ({error.strerror or error}); expected a '
    'place with room and the permission to write.'
  )
