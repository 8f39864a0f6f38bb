"""`/v1/realtime`: a WebSocket, JSON events in text frames."""

import asyncio
import contextlib
import json
import logging
from typing import Any

from starlette import routing
from starlette import websockets

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.turns import metrics as metrics_lib
from step_audio_jax.serving.guards import settings as settings_lib
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import faults
from step_audio_jax.serving.realtime import session as session_lib
from step_audio_jax.serving.realtime import talk
from step_audio_jax.serving.realtime import toolbox

PATH = '/v1/realtime'
_LOG = logging.getLogger(__name__)
_MOST = 21 * 2**20  # characters of one event: 15 MiB of audio, in base64
_AHEAD = 256  # events that may wait for a slow reader
_SUBPROTOCOL = 'realtime'


def endpoint(
  models: services.Models,
  settings: settings_lib.Settings,
  turns: metrics_lib.Metrics | None = None,
) -> routing.WebSocketRoute:
  """The route of realtime sessions.

  Args:
    models: What they talk with.
    settings: What a server allows.
    turns: Counts what happens in all conversations.
  """
  counts = turns or metrics_lib.Metrics()
  tools = toolbox.Toolbox(settings.tools, settings.tool_servers)

  async def serve(socket: websockets.WebSocket) -> None:
    asked = socket.scope.get('subprotocols') or []
    chosen = _SUBPROTOCOL if _SUBPROTOCOL in asked else None
    await socket.accept(subprotocol=chosen)
    out: asyncio.Queue[events.Event | None] = asyncio.Queue(_AHEAD)
    given, missing = None, None
    try:
      given = await tools.registry()
    except errors.UserError as error:  # who only talks needs no tools
      _LOG.error('a session has no tools of the server: %s', error)
      missing = faults.Fault(
        'tools: those of the server cannot be reached, expected a conversation '
        'without them.',
        'tools_unavailable',
        kind=faults.SERVER,
      )
    try:
      session = session_lib.Session(
        models,
        out.put,
        name=socket.query_params.get('model'),
        turns=settings.turns,
        tools=given,
      )
    except errors.UserError as error:  # such as a package that is missing
      _LOG.error('no session can be held: %s', error)
      fault = faults.Fault(str(error), 'unavailable', kind=faults.SERVER)
      await socket.send_json(events.error(fault, None))
      await socket.close(1011)
      return
    work = [
      asyncio.create_task(_write(socket, out, settings.write_seconds)),
      asyncio.create_task(_read(socket, session, out.put)),
    ]
    try:
      await session.begin()
      if missing is not None:
        await out.put(events.error(missing, None))
      done, _ = await asyncio.wait(
        work, timeout=talk.LONGEST, return_when=asyncio.FIRST_COMPLETED
      )
      for one in done:
        if one.exception() is not None:
          _LOG.error('a session failed', exc_info=one.exception())
      if not done:
        await _over(work[0], out, settings.write_seconds)
    finally:
      for one in work:
        one.cancel()
      await asyncio.gather(*work, return_exceptions=True)
      await session.close()
      counts.forget(out)

  return routing.WebSocketRoute(PATH, serve)


async def _over(writing: asyncio.Task, out: asyncio.Queue, seconds) -> None:
  """Tells that the time of a session is over, and hangs up."""
  fault = faults.Fault(
    f'session: it has lasted {talk.LONGEST // 60} minutes, expected another to '
    'be begun.',
    'session_expired',
  )
  with contextlib.suppress(TimeoutError):
    async with asyncio.timeout(seconds):
      await out.put(events.error(fault, None))
      await out.put(None)
      await asyncio.wait([writing])


async def _write(socket, out: asyncio.Queue, seconds: float) -> None:
  """Sends events in order; gives up a reader that takes nothing."""
  while True:
    event = await out.get()
    if event is None:
      await socket.close()
      return
    text = json.dumps(event, ensure_ascii=False)
    try:
      await asyncio.wait_for(socket.send_text(text), seconds)
    except (TimeoutError, RuntimeError, websockets.WebSocketDisconnect):
      return


async def _read(socket, session: session_lib.Session, send) -> None:
  """Hands events to a session until the client leaves."""
  while True:
    message = await socket.receive()
    if message['type'] == 'websocket.disconnect':
      return
    if message['type'] != 'websocket.receive':
      continue
    try:
      value = _parsed(message)
    except faults.Fault as fault:
      await send(events.error(fault, None))
      continue
    await session.handle(value)


def _parsed(message) -> Any:
  """An event of a frame.

  Raises:
    Fault: It is none.
  """
  text = message.get('text')
  if text is None:
    raise faults.Fault(
      'event: found a binary frame, expected JSON in a text frame.',
      'invalid_event',
    )
  if len(text) > _MOST:
    raise faults.Fault(
      f'event: found {len(text)} characters, expected at most {_MOST}.',
      'event_too_large',
    )
  try:
    value = json.loads(text, parse_constant=_no_number)
    # Halves of characters, which no frame could give back.
    if '\\ud' in text or '\\uD' in text:
      json.dumps(value, ensure_ascii=False).encode()
    return value
  except (ValueError, RecursionError) as error:
    raise faults.Fault(
      f'event: found what is no JSON ({str(error):.80}).', 'invalid_json'
    ) from error


def _no_number(name: str):
  raise ValueError(f'{name} is no number of JSON')
