"""Being asked to stop: SIGTERM lets the step under way end, saves and leaves.

Every process notes the signal for itself. Where there are several, their notes
travel with the step as one more input and come back as its maximum, with the
metrics: so all learn of it at the same step, wherever it arrived, and no step
waits for anything it did not wait for before.

The exit status of a run that saved and left is 75, the EX_TEMPFAIL of
sysexits(3): the same command continues to the same bits.
"""

import signal
import threading
from typing import Any

import jax
import numpy as np

EXIT_STATUS = 75


class Preempted(Exception):
  """The run was asked to stop, and saved.

  Attributes:
    step: The step that it saved.
  """

  def __init__(self, step: int):
    super().__init__(f'stopped by SIGTERM after step {step}, which is saved')
    self.step = step


class Watch:
  """Notes SIGTERM from entering to leaving; a second one changes nothing."""

  def __init__(self, mesh: jax.sharding.Mesh):
    """A watch over the processes of a mesh."""
    self._noted = False
    self._before: Any = None
    self._shared = jax.process_count() > 1
    self._flags: list[jax.Array] = []
    if self._shared:
      # Both made once: a step takes one or the other, and nothing is copied.
      sharding = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec(mesh.axis_names)
      )
      shape = (mesh.devices.size,)
      self._flags = [
        jax.make_array_from_callback(
          shape, sharding, lambda index, note=note: note[index]
        )
        for note in (np.zeros(shape, np.int32), np.ones(shape, np.int32))
      ]

  def __enter__(self) -> 'Watch':
    # Python lets only the main thread handle signals.
    if threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *error) -> None:
    if threading.current_thread() is threading.main_thread():
      # None: the handler that was there is not Python's.
      signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

  def _note(self, number, frame) -> None:
    del number, frame
    self._noted = True

  def marked(self, batch: Any) -> Any:
    """The batch, with this process's note where others must hear of it."""
    if not self._shared:
      return batch
    return {**batch, 'stop': self._flags[self._noted]}

  def asked(self, stop: Any) -> bool:
    """Whether to stop; the same in every process.

    Args:
      stop: What a step made of all notes; None if none was read.
    """
    if not self._shared:
      return self._noted
    return stop is not None and bool(stop)
