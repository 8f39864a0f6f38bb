"""A server of `/v1/realtime` that follows a script, to try the page against.

It hears by loudness alone and says tones. Events are shaped as in OpenAI's
documentation; `received` has what a page sent, in order.
"""

import asyncio
import base64
import contextlib
import dataclasses
import json
import threading
from typing import Any, Iterator

import numpy as np
from openai.types import realtime
import pydantic
from starlette import applications
from starlette import responses
from starlette import routing
from starlette import websockets
import uvicorn

from step_audio_jax.serving.page import page

SENT = pydantic.TypeAdapter(realtime.RealtimeServerEvent)
RATE = 24000
PREFIX = 'openai-insecure-api-key.'
LOUD, SILENCE_MS = 0.02, 300


@dataclasses.dataclass
class Reply:
  """What is said to one turn: words, and as much of a tone; or a call.

  Without a tone the words are written.
  """

  words: str = ''
  seconds: float = 0.0
  call: tuple[str, str] | None = None


@dataclasses.dataclass
class Script:
  """What the server does, and what it met.

  Attributes:
    replies: Of its turns, one after the other.
    token: That it asks for.
    heard: Transcript of every spoken turn.
    holds: Whether a truncated item keeps the words that were heard.
    received: Events of pages.
    sockets: The conversations that are open.
  """

  replies: list[Reply] = dataclasses.field(default_factory=list)
  token: str | None = None
  heard: str = 'What is the tallest mountain?'
  holds: bool = True
  received: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  sockets: list['Talk'] = dataclasses.field(default_factory=list)
  address: str = ''

  def of(self, kind: str) -> list[dict[str, Any]]:
    """Events of a kind that came."""
    return [event for event in self.received if event['type'] == kind]


def tone(seconds: float) -> str:
  """A tone as base64 of pcm16."""
  time_S = np.arange(int(seconds * RATE)) / RATE
  return pcm(0.2 * np.sin(2 * np.pi * 330 * time_S))


def pcm(samples_S: np.ndarray) -> str:
  return base64.b64encode((samples_S * 32767).astype('<i2').tobytes()).decode()


class Talk:
  """One conversation."""

  def __init__(self, socket: websockets.WebSocket, script: Script):
    self.socket, self.script = socket, script
    self.session: dict[str, Any] = {
      'type': 'realtime',
      'object': 'realtime.session',
      'model': 'tiny',
      'id': 'sess_1',
      'instructions': '',
      'output_modalities': ['audio'],
      'tools': [],
      'audio': {
        'input': {
          'transcription': None,
          'turn_detection': {'type': 'server_vad'},
        },
        'output': {'voice': 'own', 'style': None},
      },
    }
    self.samples, self.quiet, self.start = 0, 0.0, None
    self.items, self.count, self.last = {}, 0, None
    self.pending: str | None = None
    self.replying: asyncio.Task | None = None

  async def send(self, kind: str, **event) -> None:
    self.count += 1
    told = {'type': kind, 'event_id': f'event_{self.count}', **event}
    SENT.validate_python(told)  # a script that is no server's helps nobody
    await self.socket.send_text(json.dumps(told))

  async def run(self) -> None:
    self.loop = asyncio.get_running_loop()
    await self.send('session.created', session=self.session)
    async for text in self.socket.iter_text():
      self.script.received.append(json.loads(text))
      event = json.loads(text)
      act = getattr(self, '_' + event['type'].replace('.', '_'), None)
      if act:
        await act(event)

  async def _session_update(self, event) -> None:
    audio = event['session'].pop('audio')
    for side, values in audio.items():
      self.session['audio'][side].update(values)
    self.session.update(event['session'])
    await self.send('session.updated', session=self.session)

  async def _input_audio_buffer_append(self, event) -> None:
    raw = base64.b64decode(event['audio'])
    samples_S = np.frombuffer(raw, '<i2') / 32768
    self.samples += len(samples_S)
    if not self.session['audio']['input']['turn_detection']:
      return
    now = 1000 * self.samples // RATE
    loud = np.sqrt(np.mean(samples_S**2)) > LOUD
    self.quiet = 0 if loud else self.quiet + 1000 * len(samples_S) / RATE
    kind = 'input_audio_buffer.speech_'
    if loud and self.start is None:
      self.start = self._id('said')
      if self.replying:
        self.replying.cancel()
      await self.send(f'{kind}started', audio_start_ms=now, item_id=self.start)
    elif self.start and self.quiet >= SILENCE_MS:
      item, self.start = self.start, None
      await self.send(f'{kind}stopped', audio_end_ms=now, item_id=item)
      await self._commit(item)
      self._reply()

  async def _input_audio_buffer_commit(self, event) -> None:
    await self._commit(self._id('said'))

  async def _commit(self, item: str) -> None:
    await self.send(
      'input_audio_buffer.committed', item_id=item, previous_item_id=self.last
    )
    content = [{'type': 'input_audio', 'transcript': None}]
    await self._add({'role': 'user', 'content': content}, item)
    # As of a server whose recogniser is slower than its replies.
    self.pending = item

  async def _transcribe(self) -> None:
    item, self.pending = self.pending, None
    if item:
      await self.send(
        'conversation.item.input_audio_transcription.completed',
        item_id=item,
        content_index=0,
        transcript=self.script.heard,
        usage={'type': 'duration', 'seconds': 1.0},
      )

  async def _conversation_item_create(self, event) -> None:
    item = event['item']
    await self._add(item, item.get('id') or self._id('made'))

  async def _conversation_item_truncate(self, event) -> None:
    item = self.items[event['item_id']]
    part = item['content'][event['content_index']]
    words = part['transcript'].split()
    # Ten words are said in a second.
    count = event['audio_end_ms'] // 100
    part['transcript'] = ' '.join(words[:count]) if self.script.holds else None
    await self.send(
      'conversation.item.truncated',
      item_id=event['item_id'],
      content_index=event['content_index'],
      audio_end_ms=event['audio_end_ms'],
    )

  async def _conversation_item_retrieve(self, event) -> None:
    item = self.items[event['item_id']]
    await self.send('conversation.item.retrieved', item=item)

  async def _response_create(self, event) -> None:
    self._reply()

  async def _response_cancel(self, event) -> None:
    if self.replying and not self.replying.done():
      self.replying.cancel()
    else:
      error = {'type': 'invalid_request_error', 'message': 'Nothing runs.'}
      await self.send('error', error={**error, 'event_id': event['event_id']})

  def _id(self, kind: str) -> str:
    self.count += 1
    return f'{kind}_{self.count}'

  async def _add(self, item: dict[str, Any], id: str) -> dict[str, Any]:
    item = {'type': 'message', 'status': 'completed', **item, 'id': id}
    before, self.last = self.last, id
    self.items[id] = item
    for kind in ('added', 'done'):
      await self.send(
        f'conversation.item.{kind}', item=item, previous_item_id=before
      )
    return item

  def _reply(self) -> None:
    reply = self.script.replies.pop(0)
    self.replying = asyncio.ensure_future(self._say(reply))

  async def _say(self, reply: Reply) -> None:
    id = self._id('resp')
    status, output = 'completed', []
    await self.send('response.created', response={'id': id})
    try:
      if reply.call:
        name, arguments = reply.call
        told = {'name': name, 'arguments': arguments, 'call_id': self._id('c')}
        item = await self._add({'type': 'function_call', **told}, self._id('f'))
        await self._item_done(id, item)
      else:
        content = [
          {'type': 'output_audio', 'transcript': ''}
          if reply.seconds
          else {'type': 'output_text', 'text': ''}
        ]
        item = await self._add(
          {'role': 'assistant', 'content': content, 'status': 'in_progress'},
          self._id('reply'),
        )
        await self._speak(id, item, reply)
        item['status'] = 'completed'
        await self._item_done(id, item)
      output.append(item)
    except asyncio.CancelledError:
      status = 'cancelled'
    response = {'id': id, 'status': status, 'output': output}
    await self.send('response.done', response=response)
    await self._transcribe()

  async def _item_done(self, id: str, item: dict[str, Any]) -> None:
    await self.send(
      'response.output_item.done', response_id=id, output_index=0, item=item
    )

  async def _speak(self, id: str, item, reply: Reply) -> None:
    part = {
      'response_id': id,
      'item_id': item['id'],
      'output_index': 0,
      'content_index': 0,
    }
    if not reply.seconds:
      item['content'][0]['text'] = reply.words
      for word in reply.words.split(' '):
        await self.send('response.output_text.delta', **part, delta=f'{word} ')
      await self.send('response.output_text.done', **part, text=reply.words)
      return
    item['content'][0]['transcript'] = reply.words
    said = 'response.output_audio_transcript'
    for word in reply.words.split(' '):
      await self.send(f'{said}.delta', **part, delta=f'{word} ')
    # Faster than it is heard, as a model is.
    for _ in range(round(reply.seconds / 0.2)):
      await self.send('response.output_audio.delta', **part, delta=tone(0.2))
    await self.send('response.output_audio.done', **part)
    await self.send(f'{said}.done', **part, transcript=reply.words)


def app(script: Script) -> applications.Starlette:
  """The page, a model and its conversations."""

  def known(given: str | None) -> bool:
    return script.token is None or given == script.token

  async def models(request):
    given = request.headers.get('authorization', '').removeprefix('Bearer ')
    if not known(given):
      return responses.JSONResponse({'error': {'message': 'Who?'}}, 401)
    model = {'id': 'tiny', 'voices': ['own', 'other'], 'hears': True}
    return responses.JSONResponse({'data': [model]})

  async def realtime(socket):
    names = socket.scope['subprotocols']
    tokens = [n.removeprefix(PREFIX) for n in names if n.startswith(PREFIX)]
    if names[0] != 'realtime' or not known(next(iter(tokens), None)):
      await socket.close(1008)
      return
    await socket.accept('realtime')
    talk = Talk(socket, script)
    script.sockets.append(talk)
    with contextlib.suppress(websockets.WebSocketDisconnect):
      await talk.run()
    script.sockets.remove(talk)

  return applications.Starlette(
    routes=[
      routing.Route('/v1/models', models),
      routing.WebSocketRoute('/v1/realtime', realtime),
      *page.routes(),
    ]
  )


@contextlib.contextmanager
def serve(script: Script) -> Iterator[Script]:
  """Serves a script at 127.0.0.1, on a thread."""
  config = uvicorn.Config(
    app(script),
    host='127.0.0.1',
    port=0,
    log_level='error',
    lifespan='off',
    ws='websockets-sansio',
  )
  server = uvicorn.Server(config)
  socket = config.bind_socket()
  host, port = socket.getsockname()
  script.address = f'http://{host}:{port}/'
  thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
  thread.start()
  try:
    yield script
  finally:
    server.should_exit = True
    thread.join(10)
    socket.close()


def hang_up(script: Script) -> None:
  """Ends every conversation as a server does that falls over."""
  for talk in list(script.sockets):
    loop = talk.loop
    asyncio.run_coroutine_threadsafe(talk.socket.close(1012), loop).result(5)
