"""Figures that can be kept: each with all that it depends on.

A part is one figure of one checkpoint: a task (`asr`, `tts`, `sound`,
`perplexity`, `captions`) on one set of data. Its *condition* is the digest of
the data's content and of the settings that can change the figure; figures of
one condition can be compared with one another, whatever the checkpoint. With
the digest of the model it is the part's key, and what was scored under a key
is never scored again:

    RUN/evaluation/parts/<step>/<task>-<condition>-<model>.json

So several settings lie side by side, a killed sweep goes on behind its last
part, and a run that was trained anew at the same path is scored anew.
"""

import dataclasses
import pathlib
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

FOLDER = 'parts'
_SHOWN = 20  # digits of a digest in a file's name


@dataclasses.dataclass(frozen=True)
class Part:
  """One figure that is asked for, without its checkpoint.

  Attributes:
    task: Of `TASKS`.
    name: Of the set: a split, or a source of rows.
    data: Digest of what it is measured on.
    settings: JSON-able; what else decides about the figure.
  """

  task: str
  name: str
  data: str
  settings: Mapping[str, Any] = dataclasses.field(hash=False)

  @property
  def label(self) -> str:
    """As people are told of it, `asr/dev`."""
    return f'{self.task}/{self.name}'

  @property
  def rules(self) -> str:
    """Digest of the settings alone: equal ones belong on one page."""
    version = [scoring.CONVENTION, scoring.VERSION]
    return digests.of_value([self.task, version, dict(self.settings)])

  @property
  def condition(self) -> str:
    """Digest of data and settings."""
    return digests.of_value([self.name, self.data, self.rules])


class Store:
  """The parts of a run that were scored."""

  def __init__(self, run: str | pathlib.Path):
    self._folder = files.path(run) / 'evaluation' / FOLDER

  def _path(self, step: int, part: Part, model: str) -> pathlib.Path:
    name = f'{part.task}-{part.condition[:_SHOWN]}-{model[:_SHOWN]}.json'
    return self._folder / str(step) / name

  def find(self, step: int, part: Part, model: str) -> dict[str, Any] | None:
    """What was scored, or None."""
    found = _read(self._path(step, part, model))
    if found is None:
      return None
    right = found.get('condition') == part.condition
    return found if right and found.get('model') == model else None

  def of_condition(
    self, step: int, task: str, condition: str, model: str | None
  ) -> dict[str, Any] | None:
    """What was scored of a step under a condition.

    Args:
      step: Of the checkpoint.
      task: Of the part.
      condition: Of the part.
      model: Digest of the checkpoint; None where it is gone and its newest
        figure stands.
    """
    end = '*' if model is None else model[:_SHOWN]
    paths = files.glob(
      self._folder / str(step), f'{task}-{condition[:_SHOWN]}-{end}.json'
    )
    newest = max(
      paths, key=lambda path: files.state(path).changed, default=None
    )
    return None if newest is None else _read(newest)

  def save(
    self,
    step: int,
    part: Part,
    model: str,
    result: Any,
    seconds: float,
    left_out: str = '',
  ) -> dict[str, Any]:
    """Keeps a figure, atomically; returns what is kept.

    Args:
      step: Of the checkpoint.
      part: What was asked for.
      model: Digest of the checkpoint.
      result: JSON-able.
      seconds: That it took.
      left_out: Why the model cannot be scored on it; then `result` is None.
    """
    value = {
      'task': part.task,
      'name': part.name,
      'condition': part.condition,
      'rules': part.rules,
      'settings': dict(part.settings),
      'model': model,
      'seconds': round(seconds, 2),
      'result': result,
      'left_out': left_out,
    }
    files.write_json(self._path(step, part, model), value)
    return value


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  """A part; None where it is missing or broken, and so is scored again."""
  try:
    return dict(files.read_json(path)) if files.is_file(path) else None
  except (errors.UserError, TypeError, ValueError):
    return None
