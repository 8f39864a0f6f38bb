"""Batches of waveforms with transcripts, a pure function of (seed, step).

Utterances are sorted into buckets by length; a batch comes from one bucket
and is as wide as the bucket's longest utterance, so the number of compiled
shapes is the number of buckets.
"""

import collections
import dataclasses
import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax import manifest
from step_audio_jax.audio import fbank
from step_audio_jax.audio import io
from step_audio_jax.tokenizers import features
from step_audio_jax.tokenizers import labels as labels_lib
from step_audio_jax.training import buckets as buckets_lib
from step_audio_jax.training import recordings


@dataclasses.dataclass(frozen=True)
class _Item:
  utterance: manifest.Utterance
  labels: tuple[int, ...]
  samples: int


class AudioFeed:
  """Waveforms and labels for the objectives of this package.

  Left out, with counts in `describe()`: utterances without audio or text,
  longer than `max_seconds`, shorter than a code, and those with more labels
  than frames, for which no CTC path exists. A file that turns out to be
  unreadable becomes a row of weight 0 and is told once on stderr.

  Attributes:
    batch_size: Rows of a batch.
    dropped: Reason → number of utterances left out.
    quarantine: {id: reason} of files that could not be read so far.
  """

  def __init__(
    self,
    *,
    corpus: str | os.PathLike,
    labels: labels_lib.Labels,
    stream: str,
    batch_size: int,
    splits: Collection[str] = ('train',),
    max_seconds: float = 30.0,
    buckets: int = 2,
    seed: int = 0,
  ):
    """Reads the manifest and sorts it into buckets.

    Args:
      corpus: Corpus folder.
      labels: Spells the transcripts.
      stream: 'linguistic' or 'semantic': whose frame rate CTC must fit.
      batch_size: Rows of a batch.
      splits: Which splits.
      max_seconds: Longer utterances are left out.
      buckets: Number of widths.
      seed: Of the order.

    Raises:
      UserError: The manifest is bad, a parameter is, or nothing is left.
    """
    if stream not in ('linguistic', 'semantic'):
      raise errors.UserError(
        f"feed: stream is {stream!r}, expected 'linguistic' or 'semantic'."
      )
    for name, value in (('batch_size', batch_size), ('buckets', buckets)):
      if value < 1:
        raise errors.UserError(f'feed: {name} is {value}, expected >= 1.')
    self.batch_size = batch_size
    self.dropped = collections.Counter()
    self._recordings = recordings.Recordings(corpus)
    self.quarantine = self._recordings.quarantine
    self._corpus, self._labels, self._stream = corpus, labels, stream
    self._max_seconds, self._seed = max_seconds, seed
    items = []
    for utterance in manifest.read(corpus, splits=splits, kind='speech'):
      item, reason = self._item(utterance)
      if item is None:
        self.dropped[reason] += 1
      else:
        items.append(item)
    if not items:
      raise errors.UserError(
        f'{manifest.path_of(corpus)}: nothing to train on in '
        f'{", ".join(splits)}; left out: {dict(self.dropped)}.'
      )
    items.sort(key=lambda item: (item.samples, item.utterance.id))
    self._order = buckets_lib.Buckets(items, buckets, batch_size, seed)
    self._label_width = max(len(item.labels) for item in items)

  def _item(self, utterance) -> tuple[_Item | None, str]:
    if utterance.audio is None:
      return None, 'no audio'
    try:
      ids = tuple(self._labels.encode(utterance.text or ''))
    except errors.UserError:
      return None, 'a character without a label'
    if not ids:
      return None, 'no text'
    if utterance.duration > self._max_seconds:
      return None, f'longer than {self._max_seconds:g} s'
    samples = int(utterance.duration * io.SAMPLE_RATE)
    repeats = sum(a == b for a, b in zip(ids, ids[1:]))
    if features.frames(self._stream, samples) < len(ids) + repeats:
      return None, 'more labels than frames'
    return _Item(utterance, ids, samples), ''

  def __len__(self) -> int:
    """Batches of an epoch."""
    return len(self._order)

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step.

    Returns:
      wave float32 (B, S), samples int32 (B,), labels int32 (B, N),
      label_counts int32 (B,), weights float32 (B,), 0 for unreadable files.
    """
    stop = self.batch_size if stop is None else stop
    rows, bucket = self._order.rows(step, start, stop)
    longest = self._order.buckets[bucket][-1].samples
    # Whole chunks, with room for what rounding adds to a duration.
    chunk = fbank.CHUNK_SAMPLES
    width = -(-(longest + 2) // chunk) * chunk
    batch = {
      'wave': np.zeros((len(rows), width), np.float32),
      'samples': np.zeros(len(rows), np.int32),
      'labels': np.zeros((len(rows), self._label_width), np.int32),
      'label_counts': np.zeros(len(rows), np.int32),
      'weights': np.zeros(len(rows), np.float32),
    }
    for row, item in enumerate(rows):
      wave = self._recordings.read(item.utterance)
      if wave is None:
        continue
      wave = wave[:width]
      batch['wave'][row, : len(wave)] = wave
      batch['samples'][row] = len(wave)
      batch['labels'][row, : len(item.labels)] = item.labels
      batch['label_counts'][row] = len(item.labels)
      batch['weights'][row] = 1.0
    return batch

  def row_ids(self, step: int) -> list[str]:
    """Which utterances a step's batch holds."""
    rows, _ = self._order.rows(step, 0, self.batch_size)
    return [row.utterance.id for row in rows]

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    kept = [item for bucket in self._order.buckets for item in bucket]
    return {
      'corpus': str(self._corpus),
      'utterances': len(kept),
      'hours': round(sum(item.utterance.duration for item in kept) / 3600.0, 4),
      'dropped': dict(self.dropped),
      'batch_size': self.batch_size,
      'widths': [
        round(bucket[-1].samples / io.SAMPLE_RATE, 2)
        for bucket in self._order.buckets
      ],
      'seed': self._seed,
    }
