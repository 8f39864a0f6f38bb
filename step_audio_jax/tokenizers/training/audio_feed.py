"""Batches of waveforms with transcripts, a pure function of (seed, step).

Utterances are sorted into buckets by length; a batch comes from one bucket
and is as wide as the bucket's longest utterance, so the number of compiled
shapes is the number of buckets.
"""

import dataclasses
import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.audio.features import fbank
from step_audio_jax.corpus import manifest
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.training import labels as labels_lib
from step_audio_jax.training.feeds import buckets as buckets_lib
from step_audio_jax.training.feeds import recording_feed


@dataclasses.dataclass(frozen=True)
class _Item:
  utterance: manifest.Utterance
  labels: tuple[int, ...]
  samples: int


class AudioFeed(recording_feed.RecordingFeed[_Item]):
  """Waveforms and labels for the objectives of this package.

  Batches hold wave float32 (B, S), samples int32 (B,), labels int32 (B, N),
  label_counts int32 (B,) and weights float32 (B,).

  Left out as well: utterances without text, longer than `max_seconds`, shorter
  than a code, and those with more labels than frames, for which no CTC path
  exists.
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
    super().__init__(corpus, batch_size, seed)
    self._at_least_one(buckets=buckets)
    self._labels, self._stream = labels, stream
    self._max_seconds = max_seconds
    items = self._select(splits, self._item)
    self._order = buckets_lib.Buckets(items, buckets, batch_size, seed)
    self._label_width = max(len(item.labels) for item in items)

  def _item(self, utterance):
    try:
      ids = tuple(self._labels.encode(utterance.text or ''))
    except errors.UserError:
      return 'a character without a label'
    if not ids:
      return 'no text'
    if utterance.duration > self._max_seconds:
      return f'longer than {self._max_seconds:g} s'
    samples = int(utterance.duration * io.SAMPLE_RATE)
    repeats = sum(a == b for a, b in zip(ids, ids[1:]))
    if features.frames(self._stream, samples) < len(ids) + repeats:
      return 'more labels than frames'
    return _Item(utterance, ids, samples)

  def _width(self, bucket):
    """Whole chunks, with room for what rounding adds to a duration."""
    chunk = fbank.CHUNK_SAMPLES
    return -(-(self._order.longest(bucket) + 2) // chunk) * chunk

  def _arrays(self, bucket):
    return {
      'wave': (np.float32, self._width(bucket)),
      'samples': (np.int32,),
      'labels': (np.int32, self._label_width),
      'label_counts': (np.int32,),
    }

  def _row(self, item, bucket):
    wave = self._recordings.read(item.utterance)
    if wave is None:
      return None
    wave = wave[: self._width(bucket)]
    return {
      'wave': wave,
      'samples': len(wave),
      'labels': item.labels,
      'label_counts': len(item.labels),
    }

  def _used(self, item):
    return item.labels

  def settings(self) -> dict[str, Any]:
    """What decides which utterance comes when; a resume compares it."""
    return super().settings() | {
      'stream': self._stream,
      'buckets': len(self._order.buckets),
    }

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    return super().describe() | {'widths': self._order.widths(io.SAMPLE_RATE)}
