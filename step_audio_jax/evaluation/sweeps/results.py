"""Where the scores of a run lie, and which of them are of its training."""

import pathlib
from typing import Any

from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints as checkpoints_lib

FOLDER = 'evaluation'


def result_path(run: str | pathlib.Path, step: int) -> pathlib.Path:
  """Where the scores of a step lie."""
  return files.path(run) / FOLDER / f'{step}.json'


def all_results(run: str | pathlib.Path) -> dict[int, dict[str, Any]]:
  """Every score file of a run by step, ascending; empty if there is none."""
  return {
    step: files.read_json(result_path(run, step)) for step in scored_steps(run)
  }


def steps_behind(run: str | pathlib.Path) -> list[int]:
  """Scored steps that the run has not come to: it was trained anew since."""
  newest = max(checkpoints_lib.steps_of(run), default=None)
  if newest is None:
    return []
  return [step for step in scored_steps(run) if step > newest]


def scored_steps(run: str | pathlib.Path) -> list[int]:
  """Steps that have a score file, ascending."""
  paths = files.glob(files.path(run) / FOLDER, '*.json')
  return sorted(int(path.stem) for path in paths if path.stem.isdigit())
