"""Waveforms with their codes and speakers, for training a flow.

Utterances are sorted into buckets by length (`training.feeds.buckets`). A
waveform is cut to the mel frames that its codes stand for, so that both sides
of the flow end at the same time.

Axes: B rows, S samples, N ids, D speaker embedding.
"""

import dataclasses
import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.decoder.speaker import embeddings as embeddings_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.training.feeds import buckets as buckets_lib
from step_audio_jax.training.feeds import recording_feed

# Mixed ids begin with the linguistic ones: a vocabulary without text.
_IDS = vocabulary_lib.Vocabulary(text_size=0)
STREAMS = ('dual', 'semantic')


@dataclasses.dataclass(frozen=True)
class _Item:
  utterance: manifest.Utterance
  ids: np.ndarray
  samples: int


class FlowFeed(recording_feed.RecordingFeed[_Item]):
  """Batches for the objectives of the flows.

  They hold wave float32 (B, S) at the mel's rate, samples int32 (B,), tokens
  int32 (B, N), token_counts int32 (B,), speaker float32 (B, D) and weights
  float32 (B,).

  `speech_tokenizer` is the one whose codes they are, as `bindings` has it.

  Left out as well: utterances without codes or embedding, longer than
  `max_seconds`, or too short for a mel.
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
    super().__init__(corpus, batch_size, seed, mel.sample_rate)
    self._at_least_one(buckets=buckets)
    self._mel, self._streams, self._max_seconds = mel, streams, max_seconds
    self._speakers = embeddings_lib.read(embeddings)
    self.speech_tokenizer = bindings.of_codes(codes)
    table = speech_codes.read_codes(codes)
    items = self._select(splits, lambda one: self._item(one, table))
    self._order = buckets_lib.Buckets(items, buckets, batch_size, seed)
    self._places = [
      max(len(item.ids) for item in bucket) for bucket in self._order.buckets
    ]

  def _item(self, utterance, codes):
    if utterance.id not in codes:
      return 'no codes'
    if utterance.id not in self._speakers:
      return 'no speaker embedding'
    if utterance.duration > self._max_seconds:
      return f'longer than {self._max_seconds:g} s'
    linguistic, semantic = codes[utterance.id]
    if self._streams == 'dual':
      ids = _IDS.interleave(linguistic, semantic)
      seconds = len(ids) / vocabulary_lib.GROUP * vocabulary_lib.GROUP_SECONDS
    else:
      ids = semantic.astype(np.int32)
      seconds = len(ids) * vocabulary_lib.GROUP_SECONDS / 3
    rate, hop = self._mel.sample_rate, self._mel.hop
    samples = int(min(utterance.duration, seconds) * rate) // hop * hop
    if samples <= self._mel.edge:
      return 'too short'
    return _Item(utterance, np.asarray(ids, np.int32), samples)

  def _arrays(self, bucket):
    return {
      'wave': (np.float32, self._order.longest(bucket)),
      'samples': (np.int32,),
      'tokens': (np.int32, self._places[bucket]),
      'token_counts': (np.int32,),
      'speaker': (np.float32, len(next(iter(self._speakers.values())))),
    }

  def _row(self, item, bucket):
    wave = self._recordings.read(item.utterance)
    if wave is None:
      return None
    wave = wave[: item.samples]
    return {
      'wave': wave,
      'samples': len(wave),
      'tokens': item.ids,
      'token_counts': len(item.ids),
      'speaker': self._speakers[item.utterance.id],
    }

  def _used(self, item):
    voice = self._speakers[item.utterance.id]
    return digests.of_bytes(item.ids.tobytes() + voice.tobytes())

  def settings(self) -> dict[str, Any]:
    """What decides which utterance comes when; a resume compares it."""
    return super().settings() | {
      'streams': self._streams,
      'mel': dataclasses.asdict(self._mel),
      'buckets': len(self._order.buckets),
    }

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    return super().describe() | {
      'streams': self._streams,
      'widths': self._order.widths(self._mel.sample_rate),
    }
