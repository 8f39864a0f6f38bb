"""An engine as asynchronous code sees it, and work that is none of its own."""

import asyncio
import concurrent.futures
import functools
import heapq
import itertools
import threading
import time
from typing import Any, AsyncIterator, Callable

from step_audio_jax.generation.batching import engine as engine_lib


class Answer:
  """The ids of one request, as they are drawn.

  Attributes:
    ticket: Of the engine.
    why: Why it ended; None before.
  """

  def __init__(self, engine: engine_lib.Engine, request: engine_lib.Request):
    """Submits it; of a running event loop.

    Raises:
      UserError: It does not fit.
      Busy: There is no room.
    """
    loop = asyncio.get_running_loop()
    self._queue: asyncio.Queue = asyncio.Queue()
    self.why: str | None = None

    def put(value):
      loop.call_soon_threadsafe(self._queue.put_nowait, value)

    self.ticket = engine.submit(
      request, put, lambda why, error: put((why, error))
    )

  async def __aiter__(self) -> AsyncIterator[list[int]]:
    """Ids, one or more at a time.

    Whoever leaves early gives the request up.

    Raises:
      Exception: What the engine failed with.
    """
    try:
      while True:
        got = await self._queue.get()
        if isinstance(got, tuple):
          self.why, error = got
          if error is not None:
            raise error
          return
        yield got
    finally:
      if self.why is None:
        self.ticket.cancel()


class Hands:
  """Threads for what computes outside the engine: codes and sound.

  What is due first is done first: sound that somebody waits for goes ahead of
  sound that is played later.
  """

  def __init__(self, threads: int = 2):
    """Starts none before there is work."""
    self._pool = concurrent.futures.ThreadPoolExecutor(threads, 'hands')
    self._lock = threading.Lock()
    self._numbers = itertools.count()
    self._waiting: list[tuple[float, int, concurrent.futures.Future, Any]] = []

  async def do(
    self, function: Callable[..., Any], *arguments: Any, by: float = 0.0
  ) -> Any:
    """What a function gives, computed elsewhere.

    Args:
      function: It.
      *arguments: Of it.
      by: When it is due, seconds of `time.monotonic`; 0 is at once.
    """
    future: concurrent.futures.Future = concurrent.futures.Future()
    call = functools.partial(function, *arguments)
    with self._lock:
      heapq.heappush(self._waiting, (by, next(self._numbers), future, call))
    self._pool.submit(self._do_next)
    return await asyncio.wrap_future(future)

  def _do_next(self) -> None:
    with self._lock:
      _, _, future, call = heapq.heappop(self._waiting)
    if not future.set_running_or_notify_cancel():
      return
    try:
      future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - told to who waits
      future.set_exception(error)

  def close(self) -> None:
    """Ends the threads; what waits is dropped."""
    self._pool.shutdown(wait=True, cancel_futures=True)
    for _, _, future, _ in self._waiting:
      future.cancel()
    self._waiting.clear()


class Playing:
  """When what is made next has to be there, if it is played as it comes.

  Attributes:
    by: Seconds of `time.monotonic`; 0, at once, as long as nothing is made.
  """

  def __init__(self):
    """Nothing is made yet."""
    self.by = 0.0

  def add(self, seconds: float) -> None:
    """So much more is made."""
    if seconds:
      self.by = max(self.by, time.monotonic()) + seconds
