"""One process at a time: who has a claim, and who waits or is refused.

A claim ends with its block, or with its process. That it is a lock of the
operating system on this machine shows nowhere: a store of objects would keep
a lease.
"""

import contextlib
import fcntl
import os
import shutil
from typing import BinaryIO, Iterator

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage import places
from step_audio_jax.storage import publishing

_NAME = '.lock'


@contextlib.contextmanager
def only_one(folder: addresses.Path) -> Iterator[None]:
  """Keeps a second process out of a folder; the lock dies with its process.

  Raises:
    UserError: Another process holds the folder.
  """
  folder = addresses.local(folder)
  if trouble := places.obstacle(folder, folder=True):
    raise errors.UserError(f'{folder}: {trouble}.')
  path = folder / _NAME
  with contextlib.ExitStack() as stack:
    with publishing.writing(path):
      handle = stack.enter_context(open(path, 'w', encoding='utf-8'))
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.UserError(
        f'{folder}: another process is writing here; wait for it or stop it.'
      ) from error
    yield


def is_claimed(path: addresses.Path) -> bool:
  """Whether a process holds a claim by its file: `.lock`, or what it claims."""
  try:
    with open(path, 'rb') as handle:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except FileNotFoundError:
    return False
  except OSError:
    return True
  return False


def end_claim(path: addresses.Path) -> None:
  """Removes the file of a claim that nobody holds, where it tells anything."""
  del path  # on this machine it is empty


def empty(folder: addresses.Path) -> None:
  """Empties a folder that this process has a claim on; the claim stays."""
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry)
      elif entry.name != _NAME:
        os.unlink(entry)


@contextlib.contextmanager
def claim_file(path: addresses.Path) -> Iterator[BinaryIO]:
  """Opens a file to read it and to append to it, one process after the other.

  Args:
    path: Of the file; made where it is missing, with the folders above it.

  Yields:
    The file, at its beginning. Others wait until the block ends; what one of
    them removed meanwhile is made again.
  """
  path = addresses.local(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  while True:
    with open(path, 'a+b') as handle:
      fcntl.flock(handle, fcntl.LOCK_EX)
      if path.exists() and os.path.samestat(
        path.stat(), os.fstat(handle.fileno())
      ):
        handle.seek(0)
        yield handle
        return
