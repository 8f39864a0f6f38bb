"""One shard of a tokenised corpus: what a worker makes of its utterances.

Batches of similar length are read ahead of the encoder; a recording longer than
`LONG_SECONDS` is encoded from its file, block by block, in constant memory. A
batch that is
finished goes into the shard's journal, so that whoever continues after a kill
encodes only what is missing; the journal goes when the shard stands. A shard
is a pure function of its utterances and the tokenizer, whichever worker makes
it and however often it was interrupted.
"""

import collections
from concurrent import futures
import dataclasses
import json
import os
import pathlib
import time
from typing import Any, Callable, Iterator, NamedTuple, Protocol, Sequence

import numpy as np

from data_pipelines import journal
from data_pipelines import records
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest
from step_audio_jax import vocabulary
from step_audio_jax.audio import io as audio_io

Pair = tuple[np.ndarray, np.ndarray]
LONG_SECONDS = 60.0
_READERS = 4  # threads that decode the next batch


class Tokenizer(Protocol):
  """What `step_audio_jax.tokenizers.dual.DualTokenizer` offers."""

  def encode_batch(self, waves: Sequence[np.ndarray]) -> Sequence[Pair]:
    """float32 (S,) at 16 kHz each → (linguistic (n,), semantic (m,)) each."""

  def encode_file(
    self, path: pathlib.Path, *, offset: float, duration: float
  ) -> Pair:
    """The same of a part of a recording of any length, seconds."""


@dataclasses.dataclass(frozen=True)
class Shard:
  """The work of one shard.

  Attributes:
    corpus: Corpus folder.
    output: Folder of the codes.
    number: Which shard; `count` of them in all.
    count: Number of shards.
    utterances: The utterances of this shard.
    tokenizer: Folder of the tokenizer.
    digest: Of everything that decides what the shard holds.
    batch_size: Utterances per call of the tokenizer, at most.
    batch_seconds: Audio per call of the tokenizer, at most (or one utterance).
    longest: Longer audio is put in quarantine, seconds.
  """

  corpus: str
  output: str
  number: int
  count: int
  utterances: tuple[manifest.Utterance, ...]
  tokenizer: str
  digest: str
  batch_size: int
  batch_seconds: float
  longest: float

  @property
  def path(self) -> pathlib.Path:
    name = records.shard_name(manifest.CODES_STEM, self.number, self.count)
    return pathlib.Path(self.output) / name

  @property
  def receipt(self) -> pathlib.Path:
    """Says what the shard was made from; written after it."""
    return self.path.with_suffix('.json')

  @property
  def journal(self) -> pathlib.Path:
    """Finished batches of a shard that does not stand yet."""
    return self.path.with_suffix('.journal')

  @property
  def seconds(self) -> float:
    """Audio of all its utterances."""
    return sum(utterance.duration for utterance in self.utterances)

  def is_done(self) -> bool:
    """Whether the shard on disk is the one that would be made."""
    return (
      self.path.exists()
      and self.receipt.exists()
      and files.read_json(self.receipt).get('digest') == self.digest
    )

  def batches(self) -> list[list[manifest.Utterance]]:
    """Utterances of similar length, the shortest first."""
    out: list[list[manifest.Utterance]] = []
    total = 0.0
    for one in sorted(self.utterances, key=lambda u: (u.duration, u.id)):
      total += one.duration
      full = out and (
        len(out[-1]) == self.batch_size or total > self.batch_seconds
      )
      if full or not out:
        out.append([])
        total = one.duration
      out[-1].append(one)
    return out


class Progress(NamedTuple):
  """How far a shard is: utterances, those in quarantine, seconds of audio."""

  utterances: int = 0
  lost: int = 0
  seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Batch:
  """What came of a batch; an entry of the journal.

  Attributes:
    codes: Utterance → its codes, uint16.
    quarantine: {id, file, reason} of those that were left out.
    seconds: Audio of the batch.
    worker_seconds: Time that the worker spent on it.
  """

  codes: dict[str, Pair]
  quarantine: list[dict[str, Any]]
  seconds: float
  worker_seconds: float

  @property
  def progress(self) -> Progress:
    """What it adds."""
    return Progress(len(self.ids), len(self.quarantine), self.seconds)

  @property
  def ids(self) -> list[str]:
    """Of all its utterances."""
    return [*self.codes, *(item['id'] for item in self.quarantine)]

  def pack(self) -> bytes:
    """As bytes."""
    head = {
      'ids': list(self.codes),
      'quarantine': self.quarantine,
      'seconds': self.seconds,
      'worker_seconds': self.worker_seconds,
    }
    tensors = {}
    for number, pair in enumerate(self.codes.values()):
      tensors[f'{number}/linguistic'], tensors[f'{number}/semantic'] = pair
    return records.pack(tensors, {'head': json.dumps(head)})

  @classmethod
  def unpack(cls, payload: bytes) -> 'Batch':
    """From bytes of `pack`."""
    tensors, metadata = manifest.unpack(payload)
    head = json.loads(metadata['head'])
    codes = {
      name: (tensors[f'{k}/linguistic'], tensors[f'{k}/semantic'])
      for k, name in enumerate(head.pop('ids'))
    }
    return cls(codes, **head)


def tokenize_shard(
  shard: Shard,
  tokenizer: Tokenizer,
  on_progress: Callable[[Progress, bool], Any] = lambda more, new: None,
) -> dict[str, Any]:
  """Makes one shard and its receipt; returns the receipt.

  Args:
    shard: The work.
    tokenizer: Encodes.
    on_progress: Told what each batch adds, and whether it was encoded now or
      found in the journal.
  """
  with journal.opened(shard.journal, shard.digest) as book:
    if shard.is_done():  # another worker made it while this one waited
      book.done()
      return files.read_json(shard.receipt)
    made = [Batch.unpack(entry) for entry in book.entries]
    for batch in made:
      on_progress(batch.progress, False)
    done = {name for batch in made for name in batch.ids}
    left = [
      [one for one in batch if one.id not in done] for batch in shard.batches()
    ]
    for batch in _encoded(shard, tokenizer, [part for part in left if part]):
      book.append(batch.pack())
      made.append(batch)
      on_progress(batch.progress, True)
    receipt = _write(shard, made)
    book.done()
  return receipt


def progress_of(shard: Shard) -> Progress:
  """How far somebody else is with a shard."""
  if shard.is_done():
    lost = len(files.read_json(shard.receipt)['quarantined'])
    return Progress(len(shard.utterances), lost, shard.seconds)
  batches = [batch.progress for batch in journaled(shard)]
  return Progress(*map(sum, zip(*batches))) if batches else Progress()


def journaled(shard: Shard) -> list[Batch]:
  """The finished batches of a shard that does not stand yet."""
  try:
    payloads, _ = journal.whole(shard.journal.read_bytes())
  except OSError:
    return []
  if payloads[:1] != [shard.digest.encode()]:
    return []
  return [Batch.unpack(payload) for payload in payloads[1:]]


def _write(shard, made) -> dict[str, Any]:
  codes = {name: pair for batch in made for name, pair in batch.codes.items()}
  quarantine = [item for batch in made for item in batch.quarantine]
  kept = [u for u in shard.utterances if u.id in codes]
  records.write_shard(
    shard.path,
    (
      records.pack(
        {'linguistic': codes[u.id][0], 'semantic': codes[u.id][1]},
        {'id': u.id},
      )
      for u in kept
    ),
  )
  receipt = {
    'digest': shard.digest,
    'read': len(shard.utterances),
    'kept': len(kept),
    'quarantined': sorted(quarantine, key=lambda item: item['id']),
    'seconds': round(sum(u.duration for u in kept), 3),
    'linguistic': sum(len(codes[u.id][0]) for u in kept),
    'semantic': sum(len(codes[u.id][1]) for u in kept),
    'worker_seconds': round(sum(batch.worker_seconds for batch in made), 3),
  }
  files.write_json(shard.receipt, receipt)
  return receipt


def _encoded(shard, tokenizer, batches) -> Iterator[Batch]:
  """Encodes batches, reading one ahead."""
  begin = time.monotonic()
  for utterances, waves in _read_ahead(shard, batches):
    codes, quarantine = _outcome(shard, tokenizer, utterances, waves)
    now = time.monotonic()
    seconds = sum(one.duration for one in utterances)
    yield Batch(codes, quarantine, seconds, now - begin)
    begin = now


def _read_ahead(shard, batches):
  """Yields each batch with its waves, or the errors in their place."""
  with futures.ThreadPoolExecutor(_READERS) as pool:
    waiting = collections.deque()
    try:
      for batch in batches:
        reads = [pool.submit(_attempt, shard, one) for one in batch]
        waiting.append((batch, reads))
        if len(waiting) > 1:
          yield _arrived(waiting)
      while waiting:
        yield _arrived(waiting)
    finally:
      pool.shutdown(cancel_futures=True)


def _arrived(waiting):
  batch, reads = waiting.popleft()
  return batch, [read.result() for read in reads]


def _attempt(shard, utterance):
  """The wave, None if it is too long to be read at once, or the error."""
  try:
    return _read(shard, utterance)
  except errors.UserError as error:
    return error


def _outcome(shard, tokenizer, utterances, waves):
  """Codes and quarantine of a batch whose waves may be errors."""
  good = [wave for wave in waves if isinstance(wave, np.ndarray)]
  pairs = iter(_encode(tokenizer, good) if good else ())
  codes, quarantine = {}, []
  for utterance, wave in zip(utterances, waves):
    try:
      if isinstance(wave, Exception):
        raise wave
      pair = (
        _from_file(shard, tokenizer, utterance) if wave is None else next(pairs)
      )
      codes[utterance.id] = _checked(pair)
    except errors.UserError as error:
      quarantine.append(
        {
          'id': utterance.id,
          'file': utterance.audio,
          'reason': str(error),
        }
      )
  return codes, quarantine


def _from_file(shard, tokenizer, utterance) -> Pair:
  path = utterance.audio_path(shard.corpus)
  pair = tokenizer.encode_file(
    path, offset=utterance.offset, duration=utterance.duration
  )
  # The samples were never seen; the codes tell how many there were.
  seconds = len(pair[1]) / vocabulary.SEMANTIC_HZ
  if seconds < utterance.duration - 0.2:
    raise _too_short(path, utterance, seconds)
  return pair


def _too_short(path, utterance, seconds) -> errors.UserError:
  return errors.UserError(
    f'{path}: {seconds:.2f} s of audio from {utterance.offset:g} s on, '
    f'expected {utterance.duration:.2f} s as the manifest says.'
  )


def _read(shard: Shard, utterance: manifest.Utterance) -> np.ndarray | None:
  path = utterance.audio_path(shard.corpus)
  if utterance.duration > shard.longest:
    raise errors.UserError(
      f'{path}: {utterance.duration:.2f} s of audio, expected at most '
      f'{shard.longest:g} s.'
    )
  if utterance.duration > LONG_SECONDS:
    return None
  wave, rate = audio_io.read_audio(
    path,
    offset=utterance.offset,
    duration=utterance.duration,
  )
  if len(wave) < (utterance.duration - 0.1) * rate:
    raise _too_short(path, utterance, len(wave) / rate)
  if len(wave) < vocabulary.GROUP_SECONDS * rate:
    raise errors.UserError(
      f'{path}: {len(wave) / rate:.3f} s of audio, expected at least '
      f'{vocabulary.GROUP_SECONDS} s.'
    )
  return wave


def _encode(tokenizer, waves):
  """Encodes a batch; if that fails, each wave alone, to find the culprit."""
  try:
    return list(tokenizer.encode_batch(waves))
  except errors.UserError:
    pairs = []
    for wave in waves:
      try:
        pairs += list(tokenizer.encode_batch([wave]))
      except errors.UserError as error:
        pairs.append(error)
    return pairs


def _checked(pair) -> Pair:
  if isinstance(pair, errors.UserError):
    raise pair
  table = vocabulary.Vocabulary()
  ids = table.interleave(*pair)  # checks that codes are inside their books
  if not len(ids):
    raise errors.UserError('the audio is shorter than one group of codes.')
  return tuple(np.asarray(codes, np.uint16) for codes in pair)


def file_state(
  corpus: str | os.PathLike, utterance: manifest.Utterance
) -> list[int] | None:
  """Size and time of an utterance's file; None where there is none."""
  try:
    state = utterance.audio_path(corpus).stat()
  except (OSError, errors.UserError):
    return None
  return [state.st_size, state.st_mtime_ns]
