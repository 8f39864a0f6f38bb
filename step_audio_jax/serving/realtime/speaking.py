"""A reply on its way to a client: its events, paced as it is heard.

Sound goes out at most `_LEAD` seconds before it is played, so that a reply that
is interrupted leaves little behind it.
"""

import asyncio
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
Send = Callable[[events.Event], Awaitable[None]]


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
    """
    self.id, self.reply = events.new_id('resp'), reply
    self._session, self._context = session, context
    self._conversation, self._send, self._clock = conversation, send, clock
    self._rate, self._metadata = rate, metadata
    self._playback = playback_lib.Playback(_LEAD)
    self._goes_on = asyncio.Event()
    self._goes_on.set()
    self._outgoing = None
    if rate is not None:
      name = session['audio']['output']['format']['type']
      self._outgoing = formats.Outgoing(name, rate)
    self._done: list[dict[str, Any]] = []  # items that are whole
    self._item: str | None = None  # that is being said
    self._ledger = None
    self._words: list[str] = []
    self.is_over = self._is_begun = False
    self.item_played: tuple[str, int] | None = None

  def hold(self) -> None:
    """Sends no more sound for now."""
    self._goes_on.clear()

  def resume(self) -> None:
    """Goes on."""
    self._goes_on.set()

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
        async for piece in stretch.pieces:
          await self._take(piece)
        await self._close_item(items_lib.COMPLETED)
        for one in stretch.answers:
          await self._used(one)
    except Exception as error:  # noqa: BLE001 - it ends this reply alone
      await self.reply.cancel()
      self.reply.error = self.reply.error or error
      if not isinstance(error, errors.UserError):
        _LOG.exception('a reply could not be sent')
    await self._finish()

  async def stop(self, reason: str) -> None:
    """Ends it before its end; what was played of it stays.

    Args:
      reason: 'turn_detected' or 'client_cancelled'.
    """
    await self.reply.cancel()
    played = self._playback.stop(self._clock.now())
    # Who asks for the next reply has heard what was sent, or says so.
    if reason == 'turn_detected' or not self.is_over:
      self._cut(played)
    if self.is_over or not self._is_begun:
      return
    await self._close_item(items_lib.INCOMPLETE)
    await self._over(events.CANCELLED, reason)

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
      output=self._done,
      metadata=self._metadata,
      **fields,
    )

  async def _take(self, piece) -> None:
    if isinstance(piece, services.Called):
      await self._close_item(items_lib.COMPLETED)
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
    await self._tell(
      'response.output_item.added',
      response_id=self.id,
      output_index=len(self._done),
      item=items_lib.written(item),
    )
    await self._added(item)
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
      self._playback.send(len(part_S) / self._rate, self._clock.now())
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
      await self._item_done(item)

  async def _item_done(self, item: items_lib.Item) -> None:
    written = items_lib.written(item)
    await self._tell(
      'response.output_item.done',
      response_id=self.id,
      output_index=len(self._done),
      item=written,
    )
    self._done.append(written)
    await self._tell(
      'conversation.item.done',
      previous_item_id=self._context.items.before(item.id),
      item=written,
    )

  async def _added(self, item: items_lib.Item) -> None:
    await self._tell(
      'conversation.item.added',
      previous_item_id=self._context.items.before(item.id),
      item=items_lib.written(item),
    )

  async def _call(self, call: chats.Call) -> None:
    """A call of a client's tool."""
    item = self._context.create(items_lib.called(call))
    written = items_lib.written(item)
    shared = {
      'response_id': self.id,
      'item_id': item.id,
      'output_index': len(self._done),
      'call_id': item.call.id,
    }
    opened = {**written, 'status': 'in_progress', 'arguments': ''}
    await self._tell(
      'response.output_item.added',
      response_id=self.id,
      output_index=len(self._done),
      item=opened,
    )
    await self._added(item)
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
    await self._item_done(item)

  async def _used(self, answered: reply_lib.Answered) -> None:
    """A tool of ours was used: its call and its result join the chat."""
    item = self._context.create(items_lib.called(answered.call))
    await self._added(item)
    await self._item_done(item)
    result = self._context.create(
      items_lib.Item(
        items_lib.OUTPUT, call_id=item.call.id, output=answered.result
      )
    )
    await self._added(result)

  async def _of_item(self, kind: str, **fields) -> None:
    await self._tell(
      kind,
      response_id=self.id,
      item_id=self._item,
      output_index=len(self._done),
      content_index=0,
      **fields,
    )

  async def _tell(self, kind: str, **fields) -> None:
    await self._send(events.made(kind, **fields))
