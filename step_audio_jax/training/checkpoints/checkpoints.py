"""Checkpoints of a run: asynchronous, atomic, whole or ignored.

A step is up to four Orbax items: `variables` (parameters and other
collections), `optimizer`, `ema` (the mean of the parameters, where one is
kept) and `data`, one small JSON with the place in the stream of rows and the
metrics since the last log line. Orbax renames a finished step into place, or
writes the object by which it is known last (`remote`), so a kill in the middle
leaves the step before it as the newest. `sums` binds a step to its bytes;
whatever is read of it is compared with them first.
"""

import contextlib
import math
import sys
import time
from typing import Any, Iterator, Mapping

import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import failed_saves
from step_audio_jax.training.checkpoints import remote
from step_audio_jax.training.checkpoints import sums

_FOLDER = 'checkpoints'
_TEMPORARY = '.orbax-checkpoint-tmp'


class Checkpoints:
  """The checkpoints of one run.

  Attributes:
    folder: Where the steps lie.
  """

  def __init__(
    self,
    run_dir: files.Path,
    keep: int = 2,
    best: str = '',
    best_is: str = 'min',
  ):
    """Opens (and makes) the folder; what a kill left half-written goes.

    Args:
      run_dir: The run's.
      keep: Newest steps that are kept.
      best: Metric by which one more is kept; '' for none.
      best_is: 'min' or 'max'.

    Raises:
      UserError: No step can be opened; all stay in place.
    """
    self.folder = files.path(run_dir).absolute() / _FOLDER
    self._best = best
    self._last: int | None = None
    self._clear()
    self._open_all_steps()
    policies = [managers.LatestN(n=keep)]
    worst = math.inf if best_is == 'min' else -math.inf

    def metric(metrics):
      # A step that was judged by another metric is no best by this one.
      return (metrics or {}).get(best, worst)

    if best:
      policies.append(
        managers.BestN(
          get_metric_fn=metric,
          reverse=best_is == 'min',
          n=1,
          keep_checkpoints_without_metrics=False,
        )
      )
    failed_saves.silence_repeats()
    in_bucket = files.is_address(self.folder)
    self._manager = ocp.CheckpointManager(
      remote.for_orbax(self.folder),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy(policies),
        best_fn=metric if best else None,  # without it Orbax stores no metrics
        create=True,
        step_prefix=None,
        enable_async_checkpointing=True,
        temporary_path_class=(
          sums.SummedCommit if in_bucket else sums.SummedTemporaryPath
        ),
        # Where a folder cannot be made, threads that wait for it would keep
        # the process for minutes.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      ),
    )

  def _clear(self) -> None:
    """Removes half-written steps.

    Orbax would do it in a thread that outlives a run that ends at once.
    """
    if jax.process_index() == 0:
      for path in half_written(self.folder):
        files.remove_tree(path)
    _everywhere(True)

  def _open_all_steps(self) -> None:
    """Moves steps aside of which the manager would trip over."""
    steps, bad = _steps(self.folder), []
    for step in steps:
      try:
        sums.check(self.folder / str(step), ('metrics',))
        metrics = self.folder / str(step) / 'metrics' / 'metrics'
        if files.exists(metrics):  # without sums, at least its form
          files.read_json(metrics)
      except errors.UserError as error:
        files.raise_outage(error, refused=True)
        bad.append((step, _reason(error)))
    if bad and len(bad) == len(steps):
      raise self._none_readable(steps, bad[-1][1])
    _everywhere(True)
    self._put_aside(bad)

  def _none_readable(self, steps, reason) -> errors.UserError:
    return errors.UserError(
      f'{self.folder}: none of the checkpoints {steps} can be read, the '
      f'newest because: {reason}; start again in an empty run directory.'
    )

  def steps(self) -> list[int]:
    """Finished steps, ascending."""
    return sorted(self._manager.all_steps())

  def save(
    self,
    step: int,
    variables: Any,
    optimizer: Any,
    data: Any,
    ema: Any = None,
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Starts to save; returns when the arrays have been copied.

    Args:
      step: Its number.
      variables: Parameters and other collections.
      optimizer: Its state; None leaves it out.
      data: JSON-able.
      ema: Mean of the parameters; None leaves it out.
      metrics: By which the best step is found; None: this one is not asked.

    Raises:
      UserError: This step, or the one before it, could not be written; or
        there is no metric by which it could be the best.
    """
    items = {
      name: ocp.args.StandardSave(tree)
      for name, tree in _items(variables, optimizer, ema).items()
    }
    if metrics is not None and self._best:
      if self._best not in metrics:
        raise errors.UserError(
          f'loop: best is {self._best!r}, expected one of the metrics '
          f'{sorted(metrics)}.'
        )
      value = float(metrics[self._best])
      metrics = {self._best: value} if math.isfinite(value) else None
    else:
      metrics = None
    try:
      # Forced: Orbax would ask for preemption by itself, with its own vote.
      self._manager.save(
        step,
        args=ocp.args.Composite(data=ocp.args.JsonSave(data), **items),
        metrics=metrics,
        force=True,
      )
    except Exception as error:  # of this save, or of the one before it
      raise self._failed(error) from error
    self._last = step

  def check(self) -> None:
    """Raises the error of a save that has failed meanwhile, if any."""
    if self._last is None or self._manager.is_saving_in_progress():
      return
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failed(error) from error

  def close(self) -> None:
    """Waits for the save under way and raises its error, if any."""
    try:
      self._manager.wait_until_finished()
      self._manager.close()
    except Exception as error:
      raise self._failed(error) from error

  def _failed(self, error: Exception) -> errors.UserError:
    # It is told below; other processes, and jobs, may go on writing.
    if jax.process_index() == 0:
      with contextlib.suppress(errors.UserError):
        self._remove_failed()
    newest = f'{self._last}' if self._last is not None else 'the first one'
    return errors.UserError(
      f'{self.folder}: a checkpoint could not be written, {newest} or the one '
      f'behind it ({_reason(error)}); expected a folder with room in it.'
    )

  def _remove_failed(self, seconds: float = 10.0) -> None:
    """Removes half-written steps after an error: room for what comes next.

    Orbax raises the first error while writers of other items are under way,
    which make their folders again; so until none comes back.
    """
    deadline, gone = time.monotonic() + seconds, 0
    while gone < 4 and time.monotonic() < deadline:
      halves = list(half_written(self.folder))
      for half in halves:
        files.remove_tree(half)
      gone = 0 if halves else gone + 1
      time.sleep(0.1)

  def restore(
    self, variables: Any, optimizer: Any, ema: Any = None
  ) -> tuple[int, Any, Any, Any, Any] | None:
    """The newest whole step, onto the shapes and shardings of the arguments.

    Steps that cannot be read are moved aside, with a warning that names them,
    and the one before them is taken.

    Returns:
      (step, variables, optimizer, ema, data), or None where there is no step.

    Raises:
      UserError: There are steps, and none can be read, or their store does not
        answer; all stay in place.
    """
    steps, unreadable = self.steps(), []
    items = _items(variables, optimizer, ema)
    for step in reversed(steps):
      try:
        sums.check(self.folder / str(step), part=_part())
        reason = ''
      except errors.UserError as error:
        files.raise_outage(error, refused=True)
        reason = _reason(error)
      if not _everywhere(not reason):
        unreadable.append((step, reason or 'another process could not'))
        continue
      try:
        out = self._manager.restore(
          step,
          args=ocp.args.Composite(
            data=ocp.args.JsonRestore(),
            **{k: ocp.args.StandardRestore(v) for k, v in items.items()},
          ),
        )
        reason = ''
      except Exception as error:  # Orbax raises many types for a cut file
        files.raise_outage(error, refused=True)
        reason = _reason(error)
        if remote.is_outage(error):
          raise errors.UserError(
            f'{self.folder / str(step)}: cannot be read now: {reason}; nothing '
            'was changed, start again when its store answers.'
          ) from error
      if _everywhere(not reason):
        self._put_aside(unreadable)
        if unreadable:
          self._manager.reload()
        state = (out.get(k) for k in ('variables', 'optimizer', 'ema', 'data'))
        return step, *state
      unreadable.append((step, reason or 'another process could not'))
    if steps:
      raise self._none_readable(steps, unreadable[0][1])
    return None

  def _put_aside(self, unreadable) -> None:
    if not unreadable:
      return
    if jax.process_index() == 0:
      for step, reason in unreadable:
        aside = self.folder.parent / f'unreadable-checkpoint-{step}'
        files.remove_tree(aside)
        files.move(self.folder / str(step), aside)
        print(
          f'warning: checkpoint {self.folder / str(step)} cannot be read '
          f'({reason}); moved to {aside}, the one before it is taken.',
          file=sys.stderr,
          flush=True,
        )
    _everywhere(True)


def _items(variables, optimizer, ema):
  items = {'variables': variables, 'optimizer': optimizer, 'ema': ema}
  return {name: tree for name, tree in items.items() if tree is not None}


def _everywhere(well: bool) -> bool:
  """Whether all processes are well; they wait for one another."""
  if jax.process_count() == 1:
    return well
  return bool(multihost_utils.process_allgather(np.asarray(well)).all())


def _part() -> tuple[int, int]:
  """Which of how many processes this is."""
  return jax.process_index(), jax.process_count()


def _reason(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0].rstrip('.')


def all_steps(run_dir: files.Path) -> list[int]:
  """Finished steps of a run, ascending.

  Raises:
    UserError: The run has no checkpoint.
  """
  folder = files.path(run_dir) / _FOLDER
  steps = steps_of(run_dir)
  if not steps:
    raise errors.UserError(
      f'{run_dir}: no finished checkpoint in {folder}; expected a run '
      'directory made by `python -m step_audio_jax train`.'
    )
  return steps


def steps_of(run_dir: files.Path) -> list[int]:
  """Finished steps of a run, ascending; none where it has none yet."""
  return _steps(files.path(run_dir) / _FOLDER)


def _steps(folder: files.AnyPath) -> list[int]:
  if isinstance(folder, files.Address):
    whole = files.glob(folder, f'*/{remote.COMMIT}')
    return sorted(
      int(path.parent.name) for path in whole if path.parent.name.isdigit()
    )
  return sorted(
    int(path.name)
    for path in (files.list_folder(folder) if files.is_dir(folder) else ())
    if path.name.isdigit() and files.is_dir(path)
  )


def half_written(folder: files.AnyPath) -> Iterator[files.AnyPath]:
  """What a kill or a failure left of steps that were being saved.

  Args:
    folder: Of the steps.
  """
  yield from files.glob(folder, f'*{_TEMPORARY}*')
  if isinstance(folder, files.Address):
    whole = _steps(folder)
    for path in files.glob(folder, '*'):
      if path.name.isdigit() and int(path.name) not in whole:
        yield path


def step_folder(
  run_dir: files.Path, step: int | None, ema: bool = False
) -> tuple[files.AnyPath, int]:
  """(folder of a step, its number); the newest if `step` is None.

  Raises:
    UserError: There is no such step, or no mean where `ema` asks for one.
  """
  steps = all_steps(run_dir)
  step = steps[-1] if step is None else step
  if step not in steps:
    raise errors.UserError(
      f'{run_dir}: no checkpoint of step {step}; it has {steps}.'
    )
  folder = files.path(run_dir).absolute() / _FOLDER / str(step)
  if ema and not files.is_dir(folder / 'ema'):
    raise errors.UserError(
      f'{folder}: has no mean of the parameters, expected the run of a '
      'LoopConfig with ema_decay.'
    )
  return folder, step


def load_variables(
  run_dir: files.Path, step: int | None = None, ema: bool = False
) -> tuple[dict[str, Any], int]:
  """Parameters and other collections of a run, as numpy arrays.

  Args:
    run_dir: A run directory.
    step: Which step; None means the newest.
    ema: Whether the mean of the parameters takes their place.

  Returns:
    (variables, step).

  Raises:
    UserError: There is no such step, or it cannot be read, or it has no mean.
  """
  folder, step = step_folder(run_dir, step, ema)
  verify(folder, ema)
  if not ema:
    return _load(folder / 'variables'), step
  variables = _load(folder / 'variables', without='params')
  return {**variables, 'params': _load(folder / 'ema')}, step


def verify(folder: files.AnyPath, ema: bool = False) -> None:
  """Compares the parameters of a step with its checksums.

  Where a program runs in several processes all must call this: they share the
  reading, and all raise what one of them finds.

  Raises:
    UserError: They are not the bytes that were saved.
  """
  reason = ''
  try:
    items = ('variables', 'ema') if ema else ('variables',)
    sums.check(folder, items, _part())
  except errors.UserError as error:
    reason = _reason(error)
  if not _everywhere(not reason):
    raise errors.UserError(
      f'{folder / "variables"}: cannot be read as a checkpoint: '
      f'{reason or "another process could not"}; take another step, or bring '
      'the file back from a copy.'
    )


def _load(path: files.AnyPath, without: str = '') -> dict[str, Any]:
  """An item as numpy arrays; the sub-tree `without` is not read."""
  path = remote.for_orbax(path)
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      tree = dict(checkpointer.metadata(path).item_metadata.tree)
    if without:
      tree[without] = jax.tree.map(lambda _: ocp.PLACEHOLDER, tree[without])
    with ocp.PyTreeCheckpointer() as checkpointer:
      return checkpointer.restore(
        path,
        item=tree,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
        ),
      )
  except Exception as error:
    raise errors.UserError(
      f'{path}: cannot be read as a checkpoint: {_reason(error)}.'
    ) from error


def run_config(run_dir: files.Path) -> dict[str, Any]:
  """The `config.json` of a run.

  Raises:
    UserError: It is missing or unreadable.
  """
  path = files.path(run_dir) / 'config.json'
  reason = 'is no JSON object'
  try:
    value = files.read_json(path)
    if isinstance(value, dict):
      return value
  except errors.UserError as error:
    reason = _reason(error)
  raise errors.UserError(
    f'{path}: cannot be read ({reason}); expected a run directory made by '
    '`python -m step_audio_jax train`, which writes it again.'
  )
