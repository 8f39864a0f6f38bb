"""One realtime session: what a client asks for.

Events of a client are handled one after the other.
"""

import dataclasses
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import context as context_lib
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.serving.realtime import config
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import faults
from step_audio_jax.serving.realtime import formats
from step_audio_jax.serving.realtime import talk

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


class Session(talk.Talk):
  """One client's."""

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
      self._reply(session, only=only),
      session,
      None if beside else self._conversation,
      given.get('metadata'),
      context,
    )

  async def _asked(self) -> int:
    """The number of a reply that a program asked for."""
    if self._listener is None:
      self._asked_for += 1
      return self._asked_for
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
