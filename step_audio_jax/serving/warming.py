"""A server that can be asked how it is before its models are there."""

import asyncio
import json
from typing import Any, Callable

from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import gate

_HEALTH = '/health'


class Warming:
  """An ASGI application that becomes another one.

  Attributes:
    error: Why it never will; None as long as it may.
  """

  def __init__(
    self,
    make: Callable[[], gate.Gate],
    done: Callable[[BaseException | None], None] = lambda error: None,
  ):
    """Nothing is loaded yet.

    Args:
      make: Loads models and makes the application; in a thread.
      done: Told when it has, or what went wrong.
    """
    self._make, self._done = make, done
    self._inner: gate.Gate | None = None
    self._task: asyncio.Task | None = None
    self.error: BaseException | None = None

  @property
  def admission(self) -> admission_lib.Admission | None:
    """Of the application, once it is there."""
    return self._inner.admission if self._inner is not None else None

  async def __call__(self, scope, receive, send) -> None:
    """A request, or the life of the server."""
    if scope['type'] == 'lifespan':
      await self._live(receive, send)
    elif self._inner is not None:
      await self._inner(scope, receive, send)
    elif scope['type'] == 'websocket':
      await receive()
      await send({'type': 'websocket.close', 'code': 1013})
    else:
      await _refuse(scope, send)

  async def _live(self, receive, send) -> None:
    await receive()
    self._task = asyncio.create_task(self._load())
    await send({'type': 'lifespan.startup.complete'})
    await receive()
    self._task.cancel()
    await asyncio.gather(self._task, return_exceptions=True)
    await send({'type': 'lifespan.shutdown.complete'})

  async def _load(self) -> None:
    try:
      self._inner = await asyncio.to_thread(self._make)
    except Exception as error:
      self.error = error
    self._done(self.error)


async def _refuse(scope, send) -> None:
  """503: a probe is told the state, all others are told to wait."""
  body: Any = {'status': admission_lib.WARMING}
  if scope['path'] != _HEALTH:
    body = faults.busy('The server is warming up; try again later.').body
  raw = json.dumps(body).encode()
  headers = {
    'content-type': 'application/json',
    'content-length': str(len(raw)),
    **faults.retry_after(2),
  }
  pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
  await send({'type': 'http.response.start', 'status': 503, 'headers': pairs})
  await send({'type': 'http.response.body', 'body': raw})
