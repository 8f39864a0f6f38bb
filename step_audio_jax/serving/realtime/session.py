"""One realtime session: what a client asks for.

Events of a client are handled one after the other.
"""

import asyncio
import dataclasses
import logging
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import budget
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.serving.realtime import config
from step_audio_jax.serving.realtime import events
from step_audio_jax.serving.realtime import faults
from step_audio_jax.serving.realtime import formats
from step_audio_jax.serving.realtime import talk

_LOG = logging.getLogger(__name__)
_LEAST = 0.1  # seconds of a turn that is committed
_LONGEST_AUDIO = 20 * 2**20  # base64 characters of one event: 15 MiB
_MUCH = 2**18  # characters that are read in a thread
_SLICE = 8000  # samples that are heard before others have their turn
_LONGEST_ID = 512  # characters of an event's that is given back
_MOST_INPUT = 1024  # items


def _metadata(value: Any, param: str) -> dict[str, str]:
  if not isinstance(value, dict) or len(value) > 16:
    raise faults.wrong(value, param, 'an object of at most 16 strings')
  for key, one in value.items():
    faults.text(64)(key, param)
    faults.text(512)(one, f'{param}.{key}')
  return value


def _as_given(value: Any, param: str) -> Any:
  """Is checked with the session, or with the items."""
  del param
  return value


_RESPONSE = faults.table(
  {
    'conversation': faults.optional(faults.choice('auto', 'none')),
    'input': faults.optional(faults.listed(_as_given, _MOST_INPUT)),
    'metadata': faults.optional(_metadata),
    'prompt': config.no_prompt(),
    'reasoning': config.no_reasoning(),
    **dict.fromkeys(
      (
        'audio',
        'instructions',
        'max_output_tokens',
        'output_modalities',
        'parallel_tool_calls',
        'tools',
        'tool_choice',
      ),
      _as_given,
    ),
  }
)
_BESIDE = 'conversation', 'input', 'metadata', 'prompt', 'reasoning'


class Session(talk.Talk):
  """One client's."""

  async def handle(self, value: Any) -> None:
    """What a client sent; what is wrong with it is told."""
    event_id = value.get('event_id') if isinstance(value, dict) else None
    if not isinstance(event_id, str) or len(event_id) > _LONGEST_ID:
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
    except Exception as error:  # noqa: BLE001 - it ends this event alone
      _LOG.exception('an event could not be handled')
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
    self._context.truncation = budget.parse(self._session.get('truncation'))
    await self._tell('session.updated', session=self._session)

  async def _append(self, event) -> None:
    audio = faults.text(_LONGEST_AUDIO)(event.get('audio'), 'audio')
    if self._listener is None:
      raise faults.Fault(
        'input_audio_buffer.append: this server does not hear; expected text.',
        'unsupported',
        'type',
      )
    if len(audio) < _MUCH:
      samples_S = self._incoming(formats.from_base64(audio, 'audio'))
    else:
      samples_S = await asyncio.to_thread(
        lambda: self._incoming(formats.from_base64(audio, 'audio'))
      )
    for begin in range(0, len(samples_S), _SLICE):
      if begin:
        await asyncio.sleep(0)
      part_S = samples_S[begin : begin + _SLICE]
      self._heard_at = self._told_at = self._clock.now()
      for action in self._listener.push(part_S, self._heard_at):
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
    actions = self._listener.decide(ev.Commit(at))
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
        hearing.push(self._new_incoming()(part.data, last=True))
        part = dataclasses.replace(part, speech=await hearing.finish())
      parts.append(part)
    return dataclasses.replace(item, parts=tuple(parts))

  async def _told(self, item: items_lib.Item) -> None:
    written = items_lib.written(item)
    previous = self._context.items.before(item.id)
    for kind in ('conversation.item.added', 'conversation.item.done'):
      await self._tell(kind, previous_item_id=previous, item=written)

  async def _retrieve(self, event) -> None:
    item = self._context.items.retrieve(self._known(event, 'retrieve'))
    written = items_lib.written(item, audio=True)
    await self._tell('conversation.item.retrieved', item=written)

  async def _truncate(self, event) -> None:
    name = self._known(event, 'truncate')
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
    name = self._known(event, 'delete')
    self._context.delete(name)
    await self._tell('conversation.item.deleted', item_id=name)

  async def _respond(self, event) -> None:
    given = {} if event.get('response') is None else event['response']
    if self._session['type'] == config.TRANSCRIPTION:
      raise faults.Fault(
        'response.create: a transcription session has no responses; expected '
        'a session of the type "realtime".',
        'invalid_value',
        'type',
      )
    given = _RESPONSE(given, 'response')
    beside = given.get('conversation') == 'none'
    is_busy = self._speaking is not None and not self._speaking.is_over
    if is_busy and not beside:
      raise faults.Fault(
        'response.create: the conversation has an active response already; '
        'expected it to be done or cancelled first.',
        'conversation_already_has_active_response',
      )
    # What is null is that of the session.
    named = {
      field: value
      for field, value in given.items()
      if field not in _BESIDE and value is not None
    }
    session = config.updated(
      self._session,
      {'type': self._session['type'], **named},
      self._models,
      has_spoken=self._has_spoken and not beside,
      is_replying=False,
      where='response',
    )
    only = None
    if given.get('input') is not None:
      only = [
        await self._meant(one, f'response.input[{n}]')
        for n, one in enumerate(given['input'])
      ]
    if beside:
      if len(self._asides) >= talk.MOST_ASIDE:
        raise faults.Fault(
          f'response.create: {len(self._asides)} responses beside the '
          f'conversation are active, expected at most {talk.MOST_ASIDE}.',
          'rate_limit_exceeded',
          kind=faults.RATE,
        )
      reply = self._reply(session, only=only)
      self._aside(reply, session, given.get('metadata'))
      return
    number = await self._asked()
    reply = self._reply(session, number, only=only)
    await self._let_go(number, reply, session, given.get('metadata'))

  async def _meant(self, value: Any, field: str) -> items_lib.Item:
    """An item, or one of the conversation by its id."""
    if isinstance(value, dict) and value.get('type') == 'item_reference':
      return self._context.items.retrieve(value.get('id'), f'{field}.id')
    return await self._heard(items_lib.parse(value, field))

  async def _asked(self) -> int:
    """The number of a reply that a program asked for."""
    if self._listener is None:
      await self._stop('client_cancelled')
      return 0
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
    wanted = faults.optional(faults.text(128))(
      event.get('response_id'), 'response_id'
    )
    if wanted in self._asides:
      await self._end_aside(wanted)
      return
    at = self._speaking
    if at is None or at.is_over or wanted not in (None, at.id):
      raise faults.Fault(
        'response.cancel: there is no active response; expected one to cancel.',
        'response_cancel_not_active',
      )
    await self._stop('client_cancelled')
    if self._listener is not None:
      self._listener.decide(ev.Cancel(self._listener.at))

  async def _clear_output(self, event) -> None:
    """Nothing more is sent, and what was sent is not played to its end."""
    del event
    if self._speaking is None:
      return
    name = self._speaking.id
    await self._stop('client_cancelled', is_silent=True)
    if self._listener is not None:
      self._listener.decide(ev.Cancel(self._listener.at))
    await self._tell('output_audio_buffer.cleared', response_id=name)

  def _known(self, event: Mapping[str, Any], what: str) -> str:
    """The item that is meant.

    Raises:
      Fault: There is none.
    """
    name = faults.text(128, least=1)(event.get('item_id'), 'item_id')
    if name not in self._context.items:
      raise faults.Fault(
        f'item_id: found {faults.shown(name)}, expected the id of an item of '
        'the conversation.',
        f'item_{what}_invalid_item_id',
        'item_id',
      )
    return name


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
