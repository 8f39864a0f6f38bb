"""Tables of `key value` lines that belong together, joined on disk.

A corpus of a million utterances has tables of hundreds of megabytes that
need not be in one order. `Lookup` keeps a table in a private SQLite database
that spills to disk and vanishes with the process.
"""

import functools
import pathlib
import re
import sqlite3
from typing import Any, Iterator

from data_pipelines.readers.common import base
from step_audio_jax import errors

_CACHE_KB = 32 * 1024
# What Hugging Face takes for a split, too.
SPLITS = {
  'train': 'train',
  'training': 'train',
  'dev': 'dev',
  'val': 'dev',
  'valid': 'dev',
  'validation': 'dev',
  'test': 'test',
  'testing': 'test',
  'eval': 'test',
  'evaluation': 'test',
}


@functools.lru_cache(maxsize=4096)  # subsets are named line by line
def split_named(name: str) -> str | None:
  """The split that a folder or file is named after: `dev_clean` → `dev`."""
  for part in re.split('[^a-z]+', name.lower()):
    if part in SPLITS:
      return SPLITS[part]
  return None


def offset_and_duration(begin: Any, end: Any) -> tuple[float, float]:
  """Begin and end → offset and duration, seconds.

  Raises:
    UserError: One of them is no number.
  """
  try:
    begin, end = float(begin), float(end)
  except (TypeError, ValueError, OverflowError) as error:
    raise errors.UserError(
      f'times: found {begin!r} and {end!r}, expected seconds.'
    ) from error
  return begin, end - begin


def pairs(
  path: pathlib.Path,
) -> Iterator[tuple[int, str, str] | base.Rejected]:
  """(line, key, value) of a table; the value is '' where there is none.

  Raises:
    UserError: The file cannot be opened.
  """
  for line in base.table_lines(path):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, text = line
    key, *rest = text.split(maxsplit=1)
    yield number, key, rest[0].strip() if rest else ''


class Lookup:
  """Values by key; it knows which were never asked for.

  Use it as a context manager.
  """

  def __init__(self, path: pathlib.Path, *, many: bool = False):
    """Makes an empty table.

    Args:
      path: Where its lines come from, for messages.
      many: Whether a key may have several values.
    """
    self.path = path
    self._many = many
    self._data = sqlite3.connect('')  # private, on disk, gone when closed
    self._data.executescript(
      f'PRAGMA journal_mode = OFF; PRAGMA cache_size = -{_CACHE_KB};'
      'CREATE TABLE lines (key BLOB, nth INTEGER, line INTEGER, value TEXT, '
      'used INTEGER, PRIMARY KEY (key, nth)) WITHOUT ROWID;'
    )

  def __enter__(self) -> 'Lookup':
    return self

  def __exit__(self, *_) -> None:
    self._data.close()

  def add(self, line: int, key: str, value: str) -> base.Rejected | None:
    """Adds a line; a key that is there already is a `Rejected`."""
    done = self._data.execute(
      'INSERT OR IGNORE INTO lines VALUES (?, ?, ?, ?, 0)',
      (_blob(key), line if self._many else 0, line, value),
    )
    if done.rowcount:
      return None
    return base.Rejected(
      f'{self.path}:{line}', f'id: {key!r} occurs twice.', id=key, line=line
    )

  def load(self) -> Iterator[base.Rejected]:
    """Adds the lines of the file; yields those that are of no use."""
    for pair in pairs(self.path):
      if not isinstance(pair, base.Rejected):
        pair = self.add(*pair)
      if pair is not None:
        yield pair

  def take(self, key: str) -> list[tuple[int, str]]:
    """(line, value) of a key in the file's order, and remembers the call."""
    found = self._data.execute(
      'SELECT line, value FROM lines WHERE key = ? ORDER BY line',
      (_blob(key),),
    ).fetchall()
    if found:
      self._data.execute(
        'UPDATE lines SET used = 1 WHERE key = ?', (_blob(key),)
      )
    return found

  def get(self, key: str) -> str | None:
    """The value of a key, or None."""
    found = self.take(key)
    return found[0][1] if found else None

  def left(self, reason: str) -> Iterator[base.Rejected]:
    """What nobody asked for, each refused for `reason`."""
    for key, line in self._data.execute(
      'SELECT key, line FROM lines WHERE NOT used ORDER BY line'
    ):
      name = key.decode('utf-8', 'surrogatepass')
      yield base.Rejected(f'{self.path}:{line}', reason, id=name, line=line)


def _blob(key: str) -> bytes:
  """JSON may hold halves of surrogate pairs, which SQLite's text does not."""
  return key.encode('utf-8', 'surrogatepass')
