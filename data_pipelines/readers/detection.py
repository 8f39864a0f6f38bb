"""`--format=auto`: what a source looks like.

Files that a format alone has tell it, then the first line of JSON files, the
columns of parquet, and tars; first of those that lie in the source itself,
then of those below. Plain text is what is left. Several formats are an
answer, too: the caller says so.
"""

import itertools
import pathlib
from typing import Any, Iterator, Mapping

from data_pipelines.readers import texts
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import delimited
from data_pipelines.readers.common import json_stream
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tars
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs

JSON = ('.jsonl', '.jsonl.gz', '.json', '.json.gz', '.list')
PARQUET = ('.parquet',)
_LOOKED_AT = 16  # files of an ending in one folder; rows of one of them
# Columns that preferences alone have.
_PREFERRED = ({'chosen', 'rejected'}, {'completions'}, {'completion', 'label'})
# What a column may be called that holds no paths but texts.
_AMBIGUOUS = ('speech',)


def detect(source: pathlib.Path, formats: Mapping[str, Any]) -> list[str]:
  """The names of the formats that fit a file or a folder.

  Args:
    source: It is there.
    formats: Name → `readers.Format`.

  Raises:
    UserError: What tells the format is a Git LFS pointer.
  """
  marked = [key for key, one in formats.items() if one.fits(source)]
  hinted = marked or [
    key
    for key, one in formats.items()
    if any(has(source, pattern) for pattern in one.hints)
  ]
  if hinted:
    return hinted
  if files.is_file(source) and source.name.endswith(delimited.NAMES):
    return ['folder']
  for deep in (False, True):
    found = _by_content(source, formats, deep)
    if found:
      return [key for key in formats if key in found]
  for deep in (False, True):
    if next(_files(source, texts.TXT, deep), None) is not None:
      return ['text_txt']
  return []


def _by_content(source, formats, deep) -> set[str]:
  found = set()
  for path in itertools.islice(_files(source, JSON, deep), _LOOKED_AT):
    found |= by_line(path, formats)
  path = next(_files(source, PARQUET, deep), None)
  if path is not None:
    found |= by_columns(path)
  if next(_files(source, tars.ENDINGS, deep), None) is not None:
    found.add('webdataset')
  return found


def by_line(path: pathlib.Path, formats: Mapping[str, Any]) -> set[str]:
  """The format of the first JSON line of a file, if one is known for it."""
  array = path.name.endswith('.json') and json_stream.is_array(path)
  found = json_stream.elements(path) if array else base.json_lines(path)
  line = next(found, None)
  if not isinstance(line, tuple):
    return set()
  fields = line[1]
  for key, one in formats.items():
    if set(fields) & set(one.line):
      # Nothing says in which format it is what names a recording, too.
      return set() if key == 'text_jsonl' and _is_spoken(fields) else {key}
  return set()


def _is_spoken(fields: Mapping[str, Any]) -> bool:
  return 'audio' in fields or any(
    map(columns_lib.is_recording, fields.values())
  )


def by_columns(path: pathlib.Path) -> set[str]:
  """The format of a parquet file; both of them where columns do not tell it.

  Raises:
    UserError: It is a Git LFS pointer.
  """
  import pyarrow as pa

  lfs.refuse_path(path)
  try:
    with columns_lib.parquet_file(path) as file:
      schema = file.schema_arrow
  # A damaged footer makes pyarrow raise nearly anything.
  except (pa.ArrowException, OSError, ValueError, TypeError) as error:
    files.raise_outage(error)
    return {'parquet', 'text_parquet'}
  types = dict(zip(schema.names, schema.types))
  if any(names <= set(types) for names in _PREFERRED):
    return {'preference_parquet'}

  def holds(type):
    return pa.types.is_struct(type) or _is_binary(pa, type)

  names = columns_lib.NAMES
  # Columns such as `path` name files of any kind: their content tells which.
  named = [n for n in names['image'] if n in types]
  if any(map(_are_media, _first(path, named))):
    return {'parquet'}
  holders = [n for n in (*names['audio'], *names['image']) if n in types]
  if any(holds(types[n]) for n in holders):
    return {'parquet'}
  text = any(name in types for name in names['text'])
  paths = [n for n in names['audio'] if n in types]
  if paths and (text or set(paths) - set(_AMBIGUOUS)):
    plain = set(paths) - set(_AMBIGUOUS)
    return {'parquet'} if plain else {'parquet', 'text_parquet'}
  return {'text_parquet'} if text else set()


def _are_media(values: list[str | None]) -> bool:
  """Whether a column names recordings or images, and nothing else."""
  named = [value for value in values if value]
  return bool(named) and all(
    columns_lib.is_recording(value) or value.lower().endswith(media.IMAGES)
    for value in named
  )


def _first(path: pathlib.Path, names: list[str]) -> list[list[str | None]]:
  """The first rows of the columns that hold text; [] if they cannot be read."""
  import pyarrow as pa

  try:
    with columns_lib.parquet_file(path) as file:
      types = {name: file.schema_arrow.field(name).type for name in names}
      texts = [name for name, type in types.items() if _is_text(pa, type)]
      if not texts:
        return []
      found = next(file.iter_batches(_LOOKED_AT, columns=texts), None)
      return [] if found is None else [c.to_pylist() for c in found.columns]
  # Damaged pages make pyarrow raise nearly anything.
  except (pa.ArrowException, OSError, ValueError, TypeError):
    return []


def _is_text(pa, type) -> bool:
  if pa.types.is_dictionary(type):
    type = type.value_type
  return pa.types.is_string(type) or pa.types.is_large_string(type)


def _is_binary(pa, type) -> bool:
  kinds = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
  )
  return any(kind(type) for kind in kinds)


def _files(
  source: pathlib.Path, endings: tuple[str, ...], deep: bool
) -> Iterator[pathlib.Path]:
  """Files with such endings in a folder, or in those below it; or itself."""
  if not files.is_dir(source):
    if files.is_file(source) and source.name.endswith(endings):
      yield source
    return
  for folder, inner, names in files.walk(source):
    inner[:] = sorted(i for i in inner if not i.startswith('.')) * deep
    for name in sorted(names):
      path = files.path(folder) / name
      hidden = name.startswith('.')
      if name.endswith(endings) and not hidden and files.is_file(path):
        yield path


def has(source: pathlib.Path, pattern: str) -> bool:
  """Whether a folder has such a file, or a file such a name."""
  if files.is_dir(source):
    return next(files.glob(source, pattern), None) is not None
  return source.match(pattern)
