"""What loaders of spoken questions share: tables, recordings, references.

A recording is looked at (is it there, is it audio, is it the pointer of an
unfinished download), not decoded: whoever hears it does that, and tells then
what of it is damaged.
"""

import ast
import collections
import csv
import dataclasses
import io
import json
import re
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

from data_pipelines.benchmarks import gathering
from data_pipelines.readers import chat
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tars
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs

Left = gathering.Left
Found = Iterator[benchmark.Item | Left]

PART = 'a part of the table that is not there'
_HEAD = 64  # bytes that say what a file is
_SHARD = re.compile(r'(.+)-(\d{5})-of-(\d{5})')
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


@dataclasses.dataclass(frozen=True)
class Subset:
  """What loaders of a collection of sets have, beside how each is scored.

  Attributes:
    subset: Name of the set.
    expected: Of its items, in the public version.
  """

  subset: str = ''
  expected: int = 0


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table.

  Attributes:
    where: `file:number`.
    name: Its own in the benchmark, where it says none itself.
    fields: Of it.
  """

  where: str
  name: str
  fields: Mapping[str, Any]

  def get(self, *names: str) -> Any:
    """What it says under the first of several names, or None."""
    found = (self.fields.get(name) for name in names)
    return next((value for value in found if value is not None), None)

  def text(self, *names: str) -> str:
    """As `get`, as text; '' where there is none.

    Raises:
      UserError: It is neither a text nor a number.
    """
    value = self.get(*names)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      value = str(value)
    return (columns_lib.string(value, names[0]) or '').strip()

  def needed(self, *names: str) -> str:
    """As `text`.

    Raises:
      UserError: There is none.
    """
    found = self.text(*names)
    if not any(name in self.fields for name in names):
      told = ', '.join(sorted(self.fields))
      raise errors.UserError(
        f'{names[0]}: missing, found the fields {told}; '
        f'expected any of {", ".join(names)}.'
      )
    if not found:
      raise errors.UserError(f'{names[0]}: empty, expected a text.')
    return found

  def id(self, *names: str) -> str:
    """What the row calls itself, or its name."""
    return self.text(*names) or self.name

  def references(self, *names: str) -> tuple[str, ...]:
    """Answers that are right.

    Raises:
      UserError: There are none.
    """
    found = answers(self.get(*names))
    if not found:
      raise errors.UserError(f'{names[0]}: empty, expected a right answer.')
    return found


def answers(value: Any) -> tuple[str, ...]:
  """What a cell gives as right answers, each once, in order.

  A text, a number, a list, an object of TriviaQA (`value`, `aliases`,
  `normalized_aliases`), or a list that a table holds as text: `["a", "b"]`,
  `['a', 'b']`, and `['a' 'b']`, as numpy prints it.
  """
  if isinstance(value, Mapping):
    parts = [
      part
      for name in ('value', 'normalized_value', 'aliases', 'normalized_aliases')
      for part in answers(value.get(name))
    ]
  elif isinstance(value, (list, tuple)):
    parts = [part for one in value for part in answers(one)]
  elif isinstance(value, str):
    some = listed(value)
    parts = [value.strip()] if some is None else some
  elif isinstance(value, (int, float)) and value == value:
    parts = [str(value)]
  else:
    parts = []
  return tuple(dict.fromkeys(part for part in parts if part))


def listed(text: str) -> list[str] | None:
  """The texts of a list that is written as text; None where it is none."""
  text = text.strip()
  if not (text.startswith('[') and text.endswith(']')):
    return None
  try:
    found = json.loads(text)
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
      return [one.strip() for one in found]
  except (ValueError, RecursionError):
    pass
  if _QUOTED.sub('', text[1:-1]).strip(' \t\r\n,'):
    return None
  return [ast.literal_eval(one).strip() for one in _QUOTED.findall(text)]


def recording(
  root: files.AnyPath, value: Any, text: str = ''
) -> chats_lib.Speech:
  """What a cell lets hear: bytes, {bytes, path}, or a path below `root`.

  Args:
    root: Folder of the benchmark.
    value: The cell.
    text: What is said, '' where nobody knows.

  Raises:
    UserError: It is not there, or no audio.
  """
  name = value
  if isinstance(value, Mapping):
    name = value.get('path')
    value = value['bytes'] if value.get('bytes') is not None else name
  if value is None or value == '':
    raise errors.UserError('audio: missing, expected a recording.')
  if isinstance(value, bytes):
    media.audio_suffix(value)
    label = name if isinstance(name, str) else None
    return chats_lib.Speech(id=label, data=value, text=text or None)
  path = base.resolve_inside(root, value)
  try:
    with files.open_read(path) as handle:
      head = handle.read(_HEAD)
  except OSError as error:
    files.raise_outage(error)
    raise errors.UserError('audio: its file is not there.') from error
  if lfs.is_pointer(head):
    lfs.refuse(head, 'audio')
  media.audio_suffix(head)
  return chats_lib.Speech(path=str(path), text=text or None)


class Archive:
  """Recordings of a folder, or of a tar beside it that was not unpacked."""

  def __init__(self, root: files.AnyPath, folder: str, tar: str):
    """Reads nothing yet.

    Args:
      root: Of the benchmark.
      folder: Where the recordings lie, once unpacked.
      tar: Name of the archive. Its members are named below `folder`, or with
        it.
    """
    self._root, self._folder, self._tar = root, folder, root / tar
    self._members: dict[str, bytes] | None = None

  def recording(self, name: str, text: str = '') -> chats_lib.Speech:
    """As the function, by a name below the folder."""
    bare = name.removeprefix('./').removeprefix(f'{self._folder}/')
    if not bare or files.is_dir(self._root / self._folder):
      return recording(self._root / self._folder, bare, text)
    if self._members is None:
      self._members = dict(self._read())
    if bare not in self._members:
      raise errors.UserError('audio: its file is not there.')
    found = {'bytes': self._members[bare], 'path': name}
    return recording(self._root, found, text)

  def _read(self) -> Iterator[tuple[str, bytes]]:
    if not files.is_file(self._tar):
      return
    for member in tars.members(self._tar, lambda n: n.endswith(media.AUDIO)):
      if not isinstance(member, base.Rejected):
        name, data = member
        yield name.removeprefix(f'{self._folder}/'), data


def rows(
  paths: Sequence[files.AnyPath], wanted: Sequence[str] = ()
) -> Iterator[Row | Left]:
  """The rows of parquet, of JSON (an array, or lines), or of a CSV.

  Args:
    paths: Files of one kind.
    wanted: Columns of parquet that are read, where they are there.

  Raises:
    UserError: One of them cannot be opened, or is no table.
  """
  for path in paths:
    if path.name.endswith('.parquet'):
      for one in gathering.rows([path], wanted):
        yield one if len(one) == 2 else Row(*one)
      continue
    stem = path.name.partition('.')[0]
    numbered = _csv if path.name.endswith('.csv') else _json
    for one in numbered(path):
      if len(one) == 2 and isinstance(one[1], str):
        yield one
      else:
        number, fields = one
        yield Row(f'{path}:{number}', f'{stem}-{number}', fields)


def _json(path):
  for found in chat.rows_of(path):
    if isinstance(found, base.Rejected):
      yield gathering.left(found)
    else:
      yield found


def _csv(path):
  """Quoted cells may span lines here, as pandas writes them."""
  with files.opened(path) as handle:
    text = io.TextIOWrapper(handle, 'utf-8-sig', newline='')
    csv.field_size_limit(base.LINE_BYTES)
    try:
      yield from enumerate(csv.DictReader(text), start=1)
    except (UnicodeDecodeError, csv.Error) as error:
      raise errors.UserError(
        f'{path}: found {error}, expected a table in UTF-8.'
      ) from error


def lost_parts(paths: Iterable[files.AnyPath]) -> Iterator[Left]:
  """Parts that the names of the others tell of: `test-00001-of-00003`."""
  there = collections.defaultdict(set)
  for path in paths:
    if match := _SHARD.fullmatch(path.name.removesuffix('.parquet')):
      there[path.parent / match[1], int(match[3])].add(int(match[2]))
  for (stem, total), found in there.items():
    for k in sorted(set(range(total)) - found):
      yield f'{stem}-{k:05d}-of-{total:05d}.parquet', PART


def parts(
  folder: str, patterns: Sequence[str]
) -> tuple[list[files.AnyPath], list[Left]]:
  """The files of a table, and those of its parts that are not there.

  Raises:
    UserError: There are none.
  """
  found = gathering.one_of(folder, patterns)
  return found, list(lost_parts(found))


def made(
  found: Iterable[Row | Left], make: Callable[[Row], benchmark.Item]
) -> Found:
  """Items of rows; what a row lacks is told with its place."""
  for row in found:
    if isinstance(row, Row):
      yield gathering.made(row.where, make, row)
    else:
      yield row


def turn(
  role: str, *parts: str | chats_lib.Speech, **more: Any
) -> chats_lib.Turn:
  """A turn; texts that are empty are left out."""
  return chats_lib.Turn(role, tuple(part for part in parts if part), **more)


def user(*parts: str | chats_lib.Speech) -> chats_lib.Turn:
  """What the user says."""
  return turn(chats_lib.USER, *parts)


def assistant(*parts: str | chats_lib.Speech) -> chats_lib.Turn:
  """What the assistant has said before."""
  return turn(chats_lib.ASSISTANT, *parts)
