"""A reply on its way to a client: its events, paced as it is heard.

Sound goes out at most `_LEAD` seconds before it is played, so that a reply that
is interrupted leaves little behind it. A reply that calls a tool of the client
is sent as it is made: the client answers when it is over, and it may go on
being played while the next one is made.
"""

import asyncio
import dataclasses
import logging
from typing import Any, Awaitable, Callable, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import context as context_lib
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.live import clock as clock_lib
from step_audio_jax.dialogue.live import playback as playback_lib
from step_audio_jax.dialogue.live import reply as reply_lib
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import formats

_LOG = logging.getLogger(__name__)
_LEAD = 0.6  # seconds
_PIECE = 0.2  # seconds of sound in one event
_MENDING = 3.0  # seconds that the rest of a sentence may take
_BOTH = 'conversation.item.added', 'conversation.item.done'
Send = Callable[[events.Event], Awaitable[None]]
Plays = Callable[[np.ndarray, int, float], None]


class Speaking:
  """One response.

  Attributes:
    id: Of the response.
    reply: That is said.
    is_over: Whether `response.done` was sent.
  """

  def __init__(
    self,
    reply: reply_lib.Reply,
    session: Mapping[str, Any],
    context: context_lib.Context,
    conversation: str | None,
    send: Send,
    clock: clock_lib.Clock,
    rate: int | None,
    metadata: Mapping[str, str] | None = None,
    playing: float = float('-inf'),
    plays: Plays | None = None,
  ):
    """Nothing of it is sent yet.

    Args:
      reply: It is begun already.
      session: In effect for it.
      context: Remembers it.
      conversation: Id; None where it is to stand beside the conversation.
      send: Sends an event.
      clock: Paces.
      rate: Of the mouth's sound, Hz; None where it is only written.
      metadata: As the client gave it.
      playing: When all is played that was sent before it.
      plays: Is told what is played, at which rate and when.
    """
    self.id, self.reply = events.new_id('resp'), reply
    self._session, self._context = session, context
    self._conversation, self._send, self._clock = conversation, send, clock
    self._rate, self._metadata = rate, metadata
    self._plays = plays
    self._playback = playback_lib.Playback(_LEAD, end=playing)
    self._goes_on = asyncio.Event()
    self._goes_on.set()
    self._outgoing = None
    if rate is not None:
      name = session['audio']['output']['format']['type']
      self._outgoing = formats.Outgoing(name, rate)
    self._done: dict[int, dict[str, Any]] = {}  # items that are whole
    self._places = 0  # of items
    self._item: str | None = None  # that is being said
    self._place = 0  # of it
    self._ledger = None
    self._stretch: reply_lib.Stretch | None = None
    self._left: services.Sound | None = None  # of what is being sent
    self._words: list[str] = []
    self.is_over = self._is_begun = False
    self.item_played: tuple[str, int] | None = None

  def hurry(self) -> None:
    """Sends what is left as it is made."""
    self._playback.lead = float('inf')

  def hold(self) -> None:
    """Sends no more sound for now."""
    self._goes_on.clear()

  def resume(self) -> None:
    """Goes on."""
    self._goes_on.set()

  @property
  def said(self) -> str:
    """The words so far, whether they have sounded or not."""
    return ''.join(self._words)

  @property
  def until(self) -> float:
    """When all that was sent is played."""
    return self._playback.end

  @property
  def left(self) -> float:
    """Seconds until all that was sent is played."""
    return self._playback.left(self._clock.now())

  async def run(self) -> None:
    """Says all of it; raises nothing but cancellation."""
    self._is_begun = True
    await self._tell('response.created', response=self._shown('in_progress'))
    try:
      async for stretch in self.reply.stretches():
        await self._use_answers()
        self._stretch = stretch
        async for piece in stretch.pieces:
          await self._take(piece)
        await self._close_item(items_lib.COMPLETED)
      await self._use_answers()
    except Exception as error:  # noqa: BLE001 - it ends this reply alone
      await self.reply.cancel()
      self.reply.error = self.reply.error or error
      if not isinstance(error, errors.UserError):
        _LOG.exception('a reply could not be sent')
    await self._finish()

  async def stop(self, reason: str, *, is_silent: bool = False) -> None:
    """Ends it before its end; what was played of it stays; `mend` follows.

    Args:
      reason: 'turn_detected' or 'client_cancelled'.
      is_silent: Whether what was sent is not played to its end either.
    """
    self.reply.unwanted()
    played = self._playback.stop(self._clock.now())
    # Who asks for the next reply has heard what was sent, or says so.
    if is_silent or reason == 'turn_detected' or not self.is_over:
      self._cut(played)
    if self.is_over or not self._is_begun:
      return
    await self._close_item(items_lib.INCOMPLETE)
    await self._over(events.CANCELLED, reason)

  async def mend(self) -> None:
    """Lets go of what was stopped, once the sentence that was cut is made.

    Nobody hears the rest of it, but where its words lie is known by then.
    """
    try:
      async with asyncio.timeout(_MENDING):
        await self._make_rest()
    except TimeoutError:
      pass
    finally:
      await self.reply.cancel()

  async def _make_rest(self) -> None:
    ledger = self._ledger
    if ledger is None or not ledger.is_within_sentence:
      return
    if self._left is not None:
      ledger.add(self._left, is_sent=False)
    while ledger.is_within_sentence:
      piece = await anext(self._stretch.pieces, None)
      if piece is None:
        return
      if isinstance(piece, services.Sound):
        ledger.add(piece, is_sent=False)

  def _cut(self, played: float) -> None:
    """History keeps what was played, until the client says it better."""
    if self.item_played is None or self.item_played[0] not in (
      self._context.items
    ):
      return
    name, index = self.item_played
    ledger = self._ledger
    if ledger is not None and not ledger.is_cut:
      self._context.truncate(
        name, index, min(played * 1000, ledger.sent_ms), False
      )

  async def _finish(self) -> None:
    error = self.reply.error
    if error is not None:
      await self._close_item(items_lib.INCOMPLETE)
      if isinstance(error, (errors.UserError, services.Busy)):
        await self._send(events.error(error, None))
      await self._over(events.FAILED, fault=error)
    elif self.reply.reason == services.CUT:
      await self._over(events.INCOMPLETE, 'max_output_tokens')
    else:
      await self._over(events.COMPLETED)

  async def _over(self, status, reason=None, fault=None) -> None:
    self.is_over = True
    shown = self._shown(
      status, reason=reason, fault=fault, spent=self.reply.usage
    )
    await self._tell('response.done', response=shown)

  def _shown(self, status: str, **fields) -> dict[str, Any]:
    return events.response(
      self.id,
      self._conversation,
      self._session,
      status,
      output=[self._done[place] for place in sorted(self._done)],
      metadata=self._metadata,
      **fields,
    )

  async def _take(self, piece) -> None:
    if isinstance(piece, services.Called):
      # The sound of what was said before may still be on its way.
      self.hurry()
      await self._call(piece.call)
      return
    if self._item is None:
      await self._open_item()
    if isinstance(piece, services.Text):
      await self._word(piece.text)
    else:
      await self._sound(piece)

  async def _open_item(self) -> None:
    item = self._context.reply()
    self._item, self._words = item.id, []
    self._place = self._next_place()
    await self._tell(
      'response.output_item.added',
      response_id=self.id,
      output_index=self._place,
      item=items_lib.written(item),
    )
    await self._of_conversation('conversation.item.added', item)
    part: dict[str, Any] = {'type': 'text', 'text': ''}
    if self._rate is not None:
      speed = self._session['audio']['output']['speed']
      index, self._ledger = self._context.speak(item.id, self._rate, speed)
      self.item_played = item.id, index
      part = {'type': 'audio', 'transcript': ''}
    else:
      self._context.write(item.id, '')
    await self._of_item('response.content_part.added', part=part)

  async def _word(self, text: str) -> None:
    self._words.append(text)
    if self._rate is not None:
      self._ledger.announce(text)
      kind = 'response.output_audio_transcript.delta'
    else:
      self._context.write(self._item, text, 0)
      kind = 'response.output_text.delta'
    await self._of_item(kind, delta=text)

  async def _sound(self, sound: services.Sound) -> None:
    """Sends sound, a piece at a time, when it is due."""
    size = max(1, int(_PIECE * self._rate))
    samples_S = sound.samples_S
    cuts = range(0, max(1, len(samples_S)), size)
    self._left = sound
    for begin in cuts:
      part_S = samples_S[begin : begin + size]
      await self._goes_on.wait()
      wait = self._playback.wait(self._clock.now())
      if wait > 0:
        await self._clock.sleep(wait)
        await self._goes_on.wait()
      last = begin + size >= len(samples_S)
      self._ledger.add(
        services.Sound(
          part_S,
          sound.text if last else '',
          sound.ids if last else np.zeros(0, np.int32),
          sound.ends and last,
        )
      )
      rest_S = samples_S[begin + size :]
      self._left = (
        None if last else dataclasses.replace(sound, samples_S=rest_S)
      )
      seconds = len(part_S) / self._rate
      self._playback.send(seconds, self._clock.now())
      if self._plays is not None:
        self._plays(part_S, self._rate, self._playback.end - seconds)
      await self._bytes(self._outgoing(part_S))

  async def _bytes(self, raw: bytes) -> None:
    if raw:
      delta = formats.to_base64(raw)
      await self._of_item('response.output_audio.delta', delta=delta)

  async def _close_item(self, status: str) -> None:
    if self._item is None:
      return
    name, text = self._item, ''.join(self._words)
    if self._rate is not None:
      if status == items_lib.COMPLETED:
        none = np.zeros(0, np.float32)
        await self._bytes(self._outgoing(none, last=True))
      await self._of_item('response.output_audio.done')
      await self._of_item(
        'response.output_audio_transcript.done', transcript=text
      )
      part = {'type': 'audio', 'transcript': text}
    else:
      await self._of_item('response.output_text.done', text=text)
      part = {'type': 'text', 'text': text}
    await self._of_item('response.content_part.done', part=part)
    self._item = None
    item = self._context.finish(name, status)
    if item is not None:
      await self._item_done(item, self._place)

  def _next_place(self) -> int:
    self._places += 1
    return self._places - 1

  async def _item_done(self, item: items_lib.Item, place: int) -> None:
    written = items_lib.written(item)
    await self._tell(
      'response.output_item.done',
      response_id=self.id,
      output_index=place,
      item=written,
    )
    self._done[place] = written
    await self._of_conversation('conversation.item.done', item)

  async def _of_conversation(self, kind: str, item: items_lib.Item) -> None:
    """An item of the conversation; one beside it is none."""
    if self._conversation is None:
      return
    await self._tell(
      kind,
      previous_item_id=self._context.items.before(item.id),
      item=items_lib.written(item),
    )

  async def _call(self, call: chats.Call) -> None:
    """A call of a client's tool."""
    item = self._context.create(items_lib.called(call))
    written, place = items_lib.written(item), self._next_place()
    shared = {
      'response_id': self.id,
      'item_id': item.id,
      'output_index': place,
      'call_id': item.call.id,
    }
    opened = {**written, 'status': 'in_progress', 'arguments': ''}
    await self._tell(
      'response.output_item.added',
      response_id=self.id,
      output_index=place,
      item=opened,
    )
    await self._of_conversation('conversation.item.added', item)
    await self._tell(
      'response.function_call_arguments.delta',
      **shared,
      delta=written['arguments'],
    )
    await self._tell(
      'response.function_call_arguments.done',
      **shared,
      name=item.call.name,
      arguments=written['arguments'],
    )
    await self._item_done(item, place)

  async def _use_answers(self) -> None:
    """Tells of the tools of a stretch that is over: all are known by now."""
    for one in self._stretch.answers if self._stretch is not None else ():
      await self._used(one)

  async def _used(self, answered: reply_lib.Answered) -> None:
    """A tool of ours was used: its call and its result join the chat.

    They are no output of the response: a client would run the call again.
    """
    item = self._context.create(items_lib.called(answered.call))
    for kind in _BOTH:
      await self._of_conversation(kind, item)
    result = self._context.create(
      items_lib.Item(
        items_lib.OUTPUT, call_id=item.call.id, output=answered.result
      )
    )
    for kind in _BOTH:
      await self._of_conversation(kind, result)

  async def _of_item(self, kind: str, **fields) -> None:
    await self._tell(
      kind,
      response_id=self.id,
      item_id=self._item,
      output_index=self._place,
      content_index=0,
      **fields,
    )

  async def _tell(self, kind: str, **fields) -> None:
    await self._send(events.made(kind, **fields))
