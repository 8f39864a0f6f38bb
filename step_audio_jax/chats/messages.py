"""Conversations as OpenAI writes them.

    {"messages": [
      {"role": "user", "content": [
        {"type": "text", "text": "What does she say?"},
        {"type": "input_audio", "input_audio": {"data": BASE64}}]},
      {"role": "assistant", "content": "…", "tool_calls": [{"id", "type",
        "function": {"name", "arguments": JSON as a string}}]},
      {"role": "tool", "tool_call_id": "…", "content": "…"}],
     "tools": [{"type": "function", "function": {"name", "parameters"}}]}

A recording is base64 or a path: {"type": "input_audio", "input_audio":
{"path"}} or {"type": "audio", "audio": path}; or, as `Audio` of Hugging Face
has it in parquet, {"bytes", "path"} in place of a path. A message may say
`audio` beside its `text`, which then is the transcript. `system` beside the
messages goes in front of them. Schemas of tools are `tools`, or JSON in a
message of the role `tool_json_schemas`.
"""

import base64
import binascii
import dataclasses
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import tools as tools_lib

_CALL = 'function_call'  # a turn that is JSON of calls and nothing else
# As they are written → ours; of both formats, which are often mixed.
ROLES = {
  'system': chats.SYSTEM,
  'developer': chats.SYSTEM,
  'user': chats.USER,
  'human': chats.USER,
  'assistant': chats.ASSISTANT,
  'gpt': chats.ASSISTANT,
  'tool': chats.RESULT,
  'observation': chats.RESULT,
  _CALL: chats.ASSISTANT,
  chats.TOOLS: chats.TOOLS,
}
_KINDS = ('text', 'audio', 'input_audio')
Part = str | chats.Speech


def parse(value: Mapping[str, Any]) -> chats.Conversation:
  """A conversation of `messages`; `checks.check` says whether it is sound.

  Raises:
    UserError: A field is of another kind than expected.
  """
  return assembled(value, 'messages', message)


def assembled(value: Mapping[str, Any], name: str, turn) -> chats.Conversation:
  """Turns of the list `name`, behind the system and the tools beside it.

  Args:
    value: The conversation's object.
    name: Of the list.
    turn: (message, what it is called) → `Turn`.

  Raises:
    UserError: As `parse`.
  """
  found = value.get(name)
  if not isinstance(found, list) or not found:
    raise errors.UserError(f'{name}: missing, expected a list of them.')
  turns = [turn(one, f'{name}[{n}]') for n, one in enumerate(found)]
  system = string(value.get('system'), 'system')
  if system and system.strip():
    turns.insert(0, chats.Turn(chats.SYSTEM, (system,), where='system'))
  # The second is what the first was called before there were other tools.
  given = 'tools' if value.get('tools') else 'functions'
  schemas = tools_lib.schemas(value.get(given), given)
  if schemas:
    # Schemas beside messages are called as they are there.
    place = next(
      (n for n, t in enumerate(turns) if t.role != chats.SYSTEM), len(turns)
    )
    turns.insert(place, chats.Turn(chats.TOOLS, tools=schemas, where=given))
  return chats.Conversation(tuple(turns))


def message(value: Any, where: str) -> chats.Turn:
  """A message as a turn.

  Raises:
    UserError: As `parse`.
  """
  if not isinstance(value, Mapping):
    raise errors.UserError(f'{where}: expected an object.')
  role = value.get('role', value.get('from'))
  content = value.get('content', value.get('value'))
  field = f'{where}.content'
  if role == _CALL:
    calls = tools_lib.calls(content, field)
    return chats.Turn(chats.ASSISTANT, calls=calls, where=where)
  role = role_of(role, f'{where}.role')
  if role == chats.TOOLS:
    schemas = tools_lib.schemas(content, field)
    return chats.Turn(role, tools=schemas, where=where)
  parts = _parts(content, field) if isinstance(content, list) else None
  if parts is None:
    text = string(content, field)
    parts = (text,) if text else ()
  parts = _with_audio(value, parts, where)
  calls = ()
  # The second is what the first was called before there could be several.
  for name in ('tool_calls', 'function_call'):
    if value.get(name):
      calls += tools_lib.calls(value[name], f'{where}.{name}')
  if value.get('weight') == 0:
    raise errors.UserError(
      f'{where}.weight: found 0, a message that is not to be learnt, expected '
      'none: --last_only of `build` learns the last reply alone.'
    )
  given = string(value.get('tool_call_id'), f'{where}.tool_call_id')
  if given is not None and role != chats.RESULT:
    raise errors.UserError(
      f'{where}.tool_call_id: found one of {role}, expected it of a tool alone.'
    )
  return chats.Turn(role, parts, calls, call_id=given, where=where)


def role_of(role: Any, field: str) -> str:
  """Our name of a role.

  Raises:
    UserError: It is not known; the nearest is said.
  """
  if not isinstance(role, str) or role not in ROLES:
    raise errors.UserError(
      f'{field}: found {role!r:.60}, expected {", ".join(ROLES)}'
      f'{checks.nearest(role, ROLES)}.'
    )
  return ROLES[role]


def string(value: Any, field: str) -> str | None:
  """A string or None.

  Raises:
    UserError: It is neither.
  """
  if value is not None and not isinstance(value, str):
    raise errors.UserError(f'{field}: found {value!r:.60}, expected a string.')
  return value


def recording(value: Any, field: str) -> chats.Speech | None:
  """A recording that is a path, or {"bytes", "path"}; None where there is none.

  Raises:
    UserError: It is neither.
  """
  if value is None or isinstance(value, str):
    return chats.Speech(path=value) if value else None
  if not isinstance(value, Mapping):
    raise errors.UserError(
      f'{field}: found {value!r:.60}, expected a path or {{"bytes", "path"}}.'
    )
  data = value.get('bytes')
  if data is None:
    return recording(string(value.get('path'), f'{field}.path'), field)
  if not isinstance(data, bytes) or not data:
    raise errors.UserError(
      f'{field}.bytes: found {data!r:.40}, expected the bytes of a file.'
    )
  return chats.Speech(data=data)


def joined(parts: list[Part]) -> tuple[Part, ...]:
  """Parts without empty ones, neighbouring texts as lines of one."""
  found: list[Part] = []
  for part in parts:
    if part == '':
      continue
    if found and isinstance(part, str) and isinstance(found[-1], str):
      found[-1] += f'\n{part}'
    else:
      found.append(part)
  return tuple(found)


def _with_audio(value, parts: tuple[Part, ...], where: str) -> tuple[Part, ...]:
  """What stands beside a content: a text, and the recording of it."""
  text = string(value.get('text'), f'{where}.text')
  heard = recording(value.get('audio'), f'{where}.audio')
  if heard is not None:
    spoken = [p for p in parts if isinstance(p, chats.Speech)]
    written = '\n'.join(p for p in parts if isinstance(p, str))
    said = text or written or None
    return (*spoken, dataclasses.replace(heard, text=said))
  if not text:
    return parts
  if not parts:
    return (text,)
  return tuple(
    dataclasses.replace(p, text=text) if isinstance(p, chats.Speech) else p
    for p in parts
  )


def _parts(parts: list[Any], field: str) -> tuple[Part, ...]:
  found: list[Part] = []
  for number, part in enumerate(parts):
    where = f'{field}[{number}]'
    kind = part.get('type') if isinstance(part, Mapping) else None
    if kind not in _KINDS:
      raise errors.UserError(
        f'{where}.type: found the type {kind!r:.50}, expected '
        f'{", ".join(_KINDS)}{checks.nearest(kind, _KINDS)}.'
      )
    if kind == 'text':
      found.append(string(part.get('text'), f'{where}.text') or '')
      continue
    found.append(_recording(part.get(kind), f'{where}.{kind}'))
  # Blank lines around a recording are the format's, not the speaker's.
  if any(isinstance(part, chats.Speech) for part in found):
    found = [p for p in found if isinstance(p, chats.Speech) or p.strip()]
  return joined(found)


def _recording(value: Any, field: str) -> chats.Speech:
  """The recording of a part."""
  data = value.get('data') if isinstance(value, Mapping) else None
  if data is None:
    found = recording(value, field)
    if found is not None:
      return found
  if not isinstance(data, str):
    raise errors.UserError(
      f'{field}: expected {{"data": base64}} or {{"path": a file}}.'
    )
  # A URL says the type in front of a comma, data:audio/wav;base64,…; and what
  # was made for mail has lines.
  written = ''.join(data.rpartition(',')[2].split())
  try:
    raw = base64.b64decode(written, validate=True)
  except (binascii.Error, ValueError) as error:
    raise errors.UserError(
      f'{field}.data: found {data!r:.40}, not base64: {error}.'
    ) from error
  if not raw:
    raise errors.UserError(f'{field}: found no bytes, expected a recording.')
  return chats.Speech(data=raw)
