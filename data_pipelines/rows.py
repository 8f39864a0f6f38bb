"""Folders of packed rows: `<rows>/<task>/<split>/`.

    rows-00000-of-00002.array_record   one safetensors record a row
    stats.json                         what is inside; see `Summary`
    quarantine.jsonl                   documents that were left out, and why

A folder is written under another name and renamed when it is complete.
"""

import collections
import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any, Iterable, Iterator, Mapping

import numpy as np

from data_pipelines import packing
from data_pipelines import records
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest
from step_audio_jax import vocabulary

STEM = 'rows'


@dataclasses.dataclass
class Summary:
  """Counts over the rows of a folder, for `stats.json`."""

  table: vocabulary.Vocabulary
  length: int
  rows: int = 0
  pieces: int = 0
  pad_tokens: int = 0
  loss_tokens: int = 0
  images_per_row: int = 0
  images: int = 0
  kinds: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )

  def add(self, row: packing.Row) -> None:
    real = row.tokens[row.segment_ids > 0]
    self.rows += 1
    self.pieces += len(row.ids)
    self.pad_tokens += self.length - len(real)
    self.loss_tokens += int((row.loss_weights > 0).sum())
    self.images += len(row.image_slots)
    self.images_per_row = max(self.images_per_row, len(row.image_slots))
    self.kinds['text'] += int(self.table.is_text(real).sum())
    self.kinds['linguistic'] += int(self.table.is_linguistic(real).sum())
    self.kinds['semantic'] += int(self.table.is_semantic(real).sum())

  def to_json(self) -> dict[str, Any]:
    tokens = self.rows * self.length
    return {
      'rows': self.rows,
      'length': self.length,
      'tokens': tokens,
      'pieces': self.pieces,
      'pad_tokens': self.pad_tokens,
      'padding': round(self.pad_tokens / max(tokens, 1), 6),
      'loss_tokens': self.loss_tokens,
      'images': self.images,
      'images_per_row': self.images_per_row,
      'tokens_by_kind': dict(self.kinds),
      'vocabulary': {
        'text_size': self.table.text_size,
        'table_size': self.table.table_size,
        'linguistic_size': self.table.linguistic_size,
        'semantic_size': self.table.semantic_size,
      },
    }


def to_record(
  row: packing.Row, image_shape: tuple[int, ...] | None = None
) -> bytes:
  """A row as one record; with an `image_shape` it has the image arrays."""
  tensors = {
    'tokens': row.tokens,
    'segment_ids': row.segment_ids,
    'loss_weights': row.loss_weights,
  }
  if image_shape:
    images = row.images
    if images is None:
      images = np.zeros((0, *image_shape), np.uint8)
    tensors |= {'images': images, 'image_slots': row.image_slots}
  return records.pack(tensors, {'documents': json.dumps(row.ids)})


def write(
  folder: str | os.PathLike,
  rows: Iterable[packing.Row],
  *,
  table: vocabulary.Vocabulary,
  length: int,
  about: Mapping[str, Any],
  quarantine: Iterable[Mapping[str, Any]],
  shard_rows: int = 4096,
) -> dict[str, Any]:
  """Writes a folder of rows in place of an older one.

  Args:
    folder: `<rows>/<task>/<split>`.
    rows: Read once.
    table: Counts ids by kind.
    length: Row length L.
    about: More for `stats.json`; read after the rows.
    quarantine: Documents that were left out; read after the rows.
    shard_rows: Rows per shard.

  Returns:
    What `stats.json` says.
  """
  folder = pathlib.Path(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  for stale in folder.parent.glob(f'.{folder.name}.*.tmp'):
    shutil.rmtree(stale)  # left by a job that was killed
  temporary = folder.with_name(f'.{folder.name}.{os.getpid()}.tmp')
  temporary.mkdir()
  try:
    summary = Summary(table, length)
    parts, shape = [], None
    for part in _in_parts(rows, shard_rows):
      seen = (r.images.shape[1:] for r in part if r.images is not None)
      shape = next(seen, shape)
      for row in part:
        summary.add(row)
      path = temporary / f'part-{len(parts):05d}'
      records.write_shard(path, (to_record(r, shape) for r in part))
      parts.append(path)
    digests = {}
    for number, path in enumerate(parts):
      name = records.shard_name(STEM, number, len(parts))
      path.rename(temporary / name)
      digests[name] = records.sha256(temporary / name)
    left_out = list(quarantine)
    files.write_jsonl(temporary / 'quarantine.jsonl', left_out)
    stats = {**summary.to_json(), **about, 'dropped': len(left_out)}
    stats['sha256'] = digests
    files.write_json(temporary / 'stats.json', stats)
    replace_folder(temporary, folder)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
  return stats


def _in_parts(rows: Iterable[packing.Row], size: int) -> Iterator[list]:
  part = []
  for row in rows:
    part.append(row)
    if len(part) == size:
      yield part
      part = []
  if part:
    yield part


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
  """Renames `new` to `folder`; an older `folder` goes."""
  old = folder.with_name(f'.{folder.name}.{os.getpid()}.old.tmp')
  if folder.exists():
    folder.rename(old)
  new.rename(folder)
  shutil.rmtree(old, ignore_errors=True)


def is_done(folder: str | os.PathLike, digest: str) -> bool:
  """Whether the folder holds the rows that `digest` stands for."""
  path = pathlib.Path(folder) / 'stats.json'
  return path.exists() and files.read_json(path).get('inputs') == digest


@dataclasses.dataclass(frozen=True)
class Folder:
  """A folder of rows that was read back.

  Attributes:
    path: Of the folder.
    stats: What `stats.json` says.
  """

  path: pathlib.Path
  stats: dict[str, Any]

  def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], list[str]]]:
    """Rows as (arrays, document ids)."""
    for name in sorted(self.stats['sha256']):
      for number, record in enumerate(records.read_shard(self.path / name)):
        try:
          tensors, metadata = manifest.unpack(record)
        except (ValueError, KeyError) as error:
          raise errors.UserError(
            f'{self.path / name}: record {number} is not a row: {error}.'
          ) from error
        yield tensors, json.loads(metadata.get('documents', '[]'))


def open_folder(path: str | os.PathLike) -> Folder:
  """Opens a folder of rows.

  Raises:
    UserError: It has no `stats.json`.
  """
  path = pathlib.Path(path)
  return Folder(path, files.read_json(path / 'stats.json'))


def faults(folder: Folder, table_size: int = 0) -> Iterator[str]:
  """Says what is wrong with a folder of rows, one sentence each.

  Args:
    folder: As `open_folder` gives it.
    table_size: Ids must be below; 0 takes the one of `stats.json`.
  """
  stats = folder.stats
  length = stats['length']
  table = vocabulary.Vocabulary(**stats['vocabulary'])
  table_size = table_size or table.table_size
  for name, digest in stats['sha256'].items():
    path = folder.path / name
    if not path.exists():
      yield f'{path}: no such file.'
      return
    if records.sha256(path) != digest:
      yield f'{path}: its sha256 is not the one of stats.json.'
      return
  counts = collections.Counter()
  for number, (row, _) in enumerate(folder):
    where = f'{folder.path}: row {number}'
    tokens, segments = row['tokens'], row['segment_ids']
    counts['rows'] += 1
    counts['pad_tokens'] += int((segments == 0).sum())
    counts['loss_tokens'] += int((row['loss_weights'] > 0).sum())
    wrong = [
      f'{where}: {value.size} {key}, expected {length}.'
      for key, value in sorted(row.items())
      if not key.startswith('image') and value.shape != (length,)
    ]
    if wrong:
      yield wrong[0]
      continue
    bad = (tokens < 0) | (tokens >= table_size)
    if bad.any():
      yield (
        f'{where}: id {tokens[bad][0]} at {int(np.argmax(bad))}, expected '
        f'0..{table_size - 1}.'
      )
    real = segments > 0
    steps = np.diff(segments[: int(real.sum())])
    if (
      real[int(real.sum()) :].any()
      or segments[0] != 1
      or not np.isin(steps, (0, 1)).all()
    ):
      yield f'{where}: segment_ids are not 1, 2, … with 0 behind.'
    if tokens[~real].any() or row['loss_weights'][~real].any():
      yield f'{where}: padding holds tokens or loss weights.'
    patch = vocabulary.CONTROL['<im_patch>']
    slots = row.get('image_slots', np.zeros(0, int))
    inside = (slots >= 0) & (slots < length)
    if not inside.all() or (tokens[slots] != patch).any():
      yield f'{where}: an image slot is not at an <im_patch>.'
    broken = _broken_speech(tokens, table)
    if broken and not bad.any():
      yield f'{where}: {broken}'
  for key, count in sorted(counts.items()):
    if count != stats[key]:
      yield f'{folder.path}/stats.json: {key} is {stats[key]}, found {count}.'


def _broken_speech(tokens: np.ndarray, table) -> str | None:
  """What is wrong with the first stretch of speech that is not in groups."""
  speech = table.is_linguistic(tokens) | table.is_semantic(tokens)
  edges = np.flatnonzero(np.diff(speech, prepend=False, append=False))
  for start, stop in zip(edges[::2], edges[1::2]):
    try:
      table.deinterleave(tokens[start:stop])
    except errors.UserError as error:
      return f'from {start} on: {error}'
  return None
