"""Bodies of requests: counted as they come, and given so much time.

What is announced too large is refused before a byte of it is read; what grows
too large, when it does; what comes drop by drop, when its time is over.
"""

import asyncio
from typing import Any, Awaitable, Callable, Mapping

from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import settings as settings_lib

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Body:
  """`receive` of one request, with limits."""

  def __init__(
    self,
    receive: Receive,
    headers: Mapping[str, str],
    settings: settings_lib.Settings,
    admission: admission_lib.Admission,
  ):
    """Looks at what is announced.

    Raises:
      Fault: 413; or 400, if the announcement is none.
    """
    self._receive, self._settings = receive, settings
    self._admission = admission
    self._size, self._began, self._is_whole = 0, None, False
    length = headers.get('content-length')
    if length is None:
      return
    if not length.isascii() or not length.isdigit():
      raise faults.invalid(
        f'content-length: found {length!r:.40}, expected a whole number.'
      )
    if int(length[:20]) > settings.most_bytes:
      raise self._too_large()

  async def receive(self) -> Mapping[str, Any]:
    """The next part.

    Raises:
      Fault: 413, 408, or 503 where all bodies together are too large.
    """
    if self._is_whole:
      return await self._receive()
    loop = asyncio.get_running_loop()
    if self._began is None:
      self._began = loop.time()
    allowed = self._size / self._settings.least_rate
    deadline = self._began + self._settings.body_seconds + allowed
    try:
      async with asyncio.timeout_at(deadline):
        message = await self._receive()
    except TimeoutError as error:
      raise faults.Fault(
        408,
        'The body of the request came too slowly.',
        code='request_time_out',
        headers={'connection': 'close'},
      ) from error
    if message['type'] == 'http.request':
      count = len(message.get('body', b''))
      if self._size + count > self._settings.most_bytes:
        raise self._too_large()
      self._admission.hold(count)
      self._size += count
      self._is_whole = not message.get('more_body', False)
    return message

  def release(self) -> None:
    """The request is over: its bytes are held no more."""
    self._admission.hold(-self._size)
    self._size = 0

  def _too_large(self) -> faults.Fault:
    most = self._settings.most_bytes
    return faults.Fault(
      413,
      f'The body of the request is too large: expected {most} bytes at most.',
      code='body_too_large',
      headers={'connection': 'close'},
    )
