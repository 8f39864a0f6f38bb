"""What is heard and said in a realtime session, whatever the client asks for.

What takes time (a transcript, a reply on its way) are tasks of the session,
which end with it.
"""

import asyncio
import dataclasses
import time
from typing import Any, Awaitable, Callable, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import context as context_lib
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.live import clock as clock_lib
from step_audio_jax.dialogue.live import listener as listener_lib
from step_audio_jax.dialogue.live import reply as reply_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import server_vad
from step_audio_jax.dialogue.turns import vad
from step_audio_jax.serving.realtime import config
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import formats
from step_audio_jax.serving.realtime import speaking as speaking_lib

_USUAL = 256  # ids of a reply where a client sets no limit
_HOUR = 3600


class Talk:
  """One conversation, and the settings of its session."""

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
    self._conversation = events.new_id('conv')
    self._session = config.initial(
      models, events.new_id('sess'), int(wall()) + _HOUR, name
    )
    self._context = context_lib.Context(models.mind)
    self._listener = None
    if models.ear is not None:
      self._listener = listener_lib.Listener(
        models.ear, judge or vad.detector('silero'), self._turns()
      )
    self._incoming = self._new_incoming()
    self._replies: dict[int, reply_lib.Reply] = {}
    self._speaking: speaking_lib.Speaking | None = None
    self._asked_for = 0  # replies, where nobody listens and numbers them
    self._saying: asyncio.Task | None = None
    self._tasks: set[asyncio.Task] = set()
    self._turn_item = events.new_id('item')
    self._has_spoken = False
    self._lock = asyncio.Lock()

  async def begin(self) -> None:
    """Greets."""
    await self._tell('session.created', session=self._session)

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
          self._session, hearing=self._listener.hearing
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
        reply = self._replies.pop(number, None) or self._reply(self._session)
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

  def _reply(self, session, hearing=None, only=None):
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
        await self._feed(ev.Ended(self._listener.at, number))

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
