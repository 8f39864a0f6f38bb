"""`folder`: recordings with a table of transcripts.

    SOURCE/metadata.csv      file,text[,id,language,speaker,split,offset,…]
    SOURCE/metadata.tsv      with tabs, .psv with bars; quotes are text
    SOURCE/metadata.jsonl    the same fields, one JSON object a line
    SOURCE/…/*.wav           any format, rate and channel count of libsndfile

SOURCE may be the table itself, whatever its name; `.gz` may follow it. A line
is a record: one that cannot be parsed costs itself alone. A table whose
columns are not these is refused as a whole.

A line without an `id` is called by the name of its file without the ending.
Where several files have that name (`spk1/001.wav`, `spk2/001.wav`), all of
them are called by their paths (`spk1/001`), wherever they stand in the table.
`--reader_option=speaker=folder` takes the folder of a file for its speaker
where the line names none.
"""

import os
import pathlib
import posixpath
from typing import Any, Callable, Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import channels
from data_pipelines.readers.common import delimited
from step_audio_jax import errors
from step_audio_jax.storage import files

TABLES = tuple(f'metadata{ending}' for ending in (*delimited.ENDINGS, '.jsonl'))
FIELDS = (
  'file', 'text', 'id', 'language', 'speaker', 'split', 'offset', 'duration',
  'channel', 'words', 'marked',
)  # fmt: skip
OPTIONS = ('quotes', 'speaker')


def find_table(source: pathlib.Path, options: base.Options) -> pathlib.Path:
  """The table of a folder.

  Raises:
    UserError: There is none, there are two, or it is a link that leads out.
  """
  if files.is_file(source):
    return source
  found = [
    base.file_of(source, options, name)
    for table in TABLES
    for name in (table, f'{table}.gz')
    if files.is_file(source / name)
  ]
  if len(found) != 1:
    raise errors.UserError(
      f'{source}: found {len(found)} of {", ".join(TABLES)}, expected one.'
    )
  return found[0]


def read_table(
  path: pathlib.Path,
  quotes: str | None = None,
  root: pathlib.Path | None = None,
) -> Iterator[tuple[int, dict[str, Any]] | base.Rejected]:
  """Yields (line number, fields) of a table, or what cannot be parsed.

  Args:
    path: The table.
    quotes: As in `delimited.Table`.
    root: Where recordings lie, if they may be looked for.

  Raises:
    UserError: The columns are not those that are known.
  """
  if path.name.removesuffix('.gz').endswith('.jsonl'):
    return base.json_lines(path)

  def exists(name):
    return root is None or files.is_file(root / _plain(name))

  return delimited.Table(path, FIELDS, quotes, exists).rows()


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a folder; see the module.

  Raises:
    UserError: There is no table, or its columns are not known.
  """
  base.check_options(options.extra, OPTIONS)
  speaker = options.extra.get('speaker')
  if speaker not in (None, 'folder'):
    raise errors.UserError(
      f'--reader_option=speaker: found {speaker!r}, expected folder.'
    )
  table = find_table(source, options)
  root, quotes = options.root(source), options.extra.get('quotes')
  names = _Names(root, lambda: read_table(table, quotes, root))
  for line in read_table(table, quotes, root):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, fields = line
    yield base.reject_on_error(
      f'{table}:{number}',
      _item,
      f'{table}:{number}',
      root,
      number,
      fields,
      names,
      speaker is not None,
      id=fields.get('id'),
      line=number,
      file=fields.get('file'),
    )


def _item(where, root, number, fields, names, speaks):
  unknown = [name for name in fields if name not in FIELDS]
  if unknown:
    raise errors.UserError(
      f'{unknown[0]}: unknown field, expected {", ".join(FIELDS)}.'
    )
  file = fields.get('file')
  if not isinstance(file, str) or not file:
    raise errors.UserError(
      f'file: found {file!r}, expected the path of a recording; a transcript '
      'without audio belongs into a text corpus.'
    )
  path, name = base.locate(root, file, 'file')
  said = {key: value for key, value in fields.items() if key != 'file'}
  if not fields.get('id'):
    said |= channels.id_with_channel(names.id_of(file), fields.get('channel'))
  if speaks and not said.get('speaker'):
    said['speaker'] = posixpath.basename(posixpath.dirname(name)) or None
  return base.Item(where, said, audio=path, audio_name=name, line=number)


class _Names:
  """What files are called: the shortest name that none of the others has.

  The table is read once more when the first line has no id of its own.
  Memory then holds two numbers for each name.
  """

  def __init__(self, root: pathlib.Path, lines: Callable[[], Iterator[Any]]):
    self._lines, self._known = lines, False
    self._root = f'{os.fspath(root)}/'
    self._ids: set[int] = set()  # hashes of those that lines say
    # Hash of a name → hash of the one file that has it, or None.
    self._files: tuple[dict[int, int | None], ...] = ({}, {})

  def _choices(self, file: str) -> tuple[str, str, str]:
    whole = _plain(file).removeprefix(self._root)
    folder, slash, last = whole.rpartition('/')
    stem, dot, _ = last.rpartition('.')
    stem = stem if dot and stem else last
    return stem, f'{folder}{slash}{stem}', whole

  def _load(self) -> None:
    self._known = True
    for line in self._lines():
      if not isinstance(line, base.Rejected):
        self._add(line[1])

  def _add(self, fields: dict[str, Any]) -> None:
    """A line of the table."""
    file, name = fields.get('file'), fields.get('id')
    if name and isinstance(name, str):
      self._ids.add(hash(name))
    elif file and isinstance(file, str):
      *short, whole = self._choices(file)
      for names, one in zip(self._files, short):
        key, value = hash(one), hash(whole)
        if names.setdefault(key, value) != value:
          names[key] = None

  def id_of(self, file: str) -> str:
    """The name of a file."""
    if not self._known:
      self._load()
    *short, whole = self._choices(file)
    for names, one in zip(self._files, short):
      key = hash(one)
      if names.get(key) is not None and key not in self._ids:
        return one
    return whole


def _plain(file: str) -> str:
  """A path with slashes and without detours."""
  if files.is_address(file):
    return str(files.path(file))
  return posixpath.normpath(file.replace('\\', '/'))
