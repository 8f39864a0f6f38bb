"""Scorers of recorded dialogues by name."""

from typing import Any

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues import examiner
from step_audio_jax.evaluation.dialogues import overlap
from step_audio_jax.evaluation.dialogues import takeover
from step_audio_jax.evaluation.dialogues import tools
from step_audio_jax.evaluation.dialogues import turns

BENCHMARKS: dict[str, type[base.Benchmark]] = {
  one.name: one
  for one in (
    takeover.FullDuplexBench1,
    overlap.FullDuplexBench15,
    examiner.FullDuplexBench2,
    tools.FullDuplexBench3,
    turns.TurnBench,
  )
}


def find(name: str) -> type[base.Benchmark]:
  """The scorer of a name.

  Raises:
    UserError: There is none.
  """
  if name not in BENCHMARKS:
    raise errors.UserError(
      f'dialogues: found benchmark {name!r}, expected one of '
      f'{", ".join(BENCHMARKS)}.'
    )
  return BENCHMARKS[name]


def score_folder(
  name: str, folder: str, outputs: str = '', **settings: Any
) -> dict[str, Any]:
  """Scores what a system did; see `base.Benchmark.score`.

  Args:
    name: Of `BENCHMARKS`.
    folder: Of the benchmark's public layout.
    outputs: Of the system's recordings; '' is `folder`.
    **settings: Fields of the benchmark's class.

  Raises:
    UserError: No such benchmark or setting, or a folder is not what it is
      said to be.
  """
  return find(name)(folder, outputs, **settings).score()
