"""Which parts an evaluation asks for, and their scoring, by families."""

import time
from typing import Any, Iterable, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import asking as asking_lib
from step_audio_jax.evaluation.benchmarks import benchmark as benchmark_lib
from step_audio_jax.evaluation.benchmarks import family as benchmark_family
from step_audio_jax.evaluation.benchmarks import means as means_lib
from step_audio_jax.evaluation.families import captions
from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.families import rows
from step_audio_jax.evaluation.families import speech as speech_family
from step_audio_jax.evaluation.families import stranger
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.memory import parts as parts_lib
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.evaluation.sweeps import published as published_lib

Part = parts_lib.Part


class Plan:
  """What is asked for, read once for all checkpoints.

  Attributes:
    families: Of figures, in the order in which they are scored and shown.
    published: Figure → what others say of themselves.
  """

  def __init__(
    self,
    settings: Mapping[str, Any],
    speech: speech_lib.SpeechConfig,
    sound: sound_lib.SoundConfig | None,
    judge: judge_lib.JudgeConfig | None,
    memory: identity.DigestCache,
    benchmarks: Sequence[benchmark_lib.Benchmark] = (),
    asking: asking_lib.Asking = asking_lib.Asking(),
    means: means_lib.MeansConfig = means_lib.MeansConfig(),
    run: Any = None,
    more: Sequence[family_lib.Family] = (),
  ):
    """Of data nothing is read yet.

    Args:
      settings: Arguments of `evaluate.evaluate`.
      speech: How speech is decoded.
      sound: What makes codes sound, or None.
      judge: An outside ear, or None.
      memory: Of digests.
      benchmarks: That are asked.
      asking: How they are.
      means: What scoring their answers may use.
      run: Run directory, where answers lie.
      more: Families that somebody else knows.

    Raises:
      UserError: The judge is broken, or two families score the same.
    """
    corpus = None
    if settings['manifest'] is not None:
      corpus = identity.Corpus(settings['manifest'], settings['codes'], memory)
    spoken = speech_family.Speech(settings, speech, sound, corpus, memory)
    # Whoever knows another family adds a line.
    self.families: list[family_lib.Family] = [
      spoken,
      stranger.Ear(settings, judge, sound, corpus, memory, spoken),
      rows.Rows(settings, memory),
      captions.Captions(settings, memory),
      benchmark_family.Benchmarks(benchmarks, asking, means, run, memory),
      *more,
    ]
    self.published = {
      f'{one.name}/{name}': found
      for one in benchmarks
      for name, found in published_lib.of(one).items()
    }
    self._of_task: dict[str, family_lib.Family] = {}
    for family in self.families:
      for task in family.tasks:
        if self._of_task.setdefault(task, family) is not family:
          raise errors.UserError(
            f'evaluate: families: found two that score {task!r}, expected one.'
          )

  def family(self, task: str) -> family_lib.Family | None:
    """Whose parts are of a task; None where nobody knows it."""
    return self._of_task.get(task)

  def parts(self) -> list[Part]:
    """All that is asked for, each once.

    Raises:
      UserError: Data of it are missing.
    """
    return list(dict.fromkeys(p for f in self.families for p in f.parts()))

  def again(self, task: str, name: str) -> Part | None:
    """A part that is not asked for, under the settings that are.

    Returns:
      None where nothing says what they are, or its set is there no more.
    """
    family = self.family(task)
    return family and family.again(task, name)

  def not_computed(self) -> dict[str, str]:
    """Figure → why there is none."""
    return {k: v for f in self.families for k, v in f.not_computed().items()}

  def notes(self) -> list[str]:
    """What was found out about the data."""
    return [note for family in self.families for note in family.notes()]

  def prepare(self, missing: Iterable[Part]) -> None:
    """Loads what may turn out broken, before anything is scored.

    Args:
      missing: What is going to be scored.

    Raises:
      UserError: A judge or a model cannot be loaded.
    """
    missing = list(missing)
    for family in self.families:
      if mine := [part for part in missing if part.task in family.tasks]:
        family.prepare(mine)

  def score(
    self,
    checkpoint: family_lib.Checkpoint,
    held: Mapping[Part, Mapping[str, Any] | None],
    store: parts_lib.Store,
  ) -> dict[Part, Mapping[str, Any]]:
    """Scores what is missing of a checkpoint, and keeps each part at once.

    Args:
      checkpoint: That is scored; loaded only where a family needs it.
      held: Part → what was scored before, or None.
      store: Gets what is scored.

    Returns:
      All parts.

    Raises:
      CheckpointError: It cannot be read.
      UserError: Data cannot be read.
    """
    found = dict(held)

    def keep(part, began, result, left_out=''):
      found[part] = store.save(
        checkpoint.step,
        part,
        checkpoint.digest,
        result,
        time.monotonic() - began,
        left_out,
      )

    for family in self.families:
      mine = [p for p, k in held.items() if not k and p.task in family.tasks]
      if mine:
        _score(family, checkpoint, mine, found, keep)
    return found


def _score(family, checkpoint, parts, held, keep) -> None:
  """Scores parts; those that want another kind of model are left out."""
  try:
    family.score(checkpoint, parts, held, keep)
  except family_lib.OtherModelError as error:
    rest = [part for part in parts if not held[part]]
    if len(rest) == 1:
      keep(rest[0], time.monotonic(), None, str(error))
      return
    for part in rest:  # some may want none
      _score(family, checkpoint, [part], held, keep)
