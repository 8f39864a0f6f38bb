"""One realtime session: what a client asks for, what it hears, what it is told.

Events of a client are handled one after the other. What takes time beside them
(a transcript, a reply on its way) are tasks of the session, which end with it.
"""

import asyncio
import dataclasses
import time
from typing import Any, Awaitable, Callable, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import context as context_lib
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.conversation import clock as clock_lib
from step_audio_jax.dialogue.conversation import listener as listener_lib
from step_audio_jax.dialogue.conversation import reply as reply_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import server_vad
from step_audio_jax.dialogue.turns import vad
from step_audio_jax.serving.realtime import config
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import faults
from step_audio_jax.serving.realtime import formats
from step_audio_jax.serving.realtime import speaking as speaking_lib

_USUAL = 256  # ids of a reply where a client sets no limit
_HOUR = 3600
_LEAST = 0.1  # seconds of a turn that is committed
_LONGEST_AUDIO = 15 * 2**20  # base64 characters of one event
_RESPONSE = (
  'conversation',
  'input',
  'instructions',
  'max_output_tokens',
  'metadata',
  'output_modalities',
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'audio',
)


class Session:
  """One client's."""

  def __init__(
    self,
    models: services.Models,
    send: Callable[[events.Event], Awaitable[None]],
    *,
    clock: clock_lib.Clock | None = None,
    judge: vad.Detector | None = None,
    name: str | None = None,
    wall: Callable[[], float] = time.time,
  ):
    """Begins one; `begin` greets.

    Args:
      models: What it talks with.
      send: Sends an event.
      clock: Paces what is said.
      judge: Tells speech from silence; None loads the usual one.
      name: Of the model, as the client called it.
      wall: Seconds since 1970.
    """
    self._models, self._send = models, send
    self._clock = clock or clock_lib.LoopClock()
    self._id = events.new_id('sess')
    self._conversation = events.new_id('conv')
    self._session = config.initial(models, self._id, int(wall()) + _HOUR, name)
    self._context = context_lib.Context(models.mind)
    self._listener = None
    if models.ear is not None:
      self._listener = listener_lib.Listener(
        models.ear, judge or vad.detector('silero'), self._turns()
      )
    self._incoming = self._new_incoming()
    self._replies: dict[int, reply_lib.Reply] = {}
    self._speaking: speaking_lib.Speaking | None = None
    self._number: int | None = None  # of the reply that is heard
    self._saying: asyncio.Task | None = None
    self._tasks: set[asyncio.Task] = set()
    self._turn_item = events.new_id('item')
    self._has_spoken = False
    self._lock = asyncio.Lock()

  async def begin(self) -> None:
    """Greets."""
    await self._tell('session.created', session=self._session)

  async def handle(self, value: Any) -> None:
    """What a client sent; what is wrong with it is told."""
    event_id = value.get('event_id') if isinstance(value, dict) else None
    if not isinstance(event_id, str):
      event_id = None
    try:
      if not isinstance(value, dict) or not isinstance(value.get('type'), str):
        raise faults.Fault(
          'type: the parameter is missing; expected an event with a type.',
          'missing_required_parameter',
          'type',
        )
      handler = _HANDLERS.get(value['type'])
      if handler is None:
        raise faults.wrong(
          value['type'], 'type', f'one of {", ".join(_HANDLERS)}'
        )
      async with self._lock:
        await handler(self, value)
    except (errors.UserError, services.Busy) as error:
      await self._send(events.error(error, event_id))

  async def close(self) -> None:
    """Lets go of all that it holds."""
    replies = list(self._replies.values())
    if self._speaking is not None:
      replies.append(self._speaking.reply)
    work = [*self._tasks, *([self._saying] if self._saying else [])]
    for task in work:
      task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    for reply in replies:
      await reply.cancel()
    if self._listener is not None:
      self._listener.clear()

  # What a client sends.

  async def _update(self, event: Mapping[str, Any]) -> None:
    self._session = config.updated(
      self._session,
      event.get('session'),
      self._models,
      has_spoken=self._has_spoken,
      is_replying=self._speaking is not None,
    )
    if self._listener is not None:
      self._listener.controller.settings = self._turns()
    if self._incoming.name != self._input['format']['type']:
      self._incoming = self._new_incoming()
    self._context.instructions = self._session.get('instructions', '')
    self._context.tools = self._schemas(self._session)
    await self._tell('session.updated', session=self._session)

  async def _append(self, event) -> None:
    audio = faults.text(_LONGEST_AUDIO)(event.get('audio'), 'audio')
    raw = formats.from_base64(audio, 'audio')
    if self._listener is None:
      raise faults.Fault(
        'input_audio_buffer.append: this server does not hear; expected text.',
        'unsupported',
        'type',
      )
    for action in self._listener.push(self._incoming(raw)):
      await self._act(action)

  async def _commit(self, event) -> None:
    del event
    if self._listener is None or self._listener.seconds < _LEAST:
      raise faults.Fault(
        'input_audio_buffer: found less than 100 ms of audio, expected some '
        'to commit.',
        'input_audio_buffer_commit_empty',
      )
    self._listener.begin()
    hearing, at = self._listener.hearing, self._listener.at
    actions = self._listener.controller.feed(ev.Commit(at))
    for action in actions:
      if isinstance(action, ev.Discard | ev.Stop):
        await self._act(action)
    await self._committed(hearing)
    self._listener.forget()
    for action in actions:
      if isinstance(action, ev.Reply):
        await self._act(action)

  async def _clear(self, event) -> None:
    del event
    if self._listener is not None:
      for number in list(self._replies):
        await self._drop(number)
      self._listener.clear()
    await self._tell('input_audio_buffer.cleared')

  async def _create(self, event) -> None:
    item = items_lib.parse(event.get('item'))
    item = await self._heard(item)
    previous = event.get('previous_item_id')
    if previous is not None:
      previous = faults.text(128)(previous, 'previous_item_id')
    made = self._context.create(item, previous)
    await self._told(made)

  async def _heard(self, item: items_lib.Item) -> items_lib.Item:
    """An item whose recordings are heard."""
    parts = []
    for part in item.parts:
      if part.kind == items_lib.INPUT_AUDIO and part.data is not None:
        if self._models.ear is None:
          raise faults.Fault(
            'item.content: this server does not hear; expected text.',
            'unsupported',
            'item.content',
          )
        hearing = self._models.ear.listen()
        hearing.push(self._new_incoming()(part.data))
        part = dataclasses.replace(part, speech=await hearing.finish())
      parts.append(part)
    return dataclasses.replace(item, parts=tuple(parts))

  async def _told(self, item: items_lib.Item) -> None:
    written = items_lib.written(item)
    previous = self._context.items.before(item.id)
    for kind in ('conversation.item.added', 'conversation.item.done'):
      await self._tell(kind, previous_item_id=previous, item=written)

  async def _retrieve(self, event) -> None:
    item = self._context.items.retrieve(_named(event))
    written = items_lib.written(item, audio=True)
    await self._tell('conversation.item.retrieved', item=written)

  async def _truncate(self, event) -> None:
    name = _named(event)
    whole = faults.number(0, 2**31, whole=True)
    index = whole(event.get('content_index'), 'content_index')
    ms = whole(event.get('audio_end_ms'), 'audio_end_ms')
    self._context.truncate(name, index, ms)
    await self._tell(
      'conversation.item.truncated',
      item_id=name,
      content_index=index,
      audio_end_ms=ms,
    )

  async def _delete(self, event) -> None:
    name = _named(event)
    self._context.delete(name)
    await self._tell('conversation.item.deleted', item_id=name)

  async def _respond(self, event) -> None:
    given = event.get('response') or {}
    if self._session['type'] == config.TRANSCRIPTION:
      raise faults.Fault(
        'response.create: a transcription session has no responses; expected '
        'a session of the type "realtime".',
        'invalid_value',
        'type',
      )
    if not isinstance(given, dict):
      raise faults.wrong(given, 'response', 'an object')
    for field in given:
      if field not in _RESPONSE:
        raise faults.Fault(
          f'response.{field:.80}: there is no such parameter; expected '
          f'{", ".join(_RESPONSE)}.',
          'unknown_parameter',
          f'response.{field:.80}',
        )
    beside = given.get('conversation', 'auto') == 'none'
    if self._speaking is not None and not self._speaking.is_over:
      raise faults.Fault(
        'response.create: the conversation has an active response already; '
        'expected it to be done or cancelled first.',
        'conversation_already_has_active_response',
      )
    named = {
      field: given[field]
      for field in given
      if field not in ('conversation', 'input', 'metadata')
    }
    session = config.updated(
      self._session,
      {'type': self._session['type'], **named},
      self._models,
      has_spoken=False,
      is_replying=False,
    )
    only = None
    if given.get('input') is not None:
      only = [
        await self._heard(items_lib.parse(one, f'response.input[{n}]'))
        for n, one in enumerate(given['input'])
      ]
    context = self._context
    if beside:
      context = context_lib.Context(self._models.mind)
    number = await self._asked()
    await self._let_go(
      number,
      self._reply(number, session, only=only),
      session,
      None if beside else self._conversation,
      given.get('metadata'),
      context,
    )

  async def _asked(self) -> int:
    """The number of a reply that a program asked for."""
    if self._listener is None:
      self._number = (self._number or 0) + 1
      return self._number
    number = -1
    for action in self._listener.feed(ev.Asked(self._listener.at)):
      if isinstance(action, ev.Reply):
        number = action.reply
      elif isinstance(action, ev.Stop):
        await self._stop('client_cancelled')
      else:
        await self._act(action)
    return number

  async def _cancel(self, event) -> None:
    wanted = event.get('response_id')
    at = self._speaking
    if at is None or at.is_over or wanted not in (None, at.id):
      raise faults.Fault(
        'response.cancel: there is no active response; expected one to cancel.',
        'response_cancel_not_active',
      )
    await self._stop('client_cancelled')
    if self._listener is not None:
      self._listener.controller.feed(ev.Cancel(self._listener.at))

  async def _clear_output(self, event) -> None:
    """What was sent is the client's to clear; nothing more is sent."""
    del event
    if self._speaking is not None and not self._speaking.is_over:
      await self._stop('client_cancelled')
      if self._listener is not None:
        self._listener.controller.feed(ev.Cancel(self._listener.at))

  # What is heard.

  async def _feed(self, event: ev.Event) -> None:
    for action in self._listener.feed(event):
      await self._act(action)

  async def _act(self, action: ev.Action) -> None:
    match action:
      case ev.BeginTurn(since=since):
        self._turn_item = events.new_id('item')
        await self._tell(
          'input_audio_buffer.speech_started',
          audio_start_ms=max(0, round(since * 1000)),
          item_id=self._turn_item,
        )
      case ev.Speculate(reply=number):
        self._write_down(self._listener.hearing)
        self._replies[number] = self._reply(
          number, self._session, hearing=self._listener.hearing
        )
      case ev.Discard(reply=number):
        await self._drop(number)
      case ev.EndTurn(until=until):
        await self._tell(
          'input_audio_buffer.speech_stopped',
          audio_end_ms=max(0, round(until * 1000)),
          item_id=self._turn_item,
        )
        await self._committed(self._listener.hearing)
      case ev.Reply(reply=number):
        reply = self._replies.pop(number, None) or self._reply(
          number, self._session
        )
        await self._let_go(number, reply, self._session, self._conversation)
      case ev.Hold():
        if self._speaking is not None:
          self._speaking.hold()
      case ev.Resume():
        if self._speaking is not None:
          self._speaking.resume()
      case ev.Stop():
        await self._stop('turn_detected')

  async def _committed(self, hearing) -> None:
    """A turn is over: it joins the conversation, its words come later."""
    speech = await hearing.finish()
    item = self._context.create(items_lib.heard(speech, id=self._turn_item))
    self._turn_item = events.new_id('item')
    await self._tell(
      'input_audio_buffer.committed',
      item_id=item.id,
      previous_item_id=self._context.items.before(item.id),
    )
    await self._told(item)
    seconds = getattr(speech, 'seconds', 0.0)
    self._begin(self._written(item.id, hearing, seconds))

  async def _written(self, name: str, hearing, seconds: float) -> None:
    """The words of a turn, for history and for the client."""
    tells = self._input['transcription'] is not None
    try:
      words = await hearing.transcript()
    except (errors.UserError, services.Busy) as error:
      if tells:
        await self._tell(
          'conversation.item.input_audio_transcription.failed',
          item_id=name,
          content_index=0,
          error={
            'type': 'transcription_error',
            'code': 'audio_unintelligible',
            'message': str(error),
            'param': None,
          },
        )
      return
    if not self._context.transcribe(name, 0, words) or not tells:
      return
    shared = {'item_id': name, 'content_index': 0}
    kind = 'conversation.item.input_audio_transcription'
    await self._tell(f'{kind}.delta', **shared, delta=words)
    usage = {'type': 'duration', 'seconds': seconds}
    await self._tell(
      f'{kind}.completed', **shared, transcript=words, usage=usage
    )

  def _write_down(self, hearing) -> None:
    """The words so far, for the controller."""
    until = self._listener.at

    async def words():
      try:
        text = await hearing.transcript()
      except (errors.UserError, services.Busy):
        return
      async with self._lock:
        if self._listener.hearing is hearing:
          await self._feed(ev.Words(self._listener.at, text, until))

    self._begin(words())

  # What is said.

  def _reply(self, number, session, hearing=None, only=None):
    """Begins a reply that nobody hears yet."""

    async def turns():
      also = []
      if hearing is not None:
        also = [items_lib.heard(await hearing.finish())]
        if not self._models.mind.hears:
          also = [items_lib.said(await hearing.transcript())]
      elif not self._models.mind.hears:
        await asyncio.gather(*self._tasks, return_exceptions=True)
      return self._context.turns(
        self._manner(session).most,
        also=also,
        only=only,
        instructions=session.get('instructions'),
        tools=self._schemas(session),
      )

    spoken = session['output_modalities'] == [config.AUDIO]
    reply = reply_lib.Reply(
      self._models,
      reply_lib.Wish(turns, self._manner(session), spoken),
      lambda: events.new_id('call'),
    )
    reply.begin()
    return reply

  async def _drop(self, number: int) -> None:
    reply = self._replies.pop(number, None)
    if reply is not None:
      await reply.cancel()

  async def _let_go(
    self, number, reply, session, conversation, metadata=None, context=None
  ) -> None:
    """A reply may be heard."""
    mouth = self._models.mouth
    spoken = session['output_modalities'] == [config.AUDIO]
    self._number = number
    self._speaking = speaking_lib.Speaking(
      reply,
      session,
      context or self._context,
      conversation,
      self._send,
      self._clock,
      mouth.sample_rate if spoken else None,
      metadata,
    )
    self._has_spoken |= spoken
    reply.wanted()
    self._saying = asyncio.create_task(self._say(self._speaking, number))

  async def _say(self, speaking, number: int) -> None:
    try:
      await speaking.run()
      if speaking.left > 0:
        await self._clock.sleep(speaking.left)
    finally:
      if self._speaking is speaking:
        self._speaking = None
    if self._listener is not None:
      async with self._lock:
        at = self._listener.at
        for action in self._listener.feed(ev.Ended(at, number)):
          await self._act(action)

  async def _stop(self, reason: str) -> None:
    speaking, self._speaking = self._speaking, None
    if speaking is None:
      return
    if self._saying is not None:
      self._saying.cancel()
      await asyncio.wait([self._saying])
      self._saying = None
    await speaking.stop(reason)

  # Settings.

  @property
  def _input(self) -> Mapping[str, Any]:
    return self._session['audio']['input']

  def _turns(self):
    detection = self._input['turn_detection']
    settings = server_vad.settings(detection)
    if self._session['type'] == config.TRANSCRIPTION:
      settings = dataclasses.replace(settings, replies=False)
    return settings

  def _new_incoming(self) -> formats.Incoming:
    return formats.Incoming(self._input['format']['type'], services.HEARD_RATE)

  @staticmethod
  def _schemas(session) -> tuple[Mapping[str, Any], ...]:
    return tuple(map(config.as_schema, session.get('tools', ())))

  @staticmethod
  def _manner(session) -> services.Manner:
    said = session['audio']['output']
    most, choice = session['max_output_tokens'], session['tool_choice']
    return services.Manner(
      most=_USUAL if most == config.UNLIMITED else most,
      tool_choice=choice if isinstance(choice, str) else choice['name'],
      voice=said['voice'],
      speed=said['speed'],
    )

  def _begin(self, work) -> None:
    task = asyncio.create_task(work)
    self._tasks.add(task)
    task.add_done_callback(self._tasks.discard)

  async def _tell(self, kind: str, **fields: Any) -> None:
    await self._send(events.made(kind, **fields))


def _named(event: Mapping[str, Any]) -> str:
  return faults.text(128, least=1)(event.get('item_id'), 'item_id')


_HANDLERS = {
  'session.update': Session._update,
  'input_audio_buffer.append': Session._append,
  'input_audio_buffer.commit': Session._commit,
  'input_audio_buffer.clear': Session._clear,
  'conversation.item.create': Session._create,
  'conversation.item.retrieve': Session._retrieve,
  'conversation.item.truncate': Session._truncate,
  'conversation.item.delete': Session._delete,
  'response.create': Session._respond,
  'response.cancel': Session._cancel,
  'output_audio_buffer.clear': Session._clear_output,
}
