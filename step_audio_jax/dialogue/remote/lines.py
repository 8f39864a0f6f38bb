"""What an engine sends, event by event → the pieces of a reply.

    data: {"choices": [{"delta": {"content": "Good"}}]}
    data: {"choices": [{"delta": {"tool_calls": [{"index": 0, …}]}}]}
    data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    data: {"choices": [], "usage": {…}}
    data: [DONE]

It was written by others: what is of another shape is `Broken`.
"""

from typing import Any, Iterator, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import tools as tools_lib
from step_audio_jax.dialogue import services
from step_audio_jax.endpoints import chat
from step_audio_jax.storage import files

_REASONS = {
  'stop': services.STOPPED,
  'length': services.CUT,
  'tool_calls': services.CALLED,
  'function_call': services.CALLED,
}
_MOST_CALLS = 128


class Broken(Exception):
  """An engine broke off, or sent what is no reply."""


class Reader:
  """Events of one reply.

  Attributes:
    ended: The last piece, as far as it is known.
    is_over: Whether the engine said that it was all.
  """

  def __init__(self):
    """Nothing came yet."""
    self._calls: dict[int, dict[str, Any]] = {}
    self._reason: str | None = None
    self._usage = services.Usage()
    self.is_over = False

  def read(self, line: bytes) -> Iterator[services.Piece]:
    """What a line says, if anything.

    Raises:
      Broken: It is no event of the protocol.
    """
    field, _, data = line.strip().partition(b':')
    if field != b'data' or self.is_over:
      return  # a comment that keeps the connection, or the end of an event
    data = data.strip()
    if data == b'[DONE]':
      self.is_over = True
      return
    try:
      value = files.parsed(data.decode())
    except ValueError as error:
      raise Broken('an event is no JSON') from error
    if not isinstance(value, Mapping):
      raise Broken('an event is no object')
    if value.get('error') is not None:
      raise Broken(f'it says: {chat.said_of(value["error"])}')
    self._count(value.get('usage'))
    choices = value.get('choices')
    if not isinstance(choices, list):
      raise Broken('an event has no choices')
    for choice in choices[:1]:
      yield from self._chosen(choice)

  def end(self) -> Iterator[services.Piece]:
    """The last pieces: calls, and what it cost.

    Raises:
      Broken: A call is none, or the engine did not come to an end.
    """
    if self._reason is None:
      raise Broken('it broke off within the reply')
    for number, given in sorted(self._calls.items()):
      try:
        call = tools_lib.call(given, f'tool_calls[{number}]')
      except errors.UserError as error:
        raise Broken(str(error)) from error
      yield services.Called(call)
    reason = services.CALLED if self._calls else _REASONS.get(self._reason)
    yield services.Ended(reason or services.STOPPED, self._usage)

  def _chosen(self, choice: Any) -> Iterator[services.Piece]:
    delta = choice.get('delta') if isinstance(choice, Mapping) else None
    if not isinstance(delta, Mapping):
      raise Broken('a choice has no delta')
    content = delta.get('content')
    if isinstance(content, str) and content:
      yield services.Text(content)
    elif content not in (None, ''):
      raise Broken('a content is no text')
    for part in delta.get('tool_calls') or ():
      self._add(part)
    reason = choice.get('finish_reason')
    if isinstance(reason, str):
      self._reason = reason

  def _add(self, part: Any) -> None:
    """A part of a call; parts of the same number belong together."""
    number = part.get('index') if isinstance(part, Mapping) else None
    if type(number) is not int or not 0 <= number < _MOST_CALLS:
      raise Broken('a call has no index')
    call = self._calls.setdefault(number, {'name': '', 'arguments': ''})
    if isinstance(part.get('id'), str):
      call['id'] = part['id']
    function = part.get('function')
    for name in ('name', 'arguments'):
      if isinstance(function, Mapping) and isinstance(function.get(name), str):
        call[name] += function[name]

  def _count(self, usage: Any) -> None:
    if not isinstance(usage, Mapping):
      return

    def whole(value):
      return value if type(value) is int and 0 <= value < 2**53 else 0

    details = usage.get('prompt_tokens_details')
    cached = details.get('cached_tokens') if isinstance(details, Mapping) else 0
    self._usage = services.Usage(
      whole(usage.get('prompt_tokens')),
      whole(cached),
      whole(usage.get('completion_tokens')),
    )
