"""Batches of utterances → codes, or the reasons why there are none.

The next batch is read and decoded while one is encoded. A recording longer
than `LONG_SECONDS` is encoded from its file, block by block, so that memory
does not depend on its length.
"""

import collections
from concurrent import futures
import dataclasses
import json
import os
import pathlib
import time
from typing import Any, Iterator, NamedTuple, Protocol, Sequence

import numpy as np

from data_pipelines import records
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.audio import channels
from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files

Pair = tuple[np.ndarray, np.ndarray]

LONG_SECONDS = 60.0
_READERS = 4  # threads that decode the next batch
# More of them wait for a bucket than decode.
_READERS_OF_BUCKET = 32


class Tokenizer(Protocol):
  """What `step_audio_jax.tokenizers.speech.dual.DualTokenizer` offers."""

  def encode_batch(self, waves: Sequence[np.ndarray]) -> Sequence[Pair]:
    """float32 (S,) at 16 kHz each → (linguistic (n,), semantic (m,)) each."""

  def encode_file(
    self,
    path: pathlib.Path,
    *,
    offset: float,
    duration: float,
    channel: channels.Channel,
  ) -> Pair:
    """The same of a part of a recording of any length, seconds."""


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
    tensors, metadata = array_records.unpack(payload)
    head = json.loads(metadata['head'])
    codes = {
      name: (tensors[f'{k}/linguistic'], tensors[f'{k}/semantic'])
      for k, name in enumerate(head.pop('ids'))
    }
    return cls(codes, **head)


def encode_batches(
  corpus: str | os.PathLike,
  batches: Sequence[Sequence[manifest.Utterance]],
  tokenizer: Tokenizer,
  longest: float,
) -> Iterator[Batch]:
  """Encodes batches, reading one ahead.

  Args:
    corpus: Corpus folder.
    batches: Utterances that are encoded together.
    tokenizer: Encodes.
    longest: Longer audio is put in quarantine, seconds.
  """
  begin = time.monotonic()
  for utterances, waves in _read_ahead(corpus, batches, longest):
    codes, quarantine = _outcome(corpus, tokenizer, utterances, waves)
    now = time.monotonic()
    seconds = sum(one.duration for one in utterances)
    yield Batch(codes, quarantine, seconds, now - begin)
    begin = now


def _read_ahead(corpus, batches, longest):
  """Yields each batch with its waves, or the errors in their place."""
  readers = _READERS_OF_BUCKET if files.is_address(corpus) else _READERS
  with futures.ThreadPoolExecutor(readers) as pool:
    waiting = collections.deque()
    try:
      for batch in batches:
        reads = [pool.submit(_attempt, corpus, one, longest) for one in batch]
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


def _attempt(corpus, utterance, longest):
  """The wave, None if it is too long to be read at once, or the error."""
  try:
    return _read(corpus, utterance, longest)
  except errors.UserError as error:
    return error


def _outcome(corpus, tokenizer, utterances, waves):
  """Codes and quarantine of a batch whose waves may be errors."""
  good = [wave for wave in waves if isinstance(wave, np.ndarray)]
  pairs = iter(_encode(tokenizer, good) if good else ())
  codes, quarantine = {}, []
  for utterance, wave in zip(utterances, waves):
    try:
      if isinstance(wave, Exception):
        raise wave
      pair = (
        _from_file(corpus, tokenizer, utterance)
        if wave is None
        else next(pairs)
      )
      codes[utterance.id] = _checked(pair)
    except errors.UserError as error:
      files.raise_outage(error)
      quarantine.append(
        {
          'id': utterance.id,
          'file': utterance.audio,
          'reason': str(error),
        }
      )
  return codes, quarantine


def _from_file(corpus, tokenizer, utterance) -> Pair:
  path = utterance.audio_path(corpus)
  pair = tokenizer.encode_file(path, **utterance.part())
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


def _read(corpus, utterance, longest) -> np.ndarray | None:
  path = utterance.audio_path(corpus)
  if utterance.duration > longest:
    raise errors.UserError(
      f'{path}: {utterance.duration:.2f} s of audio, expected at most '
      f'{longest:g} s.'
    )
  if utterance.duration > LONG_SECONDS:
    return None
  # A transcript of nothing says that nobody speaks: then silence is no fault.
  wave, rate = audio_io.read_audio(
    path, audible=utterance.text != '', **utterance.part()
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
