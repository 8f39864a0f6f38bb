"""What is heard and said in a realtime session, whatever the client asks for.

What takes time (a transcript, a reply on its way) are tasks of the session,
which end with it.
"""

import asyncio
import dataclasses
import logging
import time
from typing import Any, Awaitable, Callable, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import context as context_lib
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.live import clock as clock_lib
from step_audio_jax.dialogue.live import listener as listener_lib
from step_audio_jax.dialogue.live import pauses
from step_audio_jax.dialogue.live import reply as reply_lib
from step_audio_jax.dialogue.tools import registry as registry_lib
from step_audio_jax.dialogue.tools import runner as runner_lib
from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import server_vad
from step_audio_jax.dialogue.turns import vad
from step_audio_jax.serving.realtime import config
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import formats
from step_audio_jax.serving.realtime import speaking as speaking_lib

_LOG = logging.getLogger(__name__)
_USUAL = 256  # ids of a reply where a client sets no limit
LONGEST = 3600  # seconds of a session
_MUTED = 0.6  # seconds without sound, from which on a microphone is off
_TICK = 0.1  # seconds
_PATIENCE = 0.3  # seconds that a reply waits for what was cut to be told
MOST_ASIDE = 8  # replies beside the conversation at once


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
    turns: controller_lib.Settings = controller_lib.Settings(),
    tools: registry_lib.Registry | None = None,
    watch: listener_lib.Watch | None = None,
  ):
    """Begins one; `begin` greets.

    Args:
      models: What it talks with.
      send: Sends an event.
      clock: Paces what is said.
      judge: Tells speech from silence; None loads the usual one.
      name: Of the model, as the client called it.
      wall: Seconds since 1970.
      turns: How turns are told where the session says nothing of it.
      tools: That run here; those of the client go first.
      watch: Is told what is heard, and what it leads to.
    """
    self._models, self._send = models, send
    self._usual_turns = turns
    self._clock = clock or clock_lib.LoopClock()
    self._id = events.new_id('sess')
    self._conversation = events.new_id('conv')
    expires = int(wall()) + LONGEST
    self._session = config.initial(models, self._id, expires, name)
    self._tools = tools or registry_lib.Registry()
    self._runner = runner_lib.Runner(self._tools)
    self._context = context_lib.Context(models.mind)
    self._context.tools = self._schemas(self._session)
    self._listener = None
    if models.ear is not None:
      self._listener = listener_lib.Listener(
        models.ear, judge or vad.detector('silero'), self._turns(), watch
      )
    self._incoming = self._new_incoming()
    self._replies: dict[int, reply_lib.Reply] = {}
    self._speaking: speaking_lib.Speaking | None = None
    self._saying: asyncio.Task | None = None
    self._playing = float('-inf')  # until when what was sent is played
    self._asides: dict[str, tuple[speaking_lib.Speaking, asyncio.Task]] = {}
    # When sound came last, and up to when the listener knows the time.
    self._heard_at = self._told_at = 0.0
    self._ticking: asyncio.Task | None = None
    self._tasks: set[asyncio.Task] = set()
    self._pause: pauses.Pause | None = None  # the last one
    self._mending: asyncio.Task | None = None  # of what was cut
    self._given_up: list[reply_lib.Reply] = []  # of what is mended
    self._turn_item = events.new_id('item')
    self._has_spoken = False
    self._lock = asyncio.Lock()

  async def begin(self) -> None:
    """Greets."""
    await self._tell('session.created', session=self._session)
    self._heard_at = self._told_at = self._clock.now()
    if self._listener is not None:
      self._ticking = asyncio.create_task(self._tick())

  async def close(self) -> None:
    """Lets go of all that it holds."""
    replies = [*self._replies.values(), *self._given_up]
    if self._speaking is not None:
      replies.append(self._speaking.reply)
    replies += [speaking.reply for speaking, _ in self._asides.values()]
    work = [self._saying, self._ticking, self._mending]
    work = [one for one in work if one is not None]
    work += [*self._tasks, *(task for _, task in self._asides.values())]
    for task in work:
      task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    for reply in replies:
      await reply.cancel()
    await self._runner.aclose()
    if self._listener is not None:
      self._listener.clear()
    # Tasks, replies and what they call back know each other: their sound would
    # stay until somebody looked for circles.
    for held in (self._replies, self._given_up, self._asides, self._tasks):
      held.clear()
    self._listener = self._speaking = self._pause = self._context = None
    self._saying = self._ticking = self._mending = None

  # What is heard.

  async def _tick(self) -> None:
    """Time goes on for a microphone that was switched off."""
    while True:
      await self._clock.sleep(_TICK)
      async with self._lock:
        now = self._clock.now()
        if now - self._heard_at < _MUTED:
          continue
        passed, self._told_at = now - self._told_at, now
        if self._listener.is_waiting:
          for action in self._listener.wait(passed):
            await self._act(action)

  async def _feed(self, event: ev.Event) -> None:
    for action in self._listener.feed(event):
      await self._act(action)

  async def _act(self, action: ev.Action) -> None:
    match action:
      case ev.BeginTurn(since=since):
        self._turn_item = events.new_id('item')
        await self._tell(
          'input_audio_buffer.speech_started',
          audio_start_ms=round(self._listener.place(since) * 1000),
          item_id=self._turn_item,
        )
      case ev.Paused(until=until):
        self._write_down(self._paused(until))
      case ev.Speculate(reply=number, until=until):
        self._replies[number] = self._reply(
          self._session, number, hearing=self._paused(until)
        )
      case ev.Discard(reply=number):
        await self._drop(number)
      case ev.EndTurn(until=until):
        await self._stopped(until)
        try:
          await self._committed(self._paused(until, begins=False))
        except Exception as error:  # noqa: BLE001 - what follows has to come
          if not isinstance(error, errors.UserError | services.Busy):
            _LOG.exception('a turn could not be heard')
          await self._send(events.error(error, None))
      case ev.DropTurn(at=at):
        await self._stopped(at)
      case ev.Reply(reply=number):
        reply = self._replies.pop(number, None)
        reply = reply or self._reply(self._session, number)
        await self._let_go(number, reply, self._session)
      case ev.Hold():
        if self._speaking is not None:
          self._speaking.hold()
      case ev.Resume():
        if self._speaking is not None:
          self._speaking.resume()
      case ev.Stop():
        await self._stop('turn_detected')

  async def _stopped(self, until: float) -> None:
    await self._tell(
      'input_audio_buffer.speech_stopped',
      audio_end_ms=round(self._listener.place(until) * 1000),
      item_id=self._turn_item,
    )

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
    except Exception as error:  # noqa: BLE001 - a turn without words goes on
      is_ours = not isinstance(error, errors.UserError | services.Busy)
      if is_ours:
        _LOG.exception('a turn could not be written down')
      if tells:
        await self._tell(
          'conversation.item.input_audio_transcription.failed',
          item_id=name,
          content_index=0,
          error={
            'type': 'transcription_error',
            'code': 'audio_unintelligible',
            'message': 'The recogniser failed.' if is_ours else str(error),
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

  def _paused(self, until: float, begins: bool = True):
    """What was said up to a pause, as it was heard then.

    Args:
      until: Where the speech in front of it ends.
      begins: Whether one is begun where there is none; else all is heard.
    """
    hearing, last = self._listener.hearing, self._pause
    if hearing is None:
      return None
    if last is None or (last.hearing, last.until) != (hearing, until):
      if not begins:
        return hearing
      self._pause = pauses.Pause(hearing, until, self._begin)
    return self._pause

  def _write_down(self, pause: pauses.Pause | None) -> None:
    """The words so far, for the controller."""
    if pause is None:
      return
    until = self._listener.at

    async def words():
      try:
        text = await pause.transcript()
      except Exception:  # noqa: BLE001 - told when the turn is written down
        return
      async with self._lock:
        speaking = self._speaking
        if speaking is not None and pauses.is_our_own(text, speaking.said):
          text = ''  # the loudspeaker was heard
        await self._feed(ev.Words(self._listener.at, text, until))

    self._begin(words())

  # What is said.

  def _reply(self, session, number=None, hearing=None, only=None):
    """Begins a reply that nobody hears yet."""

    async def turns():
      also = []
      if self._mending is not None:
        await asyncio.wait([self._mending], timeout=_PATIENCE)
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
      reply_lib.Wish(
        turns,
        self._manner(session),
        spoken,
        tools=reply_lib.Tools(self._own(session), self._runner.answer),
        many_calls=session['parallel_tool_calls'] is not False,
      ),
      lambda: events.new_id('call'),
    )
    if number is not None and self._listener is not None:
      listener = self._listener
      reply.sounds = lambda: listener.decide(ev.Ready(listener.at, number))
    reply.begin()
    return reply

  async def _drop(self, number: int) -> None:
    reply = self._replies.pop(number, None)
    if reply is not None:
      await reply.cancel()

  async def _let_go(self, number, reply, session, metadata=None) -> None:
    """A reply may be heard."""
    self._speaking = self._spoken(
      reply, session, self._context, self._conversation, metadata
    )
    self._has_spoken |= session['output_modalities'] == [config.AUDIO]
    reply.wanted()
    self._saying = asyncio.create_task(self._say(self._speaking, number))

  def _spoken(self, reply, session, context, conversation, metadata):
    aloud = conversation is not None
    audible = session['output_modalities'] == [config.AUDIO]
    return speaking_lib.Speaking(
      reply,
      session,
      context,
      conversation,
      self._send,
      self._clock,
      self._models.mouth.sample_rate if audible else None,
      metadata,
      self._playing,
      self._listener.plays if self._listener is not None and aloud else None,
    )

  def _aside(self, reply, session, metadata) -> None:
    """A reply beside the conversation, which is not said aloud."""
    context = context_lib.Context(self._models.mind)
    speaking = self._spoken(reply, session, context, None, metadata)
    speaking.hurry()
    reply.wanted()

    async def run():
      await speaking.run()
      del self._asides[speaking.id]

    self._asides[speaking.id] = speaking, asyncio.create_task(run())

  async def _end_aside(self, name: str) -> None:
    speaking, task = self._asides.pop(name)
    task.cancel()
    await asyncio.wait([task])
    await speaking.stop('client_cancelled')
    await speaking.reply.cancel()

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

  async def _stop(self, reason: str, *, is_silent: bool = False) -> None:
    speaking, self._speaking = self._speaking, None
    if speaking is None:
      return
    # What a client has, and does not throw away, is played before what follows.
    goes_on = speaking.is_over and reason == 'client_cancelled'
    self._playing = speaking.until if goes_on else float('-inf')
    if self._saying is not None:
      self._saying.cancel()
      await asyncio.wait([self._saying])
      self._saying = None
    await speaking.stop(reason, is_silent=is_silent)
    if self._mending is not None:
      self._mending.cancel()
    self._given_up = [one for one in self._given_up if not one.is_done]
    self._given_up.append(speaking.reply)
    self._mending = asyncio.create_task(speaking.mend())

  # Settings.

  @property
  def _input(self) -> Mapping[str, Any]:
    return self._session['audio']['input']

  def _turns(self):
    detection = self._input['turn_detection']
    settings = server_vad.settings(detection, self._usual_turns)
    if self._session['type'] == config.TRANSCRIPTION:
      settings = dataclasses.replace(settings, replies=False)
    return settings

  def _new_incoming(self) -> formats.Incoming:
    return formats.Incoming(self._input['format']['type'], services.HEARD_RATE)

  def _own(self, session) -> list[str]:
    """Names of the tools that run here."""
    theirs = {one.get('name') for one in session.get('tools', ())}
    return [name for name in self._tools.names if name not in theirs]

  def _schemas(self, session) -> tuple[Mapping[str, Any], ...]:
    own = self._own(session)
    return (
      *map(config.as_schema, session.get('tools', ())),
      *(x for x in self._tools.schemas if x['function']['name'] in own),
    )

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

  def _begin(self, work) -> asyncio.Task:
    task = asyncio.create_task(work)
    self._tasks.add(task)
    task.add_done_callback(self._tasks.discard)
    return task

  async def _tell(self, kind: str, **fields: Any) -> None:
    await self._send(events.made(kind, **fields))
