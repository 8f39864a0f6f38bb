"""Which checkpoints of a run are scored, now or as they are written."""

import dataclasses
import pathlib
import time
from typing import Callable, Collection, Iterator, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints

Steps = str | int | Sequence[int]
_ALL, _LAST, _EVERY = 'all', 'last', 'every:'


@dataclasses.dataclass(frozen=True)
class Choice:
  """Steps that are meant.

  Attributes:
    named: By number; empty where a rule says which.
    every: Multiples of it; 1 is all.
    last: Only the newest.
  """

  named: tuple[int, ...] = ()
  every: int = 1
  last: bool = False

  @classmethod
  def parse(cls, steps: Steps) -> 'Choice':
    """Of 'all', 'last', 'every:N', one number, or several ('10,20', a list).

    Raises:
      UserError: It is none of these.
    """
    if steps == _ALL:
      return cls()
    if steps == _LAST:
      return cls(last=True)
    told = steps
    if isinstance(steps, int):
      steps = [steps]
    try:
      if isinstance(steps, str) and steps.startswith(_EVERY):
        every = int(steps.removeprefix(_EVERY))
        if every < 1:
          raise ValueError
        return cls(every=every)
      if isinstance(steps, str):
        steps = steps.split(',')
      named = tuple(sorted({int(step) for step in steps}))
      if not named or named[0] < 0:
        raise ValueError
      return cls(named=named)
    except ValueError as error:
      raise errors.UserError(
        f"evaluate: steps is {told!r}, expected 'all', 'last' or numbers such "
        "as '10,20', or 'every:N' for the multiples of N."
      ) from error

  def of(self, known: Sequence[int]) -> list[int]:
    """Those among steps that there are, ascending."""
    if self.last:
      return list(known[-1:])
    if self.named:
      return [step for step in known if step in self.named]
    return [step for step in known if step % self.every == 0]

  def is_met(self, seen: Collection[int]) -> bool:
    """Whether no other step can come."""
    return bool(self.named) and set(self.named) <= set(seen)


def choose_steps(run: pathlib.Path, steps: Steps) -> list[int]:
  """The steps that are meant and there, ascending.

  Raises:
    UserError: `steps` is not understood, or a step has no checkpoint.
  """
  choice = Choice.parse(steps)
  known = checkpoints.all_steps(run)
  wanted = choice.of(known)
  missing = [step for step in choice.named if step not in known]
  if missing or not wanted:
    told = ', '.join(map(str, missing)) or steps
    raise errors.UserError(
      f'{run}: no checkpoint of step {told}; it has '
      f'{", ".join(map(str, known))}.'
    )
  return wanted


def watch(
  run: pathlib.Path,
  steps: Steps,
  pause: float,
  wait: Callable[[float], None] = time.sleep,
) -> Iterator[list[int]]:
  """New steps of a run as they are finished, until the run is over.

  A checkpoint that is still being written is not there yet. The run is over
  when its `done.json` is there, or all steps that were named are.

  Args:
    run: Run directory; it may have no checkpoint so far.
    steps: As in `Choice.parse`; of 'last' the newest of each look.
    pause: Seconds between looks where nothing is new.
    wait: Waits that long.

  Raises:
    UserError: `steps` is not understood.
  """
  choice, seen = Choice.parse(steps), set()
  while True:
    # In this order: a run writes it behind its last checkpoint.
    over = files.is_file(run / 'done.json')
    fresh = [s for s in choice.of(checkpoints.steps_of(run)) if s not in seen]
    if fresh:
      seen.update(fresh)
      yield fresh
    elif over or choice.is_met(seen):
      return
    else:
      wait(pause)
