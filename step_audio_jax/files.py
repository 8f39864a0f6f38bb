"""Files that are whole or absent: atomic writes, JSON and JSON lines."""

import contextlib
import fcntl
import json
import os
import pathlib
from typing import Any, Iterable, Iterator

from step_audio_jax import errors


@contextlib.contextmanager
def atomic(path: str | os.PathLike, mode: str = 'wb') -> Iterator[Any]:
  """Opens a temporary neighbour of `path`; renames it into place on success.

  On an exception the temporary file is removed and `path` is left as it was,
  so a reader never sees half a file.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  encoding = None if 'b' in mode else 'utf-8'
  try:
    with open(temporary, mode, encoding=encoding) as handle:
      yield handle
      handle.flush()
      os.fsync(handle.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def opened(
  path: str | os.PathLike, name: str | None = None, **keywords: Any
) -> Any:
  """`open(path, 'rb')`, or with other `keywords`; says what is wrong.

  Args:
    path: Of the file.
    name: What messages call it; by default its path.
    **keywords: Of `open`.

  Raises:
    UserError: There is no such file, or it cannot be read.
  """
  try:
    return open(path, **{'mode': 'rb', **keywords})
  except FileNotFoundError as error:
    raise errors.UserError(f'{name or path}: no such file.') from error
  except OSError as error:
    raise errors.UserError(
      f'{name or path}: not readable as a file ({error.strerror}).'
    ) from error


@contextlib.contextmanager
def only_one(folder: str | os.PathLike) -> Iterator[None]:
  """Keeps a second process out of a folder; the lock dies with its process.

  Raises:
    UserError: Another process holds the folder.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / '.lock', 'w', encoding='utf-8') as handle:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.UserError(
        f'{folder}: another process is writing here; wait for it or stop it.'
      ) from error
    yield


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, atomically."""
  with atomic(path, 'w') as handle:
    json.dump(value, handle, indent=2, ensure_ascii=False, sort_keys=True)
    handle.write('\n')


def decoded(raw: bytes) -> str:
  """Text of a JSON file: UTF-8, 16 or 32, with or without a byte-order mark.

  Raises:
    UnicodeDecodeError: It is none of them.
  """
  return raw.decode(json.detect_encoding(raw))


def read_json(path: str | os.PathLike) -> Any:
  """Reads one JSON file, also in UTF-16 or with a byte-order mark.

  Raises:
    UserError: The file is missing or is not JSON.
  """
  try:
    return json.loads(decoded(pathlib.Path(path).read_bytes()))
  except FileNotFoundError as error:
    raise errors.UserError(f'{path}: no such file.') from error
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise errors.UserError(f'{path}: not valid JSON: {error}.') from error


def write_jsonl(path: str | os.PathLike, items: Iterable[Any]) -> int:
  """Writes one JSON value a line, atomically; returns how many."""
  count = 0
  with atomic(path, 'w') as handle:
    for item in items:
      handle.write(json.dumps(item, ensure_ascii=False) + '\n')
      count += 1
  return count


def read_jsonl(path: str | os.PathLike) -> Iterator[Any]:
  """Yields the values of a JSON-lines file; blank lines are skipped.

  Raises:
    UserError: The file is missing, or a line of it is not JSON.
  """
  for _, value in read_numbered_jsonl(path):
    yield value


def read_numbered_jsonl(path: str | os.PathLike) -> Iterator[tuple[int, Any]]:
  """As `read_jsonl`, with the number of each value's line, from 1."""
  try:
    handle = open(path, encoding='utf-8-sig')
  except FileNotFoundError as error:
    raise errors.UserError(f'{path}: no such file.') from error
  with handle:
    number = 0
    try:
      for line in handle:
        number += 1
        if line.strip():
          yield number, json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
      raise errors.UserError(
        f'{path}:{number}: not a JSON line: {error}.'
      ) from error
