"""The one opener: whatever a user names by a path is reached through here.

A path is a text or a `pathlib.Path`, which only joins and takes apart names.
Corpora, rows, codes, runs, tokenizers and reports, in and out, are opened,
listed, replaced, claimed and removed by these functions and nowhere else, so
that what stands behind a path can be another store than this machine's:
nothing here promises a rename, a link or a lock.

    opened, open_read, read_…      a file is read
    atomic, atomic_path, write_…   a file appears whole, or not at all
    atomic_folder                  so does a folder
    open_log                       a log, which others read while it grows
    exists, list_folder, glob, …   what lies where
    only_one, claim_file           one process at a time
    put, move, remove, …           what is there already
    as_local                       a name for libraries that open by themselves

Inputs are regular files. A pipe or a device is read where the system has its
own (`/dev/stdin`, `<(…)`); one that lies in a folder would wait for a writer
for ever, and is refused.

What the operating system says of a path is told as a `UserError`, except where
a function says otherwise.
"""

import contextlib
import errno
import io
import json
import os
import pathlib
import stat
from typing import Any, BinaryIO, Iterable, Iterator

from step_audio_jax import errors
from step_audio_jax.storage import claims
from step_audio_jax.storage import lfs
from step_audio_jax.storage import listing
from step_audio_jax.storage import moving
from step_audio_jax.storage import places
from step_audio_jax.storage import publishing

Path = places.Path
State = listing.State
NO_ADDRESS = places.NO_ADDRESS
address = places.address
local = places.local
check_writable = places.check_writable
kind = places.kind

exists = listing.exists
is_file = listing.is_file
is_dir = listing.is_dir
is_named = listing.is_named
size = listing.size
state = listing.state
resolve = listing.resolve
look = listing.look
list_folder = listing.list_folder
glob = listing.glob
list_files = listing.list_files
walk = listing.walk

writing = publishing.writing
temporary = publishing.temporary
atomic = publishing.atomic
atomic_path = publishing.atomic_path
atomic_folder = publishing.atomic_folder

only_one = claims.only_one
claim_file = claims.claim_file
empty = claims.empty

make_folder = moving.make_folder
put = moving.put
move = moving.move
merge = moving.merge
remove = moving.remove
remove_tree = moving.remove_tree
remove_empty = moving.remove_empty


@contextlib.contextmanager
def as_local(path: Path) -> Iterator[pathlib.Path]:
  """A name on this machine, for a library that opens or maps files itself.

  It means the file only inside the block; what was opened or mapped there
  stays open.
  """
  yield places.local(path)


def open_log(path: Path, mode: str = 'w') -> Any:
  """Opens a log: what is flushed is there for others, whatever comes later.

  Args:
    path: Of the file; its folder is there.
    mode: As of `open`: 'a' goes on where an earlier log ends.

  Raises:
    OSError: It cannot be written.
  """
  return open(path, mode, **({} if 'b' in mode else {'encoding': 'utf-8'}))


def open_read(path: Path) -> BinaryIO:
  """As `opened`, for those who tell the errors in their own words.

  Raises:
    OSError: There is no such file, it cannot be read, or is a pipe or device
      in a folder.
  """
  if _is_special(path) and not _is_of_system(path):
    raise OSError(errno.EINVAL, _SPECIAL, os.fspath(path))
  return open(path, 'rb')


def read_bytes(path: Path) -> bytes:
  """All of a file; raises as `open_read`."""
  with open_read(path) as handle:
    return handle.read()


def read_text(
  path: Path, encoding: str = 'utf-8', errors: str = 'strict'
) -> str:
  """A file as text, with every line's end as LF; raises as `open_read`."""
  with io.TextIOWrapper(open_read(path), encoding, errors) as handle:
    return handle.read()


def write_bytes(path: Path, content: bytes) -> None:
  """Writes a file, whole or not at all."""
  with publishing.atomic(path) as handle:
    handle.write(content)


def opened(path: Path, name: str | None = None, **keywords: Any) -> Any:
  """`open(path, 'rb')`, or with other `keywords`; says what is wrong.

  A pipe of the system's (`/dev/stdin`, `<(…)`) is read into memory when it is
  first opened, and can be opened again like a file.

  Args:
    path: Of the file.
    name: What messages call it; by default its path.
    **keywords: Of `open`.

  Raises:
    UserError: There is no such file, it cannot be read, it is a Git LFS
      pointer, a pipe or device in a folder, or a pipe that never ends.
  """
  places.local(path)
  try:
    if _is_special(path):
      if not _is_of_system(path):
        raise errors.UserError(f'{name or path}: {_SPECIAL}.')
      return _held(path, name, **keywords)
    handle = open(path, **{'mode': 'rb', **keywords})
  except FileNotFoundError as error:
    raise errors.UserError(f'{name or path}: no such file.') from error
  except OSError as error:
    raise errors.UserError(
      f'{name or path}: not readable as a file ({error.strerror}).'
    ) from error
  try:
    lfs.refuse(handle, name or path)
  except errors.UserError:
    handle.close()
    raise
  return handle


_SPECIAL = 'found a pipe, socket or device, expected a file'


def _is_special(path: Path) -> bool:
  """Whether it is neither a file nor a folder; raises the system's errors."""
  mode = os.stat(path).st_mode
  return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _is_of_system(path: Path) -> bool:
  """Whether it is named where the system has a process's own pipes."""
  whole = os.path.abspath(path)
  # /dev/shm is a folder like any other.
  return whole.startswith(('/dev/', '/proc/')) and (
    not whole.startswith('/dev/shm/')
  )


_MOST_HELD = 2**30  # bytes; nine hours of a 16 kHz WAV
_HELD: dict[tuple[int, int], bytes] = {}


def _held(path, name, mode='rb', buffering=-1, **text) -> Any:
  """A file in memory with what a pipe or a device gave."""
  del buffering
  state = os.stat(path)
  identity = state.st_dev, state.st_ino
  if identity not in _HELD:
    with open(path, 'rb') as handle:
      content = handle.read(_MOST_HELD + 1)
    if len(content) > _MOST_HELD:
      raise errors.UserError(
        f'{name or path}: found a pipe or device with more than '
        f'{_MOST_HELD >> 20} MiB, expected a file.'
      )
    _HELD[identity] = content
  raw = io.BytesIO(_HELD[identity])
  return raw if 'b' in mode else io.TextIOWrapper(raw, **text)


def write_json(path: Path, value: Any) -> None:
  """Writes `value` as indented JSON, atomically."""
  with publishing.atomic(path, 'w') as handle:
    json.dump(value, handle, indent=2, ensure_ascii=False, sort_keys=True)
    handle.write('\n')


def decoded(raw: bytes) -> str:
  """Text of a JSON file: UTF-8, 16 or 32, with or without a byte-order mark.

  Raises:
    UnicodeDecodeError: It is none of them.
  """
  return raw.decode(json.detect_encoding(raw))


def parsed(text: str | bytes, **keywords: Any) -> Any:
  """`json.loads`, which says of nesting too deep that it is not valid, too.

  Args:
    text: JSON.
    **keywords: Of `json.loads`.

  Raises:
    JSONDecodeError: It is not JSON, or deeper than can be read.
    UnicodeDecodeError: As `decoded`.
  """
  try:
    return json.loads(text, **keywords)
  except RecursionError as error:
    raise json.JSONDecodeError(
      'found lists or objects too deep in each other', '', 0
    ) from error


def read_json(path: Path) -> Any:
  """Reads one JSON file, also in UTF-16 or with a byte-order mark.

  Raises:
    UserError: The file is missing or is not JSON.
  """
  with opened(path) as handle:
    raw = handle.read()
  try:
    return parsed(decoded(raw))
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise errors.UserError(f'{path}: not valid JSON: {error}.') from error


def write_jsonl(path: Path, items: Iterable[Any]) -> int:
  """Writes one JSON value a line, atomically; returns how many."""
  count = 0
  with publishing.atomic(path, 'w') as handle:
    for item in items:
      handle.write(json.dumps(item, ensure_ascii=False) + '\n')
      count += 1
  return count


def read_jsonl(path: Path) -> Iterator[Any]:
  """Yields the values of a JSON-lines file; blank lines are skipped.

  Raises:
    UserError: The file is missing, or a line of it is not JSON.
  """
  for _, value in read_numbered_jsonl(path):
    yield value


def read_numbered_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
  """As `read_jsonl`, with the number of each value's line, from 1."""
  with opened(path, mode='r', encoding='utf-8-sig') as handle:
    number = 0
    try:
      for line in handle:
        number += 1
        if line.strip():
          yield number, parsed(line)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
      if isinstance(error, UnicodeDecodeError):
        # It was met while many lines were read ahead.
        number, error = _undecodable_line(path, number + 1, error)
      raise errors.UserError(
        f'{path}:{number}: not a JSON line: {error}.'
      ) from error


def _undecodable_line(path, number, error):
  """Number and fault of the first line that is no UTF-8, if it is found."""
  with contextlib.suppress(OSError), open_read(path) as handle:
    for place, line in enumerate(handle, 1):
      try:
        line.decode()
      except UnicodeDecodeError as found:
        return place, found
  return number, error
