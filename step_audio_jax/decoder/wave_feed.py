"""Crops of waveforms with their F0, a pure function of (seed, step).

One crop of each utterance an epoch (`training.crops`). Only the crop and a
margin around it are read: a row costs the same whatever the length of its
recording.

Axes: B rows, S samples of a crop, T frames of it.
"""

import collections
import math
import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax import manifest
from step_audio_jax.audio import pitch as pitch_lib
from step_audio_jax.audio import vocoder_mel
from step_audio_jax.training import crops
from step_audio_jax.training import recordings

# What the resampler and the pitch tracker see beyond both ends of a crop.
_MARGIN_SECONDS = 0.1


class WaveFeed:
  """Crops for the objective of the vocoder.

  Utterances without audio are left out, with a count in `describe()`. One
  that is shorter than a crop is followed by silence. An unreadable file
  becomes a row of weight 0 and is told once on stderr.

  Attributes:
    batch_size: Rows of a batch.
    dropped: Reason → number of utterances left out.
    quarantine: {id: reason} of files that could not be read so far.
  """

  def __init__(
    self,
    *,
    corpus: str | os.PathLike,
    batch_size: int,
    frames: int,
    mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel(),
    pitch: pitch_lib.PitchConfig = pitch_lib.PitchConfig(),
    splits: Collection[str] = ('train',),
    seed: int = 0,
  ):
    """Reads the manifest.

    Args:
      corpus: Corpus folder.
      batch_size: Rows of a batch.
      frames: Length T of a crop.
      mel: Says the sample rate and the samples of a frame.
      pitch: Numbers of the F0 tracker.
      splits: Which splits.
      seed: Of the order and of the places.

    Raises:
      UserError: The manifest is bad, a parameter is, or nothing is left.
    """
    for name, value in (('batch_size', batch_size), ('frames', frames)):
      if value < 1:
        raise errors.UserError(f'feed: {name} is {value}, expected >= 1.')
    samples = frames * mel.hop
    if samples <= mel.edge:
      raise errors.UserError(
        f'feed: crops of {frames} frames have {samples} samples, expected more '
        f'than the {mel.edge} that the mel reflects.'
      )
    self.batch_size = batch_size
    self.dropped = collections.Counter()
    self._corpus, self._mel, self._pitch = corpus, mel, pitch
    self._frames, self._samples, self._seed = frames, samples, seed
    self._margin = math.ceil(_MARGIN_SECONDS * mel.sample_rate / mel.hop)
    self._recordings = recordings.Recordings(corpus, mel.sample_rate)
    self.quarantine = self._recordings.quarantine
    utterances = []
    for utterance in manifest.read(corpus, splits=splits, kind='speech'):
      if utterance.audio is None:
        self.dropped['no audio'] += 1
      else:
        utterances.append(utterance)
    if not utterances:
      raise errors.UserError(
        f'{manifest.path_of(corpus)}: nothing to train on in '
        f'{", ".join(splits)}; left out: {dict(self.dropped)}.'
      )
    self._crops = crops.Crops(utterances, batch_size, seed)

  def __len__(self) -> int:
    """Batches of an epoch."""
    return len(self._crops)

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step.

    Returns:
      wave float32 (B, S), f0 float32 (B, T) in Hz with 0 where unvoiced,
      weights float32 (B,), 0 for unreadable files.
    """
    stop = self.batch_size if stop is None else stop
    batch = {
      'wave': np.zeros((stop - start, self._samples), np.float32),
      'f0': np.zeros((stop - start, self._frames), np.float32),
      'weights': np.zeros(stop - start, np.float32),
    }
    for row in range(stop - start):
      crop = self._crop(*self._crops.row(step, start + row))
      if crop is None:
        continue
      wave_S, f0_T = crop
      batch['wave'][row, : len(wave_S)] = wave_S
      batch['f0'][row, : len(f0_T)] = f0_T
      batch['weights'][row] = 1.0
    return batch

  def row_ids(self, step: int) -> list[str]:
    """Which utterances a step's batch holds."""
    return self._crops.row_ids(step)

  def _crop(self, utterance, share):
    """Samples and F0 of a crop, or None where the file cannot be read."""
    rate, hop = self._mel.sample_rate, self._mel.hop
    total = int(utterance.duration * rate) // hop
    first = int(share * (max(0, total - self._frames) + 1))
    before = min(first, self._margin)
    wave_S = self._recordings.read(
      utterance,
      (first - before) * hop / rate,
      (before + self._frames + self._margin) * hop / rate,
    )
    if wave_S is None:
      return None
    f0_T = pitch_lib.track(wave_S, rate, hop, self._pitch)[before:]
    wave_S = wave_S[before * hop :]
    return wave_S[: self._samples], f0_T[: self._frames]

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    utterances = self._crops.utterances
    seconds = sum(utterance.duration for utterance in utterances)
    return {
      'corpus': str(self._corpus),
      'utterances': len(utterances),
      'hours': round(seconds / 3600.0, 4),
      'dropped': dict(self.dropped),
      'batch_size': self.batch_size,
      'crop_seconds': round(self._samples / self._mel.sample_rate, 3),
      'seed': self._seed,
    }
