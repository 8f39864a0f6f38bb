"""The one opener: whatever a user names by a path is reached through here.

A path is a text, or what `path` makes of it: a `pathlib.Path` of this machine,
or the address of an object or a folder in a bucket (`gs://…`, `s3://…`). Both
join and take apart names, and nothing else is done with them but by these
functions. Corpora, rows, codes, runs, tokenizers and reports, in and out, are
opened, listed, replaced, claimed and removed here and nowhere else: nothing
promises a rename, a link or a lock, which buckets do not have.

    path, check_writable           what a user named
    opened, open_read, read_…      a file is read
    atomic, atomic_path, write_…   a file appears whole, or not at all
    atomic_folder                  so does a folder
    open_log                       a log, which others read while it grows
    exists, list_folder, glob, …   what lies where
    only_one, claim_file           one process at a time
    put, move, remove, …           what is there already
    as_local                       a name for libraries that open by themselves
    ranged                         a file that is read by ranges of bytes

Inputs are regular files. A pipe or a device is read where the system has its
own (`/dev/stdin`, `<(…)`); one that lies in a folder would wait for a writer
for ever, and is refused.

What the operating system says of a path is told as a `UserError`, except where
a function says otherwise.
"""

import contextlib
import errno
import functools
import io
import json
import os
import pathlib
import stat
from typing import Any, BinaryIO, Callable, Iterable, Iterator, TypeVar

from step_audio_jax import addresses
from step_audio_jax import errors
from step_audio_jax.storage import claims
from step_audio_jax.storage import lfs
from step_audio_jax.storage import listing
from step_audio_jax.storage import moving
from step_audio_jax.storage import places
from step_audio_jax.storage import publishing
from step_audio_jax.storage.buckets import claims as bucket_claims
from step_audio_jax.storage.buckets import copies as bucket_copies
from step_audio_jax.storage.buckets import listing as bucket_listing
from step_audio_jax.storage.buckets import logs as bucket_logs
from step_audio_jax.storage.buckets import moving as bucket_moving
from step_audio_jax.storage.buckets import publishing as bucket_publishing
from step_audio_jax.storage.buckets import reading as bucket_reading
from step_audio_jax.storage.clients import failures as bucket_failures

Path = addresses.Path
AnyPath = addresses.AnyPath
Address = addresses.Address
State = addresses.State
NO_ADDRESS, SCHEMES = addresses.NO_ADDRESS, addresses.SCHEMES
address = addresses.address
address_fault = addresses.address_fault
path = addresses.path
local = addresses.local
is_address = addresses.is_address
kind = places.kind

_Function = TypeVar('_Function', bound=Callable[..., Any])


def _either(here: _Function, in_bucket: Callable[..., Any]) -> _Function:
  """One function for both: its first argument says where something lies."""

  @functools.wraps(here)
  def function(path, *args, **keywords):
    if addresses.is_address(path):
      return in_bucket(addresses.path(path), *args, **keywords)
    return here(path, *args, **keywords)

  return function


def _between(here: _Function, with_bucket: Callable[..., Any]) -> _Function:
  """As `_either`, for functions from one place to another."""

  @functools.wraps(here)
  def function(source, target, *args, **keywords):
    ends = source, target
    if any(not isinstance(e, bytes) and addresses.is_address(e) for e in ends):
      ends = (e if isinstance(e, bytes) else addresses.path(e) for e in ends)
      return with_bucket(*ends, *args, **keywords)
    return here(source, target, *args, **keywords)

  return function


exists = _either(listing.exists, bucket_listing.exists)
is_file = _either(listing.is_file, bucket_listing.is_file)
is_dir = _either(listing.is_dir, bucket_listing.is_dir)
is_named = _either(listing.is_named, bucket_listing.exists)
size = _either(listing.size, bucket_listing.size)
state = _either(listing.state, bucket_listing.state)
resolve = _either(listing.resolve, bucket_listing.resolve)
look = _either(listing.look, bucket_listing.look)
list_folder = _either(listing.list_folder, bucket_listing.list_folder)
list_folders = _either(listing.list_folders, bucket_listing.list_folders)
states = _either(listing.states, bucket_listing.states)
glob = _either(listing.glob, bucket_listing.glob)
list_files = _either(listing.list_files, bucket_listing.list_files)
walk = _either(listing.walk, bucket_listing.walk)

writing = _either(publishing.writing, bucket_publishing.writing)
temporary = _either(publishing.temporary, bucket_publishing.temporary)
atomic = _either(publishing.atomic, bucket_publishing.atomic)
atomic_path = _either(publishing.atomic_path, bucket_publishing.atomic_path)
atomic_folder = _either(
  publishing.atomic_folder, bucket_publishing.atomic_folder
)

only_one = _either(claims.only_one, bucket_claims.only_one)
claim_file = _either(claims.claim_file, bucket_claims.claim_file)
is_claimed = _either(claims.is_claimed, bucket_claims.is_claimed)
end_claim = _either(claims.end_claim, bucket_claims.end_claim)
empty = _either(claims.empty, bucket_claims.empty)

make_folder = _either(moving.make_folder, bucket_moving.make_folder)
put = _between(moving.put, bucket_moving.put)
move = _between(moving.move, bucket_moving.move)
merge = _between(moving.merge, bucket_moving.merge)
remove = _either(moving.remove, bucket_moving.remove)
remove_tree = _either(moving.remove_tree, bucket_moving.remove_tree)
remove_empty = _either(moving.remove_empty, bucket_moving.remove_empty)

entries = bucket_listing.entries
store_counts = bucket_failures.counts
raise_outage = bucket_failures.raise_outage
# Of this machine, for copies of what lies in buckets, and the like.
copies_folder = bucket_copies.root
Mirror = bucket_logs.Mirror


def ahead(
  place: Path, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
  """`map`; where `place` is in a bucket, many calls wait for it side by side.

  A limited number of `items` is taken ahead.
  """
  if addresses.is_address(place):
    return bucket_reading.ahead(function, items)
  return map(function, items)


@contextlib.contextmanager
def background(place: Path) -> Iterator[Callable[..., Any]]:
  """Gives `call(function, *args)`, for what is done one after the other here.

  Where `place` is in a bucket, many calls wait for it side by side; the first
  error is raised by a later call, or at the end, when all are done.
  """
  if addresses.is_address(place):
    with bucket_reading.background() as call:
      yield call
  else:
    yield lambda function, *args: function(*args)


def check_writable(
  named: Path, what: str | None = None, *, folder: bool = False
) -> AnyPath:
  """Finds out, before any work, whether an output could be written.

  Something nameless is written where the output would come to lie; nothing
  stays.

  Args:
    named: The output; it need not be there, nor the folders above it.
    what: What named it, such as `--output`, for messages.
    folder: Whether it is a folder.

  Returns:
    The path.

  Raises:
    UserError: As `path`; something else is in its place, or what is there
      takes no new file (permission, a full or read-only disk).
  """
  found = addresses.path(named, what)
  if isinstance(found, Address):
    bucket_publishing.check_writable(found, what, folder)
    return found
  return places.check_writable(found, what, folder=folder)


def ranged(path: Path, state: State | None = None) -> Any:
  """A file as bytes that are read by ranges, many of them at once.

  Args:
    path: Of the file.
    state: What `state` said of it, which spares asking again.

  Returns:
    `size`, `name`, `read(begin, end)`, `read_many([(begin, end), …])` and
    `close()`.

  Raises:
    OSError: It cannot be opened.
  """
  if addresses.is_address(path):
    return bucket_reading.Ranged(addresses.path(path), state)
  return _Ranged(path)


class _Ranged:
  """A file of this machine; see `ranged`."""

  def __init__(self, path: Path):
    self.name = os.fspath(path)
    self._handle = open_read(path)
    self.size = os.fstat(self._handle.fileno()).st_size

  def read(self, begin: int, end: int) -> bytes:
    return os.pread(self._handle.fileno(), end - begin, begin)

  def read_many(self, spans: Iterable[tuple[int, int]]) -> list[bytes]:
    return [self.read(*span) for span in spans]

  def close(self) -> None:
    self._handle.close()


@contextlib.contextmanager
def as_local(path: Path) -> Iterator[pathlib.Path]:
  """A name on this machine, for a library that opens or maps files itself.

  It means the file only inside the block; what was opened or mapped there
  stays open. What lies in a bucket is copied, and the copy is named.
  """
  if addresses.is_address(path):
    yield bucket_copies.local_copy(addresses.path(path))
  else:
    yield addresses.local(path)


def open_log(path: Path, mode: str = 'w') -> Any:
  """Opens a log: what is flushed is there for others, whatever comes later.

  In a bucket others see it some seconds later, and all of it once it is closed.

  Args:
    path: Of the file; its folder is there.
    mode: As of `open`: 'a' goes on where an earlier log ends.

  Raises:
    OSError: It cannot be written.
  """
  if addresses.is_address(path):
    return bucket_logs.Log(addresses.path(path), mode)
  return open(path, mode, **({} if 'b' in mode else {'encoding': 'utf-8'}))


def open_read(path: Path) -> BinaryIO:
  """As `opened`, for those who tell the errors in their own words.

  Raises:
    OSError: There is no such file, it cannot be read, or is a pipe or device
      in a folder.
  """
  if addresses.is_address(path):
    return bucket_reading.opened(addresses.path(path))
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
  with atomic(path) as handle:
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
  if addresses.is_address(path):
    return _opened_object(addresses.path(path), name or path, **keywords)
  path = addresses.local(path)
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


def _opened_object(path, name, mode='rb', buffering=-1, **text) -> Any:
  del buffering
  try:
    raw = bucket_reading.opened(path)
  except bucket_failures.StoreError as error:
    raise errors.UserError(f'{name}: {error.strerror}.') from error
  try:
    lfs.refuse(raw.peek(64)[:64], name)
  except errors.UserError:
    raw.close()
    raise
  return raw if 'b' in mode else io.TextIOWrapper(raw, **text)


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


def persist(handle: Any) -> None:
  """What was written to a log or a claimed file outlives this process."""
  handle.flush()
  if isinstance(handle, (bucket_claims.Claimed, bucket_logs.Log)):
    handle.persist()
  else:
    os.fsync(handle.fileno())


def write_json(path: Path, value: Any) -> None:
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
  with atomic(path, 'w') as handle:
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
