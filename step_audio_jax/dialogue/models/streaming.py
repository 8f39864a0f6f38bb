"""An engine as asynchronous code sees it, and work that is none of its own."""

import asyncio
import concurrent.futures
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
  """Threads for what computes outside the engine: codes and sound."""

  def __init__(self, threads: int = 2):
    """Starts none before there is work."""
    self._pool = concurrent.futures.ThreadPoolExecutor(threads, 'hands')

  async def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, computed elsewhere."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._pool, function, *arguments)

  def close(self) -> None:
    """Ends the threads; what waits is dropped."""
    self._pool.shutdown(wait=True, cancel_futures=True)
