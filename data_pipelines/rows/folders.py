"""Folders of packed rows: `<rows>/<task>/<split>/`.

    rows-00000-of-00002.array_record   one safetensors record a row
    stats.json                         what is inside; see `Summary`
    quarantine.jsonl                   documents that were left out, and why

A row of preferences has `pairs` int32 (K, 2), the segments of each, that of the
better answer first, 0 for one that is missing; `margins` float32 (K,); and
`categories` int32 (K,), places in the list of that name in `stats.json`, -1 for
none.

A folder is written under another name and renamed when it is complete.
"""

import collections
import dataclasses
import itertools
import json
import os
import pathlib
from typing import Any, Iterable, Iterator, Mapping, Sequence

import numpy as np

from data_pipelines import records
from data_pipelines.rows import packing
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.chats import preferences
from step_audio_jax.storage import array_records
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import pairs as pairs_lib

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
  largest_id: int = 0
  pairs: int = 0
  pairs_per_row: int = 0
  unpaired: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  kinds: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )

  broken: int = 0

  def add(self, row: packing.Row) -> None:
    self.count(vars(row), row.ids)

  def skip(self) -> None:
    """Counts a row that cannot be read."""
    self.rows += 1
    self.broken += 1

  def count(self, row: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
    """Counts a row as it is stored."""
    real = row['tokens'][row['segment_ids'] > 0]
    images = len(row.get('image_slots', ()))
    self.rows += 1
    self.pieces += len(ids)
    self.pad_tokens += self.length - len(real)
    self.loss_tokens += int((row['loss_weights'] > 0).sum())
    self.images += images
    self.images_per_row = max(self.images_per_row, images)
    pairs = row.get('pairs', np.zeros((0, 2), np.int32))
    there = pairs > 0
    self.pairs += int(there.all(-1).sum())
    self.pairs_per_row = max(self.pairs_per_row, len(pairs))
    for name, alone in zip(preferences.ANSWERS, (there & ~there[:, ::-1]).T):
      self.unpaired[name] += int(alone.sum())
    self.largest_id = max(self.largest_id, int(real.max(initial=0)))
    self.kinds['text'] += int(self.table.is_text(real).sum())
    self.kinds['linguistic'] += int(self.table.is_linguistic(real).sum())
    self.kinds['semantic'] += int(self.table.is_semantic(real).sum())

  def to_json(self) -> dict[str, Any]:
    tokens = self.rows * self.length
    told: dict[str, Any] = {}
    if self.pairs_per_row:
      told = {pairs_lib.PAIRS: self.pairs, pairs_lib.MOST: self.pairs_per_row}
    if self.unpaired.total():
      told[pairs_lib.UNPAIRED] = dict(self.unpaired)
    return told | {
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
      'largest_id': self.largest_id,
      bindings.VOCABULARY: self.table.describe(),
    }


def to_record(
  row: packing.Row,
  image_shape: tuple[int, ...] | None = None,
  categories: Sequence[str] = (),
) -> bytes:
  """A row as one record.

  Args:
    row: What is packed.
    image_shape: With it there are the image arrays.
    categories: Of pairs, in the order of their numbers.
  """
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
  if len(row.pairs):
    places = {name: place for place, name in enumerate(categories)}
    numbers = [places.get(name, -1) for name in row.categories]
    tensors |= {
      'pairs': row.pairs,
      'margins': row.margins,
      'categories': np.array(numbers, np.int32),
    }
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
  image_shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
  """Writes a folder of rows in place of an older one.

  Args:
    folder: `<rows>/<task>/<split>`.
    rows: Read once.
    table: Counts ids by kind.
    length: Row length L.
    about: More for `stats.json`; read after the rows, but for the categories.
    quarantine: Documents that were left out; read after the rows.
    shard_rows: Rows per shard.
    image_shape: Of every image, () if there are none. Where it is not told,
      the rows of a shard are held in memory until an image says it.

  Returns:
    What `stats.json` says.
  """
  with files.atomic_folder(folder, replace=True) as temporary:
    summary = Summary(table, length)
    parts, shape = [], image_shape
    for part in _in_parts(rows, shard_rows):
      if image_shape is None:
        part = list(part)
        seen = (r.images.shape[1:] for r in part if r.images is not None)
        shape = next(seen, shape)
      path = temporary / f'part-{len(parts):05d}'
      recorded = _recorded(
        part, shape, summary, about.get(pairs_lib.CATEGORIES, ())
      )
      parts.append((path, records.write_known(path, recorded)))
    digests, sizes = {}, {}
    for number, (path, written) in enumerate(parts):
      name = records.shard_name(STEM, number, len(parts))
      files.move(path, temporary / name)
      digests[name], sizes[name] = written.sha256, written.size
    left_out = list(quarantine)
    files.write_jsonl(temporary / 'quarantine.jsonl', left_out)
    stats = {**summary.to_json(), **about, 'dropped': len(left_out)}
    stats['sha256'], stats['bytes'] = digests, sizes
    files.write_json(temporary / 'stats.json', stats)
  return stats


def join(
  folder: str | os.PathLike,
  parts: Sequence['Folder'],
  about: Mapping[str, Any],
) -> dict[str, Any]:
  """Makes one folder of several in place of an older one; they stay.

  Their shards are linked, not read: their digests are known.

  Args:
    folder: `<rows>/<task>/<split>`.
    parts: Rows of one length, in order.
    about: What `stats.json` says instead of what the parts say.

  Returns:
    What `stats.json` says.
  """
  folder = files.path(folder)
  with files.atomic_folder(folder, replace=True) as temporary:
    shards = [(part, name) for part in parts for name in part.shards()]
    digests = {}
    with files.background(folder) as call:
      for number, (part, name) in enumerate(shards):
        joined = records.shard_name(STEM, number, len(shards))
        call(files.put, part.path / name, temporary / joined)
        digests[joined] = part.stats['sha256'][name]
    files.write_jsonl(
      temporary / 'quarantine.jsonl',
      itertools.chain.from_iterable(
        files.read_jsonl(part.path / 'quarantine.jsonl') for part in parts
      ),
    )
    stats = _sums([part.stats for part in parts])
    stats |= {**about, 'sha256': digests}
    stats['bytes'] = _sizes(temporary, digests)
    files.write_json(temporary / 'stats.json', stats)
  return stats


def _sizes(folder: pathlib.Path, names: Iterable[str]) -> dict[str, int]:
  return {name: files.size(folder / name) for name in names}


def _sums(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The figures of several folders as those of one."""
  stats = dict(parts[0])
  for name in (
    'rows', 'tokens', 'pieces', 'pad_tokens', 'loss_tokens', 'images',
    'documents', 'dropped',
  ):  # fmt: skip
    stats[name] = sum(part[name] for part in parts)
  stats['padding'] = round(stats['pad_tokens'] / max(stats['tokens'], 1), 6)
  for name in ('images_per_row', 'largest_id'):
    stats[name] = max(part[name] for part in parts if name in part)
  if most := pairs_lib.most(parts):
    stats[pairs_lib.MOST] = most
    stats[pairs_lib.PAIRS] = pairs_lib.whole(parts)
    if alone := pairs_lib.unpaired(parts):
      stats[pairs_lib.UNPAIRED] = alone
  kinds = collections.Counter()
  for part in parts:
    kinds.update(part['tokens_by_kind'])
  return stats | {'tokens_by_kind': dict(kinds)}


def _in_parts(rows: Iterable[packing.Row], size: int) -> Iterator[Iterator]:
  """Stretches of `size` rows; each is read before the next is asked for."""
  rows = iter(rows)
  for first in rows:
    yield itertools.chain([first], itertools.islice(rows, size - 1))


def _recorded(part, shape, summary: Summary, categories) -> Iterator[bytes]:
  for row in part:
    summary.add(row)
    yield to_record(row, shape, categories)


def is_done(folder: str | os.PathLike, digest: str) -> bool:
  """Whether the folder holds the rows that `digest` stands for."""
  path = files.path(folder) / 'stats.json'
  return files.exists(path) and files.read_json(path).get('inputs') == digest


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
    yield from self.start_at(0)

  def start_at(
    self, number: int
  ) -> Iterator[tuple[dict[str, np.ndarray], list[str]]]:
    """Rows from `number` on; none of those before is read."""
    for shard in self.shards():
      count = records.count(self.path / shard) if number else 0
      if count and number >= count:
        number -= count
        continue
      yield from self.read(shard, number)
      number = 0

  def shards(self) -> list[str]:
    """Names of the files, in order; those that are there if none are told."""
    told = self.stats.get('sha256')
    if told is None:
      told = [path.name for path in records.shards_of(self.path, STEM)]
    return sorted(told)

  def read(
    self, shard: str, start: int = 0
  ) -> Iterator[tuple[dict[str, np.ndarray], list[str]]]:
    """Rows of one shard as (arrays, document ids), a few in memory.

    Raises:
      UserError: The shard is missing, cut short or changed, or a record of it
        is not a row.
    """
    path = self.path / shard
    for number, record in enumerate(records.stream_shard(path, start), start):
      try:
        tensors, metadata = array_records.unpack(record)
      except (ValueError, KeyError) as error:
        raise errors.UserError(
          f'{path}: record {number} is not a row: {error}.'
        ) from error
      yield tensors, json.loads(metadata.get('documents', '[]'))


def open_folder(path: str | os.PathLike) -> Folder:
  """Opens a folder of rows.

  Raises:
    UserError: It has no `stats.json`.
  """
  path = files.path(path)
  return Folder(path, files.read_json(path / 'stats.json'))
