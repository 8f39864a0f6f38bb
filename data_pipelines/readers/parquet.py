"""Parquet: recordings or images in the file (Hugging Face), and texts.

    parquet       column `audio` {bytes, path} or bytes, and a transcript; or
                  `image` {bytes, path} or bytes, and a caption
    text_parquet  column `text`

A struct without bytes names a file below SOURCE or `--audio_root`; one with
`array` and `sampling_rate` holds samples. `--reader_option=COLUMN=NAME`
chooses a column by its name; see `columns` for those that are found. The
split comes from a column, or from a file's name such as
`data/train-00000-of-00010.parquet`.

Only pyarrow is needed. Rows are read in small batches, and only the columns
that are used.
"""

import pathlib
from typing import Any, Iterator, Mapping

import numpy as np

from data_pipelines.readers import base
from data_pipelines.readers import columns as columns_lib
from data_pipelines.readers import media
from data_pipelines.readers import texts
from step_audio_jax import errors

FIELDS = ('id', 'text', 'speaker', 'language', 'split', 'audio', 'image')
TEXT_FIELDS = ('id', 'text', 'language', 'split')
# Rows held at a time: recordings of half a minute are about a megabyte each.
_MEDIA_BATCH, _TEXT_BATCH = 16, 256


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads speech, or images with captions."""
  columns = columns_lib.Columns.of(options, FIELDS)
  root = options.root(source)
  for row in _rows(source, options, columns, _MEDIA_BATCH):
    if isinstance(row, base.Rejected):
      yield row
      continue
    where, place, number, values = row
    yield base.guarded(
      where,
      _item,
      columns,
      root,
      where,
      place,
      number,
      values,
      id=columns.value('id', values),
      line=number,
    )


def read_text(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a text corpus."""
  columns = columns_lib.Columns.of(options, TEXT_FIELDS)
  for row in _rows(source, options, columns, _TEXT_BATCH):
    if isinstance(row, base.Rejected):
      yield row
      continue
    where, place, number, values = row
    yield base.guarded(
      where,
      texts.item_of,
      columns,
      where,
      place,
      values,
      number,
      id=columns.value('id', values),
      line=number,
    )


def _rows(source, options, columns, batch):
  """Yields (where, name of the row, number, values) of every file."""
  for found in columns_lib.files_of(source, options, ('.parquet',)):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    split = columns_lib.split_of_file(stem)
    number = 0
    for values in _file_rows(path, columns, batch):
      if isinstance(values, base.Rejected):
        yield values
        continue
      number += 1
      if split is not None and columns.value('split', values) is None:
        values[columns.names['split'][0]] = split
      yield f'{path}:{number}', f'{stem}-{number}', number, values


def _file_rows(path, columns, batch):
  """Yields the used columns of one file; a damaged one ends in `Rejected`.

  Raises:
    UserError: It has none of the columns.
  """
  import pyarrow as pa
  from pyarrow import parquet

  done = 0
  try:
    with parquet.ParquetFile(path) as file:
      used = _used(path, columns, file.schema_arrow)
      for rows in file.iter_batches(batch, columns=used, use_threads=False):
        for values in rows.to_pylist():
          done += 1
          yield values
  except errors.UserError:
    raise
  # Damaged pages make pyarrow raise nearly anything.
  except (pa.ArrowException, OSError, ValueError, TypeError) as error:
    yield base.Rejected(
      str(path),
      f'not a whole parquet file, behind row {done}: '
      f'{str(error).splitlines()[0] if str(error) else type(error).__name__}.',
    )


def _used(path, columns, schema) -> list[str]:
  """The columns to read; text is needed, and a recording or an image.

  Raises:
    UserError: They are not there.
  """
  try:
    used = {f: columns.find(f, schema.names) for f in columns.names}
  except errors.UserError as error:
    raise errors.UserError(f'{path}: {error}') from error
  if 'audio' in used and used['audio'] is None and used['image'] is None:
    raise errors.UserError(
      f'{path}: found the columns {", ".join(schema.names)}; expected one of '
      f'{", ".join(columns.names["audio"] + columns.names["image"])} '
      '(text_parquet reads texts).'
    )
  if used['text'] is None and 'audio' not in used:
    raise errors.UserError(
      f'{path}: found the columns {", ".join(schema.names)}; expected one of '
      f'{", ".join(columns.names["text"])}.'
    )
  return list(dict.fromkeys(name for name in used.values() if name))


def _item(columns, root, where, place, number, values) -> base.Item:
  kind = 'audio' if columns.value('audio', values) is not None else 'image'
  content = columns.value(kind, values)
  if content is None:
    raise errors.UserError('audio, image: null, expected one of them.')
  fields = columns.fields(
    values, kind='speech' if kind == 'audio' else 'image_text'
  )
  fields['id'] = fields['id'] or place
  content, name = _content(content, root, kind, place)
  return base.Item(
    where, fields, line=number, **{kind: content, f'{kind}_name': name}
  )


def _content(value, root, kind, place) -> tuple[bytes | pathlib.Path, str]:
  """What a cell holds, and the name it gets."""
  path = value
  if isinstance(value, Mapping):
    path = value.get('path')
    if value.get('bytes') is not None:
      value = value['bytes']
    elif kind == 'audio' and value.get('array') is not None:
      value = _samples(value)
  if isinstance(value, bytes):
    suffix = media.audio_suffix if kind == 'audio' else media.image_suffix
    return value, place + suffix(value)
  if not isinstance(path, str):
    raise errors.UserError(
      f'{kind}: found {type(value).__name__} without bytes or a path, expected '
      'one of them.'
    )
  return base.locate(root, path, kind)


def _samples(value: Mapping[str, Any]) -> bytes:
  rate = value.get('sampling_rate') or value.get('sample_rate')
  rate = columns_lib.number(rate, 'sampling_rate')
  try:
    samples = np.asarray(value['array'])
  except ValueError as error:  # ragged
    raise errors.UserError(f'audio: not samples: {error}.') from error
  return media.wav(samples, rate)
