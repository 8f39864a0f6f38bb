"""The one validator of conversations: what is wrong with which turn."""

import collections
import difflib
from typing import Any, Collection, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import tools as tools_lib

_DEEPEST = 100
_SPEAKERS = (chats.USER, chats.ASSISTANT)


def nearest(name: object, known: Collection[str]) -> str:
  """'; the nearest is …' for a name that is not known, or nothing."""
  if not isinstance(name, str):
    return ''
  close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.3)
  return f'; the nearest is {close[0]!r}' if close else ''


def check_depth(value: Any, where: str) -> None:
  """Refuses JSON that is nested so deeply that nobody can say what it is.

  Raises:
    UserError: It is.
  """
  level, depth = [value], 0
  while level:
    inner = []
    for one in level:
      if isinstance(one, Mapping):
        inner += one.values()
      elif isinstance(one, (list, tuple)):
        inner += one
    level, depth = inner, depth + 1
    if depth > _DEEPEST:
      raise errors.UserError(
        f'{where}: nested more than {_DEEPEST} levels deep, expected less.'
      )


def check(
  conversation: chats.Conversation,
  *,
  training: bool = False,
  orderly: bool = True,
) -> None:
  """Refuses a conversation that is none, naming the turn and the field.

  Args:
    conversation: What a parser made.
    training: Whether the assistant has to say something.
    orderly: Whether the system speaks first or never. Manifests that were made
      before there was this check may have it anywhere.

  Raises:
    UserError: What is wrong, in one sentence.
  """
  if not conversation.turns:
    raise errors.UserError('turns: found none, expected some.')
  before: list[chats.Turn] = []
  said: set[str] = set()  # by whom
  known: list[str | None] = []  # tools
  for turn in conversation.turns:
    _check_content(turn)
    last = before[-1].role if before else None
    _check_order(turn, said, last, orderly)
    if turn.calls:
      _check_calls(turn, known)
    if turn.role == chats.RESULT:
      _check_result(turn, before)
    before.append(turn)
    said.add(turn.role)
    known += map(tools_lib.name_of, turn.tools)
  if training and chats.ASSISTANT not in said:
    raise errors.UserError('turns: none of the assistant, expected one.')


def _check_content(turn: chats.Turn) -> None:
  where, role = turn.where, turn.role
  if role not in chats.ROLES:
    raise errors.UserError(
      f'{where}.role: found {role!r}, expected {", ".join(chats.ROLES)}'
      f'{nearest(role, chats.ROLES)}.'
    )
  if turn.calls and role != chats.ASSISTANT:
    raise errors.UserError(
      f'{where}.tool_calls: found calls of {role}, expected them of the '
      'assistant alone.'
    )
  if role == chats.TOOLS:
    if not turn.tools:
      raise errors.UserError(f'{where}.tools: found none, expected schemas.')
    _check_tools(turn)
    return
  if turn.tools:
    raise errors.UserError(
      f'{where}.tools: found schemas of {role}, expected them of '
      f'{chats.TOOLS} alone.'
    )
  spoken = [p for p in turn.parts if isinstance(p, chats.Speech)]
  if not (spoken or turn.calls or turn.text.strip()):
    calls = ', nor calls' if role == chats.ASSISTANT else ''
    raise errors.UserError(f'{where}: found neither text nor audio{calls}.')
  if spoken and role not in _SPEAKERS:
    raise errors.UserError(
      f'{where}: found a recording of {role}, expected a text.'
    )
  if len(spoken) > 1:
    raise errors.UserError(
      f'{where}: found {len(spoken)} recordings, expected at most one in a '
      'turn.'
    )
  if spoken and role == chats.ASSISTANT and turn.parts[-1] is not spoken[0]:
    raise errors.UserError(
      f'{where}: found text behind the recording, expected text of the '
      'assistant in front of it.'
    )


def _check_tools(turn: chats.Turn) -> None:
  names = set()
  for number, schema in enumerate(turn.tools):
    # Schemas beside messages are called `tools` or `functions` themselves.
    beside = turn.where in ('tools', 'functions')
    place = turn.where if beside else f'{turn.where}.tools'
    field = f'{place}[{number}]'
    tools_lib.check_schema(schema, field)
    name = tools_lib.name_of(schema)
    if name in names:
      raise errors.UserError(f'{field}: the name {name!r} occurs twice.')
    names.add(name)


def _check_order(turn, said: set[str], last: str | None, orderly: bool) -> None:
  if turn.role == chats.SYSTEM and last and orderly:
    raise errors.UserError(
      f'{turn.where}.role: found system behind {last}, expected it first.'
    )
  if turn.role == chats.TOOLS and said - {chats.SYSTEM}:
    twice = chats.TOOLS in said
    raise errors.UserError(
      f'{turn.where}.role: found {chats.TOOLS} '
      f'{"twice" if twice else f"behind {last}"}, expected it once, in '
      'front of all but system.'
    )


def _check_calls(turn: chats.Turn, known: Sequence[str | None]) -> None:
  for number, call in enumerate(turn.calls):
    if call.name in known:
      continue
    there = (
      f'expected one of {", ".join(known)}'
      if known
      else ('but the conversation has no schemas of tools')
    )
    raise errors.UserError(
      f'{turn.where}.tool_calls[{number}].name: found {call.name!r}, {there}'
      f'{nearest(call.name, known)}.'
    )
  ids = collections.Counter(call.id for call in turn.calls if call.id)
  twice = [name for name, count in ids.items() if count > 1]
  if twice:
    raise errors.UserError(
      f'{turn.where}.tool_calls: the id {twice[0]!r} occurs twice.'
    )


def _check_result(turn: chats.Turn, before: Sequence[chats.Turn]) -> None:
  """A result belongs to a call of the turn that results stand behind."""
  results: list[chats.Turn] = []
  for one in reversed(before):
    if one.role != chats.RESULT:
      break
    results.append(one)
  caller = before[-1 - len(results)] if len(results) < len(before) else None
  calls = caller.calls if caller is not None else ()
  if len(results) >= len(calls):
    raise errors.UserError(
      f'{turn.where}: found a result of a tool '
      + (
        f'but {len(calls)} calls with as many results'
        if calls
        else 'without a call'
      )
      + ', expected it behind a call of the assistant.'
    )
  if turn.call_id is None:
    return
  ids = [call.id for call in calls if call.id]
  if turn.call_id in (one.call_id for one in results):
    raise errors.UserError(
      f'{turn.where}.tool_call_id: {turn.call_id!r} has a result already.'
    )
  if ids and turn.call_id not in ids:
    raise errors.UserError(
      f'{turn.where}.tool_call_id: found {turn.call_id!r}, expected the id of '
      f'a call in front of it ({", ".join(ids)}).'
    )
