"""A reward for speech: what a recogniser understands of it.

    1 - min(1, character errors)

of the text that was to be said. The recogniser is a run of this project that
writes down codes, the policy's own start for one; where answers are speech, TTS
is aligned with this (CosyVoice 2 and others do the same with outside
recognisers).
"""

import dataclasses
import functools
from typing import Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.generation import restore


@dataclasses.dataclass(frozen=True)
class Understood:
  """Scores spoken answers by their character errors.

  Attributes:
    run: Run that writes down.
    streams: Which codes it hears, of `documents.STREAMS`.
    batch_size: Answers that are heard at once.
  """

  run: str
  streams: str = documents_lib.BOTH
  batch_size: int = 32

  @functools.cached_property
  def _ear(self):
    model, variables, vocabulary = restore.load_model(self.run)
    config = speech_lib.SpeechConfig(
      batch_size=self.batch_size, streams=self.streams
    )
    ear = speech_lib.Speaker(
      restore.unroll_layers(model),
      variables,
      vocabulary,
      config,
      shows_progress=False,
    )
    return ear, vocabulary

  def __call__(self, samples: Sequence[sample_lib.Sample]) -> list[float]:
    ear, vocabulary = self._ear
    spoken, places = [], []
    for place, one in enumerate(samples):
      ids = np.asarray(one.ids)
      speech = vocabulary.is_linguistic(ids) | vocabulary.is_semantic(ids)
      ids = documents_lib.in_streams(vocabulary, ids[speech], self.streams)
      if len(ids) and one.expected:
        spoken.append(ids)
        places.append(place)
    found = [0.0 if one.expected else float('nan') for one in samples]
    if not spoken:
      return found
    for place, text in zip(places, ear.transcribe(spoken), strict=True):
      one = samples[place]
      wrong = scoring.count(one.expected, text, one.language)
      found[place] = 1.0 - min(1.0, wrong.rate)
    return found
