"""Checkpoints of a run: asynchronous, atomic, whole or ignored.

A step is three Orbax items: `variables` (parameters and other collections),
`optimizer`, and `data`, one small JSON whose integer is the whole state of the
data pipeline. Orbax renames a finished step into place, so a kill in the
middle leaves the step before it as the newest.
"""

import json
import pathlib
import shutil
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from step_audio_jax import errors

_FOLDER = 'checkpoints'


class Checkpoints:
  """The checkpoints of one run.

  Attributes:
    folder: Where the steps lie.
  """

  def __init__(self, run_dir: str | pathlib.Path, keep: int = 2):
    """Opens (and makes) the folder; the newest `keep` steps are kept."""
    self.folder = pathlib.Path(run_dir).absolute() / _FOLDER
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        step_prefix=None,
        enable_async_checkpointing=True,
      ),
    )

  def steps(self) -> list[int]:
    """Finished steps, ascending."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, variables: Any, optimizer: Any, data: Any) -> None:
    """Starts to save; returns when the arrays have been copied.

    An error of the save before this one is raised here.
    """
    self._manager.save(
      step,
      args=ocp.args.Composite(
        variables=ocp.args.StandardSave(variables),
        optimizer=ocp.args.StandardSave(optimizer),
        data=ocp.args.JsonSave(data),
      ),
    )

  def restore(
    self, variables: Any, optimizer: Any
  ) -> tuple[int, Any, Any, Any] | None:
    """The newest whole step, onto the shapes and shardings of the arguments.

    A step that cannot be read is moved aside, with a warning that names it,
    and the one before it is taken.

    Returns:
      (step, variables, optimizer, data), or None where there is no step.

    Raises:
      UserError: There are steps, and none can be read.
    """
    steps = self.steps()
    for step in reversed(steps):
      try:
        out = self._manager.restore(
          step,
          args=ocp.args.Composite(
            variables=ocp.args.StandardRestore(variables),
            optimizer=ocp.args.StandardRestore(optimizer),
            data=ocp.args.JsonRestore(),
          ),
        )
        return step, out['variables'], out['optimizer'], out['data']
      except Exception as error:  # Orbax raises many types for a cut file
        aside = self.folder.parent / f'unreadable-checkpoint-{step}'
        shutil.rmtree(aside, ignore_errors=True)
        shutil.move(self.folder / str(step), aside)
        self._manager.reload()
        reason = str(error).splitlines()[0] if str(error) else type(error)
        print(
          f'warning: checkpoint {self.folder / str(step)} cannot be read '
          f'({reason}); moved to {aside}, trying the one before it.',
          file=sys.stderr,
          flush=True,
        )
    if steps:
      raise errors.UserError(
        f'{self.folder}: none of the checkpoints {steps} can be read; '
        'start again in an empty run directory.'
      )
    return None

  def close(self) -> None:
    """Waits for the save under way and raises its error, if any."""
    self._manager.wait_until_finished()
    self._manager.close()


def all_steps(run_dir: str | pathlib.Path) -> list[int]:
  """Finished steps of a run, ascending.

  Raises:
    UserError: The run has no checkpoint.
  """
  folder = pathlib.Path(run_dir) / _FOLDER
  steps = sorted(
    int(path.name)
    for path in (folder.iterdir() if folder.is_dir() else ())
    if path.name.isdigit() and path.is_dir()
  )
  if not steps:
    raise errors.UserError(
      f'{run_dir}: no finished checkpoint in {folder}; expected a run '
      'directory made by `python -m step_audio_jax train`.'
    )
  return steps


def load_variables(
  run_dir: str | pathlib.Path, step: int | None = None
) -> tuple[dict[str, Any], int]:
  """Parameters and other collections of a run, as numpy arrays.

  Args:
    run_dir: A run directory.
    step: Which step; None means the newest.

  Returns:
    (variables, step).

  Raises:
    UserError: There is no such step, or it cannot be read.
  """
  steps = all_steps(run_dir)
  step = steps[-1] if step is None else step
  if step not in steps:
    raise errors.UserError(
      f'{run_dir}: no checkpoint of step {step}; it has {steps}.'
    )
  path = pathlib.Path(run_dir).absolute() / _FOLDER / str(step) / 'variables'
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      shapes = checkpointer.metadata(path).item_metadata.tree
    with ocp.PyTreeCheckpointer() as checkpointer:
      tree = checkpointer.restore(
        path,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes
        ),
      )
  except Exception as error:
    reason = str(error).splitlines()[0] if str(error) else type(error)
    raise errors.UserError(
      f'{path}: cannot be read as a checkpoint: {reason}.'
    ) from error
  return tree, step


def run_config(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """The `config.json` of a run.

  Raises:
    UserError: It is missing or unreadable.
  """
  path = pathlib.Path(run_dir) / 'config.json'
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, json.JSONDecodeError) as error:
    raise errors.UserError(
      f'{path}: cannot be read ({error}); expected a run directory made by '
      '`python -m step_audio_jax train`.'
    ) from error
