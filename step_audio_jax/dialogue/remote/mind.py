"""A mind behind an address: any server of chat completions, vLLM among them.

    python -m step_audio_jax convert …      a folder that vLLM knows
    vllm serve FOLDER
    python -m step_audio_jax serve --mind_url http://127.0.0.1:8001/v1 …

It reads and writes; what was spoken it is told in words. It is asked from
threads, one line of its reply at a time, so that nothing is made ahead of who
listens; who no longer does hangs up on it.
"""

import asyncio
import concurrent.futures
import dataclasses
import json
import math
from typing import Any, AsyncIterator, Sequence

from step_audio_jax import errors
from step_audio_jax import retries
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.remote import lines
from step_audio_jax.endpoints import chat
from step_audio_jax.endpoints import wire

_PASSING = (408, 409, 425, 429)  # statuses, and all from 500 on
_MOST_LINE = 2**20  # bytes
_MOST_FAULT = 2**12
_ROLES = {chats.RESULT: 'tool'}
# What a turn costs besides its text, and bytes of text to an id: on the safe
# side of what tokenizers of open models do with English.
_TURN, _BYTES = 8, 3


@dataclasses.dataclass(frozen=True)
class Address(chat.Model):
  """Where a mind is, and how long it is waited for.

  Attributes:
    connect: Seconds until a connection stands.
    silence: Seconds without a word, at most.
    together: Replies at once.
    longest: Ids that a chat and its reply may have there.
  """

  connect: float = 5.0
  silence: float = 60.0
  together: int = 64
  longest: int = 8192

  def __post_init__(self):
    super().__post_init__()
    errors.at_least_one('endpoint', self, ('together', 'longest'))
    positive = (1e-3, math.inf)
    bounds = {'connect': positive, 'silence': positive}
    errors.within('endpoint', self, bounds)


class RemoteMind:
  """A `services.Mind` that asks another server."""

  hears = False
  speaks = False

  def __init__(self, address: Address):
    """Asks nobody yet.

    Raises:
      UserError: The key that it needs is not there.
    """
    self._address, self._key = address, address.key()
    self._threads = concurrent.futures.ThreadPoolExecutor(
      address.together, 'mind'
    )

  @property
  def longest(self) -> int:
    """Ids that a chat and its reply may have."""
    return self._address.longest

  def length(self, turns: Sequence[chats.Turn]) -> int:
    """About how many ids a chat has: the tokenizer is elsewhere."""
    return sum(
      _TURN + math.ceil(len(json.dumps(one, ensure_ascii=False)) / _BYTES)
      for one in (*messages(turns), *chats.Conversation(tuple(turns)).tools)
    )

  async def reply(
    self,
    turns: Sequence[chats.Turn],
    manner: services.Manner = services.Manner(),
  ) -> AsyncIterator[services.Piece]:
    """The reply, as it comes.

    Args:
      turns: The chat; what was spoken has a transcript.
      manner: Of the reply.

    Yields:
      `Text`, `Called`, and `Ended` as the last.

    Raises:
      UserError: A turn has no transcript, or the engine refuses the chat.
      Busy: The engine is full, or not there.
      Broken: It broke off, or what it sent is no reply.
    """
    address = self._address
    headers = {
      'Content-Type': 'application/json',
      'Accept': 'text/event-stream',
    }
    if self._key:
      headers['Authorization'] = f'Bearer {self._key}'
    body = json.dumps(self.body(turns, manner)).encode()
    stream = wire.Streamed(
      address.address,
      body,
      headers,
      connect=address.connect,
      silence=address.silence,
    )
    loop, reader = asyncio.get_running_loop(), lines.Reader()

    def in_thread(function, *arguments):
      return loop.run_in_executor(self._threads, function, *arguments)

    pending = None
    try:
      pending = in_thread(self._opened, stream)
      await asyncio.shield(pending)
      while not reader.is_over:
        pending = in_thread(self._line, stream)
        line = await asyncio.shield(pending)
        if not line:
          break
        for piece in reader.read(line):
          yield piece
      for piece in reader.end():
        yield piece
    except lines.Broken as error:
      raise lines.Broken(f'{address.name}: {error}.') from error
    finally:
      stream.end()
      # The thread that reads it lets go of it, once it sees that it is over.
      self._threads.submit(stream.close)
      if pending is not None:
        pending.add_done_callback(_seen)

  def body(
    self, turns: Sequence[chats.Turn], manner: services.Manner
  ) -> dict[str, Any]:
    """What is asked.

    Raises:
      UserError: A turn has no transcript.
    """
    tools = list(chats.Conversation(tuple(turns)).tools)
    asked: dict[str, Any] = {
      'model': self._address.model,
      'messages': messages(turns),
      'stream': True,
      'stream_options': {'include_usage': True},
      'temperature': manner.temperature,
      'top_p': manner.top_p,
      'max_tokens': manner.most,
    }
    if manner.top_k:
      asked['top_k'] = manner.top_k
    if manner.seed is not None:
      asked['seed'] = manner.seed
    if manner.stops:
      asked['stop'] = list(manner.stops)
    if tools:
      asked['tools'] = tools
      choice: Any = manner.tool_choice
      if choice not in ('auto', 'none', 'required'):
        choice = {'type': 'function', 'function': {'name': choice}}
      asked['tool_choice'] = choice
    if manner.response_schema is not None:
      asked['response_format'] = {
        'type': 'json_schema',
        'json_schema': {
          'name': 'reply',
          'schema': dict(manner.response_schema),
          'strict': True,
        },
      }
    return {**asked, **self._address.parameters}

  def _opened(self, stream: wire.Streamed) -> None:
    """In a thread: asks, and looks at what the engine says of it."""
    try:
      stream.begin()
      if stream.status == 200:
        return
      body = stream.rest(_MOST_FAULT)
    except retries.Transient as error:
      raise services.Busy(
        f'The engine does not answer ({error.reason}).'
      ) from error
    status = stream.status
    if status in _PASSING or status >= 500:
      raise services.Busy(f'The engine has no room (status {status}).')
    said = chat.error_of(body)
    if self._key:
      said = said.replace(self._key, '***')
    raise errors.UserError(
      f'messages: the engine refused them with status {status}: {said}.'
    )

  def _line(self, stream: wire.Streamed) -> bytes:
    try:
      return stream.line(_MOST_LINE)
    except retries.Transient as error:
      raise lines.Broken(error.reason) from error


def messages(turns: Sequence[chats.Turn]) -> list[dict[str, Any]]:
  """Turns as OpenAI writes them, in words.

  Raises:
    UserError: Something was said that nobody wrote down.
  """
  found = []
  for turn in turns:
    if turn.role == chats.TOOLS:
      continue
    text = '\n'.join(_words(part, turn) for part in turn.parts)
    one: dict[str, Any] = {
      'role': _ROLES.get(turn.role, turn.role),
      'content': text or None if turn.calls else text,
    }
    if turn.calls:
      one['tool_calls'] = [
        {
          'id': call.id or f'call_{number}',
          'type': 'function',
          'function': {
            'name': call.name,
            'arguments': chats.as_json(call.arguments),
          },
        }
        for number, call in enumerate(turn.calls)
      ]
    if turn.role == chats.RESULT:
      one['tool_call_id'] = turn.call_id or _last_call(found)
    found.append(one)
  return found


def _words(part: str | chats.Speech, turn: chats.Turn) -> str:
  if isinstance(part, str):
    return part
  if part.text is None:
    raise errors.UserError(
      f'{turn.where}: found speech without a transcript, expected one: the '
      'engine reads.'
    )
  return part.text


def _last_call(found: Sequence[dict[str, Any]]) -> str:
  """The id of the call that a nameless result belongs to: the next in turn."""
  results = 0
  for one in reversed(found):
    if one['role'] != 'tool':
      calls = one.get('tool_calls') or [{'id': 'call_0'}]
      return calls[min(results, len(calls) - 1)]['id']
    results += 1
  return 'call_0'


def _seen(future: asyncio.Future) -> None:
  """What went wrong behind the end is nobody's concern."""
  if not future.cancelled():
    future.exception()
