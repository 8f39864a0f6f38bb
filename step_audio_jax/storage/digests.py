"""SHA-256 of what belongs together: bytes, files, values, folders.

A digest is written where something is made from something else and compared
where both meet again, so that a path that stayed and a content that changed
are told apart. Digests are hexadecimal; messages show the first twelve digits.
"""

import hashlib
import json
import os
from typing import Any, Iterable

from step_audio_jax.storage import files

_SHOWN = 12  # digits, in messages


def of_bytes(content: bytes) -> str:
  """Digest of `content`."""
  return hashlib.sha256(content).hexdigest()


def of_value(value: Any) -> str:
  """Digest of a JSON-able value; the order of keys does not matter.

  Raises:
    TypeError: `value` holds something that JSON does not.
  """
  text = json.dumps(
    value, sort_keys=True, ensure_ascii=True, separators=(',', ':')
  )
  return of_bytes(text.encode())


def number(text: str) -> int:
  """64 bits of a string, the same on every machine.

  A million strings collide with a chance of 3 in 10⁸.
  """
  raw = text.encode('utf-8', 'surrogatepass')
  return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), 'little')


def of_file(path: str | os.PathLike, kind: str = 'sha256') -> str:
  """Digest of a file's bytes, of another kind where one is asked for.

  Raises:
    UserError: The file is missing or cannot be read.
  """
  with files.opened(path) as handle:
    return hashlib.file_digest(handle, kind).hexdigest()


def of_files(folder: str | os.PathLike, names: Iterable[str]) -> dict[str, str]:
  """Name → digest of files of one folder.

  Raises:
    UserError: One of them is missing or cannot be read.
  """
  return {name: of_file(files.path(folder) / name) for name in names}


def short(digest: str | None) -> str:
  """A digest as messages show it."""
  return digest[:_SHOWN] if digest else 'none'
