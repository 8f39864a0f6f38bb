"""Parquet: recordings or images in the file (Hugging Face), and texts.

    parquet       column `audio` {bytes, path} or bytes, and a transcript; or
                  `image` {bytes, path} or bytes, and a caption
    text_parquet  column `text`

A struct without bytes names a file below SOURCE or `--audio_root`; one with
`array` and `sampling_rate` holds samples, (S,) or (channels, S).
`--reader_option=COLUMN=NAME` chooses a column by its name; see `columns` for
those that are found. The split comes from a column, or from a file's name
such as `data/train-00000-of-00010.parquet`.

Only pyarrow is needed. Rows are read in small batches, and only the columns
that are used; of a row group never more than a buffer is held.
"""

import contextlib
import pathlib
from typing import Any, Callable, Iterator, Mapping

import numpy as np

from data_pipelines.readers import texts
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import media
from step_audio_jax import errors
from step_audio_jax.storage import files

FIELDS = (
  'id', 'text', 'speaker', 'language', 'split', 'channel', 'audio', 'image',
)  # fmt: skip
TEXT_FIELDS = ('id', 'text', 'language', 'split')
# Rows held at a time: recordings of half a minute are about a megabyte each.
_MEDIA_BATCH, _TEXT_BATCH = 16, 256
_BUFFER = 2**20  # bytes of a column that are read at a time
Used = Callable[[columns_lib.Columns, list[str]], list[str]]


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads speech, or images with captions."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
  root = options.root(source)
  for row in rows(source, options, columns, _MEDIA_BATCH):
    if isinstance(row, base.Rejected):
      yield row
      continue
    where, place, number, values = row
    yield base.reject_on_error(
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
  columns = columns_lib.Columns.from_options(options, TEXT_FIELDS)
  for row in rows(source, options, columns, _TEXT_BATCH):
    if isinstance(row, base.Rejected):
      yield row
      continue
    where, place, number, values = row
    yield base.reject_on_error(
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


def rows(
  source: pathlib.Path,
  options: base.Options,
  columns: columns_lib.Columns,
  batch: int,
  used: Used | None = None,
) -> Iterator[tuple[str, str, int, dict[str, Any]] | base.Rejected]:
  """The rows of every file.

  Args:
    source: A file or a folder.
    options: Where links may lead.
    columns: Which hold the split and, where `used` is not told, what is read.
    batch: Rows that are held.
    used: (columns, names that a file has) → those that are read.

  Yields:
    (where, name of the row, number, values).

  Raises:
    UserError: There are no files.
  """
  for found in columns_lib.files_of(source, options, ('.parquet',)):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    split = columns_lib.split_of_file(stem)
    for number, values in _file_rows(path, columns, batch, used or _used):
      if isinstance(values, base.Rejected):
        yield values
        continue
      if split is not None and columns.value('split', values) is None:
        values[columns.names['split'][0]] = split
      yield f'{path}:{number}', f'{stem}-{number}', number, values


def _file_rows(path, columns, batch, choose):
  """Yields (number, used columns) of one file, or (number, `Rejected`).

  Damage costs the rest of its row group.
  """
  import pyarrow as pa

  # Damaged pages make pyarrow raise nearly anything.
  damage = (pa.ArrowException, OSError, ValueError, TypeError)
  with contextlib.ExitStack() as stack:
    try:
      file = stack.enter_context(
        columns_lib.parquet_file(path, buffer_size=_BUFFER, pre_buffer=False)
      )
    except damage as error:
      files.raise_outage(error)
      reason = f'not a whole parquet file: {_reason(error)}.'
      yield 0, base.Rejected(str(path), reason)
      return
    used = base.reject_on_error(
      str(path), choose, columns, file.schema_arrow.names
    )
    if isinstance(used, base.Rejected):
      yield 0, used
      return
    first = 0
    for group in range(file.num_row_groups):
      number = first
      try:
        for rows in file.iter_batches(batch, [group], used, use_threads=False):
          for values in _values(path, number, rows):
            number += 1
            yield number, values
      except damage as error:
        files.raise_outage(error)
        reason = f'row group {group} is damaged behind row {number}: '
        yield number, base.Rejected(str(path), f'{reason}{_reason(error)}.')
      first += file.metadata.row_group(group).num_rows


def _reason(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]


def _values(where, done, rows) -> list[dict[str, Any] | base.Rejected]:
  """The rows of a batch; one that is not UTF-8 costs itself."""
  try:
    return rows.to_pylist()
  except UnicodeDecodeError:
    numbers = range(rows.num_rows)
    return [_alone(where, done + k + 1, rows.slice(k, 1)) for k in numbers]


def _alone(where, number, row):
  try:
    return row.to_pylist()[0]
  except UnicodeDecodeError as error:
    reason = f'not UTF-8: {error}.'
    return base.Rejected(f'{where}:{number}', reason, line=number)


def _used(columns, names) -> list[str]:
  """The columns to read; text is needed, or a recording, or an image.

  Raises:
    UserError: They are not there.
  """
  used = {f: columns.find(f, names) for f in columns.names}
  media_names = [
    name for f in ('audio', 'image') if f in used for name in columns.names[f]
  ]
  if media_names and not (used['audio'] or used['image']):
    raise errors.UserError(
      f'found the columns {", ".join(names)}; expected one of '
      f'{", ".join(media_names)} (text_parquet reads texts).'
    )
  if not (media_names or used['text']):
    raise errors.UserError(
      f'found the columns {", ".join(names)}; expected one of '
      f'{", ".join(columns.names["text"])}.'
    )
  return list(dict.fromkeys(name for name in used.values() if name))


def _item(columns, root, where, place, number, values) -> base.Item:
  # A file with recordings may have a column `path` beside them.
  wants_image = 'image' in columns.chosen and 'audio' not in columns.chosen
  spoken = columns.find('audio', values) is not None and not wants_image
  kind = 'audio' if spoken else 'image'
  content = columns.value(kind, values)
  # Columns such as `path` name files of any kind.
  if columns_lib.is_recording(content) and not wants_image:
    kind = 'audio'
  if content is None:
    raise errors.UserError(f'{kind}: null, expected one.')
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
  if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
    samples = samples.T  # `datasets` decodes to (channels, S)
  return media.wav_bytes(samples, rate)
