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
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation import conventions
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.judges import llm_judge
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
    judge: A language model behind an address.
    ear: An outside recogniser (`metrics.judge`).
    speaker: Folder of a speech decoder, whose speaker encoder tells voices
      apart; the similarity is named by it.
    quality: Whether the quality of sounds is measured (extra `quality`).
  """

  conventions: tuple[str, ...] = ('plain',)
  judge: llm_judge.Judge | None = None
  ear: ear_lib.JudgeConfig | None = None
  speaker: str | None = None
  quality: bool = False

  def __post_init__(self):
    names = self.conventions
    if not names or len(set(names)) < len(names):
      raise errors.UserError(
        f'means: conventions: found {tuple(names)}, expected at least one name '
        'of docs/conventions.md, each once.'
      )

  def described_by(self, memory: identity.DigestCache) -> dict[str, Any]:
    """All that decides about figures: JSON-able."""
    told: dict[str, Any] = {
      'conventions': [
        [name, conventions.find(name).version] for name in self.conventions
      ]
    }
    if self.judge is not None:
      told['judge'] = [self.judge.model.identity, self.judge.votes]
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
    for name in self.conventions:
      conventions.find(name)
    if self.ear is not None and (place := self._place()) is not None:
      judge_folder.check_model(
        place,
        judge_folder.sums(place)[judge_folder.MODEL],
        self.ear.sha256,
      )

  def build(
    self, sounds: str | os.PathLike, judged: str | os.PathLike
  ) -> benchmark.Means:
    """All of it, each part loaded where it is first used.

    Args:
      sounds: Folder that the files of answers are relative to.
      judged: Folder of what the judge says, unless it has its own.
    """
    absent: dict[str, str] = {}
    sounds = files.path(sounds)
    judge = self.judge
    if judge is not None and not judge.kept:
      judge = dataclasses.replace(judge, kept=str(judged))
    return benchmark.Means(
      conventions=self.conventions,
      judge=judge,
      ear=self._ear(sounds, absent),
      similarity=self.speaker and _Similarity(self.speaker, sounds),
      quality=_Quality(sounds) if self.quality else None,
      sounds=str(sounds),
      absent=absent,
    )

  def described(self) -> list[str]:
    """Who judges, in words."""
    told = []
    if self.judge is not None:
      told.append(f'{self.judge.model.name}, {self.judge.votes} votes a row')
    if self.ear is not None and (place := self._place()) is not None:
      told.append(f'{place.name}, heard by faster-whisper')
    return told

  def _place(self) -> judge_folder.Place | None:
    try:
      return judge_folder.locate(self.ear.model, self.ear.cache)
    except ear_lib.NotInstalledError:
      return None

  def _ear(self, sounds, absent) -> '_Ear | None':
    if self.ear is None:
      return None
    try:
      place = judge_folder.locate(self.ear.model, self.ear.cache)
      ear_lib.check_library()
    except ear_lib.NotInstalledError as error:
      absent['ear'] = str(error).removeprefix('judge: ').rstrip('.')
      return None
    return _Ear(place, self.ear, sounds)


@dataclasses.dataclass(frozen=True)
class _Ear:
  """What an outside recogniser understands of a file of sound."""

  place: judge_folder.Place
  config: ear_lib.JudgeConfig
  sounds: files.AnyPath

  @property
  def name(self) -> str:
    return f'{self.place.name} ({self.config.compute})'

  @functools.cached_property
  def _judge(self) -> ear_lib.Judge:
    return ear_lib.Judge(self.place, self.config)

  def __call__(self, wav: str, language: str) -> str:
    return self._judge.hear(io.read_audio(self.sounds / wav)[0], language)


@dataclasses.dataclass(frozen=True)
class _Similarity:
  """Cosine of the speakers of a file of sound and of a recording."""

  folder: str
  sounds: files.AnyPath

  @property
  def name(self) -> str:
    return f'speaker encoder of {files.path(self.folder).name}'

  def __call__(self, wav: str, speech: chats_lib.Speech) -> float:
    source = speech.data if speech.data is not None else speech.path
    name = speech.path or speech.id
    embed = _embedder(self.folder)
    return distances.cosine(
      embed(io.read_audio(self.sounds / wav)[0]),
      embed(io.read_audio(source, name=name, **speech.part)[0]),
    )


@dataclasses.dataclass(frozen=True)
class _Quality:
  """Figures of a file of sound."""

  sounds: files.AnyPath
  name: str = 'evaluation.quality'

  def __call__(self, wav: str) -> Mapping[str, Any]:
    from step_audio_jax.evaluation.quality import quality
    from step_audio_jax.evaluation.quality import sources

    wave_S, rate = sources.load(self.sounds / wav)
    return quality.measure(wave_S, rate, groups=quality.ALONE, name=wav)


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
