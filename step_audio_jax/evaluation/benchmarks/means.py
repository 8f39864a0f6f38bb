"""What scoring may use beside references: conventions, judges, an outside ear.

Each is named in gin, or is not there: then the figures that need it are not
computed, with the reason, and no other takes its place. All of them stand beside
every figure that they made.
"""

import dataclasses
import os
from typing import Any, Callable, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import distances
from step_audio_jax.evaluation.metrics import judge as ear_lib
from step_audio_jax.evaluation.metrics import judge_folder
from step_audio_jax.storage import files


@dataclasses.dataclass(frozen=True)
class MeansConfig:
  """What is named.

  Attributes:
    conventions: Of texts that are compared, the first for headlines.
    judge: `judges.Judge`, a language model behind an address.
    ear: An outside recogniser (`metrics.judge`).
    speaker: Folder of a speech decoder, whose speaker encoder tells voices
      apart; the similarity is named by it.
    quality: Whether the quality of sounds is measured (extra `quality`).
  """

  conventions: tuple[str, ...] = ('plain',)
  judge: Any = None
  ear: ear_lib.JudgeConfig | None = None
  speaker: str | None = None
  quality: bool = False

  def identity(self, memory: identity.DigestCache) -> dict[str, Any]:
    """All that decides about figures: JSON-able."""
    from step_audio_jax.evaluation import conventions

    told: dict[str, Any] = {
      'conventions': [
        [name, conventions.find(name).version] for name in self.conventions
      ]
    }
    if self.judge is not None:
      told['judge'] = self.judge.identity
    if self.ear is not None and (place := self._place()) is not None:
      told['ear'] = judge_folder.sums(place, memory.file)
    if self.speaker is not None:
      told['speaker'] = memory.tree(self.speaker)
    told['quality'] = self.quality
    return told
