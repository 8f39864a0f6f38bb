"""Git LFS pointers: a few lines of text where a large file should be.

A repository that was cloned without Git LFS has, in place of recordings,
tables and weights,

    version https://git-lfs.github.com/spec/v1
    oid sha256:4d7a2146…
    size 12345

https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
"""

import contextlib
import os
import stat
from typing import Any

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

# The second is what the first versions of Git LFS wrote.
_BEGINNINGS = (b'version https://git-lfs', b'version https://hawser')
# "Pointer files must be less than 1024 bytes in size."
LARGEST = 1024


def is_pointer(head: bytes) -> bool:
  """Whether a file that begins with `head` is a pointer."""
  return head.startswith(_BEGINNINGS)


def refuse(content: bytes | int | Any, name: str | os.PathLike) -> None:
  """Refuses a pointer where the file itself is expected.

  Args:
    content: The bytes of a file, or one that is open: its number, or an
      object with a `fileno`. Its position stays.
    name: What the message calls it.

  Raises:
    UserError: It is a pointer.
  """
  if isinstance(content, bytes):
    head = content[:64] if len(content) < LARGEST else b''
  else:
    head = _head(content)
  if is_pointer(head):
    raise errors.UserError(
      f'{name}: a Git LFS pointer and not the file that it stands for; run '
      '`git lfs pull` in its repository.'
    )


def refuse_path(path: str | os.PathLike, name: str | None = None) -> None:
  """`refuse` of a file by its path; what cannot be opened is none.

  Raises:
    UserError: It is a pointer.
  """
  if addresses.is_address(path):
    path = addresses.path(path)
    with contextlib.suppress(failures.StoreError):
      head, _ = stores.bucket_of(path).get(path.key, 0, LARGEST)
      refuse(head, name or path)
    return
  try:
    if not 0 < os.stat(path).st_size < LARGEST:
      return
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  except (OSError, ValueError):
    return
  try:
    refuse(number, name or path)
  finally:
    os.close(number)


def _head(handle) -> bytes:
  """The first bytes of an open file that is small enough."""
  try:
    number = handle if isinstance(handle, int) else handle.fileno()
    status = os.fstat(number)
    small = 0 < status.st_size < LARGEST
    if small and stat.S_ISREG(status.st_mode):
      return os.pread(number, 64, 0)
  except (AttributeError, OSError, ValueError):
    pass  # no file of the operating system
  return b''
