"""Connections and the life of a server, where uvicorn leaves them open.

A head that comes drop by drop, a reader that takes nothing, more connections
than can be served: all are hung up on. On SIGTERM the server stays reachable,
refuses what is new, and ends when what is under way has, or after
`drain_seconds`.
"""

import asyncio
import functools
import json
import logging
import signal

import h11
import uvicorn
from uvicorn.protocols.http import h11_impl

from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import settings as settings_lib

_MOST_HEAD = 2**16  # bytes
# What uvicorn says of requests that are none, of sockets that are refused, and
# of replies that something ended.
_THEIRS = (
  'Invalid HTTP request received.',
  'ASGI callable returned without completing handshake.',
  'ASGI callable returned without completing response.',
)
_KEPT = 15  # seconds that a connection may do nothing


class Connection(h11_impl.H11Protocol):
  """One connection, in a hurry."""

  def __init__(self, settings: settings_lib.Settings, **given):
    """As uvicorn makes them."""
    super().__init__(**given)
    self._settings = settings
    self._head: asyncio.TimerHandle | None = None
    self._stuck: asyncio.TimerHandle | None = None

  def connection_made(self, transport) -> None:
    super().connection_made(transport)
    if len(self.connections) > self._settings.most_connections:
      transport.abort()
      return
    self._await_head()

  def data_received(self, data: bytes) -> None:
    if self.conn.their_state is h11.IDLE and self._head is None:
      self._await_head()
    super().data_received(data)
    if self.conn.their_state is not h11.IDLE:
      self._head = _ended(self._head)

  def on_response_complete(self) -> None:
    super().on_response_complete()
    # The beginning of another head may have come with what was answered.
    waits = self.conn.their_state is h11.IDLE and self._head is None
    if waits and self.conn.trailing_data[0] and not self.transport.is_closing():
      self._await_head()

  def handle_websocket_upgrade(self, event) -> None:
    self._head = _ended(self._head)
    super().handle_websocket_upgrade(event)

  def pause_writing(self) -> None:
    super().pause_writing()
    self._await_reader()

  def resume_writing(self) -> None:
    super().resume_writing()
    self._stuck = _ended(self._stuck)

  def timeout_keep_alive_handler(self) -> None:
    super().timeout_keep_alive_handler()
    self._await_reader()  # of what may still lie in the socket

  def connection_lost(self, exc) -> None:
    self._head, self._stuck = _ended(self._head), _ended(self._stuck)
    super().connection_lost(exc)

  def send_400_response(self, msg: str) -> None:
    body = json.dumps(faults.invalid(msg, code='invalid_http').body).encode()
    headers = [
      (b'content-type', b'application/json'),
      (b'content-length', str(len(body)).encode()),
      (b'connection', b'close'),
    ]
    if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
      for one in (
        h11.Response(status_code=400, headers=headers, reason=b'Bad Request'),
        h11.Data(data=body),
        h11.EndOfMessage(),
      ):
        self.transport.write(self.conn.send(one))
    self.transport.close()

  def _await_head(self) -> None:
    self._head = self.loop.call_later(
      self._settings.head_seconds, self.transport.abort
    )

  def _await_reader(self) -> None:
    self._stuck = _ended(self._stuck)
    self._stuck = self.loop.call_later(
      self._settings.write_seconds, self.transport.abort
    )


class Server(uvicorn.Server):
  """uvicorn's, which ends in an orderly way."""

  def __init__(self, app, settings: settings_lib.Settings):
    """Listens to nobody yet.

    Args:
      app: With an `admission`, or None as long as there is none.
      settings: Limits.
    """
    super().__init__(
      uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=functools.partial(Connection, settings),
        ws='websockets-sansio',
        lifespan='on',
        log_level='warning',
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEPT,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=_MOST_HEAD,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies) or None,
        ws_max_size=settings.most_bytes,
        # Sound in base64 hardly shrinks, and much of a server's time went
        # into trying.
        ws_per_message_deflate=False,
      )
    )
    # What is wrong with a request its client is told, and not the log: whoever
    # likes could fill it.
    logging.getLogger('python_multipart').setLevel(logging.ERROR)
    logging.getLogger('uvicorn.error').addFilter(_is_ours)
    self._app, self._drain_seconds = app, settings.drain_seconds
    self._draining: asyncio.Task | None = None
    self.loop: asyncio.AbstractEventLoop | None = None

  @property
  def port(self) -> int:
    """That it listens at."""
    return self.servers[0].sockets[0].getsockname()[1]

  def handle_exit(self, sig, frame) -> None:
    """SIGTERM drains; another signal ends soon, and one more at once."""
    if sig == signal.SIGINT:
      self._captured_signals.append(sig)  # raised again behind the end
    if sig == signal.SIGTERM and self.started and self._draining is None:
      self.loop.call_soon_threadsafe(self.begin_drain)
      return
    self.force_exit = self.should_exit
    self.should_exit = True

  async def startup(self, sockets=None) -> None:
    self.loop = asyncio.get_running_loop()
    await super().startup(sockets)

  def begin_drain(self) -> None:
    """Called in the loop: ends when what is under way has."""
    if self._draining is None:
      self._draining = asyncio.ensure_future(self._drain())

  async def _drain(self) -> None:
    """Refuses what is new, waits for the rest, ends."""
    admission: admission_lib.Admission | None = self._app.admission
    if admission is not None:
      admission.drain()
      try:
        async with asyncio.timeout(self._drain_seconds):
          await admission.idle()
      except TimeoutError:
        pass
    self.should_exit = True


def _is_ours(record: logging.LogRecord) -> bool:
  return not record.getMessage().startswith(_THEIRS)


def _ended(timer: asyncio.TimerHandle | None) -> None:
  if timer is not None:
    timer.cancel()
