"""`folder`: recordings with a table of transcripts.

    SOURCE/metadata.csv      file,text[,id,language,speaker,split,offset,…]
    SOURCE/metadata.jsonl    the same fields, one JSON object a line
    SOURCE/…/*.wav           any format, rate and channel count of libsndfile

A table whose columns are not these is refused as a whole; a line that cannot
be parsed costs itself alone.
"""

import csv
import pathlib
from typing import Any, Iterator

from data_pipelines.readers import base
from data_pipelines.readers import channels
from step_audio_jax import errors

TABLES = ('metadata.csv', 'metadata.jsonl')
FIELDS = (
  'file', 'text', 'id', 'language', 'speaker', 'split', 'offset', 'duration',
  'channel', 'words',
)  # fmt: skip


def find_table(source: pathlib.Path, options: base.Options) -> pathlib.Path:
  """The table of a folder.

  Raises:
    UserError: There is none, there are two, or it is a link that leads out.
  """
  found = [
    base.file_of(source, options, name)
    for name in TABLES
    if (source / name).is_file()
  ]
  if len(found) != 1:
    raise errors.UserError(
      f'{source}: found {len(found)} of {", ".join(TABLES)}, expected one.'
    )
  return found[0]


def read_table(
  path: pathlib.Path,
) -> Iterator[tuple[int, dict[str, Any]] | base.Rejected]:
  """Yields (line number, fields) of a table, or what cannot be parsed.

  Raises:
    UserError: The columns are not those that are known.
  """
  if path.suffix == '.jsonl':
    yield from base.json_lines(path)
    return
  # The default, 128 KiB, is less than a long transcript has.
  csv.field_size_limit(base.LINE_BYTES)
  with open(
    path, encoding='utf-8-sig', errors='surrogateescape', newline=''
  ) as handle:
    # Strict: a quote that is never closed is an error, not a long text.
    reader = csv.reader(handle, strict=True)
    columns = _columns(path, reader)
    while True:
      try:
        row = next(reader, None)
        if row is None:
          return
        fields = _fields(row, columns)
      except (csv.Error, errors.UserError) as error:
        told = str(error).removesuffix('.')
        number = reader.line_num
        yield base.Rejected(f'{path}:{number}', f'{told}.', line=number)
        continue
      if row:  # a line with nothing in it is none
        yield reader.line_num, fields


def _columns(path, reader):
  try:
    columns = next(reader, [])
    _check_utf8(columns)
  except (csv.Error, errors.UserError) as error:
    raise errors.UserError(f'{path}: not a CSV file: {error}') from error
  if 'file' not in columns or not set(columns) <= set(FIELDS):
    raise errors.UserError(
      f'{path}: found the columns {", ".join(columns) or "none"};'
      f' expected `file` and any of {", ".join(FIELDS[1:])}.'
    )
  twice = [name for name in columns if columns.count(name) > 1]
  if twice:
    raise errors.UserError(
      f'{path}: found the column {twice[0]} twice, expected it once.'
    )
  return columns


def _fields(row, columns):
  if row and len(row) != len(columns):
    raise errors.UserError(
      f'found {len(row)} cells, expected {len(columns)}; quote texts that '
      'hold commas.'
    )
  _check_utf8(row)
  return {name: cell for name, cell in zip(columns, row) if cell}


def _check_utf8(row):
  try:
    ','.join(row).encode()
  except UnicodeEncodeError as error:
    raise errors.UserError(
      f'not UTF-8: {error.object[error.start]!a} at character {error.start}.'
    ) from error


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a folder; see the module.

  Raises:
    UserError: There is no table, or its columns are not known.
  """
  base.only(options.extra, ())
  table = find_table(source, options)
  root = options.root(source)
  for line in read_table(table):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, fields = line
    yield base.guarded(
      f'{table}:{number}',
      _item,
      table,
      root,
      number,
      fields,
      id=fields.get('id'),
      line=number,
      file=fields.get('file'),
    )


def _item(table, root, number, fields):
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
    stem = pathlib.PurePosixPath(file).stem
    said |= channels.told_apart(stem, fields.get('channel'))
  return base.Item(
    f'{table}:{number}', said, audio=path, audio_name=name, line=number
  )
