"""From built rows to global batches: row k is a pure function of (seed, k).

A folder of rows holds one sub-folder a task and split, with ArrayRecord shards
and `stats.json`. The schedule says which task row k comes from and how many
rows of that task came before; a counter-based permutation, new every epoch,
says which stored row that is. Nothing is iterated, so the state of the
pipeline is the number of rows consumed, for any number of hosts.

Axes: B rows of a batch, L row length, N images a row.
"""

from typing import Any, Mapping, Protocol, Sequence

import numpy as np
from safetensors import numpy as safetensors_numpy

from step_audio_jax import errors
from step_audio_jax.chats import habits
from step_audio_jax.corpus import epochs
from step_audio_jax.corpus import schedule as schedule_lib
from step_audio_jax.storage import array_records
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import contents as contents_lib
from step_audio_jax.training.feeds import pairs as pairs_lib
from step_audio_jax.training.feeds import permutation

# Batches that are on their way at once where each answer takes long.
_AHEAD = 8


def positions(segment_ids: np.ndarray) -> np.ndarray:
  """Place of each token in its segment, int32 like (…, L) `segment_ids`."""
  index = np.arange(segment_ids.shape[-1])
  starts = np.ones(segment_ids.shape, bool)
  starts[..., 1:] = segment_ids[..., 1:] != segment_ids[..., :-1]
  first = np.maximum.accumulate(np.where(starts, index, 0), axis=-1)
  return (index - first).astype(np.int32)


class Feed(Protocol):
  """What the loop needs to know of the data."""

  batch_size: int

  def describe(self) -> dict[str, Any]:
    """For `config.json`; JSON-able."""

  def batch(self, step: int, start: int = 0, stop: int | None = None) -> Any:
    """Rows start..stop of the global batch of a step, as arrays."""


class Source:
  """The rows of one task and split.

  Attributes:
    name: The task.
    folder: Where they lie.
    records: They themselves, as safetensors blobs.
    stats: What `stats.json` says.
    vocabulary: What their ids belong to, as `Vocabulary.describe` tells it;
      None where the task was written by hand and does not say.
    tokenizer: Whose codes are in them, as `bindings` has it; or None.
    speech: Whether there are speech ids, as far as is known.
  """

  def __init__(self, name: str, folder: files.AnyPath):
    """Opens the shards.

    Raises:
      UserError: The folder or its files are missing, or it has no rows.
    """
    self.name = name
    self.stats = files.read_json(folder / 'stats.json')
    shards = sorted(files.glob(folder, '*.array_record'))
    if not shards or not self.stats.get('rows'):
      raise errors.UserError(
        f'{folder}: the ratio names the task {name!r}, which has no rows; '
        'build rows for it or give it weight 0.'
      )
    self._states: dict[files.AnyPath, files.State] = {}
    if files.is_address(folder):
      # Both the records and their digests are of these versions.
      states = dict(zip(shards, array_records.in_flight(files.state, shards)))
      self.records = array_records.open_records(
        shards, lambda path: files.ranged(path, states[path])
      )
      self._states = states
    else:
      self.records = array_records.open_records(shards)
    found = len(self.records)
    if found != self.stats['rows']:
      raise errors.UserError(
        f'{folder}: found {found} records, expected '
        f'{self.stats["rows"]} rows as stats.json says.'
      )
    self.folder = folder
    told = self.stats.get(bindings.VOCABULARY)
    # Rows from before there were digests name their text model beside it.
    name = self.stats.get('text_model')
    says = told and (bindings.PIECES in told or name is not None)
    self.vocabulary = {'text_model': name, **told} if says else None
    self.tokenizer = bindings.tokenizer_of(self.stats, folder / 'stats.json')
    kinds = self.stats.get('tokens_by_kind')
    self.speech = kinds is None or any(
      kinds.get(kind) for kind in ('linguistic', 'semantic')
    )

  def __len__(self) -> int:
    return len(self.records)

  def contents(
    self,
    budget: contents_lib.ByteBudget | None = None,
    known: Mapping[str, Any] | None = None,
  ) -> dict[str, Any]:
    """What lies in the folder; see `contents.rows`.

    Raises:
      UserError: It is not what `stats.json` says.
    """
    budget = budget or contents_lib.ByteBudget(contents_lib.WHOLE_BYTES)
    return contents_lib.rows(
      self.folder, self.stats, budget, known, self._states
    )

  def row(self, index: int) -> dict[str, np.ndarray]:
    """Stored row `index`: tokens, segment_ids, loss_weights, images."""
    return read_rows([(self, index)])[0]


def read_rows(
  places: Sequence[tuple[Source, int]],
) -> list[dict[str, np.ndarray]]:
  """Stored rows of several sources; what is far away is asked for at once.

  Args:
    places: (source, number of the row there) of each.

  Raises:
    UserError: A record is no row, or cannot be read.
  """
  records = array_records.fetch([(one.records, i) for one, i in places])
  rows = []
  for source, index in places:
    try:
      rows.append(safetensors_numpy.load(next(records)))
    except errors.UserError:
      raise
    except Exception as error:
      raise errors.UserError(
        f'{source.folder}: record {index} is not a row ({error}).'
      ) from error
  return rows


class RowFeed:
  """Global batches of rows, mixed by an exact schedule.

  Attributes:
    schedule: The order of sources.
    sources: One `Source` for each name of the schedule.
    length: Row length L.
    batch_size: Rows of a global batch.
    name: The folder of rows, for messages.
    vocabulary: What the ids of all sources belong to, as
      `Vocabulary.describe` tells it; None if no source says.
    speech_tokenizer: Whose codes are in the rows; None if no source says.
    tags: Of how texts are spoken, that are in the rows of any source.
    edits: Those by which recordings are changed in them.
    turns: How turns are laid out in them, as `chats.habits` has it.
    speech: Whether there are speech ids.
    largest_id: Of all sources; None if one does not say.
    categories: Names of those of pairs, in the order of their numbers.
    pairs: How many pairs of answers there are.
    unpaired: 'chosen', 'rejected' → how many answers are in none.
    table_size: Ids of a batch must be below; None for any.
  """

  def __init__(
    self,
    *,
    rows: str,
    ratios: schedule_lib.Mixture,
    batch_size: int,
    split: str = 'train',
    prefix: str = '',
    seed: int = 0,
  ):
    """Opens the sources.

    Args:
      rows: Folder of row folders, `<rows>/<prefix><task>/<split>`.
      ratios: Task → share of the rows; or (step, task → share) for each
        phase of a curriculum.
      batch_size: Rows of a global batch.
      split: Which split.
      prefix: Put before each task's name, for example `librispeech_`.
      seed: Of the order inside each source.

    Raises:
      UserError: A task has no rows, row lengths differ, or two tasks differ in
        vocabulary, speech tokenizer or the layout of turns.
    """
    if batch_size < 1:
      raise errors.UserError(
        f'feed: batch_size is {batch_size}, expected at least 1.'
      )
    self.schedule = schedule_lib.create(ratios, batch_size)
    root = files.path(rows)
    if not files.is_dir(root):
      raise errors.UserError(f'{rows}: no such folder of rows.')
    self.sources = []
    for name in self.schedule.names:
      folder = root / f'{prefix}{name}' / split
      if not files.is_file(folder / 'stats.json'):
        found = sorted(path.name for path in files.list_folder(root))
        raise errors.UserError(
          f'{folder}: the ratio names the task {name!r}, which has no rows '
          f'there; {root} has {found}.'
        )
      self.sources.append(Source(name, folder))
    lengths = {s.name: s.stats['length'] for s in self.sources}
    if len(set(lengths.values())) > 1:
      raise errors.UserError(
        f'{rows}: row lengths differ between tasks ({lengths}); build them '
        'with one length.'
      )
    self.name = str(rows)
    self._bind()
    self.length = self.sources[0].stats['length']
    self.batch_size = batch_size
    self._seed = seed
    self._images = max(
      int(s.stats.get('images_per_row') or 0) for s in self.sources
    )
    stats = [source.stats for source in self.sources]
    self._pairs = pairs_lib.most(stats)
    self.categories = pairs_lib.categories(stats)
    self.pairs = pairs_lib.whole(stats)
    self.unpaired = pairs_lib.unpaired(stats)
    self._image_shape = next(
      (
        tuple(s.row(0)['images'].shape[1:])
        for s in self.sources
        if s.stats.get('images_per_row')
      ),
      None,
    )

  def _bind(self) -> None:
    """Finds what the ids belong to, and that it is one for all sources."""
    self.table_size: int | None = None
    self.speech = any(source.speech for source in self.sources)
    # One with speech first: it tells where the speech block lies.
    order = sorted(self.sources, key=lambda source: not source.speech)
    known = [source for source in order if source.vocabulary]
    voiced = [source for source in order if source.tokenizer]
    for source in known[1:]:
      bindings.check_vocabulary(
        str(source.folder),
        source.vocabulary,
        str(known[0].folder),
        known[0].vocabulary,
        'build both with one text model',
        speech=source.speech and known[0].speech,
      )
    for source in voiced[1:]:
      bindings.check_tokenizer(
        str(source.folder),
        source.tokenizer,
        str(voiced[0].folder),
        voiced[0].tokenizer,
        'build both from codes of one tokenizer',
      )
    self.vocabulary = known[0].vocabulary if known else None
    self.speech_tokenizer = voiced[0].tokenizer if voiced else None
    self.tags = self._told(bindings.TAGS)
    self.edits = self._told(bindings.EDITS)
    told = ((one.folder, habits.read(one.stats, one.folder)) for one in order)
    self.turns = habits.joined(told)
    largest = [source.stats.get('largest_id') for source in self.sources]
    self.largest_id = None if None in largest else max(largest)

  def _told(self, name: str) -> list[str]:
    """Tags that the rows of any source say they have."""
    return sorted(set().union(*(s.stats.get(name, ()) for s in self.sources)))

  @property
  def read_ahead(self) -> int:
    """How many batches are worth being read side by side."""
    remote = array_records.RangedRecords
    far = any(isinstance(one.records, remote) for one in self.sources)
    return _AHEAD if far else 1

  def locate(self, k: int) -> tuple[int, int]:
    """Row k of the global stream → (source id, stored row)."""
    source, rank = self.schedule.source(k)
    size = len(self.sources[source])
    epoch, index = divmod(rank, size)
    key = (self._seed * 1_000_003 + source) * 1_000_003 + epoch
    return source, permutation.permute(index, size, key)

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step.

    Returns:
      tokens, segment_ids, positions int32 (B, L), loss_weights float32 (B, L),
      source int32 (B,), and where a source has images: images uint8
      (B, N, height, width, 3), image_slots int32 (B, N), -1 for none; where one
      has pairs of answers, those of `pairs.batch`.
    """
    stop = self.batch_size if stop is None else stop
    first = step * self.batch_size
    places = list(map(self.locate, range(first + start, first + stop)))
    sources = [source for source, _ in places]
    rows = read_rows([(self.sources[source], i) for source, i in places])
    batch = {
      'tokens': np.stack([r['tokens'] for r in rows]).astype(np.int32),
      'segment_ids': np.stack([r['segment_ids'] for r in rows]).astype(
        np.int32
      ),
      'loss_weights': np.stack([r['loss_weights'] for r in rows]).astype(
        np.float32
      ),
      'source': np.asarray(sources, np.int32),
    }
    self._check_ids(batch['tokens'], sources)
    batch['positions'] = positions(batch['segment_ids'])
    if self._images:
      images = np.zeros((len(rows), self._images, *self._image_shape), np.uint8)
      slots = np.full((len(rows), self._images), -1, np.int32)
      for i, row in enumerate(rows):
        count = len(row.get('image_slots', ()))
        if count:
          images[i, :count] = row['images']
          slots[i, :count] = row['image_slots']
      batch |= {'images': images, 'image_slots': slots}
    if self._pairs:
      told = [
        self.sources[i].stats.get(pairs_lib.CATEGORIES, ()) for i in sources
      ]
      batch |= pairs_lib.batch(rows, told, self._pairs, self.categories)
    return batch

  def _check_ids(self, tokens_BL, sources) -> None:
    if self.table_size is None or not tokens_BL.size:
      return
    if 0 <= tokens_BL.min() and tokens_BL.max() < self.table_size:
      return
    wrong_BL = (tokens_BL < 0) | (tokens_BL >= self.table_size)
    place = int(np.flatnonzero(wrong_BL.any(1))[0])
    found = tokens_BL[place][wrong_BL[place]][0]
    raise errors.UserError(
      f'{self.sources[sources[place]].folder}: a row has the id {found}, '
      f'expected 0..{self.table_size - 1}; the rows were built for another '
      'vocabulary.'
    )

  def row_ids(self, step: int) -> list[str]:
    """Where the rows of a step's batch are stored, as `task/index`."""
    first = step * self.batch_size
    places = map(self.locate, range(first, first + self.batch_size))
    return [f'{self.sources[source].name}/{index}' for source, index in places]

  def counts(self, step: int) -> dict[str, int]:
    """Rows and tokens taken from each source by the first `step` batches."""
    rows = self.schedule.counts(step * self.batch_size)
    counts = {f'rows/{name}': n for name, n in rows.items()}
    return counts | {f'tokens/{n}': r * self.length for n, r in rows.items()}

  def epochs(self, start: int, stop: int) -> list[dict[str, Any]]:
    """What rows start..stop show of each source; see `epochs.by_source`."""
    sizes = {source.name: len(source) for source in self.sources}
    return epochs.by_source(self.schedule, sizes, self.length, start, stop)

  def settings(self) -> dict[str, Any]:
    """What decides which row comes when; a resume compares it."""
    return {
      'batch_size': self.batch_size,
      'row_length': self.length,
      'seed': self._seed,
      'sources': list(self.schedule.names),
      'phases': [
        {'row': phase.start, 'shares': list(map(str, phase.shares))}
        for phase in self.schedule.phases
      ],
    }

  def contents(self, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Task → digests of its rows; a resume compares them.

    Args:
      known: What this gave when the run began; see `contents.rows`.

    Raises:
      UserError: A shard is not the one of its `stats.json`.
    """
    budget, known = (
      contents_lib.ByteBudget(contents_lib.WHOLE_BYTES),
      known or {},
    )
    return {
      source.name: source.contents(budget, known.get(source.name))
      for source in self.sources
    }

  def describe(self) -> dict[str, Any]:
    """Sources, shares, epochs; for the run's `config.json`.

    `share` is that of the first phase; a curriculum has `phases` too.
    """
    phases = self.schedule.phases
    told = {}
    if len(phases) > 1:
      told['phases'] = [
        {'row': phase.start, 'shares': list(map(str, phase.shares))}
        for phase in phases
      ]
    return told | {
      'sources': [
        {'name': s.name, 'share': str(share), 'rows': len(s)}
        for s, share in zip(self.sources, phases[0].shares)
      ],
      'row_length': self.length,
      'batch_size': self.batch_size,
      'seed': self._seed,
    }


class BlankFeed:
  """Batches that have shapes and nothing in them: to compile, not to train.

  Attributes:
    batch_size: Rows of a global batch.
    length, places: Row length L.
    group: Answers to one prompt; 0 where rows are no prompts.
  """

  def __init__(
    self,
    *,
    batch_size: int,
    length: int,
    images: int = 0,
    image_size: int = 224,
    pairs: int = 0,
    group: int = 0,
  ):
    """No row is read.

    Args:
      batch_size: Rows of a global batch.
      length: Row length L.
      images: Images a row, N.
      image_size: Their height and width, in pixels.
      pairs: Pairs of answers a row, K.
      group: Answers to one prompt; rows are then prompts of L places.
    """
    self.batch_size = batch_size
    self.length = self.places = length
    self.group = group
    self._images = images
    self._image_size = image_size
    self._pairs = pairs

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """As `RowFeed.batch`; every place is padding."""
    del step
    rows = (self.batch_size if stop is None else stop) - start
    shape, size = (rows, self.length), self._image_size
    if self.group:
      starts = np.full(rows, self.length, np.int32)
      return {'tokens': np.zeros(shape, np.int32), 'starts': starts}
    batch = {
      'tokens': np.zeros(shape, np.int32),
      'segment_ids': np.zeros(shape, np.int32),
      'loss_weights': np.zeros(shape, np.float32),
      'source': np.zeros(rows, np.int32),
      'positions': np.zeros(shape, np.int32),
    }
    if self._images:
      slots = (rows, self._images)
      batch['images'] = np.zeros((*slots, size, size, 3), np.uint8)
      batch['image_slots'] = np.full(slots, -1, np.int32)
    if self._pairs:
      batch |= pairs_lib.batch([{}] * rows, [()] * rows, self._pairs, ())
    return batch

  def describe(self) -> dict[str, Any]:
    """For the run's `config.json`."""
    return {
      'sources': [],
      'row_length': self.length,
      'batch_size': self.batch_size,
    }
