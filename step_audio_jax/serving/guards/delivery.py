"""Replies on their way: who has gone costs nothing, who is slow is waited for.

The iterator behind a reply is closed as soon as its reader hangs up, whatever
it is waiting for. Nothing is made ahead of a reader but what the socket holds:
`send` waits while it is full (and `connections` hangs up on a reader that takes
nothing).
"""

import asyncio
import contextlib
from typing import Any, AsyncIterator, Awaitable, Callable, Coroutine, TypeVar

_T = TypeVar('_T')


class Gone(Exception):
  """Nobody is there any more who wants the reply."""


async def unless_gone(
  receive: Callable[[], Awaitable[Any]], work: Coroutine[Any, Any, _T]
) -> _T:
  """The result of some work, which is cancelled if the client hangs up.

  Args:
    receive: Of a request whose body was read.
    work: Whatever makes the reply.

  Raises:
    Gone: It did.
  """
  task = asyncio.ensure_future(work)
  watch = asyncio.ensure_future(_hung_up(receive))
  try:
    await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
      raise Gone
    return task.result()
  finally:
    await _end(task, watch)


class Streamed:
  """A reply in pieces, sent as they are made.

  Nothing is sent before the first piece is there, so that what goes wrong
  until then has a status of its own.
  """

  def __init__(
    self,
    pieces: AsyncIterator[bytes],
    media_type: str,
    *,
    told: Callable[[Exception], bytes] | None = None,
    seconds: float | None = None,
  ):
    """Sends nothing yet.

    Args:
      pieces: Of the body; closed whatever happens.
      media_type: Of it.
      told: What is sent in the end where something goes wrong on the way;
        without it the connection is cut, which every client notices.
      seconds: Of all of it; None is no limit.
    """
    self._pieces, self._media_type = pieces, media_type
    self._told, self._seconds = told, seconds

  async def __call__(self, scope, receive, send) -> None:
    """An ASGI reply."""
    del scope
    try:
      await unless_gone(receive, self._sent(send))
    finally:
      await close(self._pieces)

  async def _sent(self, send) -> None:
    async def start():
      headers = [
        (b'content-type', self._media_type.encode('latin-1')),
        (b'cache-control', b'no-store'),
        (b'x-accel-buffering', b'no'),  # proxies would gather it
      ]
      await send(
        {'type': 'http.response.start', 'status': 200, 'headers': headers}
      )

    async def part(body, more=True):
      message = {'type': 'http.response.body', 'body': body, 'more_body': more}
      await send(message)
      # To one who has gone, all can be sent without a wait: whoever watches
      # for that gets its turn here.
      await asyncio.sleep(0)

    has_begun = False
    try:
      async with asyncio.timeout(self._seconds):
        async for piece in self._pieces:
          if not has_begun:
            has_begun = True
            await start()
          if piece:
            await part(piece)
    except Exception as error:
      if not has_begun or self._told is None:
        raise
      await part(self._told(error))
    if not has_begun:
      await start()
    await part(b'', more=False)


async def close(iterator: Any) -> None:
  """Ends an asynchronous iterator, if it can be."""
  if (aclose := getattr(iterator, 'aclose', None)) is not None:
    await aclose()


@contextlib.asynccontextmanager
async def closing(iterator: AsyncIterator[_T]):
  """An iterator that is closed behind the block."""
  try:
    yield iterator
  finally:
    await close(iterator)


async def _hung_up(receive) -> None:
  while (await receive())['type'] != 'http.disconnect':
    pass


async def _end(*tasks: asyncio.Future) -> None:
  """Cancels what is under way, and waits until it has let go."""
  for task in tasks:
    task.cancel()
  await asyncio.gather(*tasks, return_exceptions=True)
