"""Crops of recordings with their speakers, a pure function of (seed, step).

Every epoch shows one crop of each utterance, at a place that changes with the
epoch; a shorter utterance stands whole, with its own length.
"""

import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import encoder
from step_audio_jax.training.feeds import crops
from step_audio_jax.training.feeds import recording_feed


def speakers_of(
  corpus: str | os.PathLike, splits: Collection[str] = ('train',)
) -> tuple[str, ...]:
  """The speakers of a corpus, sorted.

  Raises:
    UserError: The manifest is bad, or fewer than two are known.
  """
  utterances = manifest.read(corpus, splits=splits, kind='speech')
  found = {u.speaker for u in utterances if u.speaker and u.audio is not None}
  if len(found) < 2:
    raise errors.UserError(
      f'{manifest.path_of(corpus)}: speaker: found {len(found)} different in '
      f'{", ".join(splits)}, expected at least 2 to tell apart.'
    )
  return tuple(sorted(found))


class SpeakerFeed(recording_feed.RecordingFeed[manifest.Utterance]):
  """Crops for `decoder.speaker.objective.SpeakerAAM`.

  Batches hold wave float32 (B, S) at 16 kHz, samples int32 (B,), speakers
  int32 (B,) and weights float32 (B,).

  Left out as well: utterances without speaker, and those that are too short to
  hear who speaks.
  """

  def __init__(
    self,
    *,
    corpus: str | os.PathLike,
    speakers: Collection[str],
    batch_size: int,
    seconds: float = 3.0,
    splits: Collection[str] = ('train',),
    seed: int = 0,
  ):
    """Reads the manifest.

    Args:
      corpus: Corpus folder.
      speakers: Names in the order of the objective's classes.
      batch_size: Rows of a batch.
      seconds: Length of a crop.
      splits: Which splits.
      seed: Of the order and of the places.

    Raises:
      UserError: The manifest is bad, a parameter is, or nothing is left.
    """
    super().__init__(corpus, batch_size, seed)
    if seconds < encoder.SHORTEST:
      raise errors.UserError(
        f'feed: seconds is {seconds}, expected >= {encoder.SHORTEST}.'
      )
    self._seconds = seconds
    self._classes = {name: place for place, name in enumerate(speakers)}
    self._order = crops.Crops(
      self._select(splits, self._item), batch_size, seed
    )

  def _item(self, utterance):
    if not utterance.speaker:
      return 'no speaker'
    if utterance.speaker not in self._classes:
      return 'a speaker without a class'
    if utterance.duration < encoder.SHORTEST:
      return f'shorter than {encoder.SHORTEST} s'
    return utterance

  @property
  def _width(self):
    return round(self._seconds * io.SAMPLE_RATE)

  def _arrays(self, bucket):
    return {
      'wave': (np.float32, self._width),
      'samples': (np.int32,),
      'speakers': (np.int32,),
    }

  def _row(self, item, bucket):
    utterance = item.utterance
    room = max(0.0, utterance.duration - self._seconds)
    wave_S = self._recordings.read(utterance, item.share * room, self._seconds)
    if wave_S is None:
      return None
    wave_S = wave_S[: self._width]
    return {
      'wave': wave_S,
      'samples': len(wave_S),
      'speakers': self._classes[utterance.speaker],
    }

  def _used(self, item):
    return self._classes[item.speaker]

  def settings(self) -> dict[str, Any]:
    """What decides which utterance comes when; a resume compares it."""
    return super().settings() | {
      'crop_seconds': self._seconds,
    }

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    return super().describe() | {
      'speakers': len({u.speaker for u in self._kept}),
      'crop_seconds': self._seconds,
    }
