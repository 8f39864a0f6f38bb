"""Every request passes here: place, token, rate, number, size; then its route.

Whatever goes wrong behind it is one error object. WebSockets pass by the same
rules; their messages are the business of their route.
"""

import json
from typing import Any, Callable, Collection
import uuid

from starlette import exceptions

from step_audio_jax.serving.guards import access
from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import bodies
from step_audio_jax.serving.guards import delivery
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import metrics as metrics_lib
from step_audio_jax.serving.guards import paths
from step_audio_jax.serving.guards import rates
from step_audio_jax.serving.guards import settings as settings_lib

_CLOSED = 499  # nginx's number for a client that hung up
_SAFE = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}
_CORS = {
  'access-control-allow-methods': 'GET, POST, OPTIONS',
  'access-control-allow-headers': 'authorization, content-type',
  'access-control-max-age': '600',
}


class Gate:
  """An ASGI application in front of another."""

  def __init__(
    self,
    inner: Any,
    settings: settings_lib.Settings,
    clock: Callable[[], float],
    admission: admission_lib.Admission,
    metrics: metrics_lib.Metrics,
    *,
    routes: Collection[str],
    public: Collection[str],
    unlimited: Collection[str],
  ):
    """Lets nobody in yet.

    Args:
      inner: What routes.
      settings: Limits.
      clock: Seconds.
      admission: Counts what is under way.
      metrics: Counts what ended.
      routes: Paths that are counted by their names; all others are 'other'.
      public: Paths that need no token.
      unlimited: Paths that probes ask, also while the server is full or ends.
    """
    self._inner, self._settings, self._clock = inner, settings, clock
    self._admission, self._metrics = admission, metrics
    self._routes, self._public = paths.Paths(routes), paths.Paths(public)
    self._unlimited = paths.Paths(unlimited)
    self._rates = rates.Buckets(settings.per_minute, settings.burst, clock)

  @property
  def admission(self) -> admission_lib.Admission:
    """What is under way."""
    return self._admission

  async def __call__(self, scope, receive, send) -> None:
    """One request, one WebSocket, or the life of the server."""
    if scope['type'] not in ('http', 'websocket'):
      await self._inner(scope, receive, send)
      return
    scope['app'] = self  # the router then raises what it does not find
    await _Passage(self, scope, receive, send).go()


class _Passage:
  """One request on its way."""

  def __init__(self, gate: Gate, scope, receive, send):
    self._gate, self._scope = gate, scope
    self._receive, self._send = receive, send
    self._status: int | None = None
    self._id = f'req_{uuid.uuid4().hex}'
    self._cors: dict[str, str] = {}
    self._is_socket = scope['type'] == 'websocket'

  async def go(self) -> None:
    gate, began = self._gate, self._gate._clock()
    self._scope['began'] = began
    try:
      await self._passed()
    except delivery.Gone:
      self._status = _CLOSED
    except BaseException as error:
      await self._failed(error)
    finally:
      route = gate._routes.name(self._scope['path']) or 'other'
      seconds = gate._clock() - began
      gate._metrics.ended(route, self._status or _CLOSED, seconds)

  async def _passed(self) -> None:
    gate, scope, path = self._gate, self._scope, self._scope['path']
    headers = access.headers_of(scope)
    if gate._unlimited.name(path):
      await gate._inner(scope, self._receive, self._sent)
      return
    origin = access.check_place(headers, gate._settings)
    if origin is not None:
      self._cors = {'access-control-allow-origin': origin, 'vary': 'origin'}
      if scope.get('method') == 'OPTIONS':
        await self._answer(204, b'', _CORS)
        return
    client = scope['client'][0] if scope.get('client') else ''
    wait = gate._rates.take(client)
    if wait:
      raise faults.Fault(
        429,
        f'Rate limit reached: {gate._settings.per_minute:g} requests a minute.',
        faults.LIMITED,
        code='rate_limit_exceeded',
        headers=faults.retry_after(wait),
      )
    if not gate._public.name(path):
      access.check_token(headers, gate._settings)
    with gate._admission.one(client):
      if self._is_socket:
        await gate._inner(scope, self._receive, self._sent)
        return
      body = bodies.Body(
        self._receive, headers, gate._settings, gate._admission
      )
      try:
        await gate._inner(scope, body.receive, self._sent)
      finally:
        body.release()

  async def _failed(self, error: BaseException) -> None:
    """Answers what went wrong; raises where nobody can be told."""
    if not isinstance(error, Exception):
      raise error
    if isinstance(error, exceptions.HTTPException):
      error = _not_found(error, self._scope)
    fault = faults.logged(error, self._id)
    if self._status is not None:
      if self._is_socket:
        raise error
      return  # without an end: the connection is cut, which clients notice
    body = json.dumps(fault.body, ensure_ascii=False).encode(errors='replace')
    await self._answer(fault.status, body, fault.headers)

  async def _answer(self, status: int, body: bytes, headers) -> None:
    kind, told = 'http.response', {'content-type': 'application/json'}
    if self._is_socket:
      if 'websocket.http.response' not in self._scope.get('extensions', {}):
        await self._receive()  # `websocket.connect`
        await self._send({'type': 'websocket.close', 'code': 1008})
        self._status = status
        return
      kind = 'websocket.http.response'
    told |= {'content-length': str(len(body)), **headers}
    pairs = [(k.encode(), v.encode('latin-1')) for k, v in told.items()]
    await self._sent(
      {'type': f'{kind}.start', 'status': status, 'headers': pairs}
    )
    await self._sent({'type': f'{kind}.body', 'body': body})

  async def _sent(self, message) -> None:
    if message['type'] in (
      'http.response.start',
      'websocket.http.response.start',
    ):
      self._status = message['status']
      given = message.get('headers', ())
      there = {name.lower() for name, _ in given}
      more = {'x-request-id': self._id, **_SAFE, **self._cors}
      pairs = [
        (k.encode(), v.encode('latin-1'))
        for k, v in more.items()
        if k.encode() not in there
      ]
      message = {**message, 'headers': [*given, *pairs]}
    elif message['type'] == 'websocket.accept':
      self._status = 101
    await self._send(message)


def _not_found(error: exceptions.HTTPException, scope) -> faults.Fault:
  """What the router, or the parser of forms, refuses."""
  method, path = scope.get('method', 'GET'), scope['path']
  if error.status_code == 404:
    return faults.Fault(
      404,
      f'Invalid URL ({method} {path:.200}).',
      code='unknown_url',
    )
  if error.status_code == 405:
    return faults.Fault(
      405,
      f'Not allowed to {method} on {path:.200}.',
      code='method_not_supported',
      headers=dict(error.headers or {}),
    )
  return faults.Fault(error.status_code, f'{error.detail}')
