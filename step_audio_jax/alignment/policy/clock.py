"""Where the time of a step goes, without making anything wait.

Devices work through what they are given in order. A phase took from when it
was given, or from when the one before was done, to when its result was there:

    seconds = done - max(given, done of the phase before)

Results are waited for in a thread of their own, so that what is dispatched
ahead stays ahead.
"""

from concurrent import futures
import time
from typing import Any

import jax

STEP = 'step'


class Clock:
  """Seconds of the phases of steps."""

  def __init__(self):
    self._waiter = futures.ThreadPoolExecutor(1, 'clock')
    self._ended = {}  # whether a phase or a whole step → when the last was done
    self._taken: list[tuple[int, str, futures.Future[float]]] = []

  def until(self, step: int, name: str, given: float, result: Any) -> None:
    """A phase on the devices.

    Args:
      step: Of the run, from 0.
      name: Of the phase; `STEP` for the step as a whole.
      given: When it was dispatched, of `time.monotonic`.
      result: Arrays that are there at its end, and are never given away.
    """
    self._taken.append(
      (step, name, self._waiter.submit(self._wait, name, given, result))
    )

  def _wait(self, name, given, result) -> float:
    jax.block_until_ready(result)
    now, whole = time.monotonic(), name == STEP
    given = max(given, self._ended.get(whole, given))
    self._ended[whole] = now
    return now - given

  def spent(self, step: int, name: str, seconds: float) -> None:
    """A phase on the host that took so long."""
    done: futures.Future[float] = futures.Future()
    done.set_result(seconds)
    self._taken.append((step, name, done))

  def read(self, stop: int) -> dict[str, float]:
    """Mean seconds of each phase since the last reading.

    Args:
      stop: Steps before this one are read; their results are waited for.

    Returns:
      `time/PHASE`, and `time/rollout_share`, which is that of the rollout in
      the whole step.
    """
    now = [entry for entry in self._taken if entry[0] < stop]
    self._taken = [entry for entry in self._taken if entry[0] >= stop]
    steps = max(1, len({step for step, _, _ in now}))
    found: dict[str, float] = {}
    for _, name, seconds in now:
      name = f'time/{name}'
      found[name] = found.get(name, 0.0) + seconds.result() / steps
    whole = found.get(f'time/{STEP}')
    if whole:
      found['time/rollout_share'] = found.get('time/rollout', 0.0) / whole
    return found
