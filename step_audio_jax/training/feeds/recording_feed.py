"""Batches of recordings of a corpus, a pure function of (seed, step).

What the feeds over waveforms share: which utterances they take and why they
leave others out, unreadable files, the arrays of a batch. `buckets` or `crops`
gives the order.
"""

import abc
import collections
import hashlib
import json
import os
import pathlib
from typing import (
  Any,
  Callable,
  Collection,
  Generic,
  Mapping,
  Protocol,
  TypeVar,
)

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import contents as contents_lib
from step_audio_jax.training.feeds import recordings

Item = TypeVar('Item')


class Order(Protocol[Item]):
  """Which items a batch shows."""

  def __len__(self) -> int:
    """Batches of an epoch."""

  def rows(self, step: int, start: int, stop: int) -> tuple[list[Item], int]:
    """Items of a part of a batch, and the number of their bucket."""


class RecordingFeed(abc.ABC, Generic[Item]):
  """Rows made of one utterance each.

  Left out, with counts in `describe()`: utterances without audio and what
  `_select` is given a reason for. A file that turns out to be unreadable
  becomes a row of zeros with weight 0 and is told once on stderr.

  Subclasses set `_order`, made of what `_select` gives.

  Attributes:
    batch_size: Rows of a batch.
    dropped: Reason → number of utterances left out.
    quarantine: {id: reason} of files that could not be read so far.
  """

  _order: Order

  def __init__(
    self,
    corpus: str | os.PathLike,
    batch_size: int,
    seed: int,
    sample_rate: int = io.SAMPLE_RATE,
  ):
    """Knows the corpus; reads nothing yet.

    Args:
      corpus: Corpus folder.
      batch_size: Rows of a batch.
      seed: Of the order.
      sample_rate: Of the waveforms, Hz.

    Raises:
      UserError: `batch_size` is less than one.
    """
    self._at_least_one(batch_size=batch_size)
    self.batch_size = batch_size
    self.dropped = collections.Counter()
    self._corpus, self._seed = corpus, seed
    self._recordings = recordings.Recordings(corpus, sample_rate)
    self.quarantine = self._recordings.quarantine

  def _at_least_one(self, **values: int) -> None:
    for name, value in values.items():
      if value < 1:
        raise errors.UserError(f'feed: {name} is {value}, expected >= 1.')

  @abc.abstractmethod
  def _arrays(self, bucket: int) -> Mapping[str, tuple]:
    """Arrays of a batch but the weights: name → (dtype, *shape of a row)."""

  @abc.abstractmethod
  def _row(self, item: Any, bucket: int) -> Mapping[str, Any] | None:
    """What the arrays hold for an item; None where its file is unreadable.

    A value shorter than a row is followed by zeros.
    """

  def _select(
    self,
    splits: Collection[str],
    item: Callable[[manifest.Utterance], Item | str],
  ) -> list[Item]:
    """What the order is made of.

    Args:
      splits: Which splits.
      item: Of an utterance with audio, or why it is left out.

    Raises:
      UserError: The manifest is bad, or nothing is left.
    """
    items, self._kept = [], []
    for utterance in manifest.read(self._corpus, splits=splits, kind='speech'):
      found = 'no audio' if utterance.audio is None else item(utterance)
      if isinstance(found, str):
        self.dropped[found] += 1
      else:
        items.append(found)
        self._kept.append(utterance)
    if not items:
      raise errors.UserError(
        f'{manifest.path_of(self._corpus)}: nothing to train on in '
        f'{", ".join(splits)}; left out: {dict(self.dropped)}.'
      )
    self._items = items
    return items

  def __len__(self) -> int:
    """Batches of an epoch."""
    return len(self._order)

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step; see the class."""
    stop = self.batch_size if stop is None else stop
    items, bucket = self._order.rows(step, start, stop)
    batch = {
      name: np.zeros((len(items), *shape), dtype)
      for name, (dtype, *shape) in self._arrays(bucket).items()
    }
    batch['weights'] = np.zeros(len(items), np.float32)
    for row, item in enumerate(items):
      values = self._row(item, bucket)
      if values is None:
        continue
      for name, value in values.items():
        place = (row, slice(len(value))) if np.ndim(value) else row
        batch[name][place] = value
      batch['weights'][row] = 1.0
    return batch

  def row_ids(self, step: int) -> list[str]:
    """Which utterances a step's batch holds."""
    items, _ = self._order.rows(step, 0, self.batch_size)
    return [item.utterance.id for item in items]

  def _used(self, item: Any) -> Any:
    """What is used of an item besides its waveform; JSON-able."""
    del item
    return None

  def settings(self) -> dict[str, Any]:
    """What decides which utterance comes when; a resume compares it."""
    return {'batch_size': self.batch_size, 'seed': self._seed}

  def contents(self, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Digests of what is read; a resume compares them."""
    del known  # nothing is spared
    told, paths = hashlib.sha256(), []
    for one, item in zip(self._kept, self._items):
      line = (one.id, one.audio, one.channel, one.offset, one.duration)
      told.update(json.dumps([line, self._used(item)]).encode() + b'\n')
      paths.append(self._path(one))
    return {
      'utterances': len(paths),
      'manifest': told.hexdigest(),
      'audio': contents_lib.sample(paths),
    }

  def _path(self, utterance: manifest.Utterance) -> pathlib.Path | None:
    try:
      return utterance.audio_path(self._corpus)
    except errors.UserError:
      return None

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    seconds = sum(utterance.duration for utterance in self._kept)
    return {
      'corpus': str(self._corpus),
      'utterances': len(self._kept),
      'hours': round(seconds / 3600.0, 4),
      'dropped': dict(self.dropped),
      'batch_size': self.batch_size,
      'seed': self._seed,
    }
