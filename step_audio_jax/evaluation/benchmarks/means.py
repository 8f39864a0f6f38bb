"""What scoring may use beside references: conventions, judges, an outside ear.

Each is named in gin, or is not there: then the figures that need it are not
computed, with the reason, and no other takes its place. All of them stand
beside every figure that they made.
"""

import dataclasses
import functools
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

  def described_by(self, memory: identity.DigestCache) -> dict[str, Any]:
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

  def check(self) -> None:
    """Finds out now what is wrong with what is named.

    Raises:
      UserError: A convention is unknown, or the ear is another than was asked.
    """
    from step_audio_jax.evaluation import conventions

    for name in self.conventions:
      conventions.find(name)
    if self.ear is not None and (place := self._place()) is not None:
      judge_folder.check_model(
        place,
        judge_folder.sums(place)[judge_folder.MODEL],
        self.ear.sha256,
      )

  def build(
    self, sounds: str | os.PathLike, memory: identity.DigestCache
  ) -> benchmark.Means:
    """All of it, each part loaded where it is first used.

    Args:
      sounds: Folder that the files of answers are relative to.
      memory: Of digests.
    """
    del memory
    absent: dict[str, str] = {}
    return benchmark.Means(
      conventions=self.conventions,
      judge=self.judge,
      ear=self._hearing(files.path(sounds), absent),
      similarity=self._similarity(files.path(sounds)),
      quality=self._quality(files.path(sounds)),
      sounds=str(sounds),
      absent=absent,
    )

  def described(self) -> list[str]:
    """Who judges, in words."""
    told = []
    if self.judge is not None:
      told.append(str(self.judge))
    if self.ear is not None and (place := self._place()) is not None:
      told.append(f'{place.name}, heard by faster-whisper')
    return told

  def _place(self) -> judge_folder.Place | None:
    try:
      return judge_folder.locate(self.ear.model, self.ear.cache)
    except ear_lib.NotInstalledError:
      return None

  def _hearing(self, sounds, absent) -> Callable[[str, str], str] | None:
    if self.ear is None:
      return None
    try:
      place = judge_folder.locate(self.ear.model, self.ear.cache)
      ear_lib.check_library()
    except ear_lib.NotInstalledError as error:
      absent['ear'] = str(error).removeprefix('judge: ').rstrip('.')
      return None
    held: list[ear_lib.Judge] = []

    def hear(wav: str, language: str) -> str:
      if not held:
        held.append(ear_lib.Judge(place, self.ear))
      return held[0].hear(io.read_audio(sounds / wav)[0], language)

    return hear

  def _similarity(self, sounds) -> Callable[[str, Any], float] | None:
    if self.speaker is None:
      return None
    embed = _embedder(self.speaker)

    def similarity(wav: str, speech: Any) -> float:
      """Cosine of a file of sound and of a recording."""
      source = speech.data if speech.data is not None else speech.path
      one_S, two_S = (
        io.read_audio(sounds / wav)[0],
        io.read_audio(source, name=speech.path or speech.id)[0],
      )
      return distances.cosine(embed(one_S), embed(two_S))

    return similarity

  def _quality(self, sounds) -> Callable[[str], Mapping[str, float]] | None:
    if not self.quality:
      return None
    from step_audio_jax.evaluation import quality

    def measure(wav: str) -> Mapping[str, float]:
      return quality.measure(*io.read_audio(sounds / wav))

    return measure


@functools.cache
def _embedder(folder: str) -> Callable[[np.ndarray], np.ndarray]:
  """The speaker encoder of a speech decoder.

  Raises:
    UserError: It has none.
  """
  from step_audio_jax.decoder import speech as decoder_lib

  encoder = decoder_lib.SpeechDecoder.load(folder).speaker
  if encoder is None:
    raise errors.UserError(
      f'{folder}: found no speaker encoder, expected a decoder that has one.'
    )
  return encoder.embed
