"""`inspect --sweep`: what killed jobs left below a folder, and its removal.

    temporary    `.NAME.PROCESS.tmp`: what was being written under another name
    unfinished   parts and journals of a job, which goes on behind them
    checkpoint   a step of a run that was not saved to its end
    lease        a claim in a bucket that its owner did not give back

Nothing is removed unless it is asked for. What a process holds a claim on
stays, and so does what was written within the last hours, for not every job
has a claim: a live job writes more often.
"""

import dataclasses
import datetime
import re
import time
from typing import Any, Iterator, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import files

HOURS = 24.0
_LOCK = '.lock'
_JOURNAL = '.journal'
_STEPS = 'checkpoints'  # of a run, with a folder for each step
# Why something is left → how one of the names of its path is known.
_MARKS: Mapping[str, Sequence[re.Pattern[str]]] = {
  'temporary': (
    re.compile(r'\..+\.(\d+|[0-9a-f]{8}-\d+)(\.old)?\.tmp', re.DOTALL),
  ),
  'unfinished': (
    re.compile(r'\.parts-[0-9a-f]+'),  # of synthesize and quiz
    re.compile(r'\..+\.parts', re.DOTALL),  # of build
    re.compile(r'\.ingest'),  # of ingest
    re.compile(r'\.(complaints|align)'),  # of workers of an engine
    re.compile(rf'codes-\d+-of-\d+{re.escape(_JOURNAL)}'),  # of tokenize
  ),
}


@dataclasses.dataclass
class Left:
  """Something that a job left.

  Attributes:
    path: A file, or a folder with all that is in it.
    why: As the module says.
    files: How many.
    bytes: Of all.
    changed: When the youngest was written, seconds since 1970.
    kept: Why it stays; '' if it may go.
  """

  path: files.AnyPath
  why: str
  files: int = 0
  bytes: int = 0
  changed: float = 0.0
  kept: str = ''

  def to_json(self) -> dict[str, Any]:
    when = datetime.datetime.fromtimestamp(self.changed, datetime.UTC)
    return {
      **dataclasses.asdict(self),
      'path': str(self.path),
      'changed': when.isoformat(timespec='seconds'),
    }


def sweep(
  path: files.Path, *, hours: float = HOURS, delete: bool = False
) -> dict[str, Any]:
  """Names what killed jobs left, and removes it if that is asked for.

  Args:
    path: A folder, or a whole bucket.
    hours: What was written within so many stays.
    delete: Whether what may go goes.

  Returns:
    `left`, a list of `Left`; how many of them may go, or went, and their bytes.

  Raises:
    UserError: There is no such folder.
  """
  path = files.path(path, '--path')
  if not files.is_dir(path):
    raise errors.UserError(f'--path={path}: no such folder.')
  if not hours >= 0:
    raise errors.UserError(f'--hours: found {hours}, expected hours >= 0.')
  found, locks = _found(path)
  _judge(path, found, locks, time.time() - 3600 * hours)
  free = [one for one in found if not one.kept]
  if delete:
    for one in free:
      _remove(one)
  return {
    'left': [one.to_json() for one in found],
    'removable': len(free),
    'bytes': sum(one.bytes for one in free),
    'deleted': len(free) if delete else 0,
  }


def _found(path) -> tuple[list[Left], list[files.AnyPath]]:
  """What is left, in the order of names, and the files of all claims."""
  found: dict[files.AnyPath, Left] = {}
  members, locks, runs = [], [], set()
  for one in files.list_files(path):
    if _STEPS in one.parent.parts:
      runs.add(_steps_of(one))
    is_lock = one.name.startswith('.') and one.name.endswith(_LOCK)
    if is_lock or one.name.endswith(_JOURNAL):
      locks.append(one)
    place, why = _place(path, one)
    if place is None and is_lock and files.is_address(one):
      place, why = one, 'lease'  # on a disk it is an empty file that stays
    if place is not None:
      found.setdefault(place, Left(place, why))
      members.append((found[place], one))
  for folder in sorted(runs):
    for half in _half_written(folder):
      found.setdefault(half, Left(half, 'checkpoint'))
      members += [(found[half], one) for one in files.list_files(half)]
  states = files.ahead(path, lambda pair: _state(pair[1]), members)
  for (left, _), state in zip(members, states):
    if state is not None:
      left.files += 1
      left.bytes += state.size
      left.changed = max(left.changed, state.changed / 1e9)
  return sorted(found.values(), key=lambda left: str(left.path)), locks


def _place(path, one) -> tuple[files.AnyPath | None, str]:
  """What of its path is left, the folder that is nearest to `path`."""
  parts = one.relative_to(path).parts
  for depth, name in enumerate(parts, start=1):
    for why, marks in _MARKS.items():
      if any(mark.fullmatch(name) for mark in marks):
        return path.joinpath(*parts[:depth]), why
  return None, ''


def _steps_of(path: files.AnyPath) -> files.AnyPath:
  """The folder of steps that is nearest above a file."""
  return next(one for one in path.parents if one.name == _STEPS)


def _half_written(folder: files.AnyPath) -> Iterator[files.AnyPath]:
  # JAX and Orbax take seconds, which a folder without runs has no need of.
  from step_audio_jax.training.checkpoints import checkpoints

  return checkpoints.half_written(folder)


def _state(path: files.AnyPath) -> files.State | None:
  try:
    return files.state(path)
  except FileNotFoundError:  # its job is alive
    return None


def _judge(path, found: list[Left], locks, since: float) -> None:
  """Says of each why it stays, if it does."""
  claimed = files.ahead(path, files.is_claimed, locks)
  held = [lock for lock, is_held in zip(locks, claimed) if is_held]
  for one in found:
    if any(_covers(lock, one.path) for lock in held):
      one.kept = 'a process holds a claim on it'
    elif one.why != 'lease' and one.changed > since:
      one.kept = 'it was written not long ago'


def _covers(lock, path) -> bool:
  """Whether a claim is on a path, on a folder above it, or lies within it."""
  return (
    lock.is_relative_to(path)
    or (lock.name == _LOCK and path.is_relative_to(lock.parent))
    or lock.name == f'.{path.name[:100]}{_LOCK}'
    and lock.parent == path.parent
  )


def _remove(left: Left) -> None:
  path = left.path
  if left.why == 'lease':
    files.end_claim(path)  # it may be somebody's by now
  elif files.is_dir(path):
    files.remove_tree(path)
  else:
    files.remove(path)


def lines(told: Mapping[str, Any], path: files.Path) -> Iterator[str]:
  """What `sweep` found, for people."""
  for one in told['left']:
    kept = f'; stays: {one["kept"]}' if one['kept'] else ''
    yield (
      f'{one["path"]}: {one["why"]}, {one["files"]} files, '
      f'{one["bytes"]:,} bytes, written {one["changed"]}{kept}'
    )
  done = told['deleted'] and 'removed' or 'may go (--delete removes them)'
  yield f'{path}: {told["removable"]} of {len(told["left"])} {done}'
