"""Processes here that share work, and end with the one that began it."""

import concurrent.futures
from concurrent.futures import process as pools
import multiprocessing
import os
import threading
from typing import Any, Callable, Iterator, Sequence

from step_audio_jax import errors

_KILLED = (
  '--processes: a process that works here ended before its work, killed most '
  'often for too little memory; what is finished is kept, and the same command '
  'continues.'
)


def spread(
  function: Callable[..., Any], jobs: Sequence[tuple], processes: int
) -> Iterator[Any]:
  """Yields `function(*job)` as they finish; one process works in place.

  Raises:
    UserError: A process ended before its work; or what `function` raises.
  """
  if processes <= 1 or len(jobs) <= 1:
    for job in jobs:
      yield function(*job)
    return
  with concurrent.futures.ProcessPoolExecutor(
    min(processes, len(jobs)),
    multiprocessing.get_context('spawn'),
    initializer=_end_with_parent,
  ) as pool:
    futures = [pool.submit(function, *job) for job in jobs]
    try:
      for future in concurrent.futures.as_completed(futures):
        yield future.result()
    except pools.BrokenProcessPool as error:
      raise errors.UserError(_KILLED) from error
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def _end_with_parent() -> None:
  """A process whose parent was killed would go on beside whoever comes next."""

  def watch():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
