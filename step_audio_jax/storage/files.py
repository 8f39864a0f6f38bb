"""What a user names by a path: whole or absent, or refused in one sentence.

All reading and writing of named files goes through here: atomic writes of
files and folders, JSON and JSON lines, one process at a time. What the
operating system says of a path is told as a `UserError`, once, in this module.
"""

import contextlib
import fcntl
import glob
import io
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
from typing import Any, Collection, Iterable, Iterator

from step_audio_jax import errors
from step_audio_jax.storage import lfs

# `gs://bucket/x`, and what pathlib makes of it. Two letters at least: `C:/`.
_ADDRESS = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):/')
NO_ADDRESS = (
  'an address, expected a path on this machine; mount that store, or copy '
  'from or to it'
)


def local(path: str | os.PathLike, what: str | None = None) -> pathlib.Path:
  """A path of this machine; whoever takes a path from a user asks here.

  Args:
    path: As the user wrote it.
    what: What named it, such as `--output`, for messages.

  Raises:
    UserError: It is empty, or the address of another store (`gs://…`). A
      local folder of such a name is reached as `./gs:/…`.
  """
  text = os.fsdecode(path)
  where = f'{what}={text}' if what else text
  if address(text):
    raise errors.UserError(f'{where}: found {NO_ADDRESS}.')
  if not text or '\0' in text:
    found = 'a null character' if text else 'nothing'
    raise errors.UserError(
      f'{what or ascii(text)}: found {found}, expected a path.'
    )
  return pathlib.Path(path)


def address(text: str) -> str | None:
  """The scheme of `gs://bucket/x`, `file:/x` and their like, else None."""
  found = _ADDRESS.match(text)
  return found[1] if found else None


def check_writable(
  path: str | os.PathLike,
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
  path = local(path, what)
  where = f'{what}={path}' if what else f'{path}'
  try:
    if trouble := _obstacle(path, folder):
      raise errors.UserError(f'{where}: {trouble}.')
    with contextlib.suppress(FileNotFoundError):
      os.lstat(path)  # says whether the name is too long
    nearest = path if folder else path.parent
    while not nearest.exists():
      nearest = nearest.parent
    with tempfile.TemporaryFile(dir=nearest, prefix='.writable.') as probe:
      probe.write(b'\0')
  except OSError as error:
    raise _unwritable(where, error) from error
  return path


def _obstacle(path: pathlib.Path, folder: bool) -> str | None:
  """What stands in the way of an output; None if nothing does."""
  if folder:
    if os.path.lexists(path) and not path.is_dir():
      return f'found {_kind(path)}, expected a folder'
  elif path.is_dir():
    return 'found a folder, expected a file'
  elif path.exists() and not path.is_file():
    return f'found {_kind(path)}, expected a file'
  for parent in path.parents:
    if parent.is_dir():
      return None
    if os.path.lexists(parent):
      return f'{parent} is {_kind(parent)}, expected a folder'
  return None


def _kind(path: pathlib.Path) -> str:
  if not path.exists():
    return 'a link to nothing'
  mode = path.stat().st_mode
  return 'a file' if stat.S_ISREG(mode) else 'a device or pipe'


def _unwritable(where: str, error: OSError) -> errors.UserError:
  return errors.UserError(
    f'{where}: cannot be written ({error.strerror or error}); expected a '
    'place with room and the permission to write.'
  )


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Around all that writes `path`: makes the folders above it, tells errors.

  Folders made here go again where the block fails, unless they hold something.

  Raises:
    UserError: As `check_writable`, but found while writing: errors of the
      operating system that name `path` or a neighbour of it, or nothing.
  """
  path = local(path)
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
      raise _unwritable(str(path), error) from error
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
def atomic(path: str | os.PathLike, mode: str = 'wb') -> Iterator[Any]:
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
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """As `atomic`, for a library that opens files itself: gives their name."""
  with writing(path) as path:
    if trouble := _obstacle(path, folder=False):
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
  path: str | os.PathLike,
  *,
  replace: bool = False,
  expected: Collection[str] | None = None,
) -> Iterator[pathlib.Path]:
  """Makes a temporary neighbour of `path`; it becomes `path` on success.

  On an exception the temporary folder goes. What earlier processes left of
  theirs when they were killed goes, too.

  Args:
    path: The folder.
    replace: Whether an older folder goes.
    expected: Names that such a folder may hold; None takes all. One with
      anything else in it stays: it is not ours to remove.

  Raises:
    UserError: `path` cannot be written, or no longer: the disk is full; or it
      is there already, or is another kind of folder than the one that goes.
  """
  path = local(path)
  if replace and os.path.isdir(path):
    path = path.resolve()  # a link stays; `.` and `..` have no neighbours
  with writing(path) as path:
    trouble = _obstacle(path, folder=True)
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


def opened(
  path: str | os.PathLike, name: str | None = None, **keywords: Any
) -> Any:
  """`open(path, 'rb')`, or with other `keywords`; says what is wrong.

  A pipe (`/dev/stdin`, `<(…)`) is read into memory when it is first opened,
  and can be opened again like a file.

  Args:
    path: Of the file.
    name: What messages call it; by default its path.
    **keywords: Of `open`.

  Raises:
    UserError: There is no such file, it cannot be read, it is a Git LFS
      pointer, or a pipe that never ends.
  """
  local(path)
  try:
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
      return _held(path, name, (state.st_dev, state.st_ino), **keywords)
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


_MOST_HELD = 2**30  # bytes; nine hours of a 16 kHz WAV
_HELD: dict[tuple[int, int], bytes] = {}


def _held(path, name, identity, mode='rb', buffering=-1, **text) -> Any:
  """A file in memory with what a pipe or a device gave."""
  del buffering
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


@contextlib.contextmanager
def only_one(folder: str | os.PathLike) -> Iterator[None]:
  """Keeps a second process out of a folder; the lock dies with its process.

  Raises:
    UserError: Another process holds the folder.
  """
  folder = local(folder)
  if trouble := _obstacle(folder, folder=True):
    raise errors.UserError(f'{folder}: {trouble}.')
  path = folder / '.lock'
  with contextlib.ExitStack() as stack:
    with writing(path):
      handle = stack.enter_context(open(path, 'w', encoding='utf-8'))
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
  with opened(path) as handle:
    raw = handle.read()
  try:
    return json.loads(decoded(raw))
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
  with opened(path, mode='r', encoding='utf-8-sig') as handle:
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
