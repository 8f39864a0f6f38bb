"""`folder`: recordings with a table of transcripts.

    SOURCE/metadata.csv      file,text[,id,language,speaker,split,offset,…]
    SOURCE/metadata.jsonl    the same fields, one JSON object a line
    SOURCE/…/*.wav           any format, rate and channel count of libsndfile

A table is the user's own work and small: one that cannot be parsed is
refused as a whole, with the line where it goes wrong.
"""

import csv
import pathlib
from typing import Any, Iterator, Mapping

from data_pipelines.readers import base
from step_audio_jax import errors
from step_audio_jax import files

TABLES = ('metadata.csv', 'metadata.jsonl')
FIELDS = (
  'file', 'text', 'id', 'language', 'speaker', 'split', 'offset', 'duration',
  'words',
)  # fmt: skip


def find_table(source: pathlib.Path) -> pathlib.Path:
  """The table of a folder.

  Raises:
    UserError: There is none, or there are two.
  """
  found = [source / name for name in TABLES if (source / name).is_file()]
  if len(found) != 1:
    raise errors.UserError(
      f'{source}: found {len(found)} of {", ".join(TABLES)}, expected one.'
    )
  return found[0]


def read_table(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, fields) of a table.

  Raises:
    UserError: The columns are not those that are known.
  """
  if path.suffix == '.jsonl':
    yield from files.read_numbered_jsonl(path)
    return
  # The default, 128 KiB, would end the reading at a long transcript; here
  # `ingest` refuses that line alone.
  csv.field_size_limit(base.LINE_BYTES)
  with open(path, encoding='utf-8-sig', newline='') as handle:
    try:
      reader = csv.DictReader(handle, strict=True)
      columns = reader.fieldnames or []
      unknown = [name for name in columns if name not in FIELDS]
      if 'file' not in columns or unknown:
        raise errors.UserError(
          f'{path}: found the columns {", ".join(map(str, columns)) or "none"};'
          f' expected `file` and any of {", ".join(FIELDS[1:])}.'
        )
      twice = [name for name in columns if columns.count(name) > 1]
      if twice:
        raise errors.UserError(
          f'{path}: found the column {twice[0]} twice, expected it once.'
        )
      for row in reader:
        more = row.pop(None, [])
        count = sum(cell is not None for cell in row.values()) + len(more)
        if count != len(columns):
          raise errors.UserError(
            f'{path}:{reader.line_num}: found {count} cells, '
            f'expected {len(columns)}; quote texts that hold commas.'
          )
        yield (
          reader.line_num,
          {key: value for key, value in row.items() if value != ''},
        )
    except (csv.Error, UnicodeDecodeError) as error:
      raise errors.UserError(f'{path}: not a CSV file: {error}.') from error


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a folder; see the module.

  Raises:
    UserError: There is no table, or it cannot be parsed.
  """
  base.only(options.extra, ())
  table = find_table(source)
  root = options.root(source)
  for number, fields in read_table(table):
    told = fields if isinstance(fields, Mapping) else {}
    yield base.guarded(
      f'{table}:{number}',
      _item,
      table,
      root,
      number,
      fields,
      id=told.get('id'),
      line=number,
      file=told.get('file'),
    )


def _item(table, root, number, fields):
  if not isinstance(fields, Mapping):
    raise errors.UserError(f'found {fields!r}, expected a JSON object.')
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
  said['id'] = fields.get('id') or pathlib.PurePosixPath(file).stem
  return base.Item(
    f'{table}:{number}', said, audio=path, audio_name=name, line=number
  )
