"""Tables whose lines are records: their lines, and `key value` tables joined.

A corpus of a million utterances has tables of hundreds of megabytes that
need not be in one order. `Lookup` keeps a table in a private SQLite database
that spills to disk and vanishes with the process.
"""

import dataclasses
import itertools
import os
import pathlib
import re
import sqlite3
from typing import Any, Callable, Iterator

from data_pipelines.readers import base
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


def split_named(name: str) -> str | None:
  """The split that a folder or file is named after: `dev_clean` → `dev`."""
  for part in re.split('[^a-z]+', name.lower()):
    if part in SPLITS:
      return SPLITS[part]
  return None


def span(begin: Any, end: Any) -> tuple[float, float]:
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


def lines(
  path: str | os.PathLike,
  is_record: Callable[[str], bool] = lambda text: False,
) -> Iterator[tuple[int, str] | base.Rejected]:
  """The lines of a table, each of which is a record by itself.

  A line ends at LF or CR LF, or at CR in a file that has no LF before its
  end. In other files a CR inside a line may be an end or a part of a text;
  lines are counted as if it were an end, and what stands in front of it is
  kept where a record stands behind it.

  Args:
    path: As in `base.text_lines`.
    is_record: Whether a text is a whole line of this table.

  Yields:
    As `base.text_lines`. A line with a NUL is a `Rejected` as well.

  Raises:
    UserError: The file cannot be opened.
  """
  found = base.raw_lines(path)
  first = list(itertools.islice(found, 2))
  by_returns = len(first) == 1
  more = 0  # lines that a CR ends
  for line in itertools.chain(first, found):
    if isinstance(line, base.Rejected):
      number = line.line + more
      yield dataclasses.replace(line, where=f'{path}:{number}', line=number)
      continue
    number, raw = line
    if b'\r' not in raw or b'\r' not in raw.rstrip(b'\r\n'):
      one = _checked(path, number + more, raw)
      if one is not None:
        yield one
      continue
    parts = raw.rstrip(b'\r\n').split(b'\r')
    numbered = enumerate(parts, number + more)
    more += len(parts) - 1
    checked = [_checked(path, k, part) for k, part in numbered]
    checked = [one for one in checked if one is not None]
    for one, after in itertools.zip_longest(checked, checked[1:]):
      lost = after is not None and not by_returns
      if lost and not isinstance(one, base.Rejected):
        whole = not isinstance(after, base.Rejected) and is_record(after[1])
        one = one if whole else _cut(path, one[0])
      yield one


def _checked(path, number, raw):
  one = base.decoded(path, number, raw)
  if isinstance(one, tuple) and '\0' in one[1]:
    return base.Rejected(
      f'{path}:{number}',
      f'a NUL at character {one[1].index(chr(0))}, expected text; the file is '
      'damaged, or is UTF-16 without a byte order mark.',
      line=number,
    )
  return one


def _cut(path, number):
  return base.Rejected(
    f'{path}:{number}',
    'a carriage return (CR) inside the line, behind which its text may go on; '
    'expected lines that end with LF or CR LF.',
    line=number,
  )


def pairs(
  path: pathlib.Path,
) -> Iterator[tuple[int, str, str] | base.Rejected]:
  """(line, key, value) of a table; the value is '' where there is none.

  Raises:
    UserError: The file cannot be opened.
  """
  for line in lines(path):
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
