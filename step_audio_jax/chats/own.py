"""Conversations as manifests hold them: `turns` of a chat.

    {"role": "tool_json_schemas", "tools": [{"type", "function"}, …]}
    {"role": "user", "text": "…"}
    {"role": "user", "speech": ID}             of an utterance of the corpus
    {"role": "user", "content": [{"text": "…"}, {"speech": ID}]}   both
    {"role": "assistant", "text": "…", "calls": [{"name", "arguments"}]}
    {"role": "tool", "text": "…"}

A call may have an `id`, which a result then names as `call_id`.
"""

from typing import Any, Iterator, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import messages
from step_audio_jax.chats import tools as tools_lib

_CONTENTS = ('text', 'speech', 'content')
_FIELDS = ('role', *_CONTENTS, 'calls', 'tools', 'call_id')


def parse(turns: Any) -> chats.Conversation:
  """A conversation of turns; `checks.check` says whether it is sound.

  Raises:
    UserError: A turn is of another shape than expected.
  """
  if not isinstance(turns, (list, tuple)):
    raise errors.UserError(f'turns: found {turns!r:.60}, expected a list.')
  return chats.Conversation(
    tuple(parse_turn(turn, f'turns[{n}]') for n, turn in enumerate(turns))
  )


def checked(turns: Any) -> tuple[Mapping[str, Any], ...]:
  """Turns of a manifest as they are kept.

  Raises:
    UserError: As `parse` and `checks.check`.
  """
  checks.check_depth(turns, 'turns')
  conversation = parse(turns)
  checks.check(conversation, orderly=False)
  return written(conversation)


def written(conversation: chats.Conversation) -> tuple[dict[str, Any], ...]:
  """Turns of a conversation whose recordings are utterances of the corpus."""
  return tuple(map(_written, conversation.turns))


def spoken(turns: Any) -> Iterator[str]:
  """Ids of the utterances that checked turns refer to, in order."""
  for turn in turns or ():
    for part in turn.get('content', (turn,)):
      if 'speech' in part:
        yield part['speech']


def _written(turn: chats.Turn) -> dict[str, Any]:
  told: dict[str, Any] = {'role': turn.role}
  parts = [
    {'text': part} if isinstance(part, str) else {'speech': part.id}
    for part in turn.parts
  ]
  if len(parts) == 1:
    told |= parts[0]
  elif parts:
    told['content'] = parts
  if turn.tools:
    told['tools'] = list(turn.tools)
  if turn.calls:
    told['calls'] = [
      {'name': call.name, 'arguments': call.arguments}
      | ({'id': call.id} if call.id else {})
      for call in turn.calls
    ]
  if turn.call_id:
    told['call_id'] = turn.call_id
  return told


def parse_turn(turn: Any, where: str) -> chats.Turn:
  """A turn of a manifest, which messages call `where`.

  Raises:
    UserError: It is of another shape than expected.
  """
  if not isinstance(turn, Mapping):
    raise errors.UserError(
      f'{where}: found {turn!r:.60}, expected a role with a text or the id of '
      'a speech.'
    )
  unknown = sorted(set(turn) - set(_FIELDS))
  if unknown:
    raise errors.UserError(
      f'{where}.{unknown[0]}: unknown field, expected {", ".join(_FIELDS)}'
      f'{checks.nearest(unknown[0], _FIELDS)}.'
    )
  role = turn.get('role')
  if role not in chats.ROLES:
    raise errors.UserError(
      f'{where}.role: found {role!r:.60}, expected {", ".join(chats.ROLES)}'
      f'{checks.nearest(role, chats.ROLES)}.'
    )
  given = [name for name in _CONTENTS if turn.get(name) is not None]
  if len(given) > 1:
    raise errors.UserError(
      f'{where}: found {given[0]} and {given[1]}, expected one of them; both a '
      'text and a speech are parts of `content`.'
    )
  parts = [{name: turn[name]} for name in given]
  if 'content' in given:
    parts = turn['content']
  if not isinstance(parts, (list, tuple)):
    raise errors.UserError(
      f'{where}.content: found {parts!r:.60}, expected a list of parts.'
    )
  field = f'{where}.content' if 'content' in given else where
  call_id = turn.get('call_id')
  if call_id is not None and not isinstance(call_id, str):
    raise errors.UserError(
      f'{where}.call_id: found {call_id!r:.60}, expected a string.'
    )
  return chats.Turn(
    role,
    messages.joined([_part(part, field) for part in parts]),
    tools_lib.calls(turn.get('calls') or [], f'{where}.calls'),
    tools_lib.schemas(turn.get('tools'), f'{where}.tools'),
    call_id or None,
    where,
  )


def _part(part: Any, field: str) -> str | chats.Speech:
  name, value = None, None
  if isinstance(part, Mapping) and len(part) == 1:
    ((name, value),) = part.items()
  good = name in ('text', 'speech') and isinstance(value, str)
  if not good or not value.strip():
    raise errors.UserError(
      f'{field}: found {part!r:.60}, expected a text or the id of a speech.'
    )
  return value if name == 'text' else chats.Speech(id=value)
