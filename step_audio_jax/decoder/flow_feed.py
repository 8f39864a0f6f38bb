"""Waveforms with their codes and speakers, for training a flow.

Utterances are sorted into buckets by length (`training.buckets`). A waveform
is cut to the mel frames that its codes stand for, so that both sides of the
flow end at the same time.

Axes: B rows, S samples, N ids, D speaker embedding.
"""

import collections
import dataclasses
import os
from typing import Any, Collection, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax import manifest
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import vocoder_mel
from step_audio_jax.decoder import embeddings as embeddings_lib
from step_audio_jax.training import buckets as buckets_lib
from step_audio_jax.training import recordings

# Mixed ids begin with the linguistic ones: a vocabulary without text.
_IDS = vocabulary_lib.Vocabulary(text_size=0)
STREAMS = ('dual', 'semantic')


@dataclasses.dataclass(frozen=True)
class _Item:
  utterance: manifest.Utterance
  ids: np.ndarray
  samples: int


class FlowFeed:
  """Batches for the objectives of the flows.

  Left out, with counts in `describe()`: utterances without audio, codes or
  embedding, longer than `max_seconds`, or too short for a mel. A file that
  turns out to be unreadable becomes a row of weight 0 and is told once.

  Attributes:
    batch_size: Rows of a batch.
    dropped: Reason → number of utterances left out.
    quarantine: {id: reason} of files that could not be read so far.
  """

  def __init__(
    self,
    *,
    corpus: str | os.PathLike,
    codes: str | os.PathLike,
    embeddings: str | os.PathLike,
    batch_size: int,
    mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel(),
    streams: str = 'dual',
    splits: Collection[str] = ('train',),
    max_seconds: float = 30.0,
    buckets: int = 2,
    seed: int = 0,
  ):
    """Reads the manifest, the codes and the embeddings.

    Args:
      corpus: Corpus folder.
      codes: Folder of the tokenised corpus.
      embeddings: File of speaker embeddings (`embed`).
      batch_size: Rows of a batch.
      mel: Says the rate of the waveforms.
      streams: 'dual' gives mixed ids in their interleaved order, 'semantic'
        the semantic codes alone: the single-codebook variant.
      splits: Which splits.
      max_seconds: Longer utterances are left out.
      buckets: Number of widths.
      seed: Of the order.

    Raises:
      UserError: A file is bad, a parameter is, or nothing is left.
    """
    if streams not in STREAMS:
      raise errors.UserError(
        f"feed: streams is {streams!r}, expected 'dual' or 'semantic'."
      )
    for name, value in (('batch_size', batch_size), ('buckets', buckets)):
      if value < 1:
        raise errors.UserError(f'feed: {name} is {value}, expected >= 1.')
    self.batch_size, self.dropped = batch_size, collections.Counter()
    self._corpus, self._mel, self._streams = corpus, mel, streams
    self._recordings = recordings.Recordings(corpus, mel.sample_rate)
    self.quarantine = self._recordings.quarantine
    self._max_seconds = max_seconds
    self._speakers = embeddings_lib.read(embeddings)
    table = manifest.read_codes(codes)
    items = []
    for utterance in manifest.read(corpus, splits=splits, kind='speech'):
      item, reason = self._item(utterance, table)
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
    self._places = [
      max(len(item.ids) for item in bucket) for bucket in self._order.buckets
    ]

  def _item(
    self,
    utterance: manifest.Utterance,
    table: Mapping[str, tuple[np.ndarray, np.ndarray]],
  ) -> tuple[_Item | None, str]:
    if utterance.audio is None:
      return None, 'no audio'
    if utterance.id not in table:
      return None, 'no codes'
    if utterance.id not in self._speakers:
      return None, 'no speaker embedding'
    if utterance.duration > self._max_seconds:
      return None, f'longer than {self._max_seconds:g} s'
    linguistic, semantic = table[utterance.id]
    if self._streams == 'dual':
      ids = _IDS.interleave(linguistic, semantic)
      seconds = len(ids) / vocabulary_lib.GROUP * vocabulary_lib.GROUP_SECONDS
    else:
      ids = semantic.astype(np.int32)
      seconds = len(ids) * vocabulary_lib.GROUP_SECONDS / 3
    rate, hop = self._mel.sample_rate, self._mel.hop
    samples = int(min(utterance.duration, seconds) * rate) // hop * hop
    if samples <= self._mel.edge:
      return None, 'too short'
    return _Item(utterance, np.asarray(ids, np.int32), samples), ''

  def __len__(self) -> int:
    """Batches of an epoch."""
    return len(self._order)

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step.

    Returns:
      wave float32 (B, S) at the mel's rate, samples int32 (B,), tokens int32
      (B, N), token_counts int32 (B,), speaker float32 (B, D), weights float32
      (B,), 0 for unreadable files.
    """
    stop = self.batch_size if stop is None else stop
    rows, bucket = self._order.rows(step, start, stop)
    width = self._order.buckets[bucket][-1].samples
    places = self._places[bucket]
    size = len(next(iter(self._speakers.values())))
    batch = {
      'wave': np.zeros((len(rows), width), np.float32),
      'samples': np.zeros(len(rows), np.int32),
      'tokens': np.zeros((len(rows), places), np.int32),
      'token_counts': np.zeros(len(rows), np.int32),
      'speaker': np.zeros((len(rows), size), np.float32),
      'weights': np.zeros(len(rows), np.float32),
    }
    for row, item in enumerate(rows):
      wave = self._recordings.read(item.utterance)
      if wave is None:
        continue
      wave = wave[: item.samples]
      batch['wave'][row, : len(wave)] = wave
      batch['samples'][row] = len(wave)
      batch['tokens'][row, : len(item.ids)] = item.ids
      batch['token_counts'][row] = len(item.ids)
      batch['speaker'][row] = self._speakers[item.utterance.id]
      batch['weights'][row] = 1.0
    return batch

  def row_ids(self, step: int) -> list[str]:
    """Which utterances a step's batch holds."""
    rows, _ = self._order.rows(step, 0, self.batch_size)
    return [row.utterance.id for row in rows]

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    kept = [item for bucket in self._order.buckets for item in bucket]
    rate = self._mel.sample_rate
    return {
      'corpus': str(self._corpus),
      'streams': self._streams,
      'utterances': len(kept),
      'hours': round(sum(item.samples for item in kept) / rate / 3600.0, 4),
      'dropped': dict(self.dropped),
      'batch_size': self.batch_size,
      'widths': [
        round(bucket[-1].samples / rate, 2) for bucket in self._order.buckets
      ],
    }
