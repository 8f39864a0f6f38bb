"""Crops of recordings with their speakers, a pure function of (seed, step).

Every epoch shows one crop of each utterance, at a place that changes with the
epoch; a shorter utterance stands whole, with its own length.
"""

import collections
import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax import manifest
from step_audio_jax.audio import io
from step_audio_jax.decoder import speaker
from step_audio_jax.training import crops
from step_audio_jax.training import recordings


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


class SpeakerFeed:
  """Crops for `speaker_objective.SpeakerAAM`.

  Left out, with counts in `describe()`: utterances without audio or speaker,
  and those that are too short to hear who speaks. An unreadable file becomes
  a row of weight 0 and is told once on stderr.

  Attributes:
    batch_size: Rows of a batch.
    dropped: Reason → number of utterances left out.
    quarantine: {id: reason} of files that could not be read so far.
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
    if batch_size < 1:
      raise errors.UserError(
        f'feed: batch_size is {batch_size}, expected >= 1.'
      )
    if seconds < speaker.SHORTEST:
      raise errors.UserError(
        f'feed: seconds is {seconds}, expected >= {speaker.SHORTEST}.'
      )
    self.batch_size = batch_size
    self.dropped = collections.Counter()
    self._corpus, self._seconds, self._seed = corpus, seconds, seed
    self._classes = {name: place for place, name in enumerate(speakers)}
    self._recordings = recordings.Recordings(corpus)
    self.quarantine = self._recordings.quarantine
    utterances = []
    for utterance in manifest.read(corpus, splits=splits, kind='speech'):
      reason = self._reason(utterance)
      if reason:
        self.dropped[reason] += 1
      else:
        utterances.append(utterance)
    if not utterances:
      raise errors.UserError(
        f'{manifest.path_of(corpus)}: nothing to train on in '
        f'{", ".join(splits)}; left out: {dict(self.dropped)}.'
      )
    self._crops = crops.Crops(utterances, batch_size, seed)

  def _reason(self, utterance) -> str:
    """Why an utterance is left out; '' if it is not."""
    if utterance.audio is None:
      return 'no audio'
    if not utterance.speaker:
      return 'no speaker'
    if utterance.speaker not in self._classes:
      return 'a speaker without a class'
    if utterance.duration < speaker.SHORTEST:
      return f'shorter than {speaker.SHORTEST} s'
    return ''

  def __len__(self) -> int:
    """Batches of an epoch."""
    return len(self._crops)

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step.

    Returns:
      wave float32 (B, S) at 16 kHz, samples int32 (B,), speakers int32 (B,),
      weights float32 (B,), 0 for unreadable files.
    """
    stop = self.batch_size if stop is None else stop
    count, width = stop - start, round(self._seconds * io.SAMPLE_RATE)
    batch = {
      'wave': np.zeros((count, width), np.float32),
      'samples': np.zeros(count, np.int32),
      'speakers': np.zeros(count, np.int32),
      'weights': np.zeros(count, np.float32),
    }
    for row in range(count):
      utterance, share = self._crops.row(step, start + row)
      room = max(0.0, utterance.duration - self._seconds)
      wave_S = self._recordings.read(utterance, share * room, self._seconds)
      if wave_S is None:
        continue
      wave_S = wave_S[:width]
      batch['wave'][row, : len(wave_S)] = wave_S
      batch['samples'][row] = len(wave_S)
      batch['speakers'][row] = self._classes[utterance.speaker]
      batch['weights'][row] = 1.0
    return batch

  def row_ids(self, step: int) -> list[str]:
    """Which utterances a step's batch holds."""
    return self._crops.row_ids(step)

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    utterances = self._crops.utterances
    seconds = sum(utterance.duration for utterance in utterances)
    return {
      'corpus': str(self._corpus),
      'utterances': len(utterances),
      'speakers': len({u.speaker for u in utterances}),
      'hours': round(seconds / 3600.0, 4),
      'dropped': dict(self.dropped),
      'batch_size': self.batch_size,
      'crop_seconds': self._seconds,
      'seed': self._seed,
    }
