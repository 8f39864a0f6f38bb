"""Crops of waveforms with their F0, a pure function of (seed, step).

One crop of each utterance an epoch (`training.feeds.crops`). Only the crop and
a margin around it are read: a row costs the same whatever the length of its
recording.

Axes: B rows, S samples of a crop, T frames of it.
"""

import dataclasses
import math
import os
from typing import Any, Collection

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import pitch as pitch_lib
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import crops
from step_audio_jax.training.feeds import recording_feed

# What the resampler and the pitch tracker see beyond both ends of a crop.
_MARGIN_SECONDS = 0.1


class WaveFeed(recording_feed.RecordingFeed[manifest.Utterance]):
  """Crops for the objective of the vocoder.

  Batches hold wave float32 (B, S), f0 float32 (B, T) in Hz with 0 where
  unvoiced, and weights float32 (B,). An utterance that is shorter than a crop
  is followed by silence.
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
    super().__init__(corpus, batch_size, seed, mel.sample_rate)
    self._at_least_one(frames=frames)
    samples = frames * mel.hop
    if samples <= mel.edge:
      raise errors.UserError(
        f'feed: crops of {frames} frames have {samples} samples, expected more '
        f'than the {mel.edge} that the mel reflects.'
      )
    self._mel, self._pitch = mel, pitch
    self._frames, self._samples = frames, samples
    self._margin = math.ceil(_MARGIN_SECONDS * mel.sample_rate / mel.hop)
    utterances = self._select(splits, lambda utterance: utterance)
    self._order = crops.Crops(utterances, batch_size, seed)

  def _arrays(self, bucket):
    return {
      'wave': (np.float32, self._samples),
      'f0': (np.float32, self._frames),
    }

  def _row(self, item, bucket):
    rate, hop = self._mel.sample_rate, self._mel.hop
    total = int(item.utterance.duration * rate) // hop
    first = int(item.share * (max(0, total - self._frames) + 1))
    before = min(first, self._margin)
    wave_S = self._recordings.read(
      item.utterance,
      (first - before) * hop / rate,
      (before + self._frames + self._margin) * hop / rate,
    )
    if wave_S is None:
      return None
    f0_T = pitch_lib.track(wave_S, rate, hop, self._pitch)[before:]
    wave_S = wave_S[before * hop :]
    return {'wave': wave_S[: self._samples], 'f0': f0_T[: self._frames]}

  def settings(self) -> dict[str, Any]:
    """What decides which utterance comes when; a resume compares it."""
    return super().settings() | {
      'frames': self._frames,
      'mel': dataclasses.asdict(self._mel),
      'pitch': dataclasses.asdict(self._pitch),
    }

  def describe(self) -> dict[str, Any]:
    """Sizes and what was left out; for the run's `config.json`."""
    seconds = self._samples / self._mel.sample_rate
    return super().describe() | {'crop_seconds': round(seconds, 3)}
