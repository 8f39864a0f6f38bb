"""Items of a conversation, as OpenAI's realtime protocol has them.

    {"id", "object": "realtime.item", "status", "type": "message", "role":
      "system" | "user" | "assistant", "content": [{"type", "text" |
      "transcript" | "audio"}]}
    {…, "type": "function_call", "call_id", "name", "arguments"}
    {…, "type": "function_call_output", "call_id", "output"}

Content is `input_text` of system and user, `input_audio` of the user,
`output_text` and `output_audio` of the assistant. What a recording holds is
not decided here: `Part.data` are the bytes that a client sent, in the format
of its session, until an ear has made `Part.speech` of them.
"""

import base64
import binascii
import dataclasses
import re
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import messages
from step_audio_jax.chats import tools as tools_lib
from step_audio_jax.dialogue.context import played

KINDS = ('message', 'function_call', 'function_call_output')
MESSAGE, CALL, OUTPUT = KINDS
PARTS = ('input_text', 'input_audio', 'output_text', 'output_audio')
INPUT_TEXT, INPUT_AUDIO, OUTPUT_TEXT, OUTPUT_AUDIO = PARTS
STATUSES = ('in_progress', 'completed', 'incomplete')
IN_PROGRESS, COMPLETED, INCOMPLETE = STATUSES
# Role → the contents that it may have.
_ROLES = {
  chats.SYSTEM: (INPUT_TEXT,),
  chats.USER: (INPUT_TEXT, INPUT_AUDIO),
  chats.ASSISTANT: (OUTPUT_TEXT, OUTPUT_AUDIO),
}
# What contents were called before they said whose they are.
_OLD = {'text': OUTPUT_TEXT, 'audio': OUTPUT_AUDIO}
_NAME = re.compile(r'[\w.:-]{1,128}', re.ASCII)
ROOT = 'root'  # as the item in front of the first one


@dataclasses.dataclass(frozen=True)
class Part:
  """One content of a message.

  Attributes:
    kind: Of `PARTS`.
    text: What is written, or said as far as it is known; None is not yet.
    data: The recording of an `input_audio`, as the client sent it.
    speech: What the mind is given of it.
    ledger: Of an `output_audio`: what went out, and what was played.
  """

  kind: str
  text: str | None = None
  data: bytes | None = dataclasses.field(default=None, repr=False)
  speech: chats.Speech | None = None
  ledger: played.Ledger | None = dataclasses.field(
    default=None, compare=False, repr=False
  )

  @property
  def words(self) -> str:
    """What is known to be written in it, or to have been said and heard."""
    if self.ledger is not None and (self.ledger.is_cut or self.text is None):
      return self.ledger.played.text
    return self.text or ''


@dataclasses.dataclass(frozen=True)
class Item:
  """One of `KINDS`.

  Attributes:
    kind: Of `KINDS`.
    id: Given by the client, or by the history.
    role: Of a message.
    parts: Of a message.
    call: Of a call; its id is that of the call.
    call_id: Of an output.
    output: Of an output.
    status: Of `STATUSES`.
  """

  kind: str
  id: str = ''
  role: str = ''
  parts: tuple[Part, ...] = ()
  call: chats.Call | None = None
  call_id: str = ''
  output: str = ''
  status: str = COMPLETED

  @property
  def size(self) -> int:
    """Characters and bytes that it holds, about."""
    held = len(self.output) + (len(self.call.written) if self.call else 0)
    for part in self.parts:
      held += len(part.text or '') + len(part.data or b'')
    return held


def message(role: str, *parts: Part, **fields) -> Item:
  """A message."""
  return Item(MESSAGE, role=role, parts=parts, **fields)


def said(text: str, **fields) -> Item:
  """A message of the user in writing."""
  return message(chats.USER, Part(INPUT_TEXT, text), **fields)


def heard(
  speech: chats.Speech | None = None, data: bytes | None = None, **fields
) -> Item:
  """A message of the user as a recording, or as one that is still heard."""
  text = speech.text if speech is not None else None
  part = Part(INPUT_AUDIO, text, data=data, speech=speech)
  return message(chats.USER, part, **fields)


def called(call: chats.Call, **fields) -> Item:
  """A call of a tool."""
  return Item(CALL, call=call, **fields)


def gave(result: chats.Turn, **fields) -> Item:
  """What a tool gave, of a result's turn."""
  return Item(
    OUTPUT, call_id=result.call_id or '', output=result.text, **fields
  )


def parse(value: Any, field: str = 'item') -> Item:
  """An item of a client's JSON.

  Raises:
    UserError: It is none; the field is named.
  """
  if not isinstance(value, Mapping):
    raise errors.UserError(f'{field}: found {value!r:.60}, expected an object.')
  kind = _one_of(value.get('type'), KINDS, f'{field}.type')
  name = messages.string(value.get('id'), f'{field}.id')
  if name is not None and (not _NAME.fullmatch(name) or name == ROOT):
    raise errors.UserError(
      f'{field}.id: found {name!r:.60}, expected 1 to 128 letters, digits, '
      f'"_", "-", "." or ":", and not {ROOT!r}.'
    )
  status = value.get('status')
  if status is not None:
    _one_of(status, STATUSES, f'{field}.status')
  # "Has no effect on the conversation": what a client creates is there.
  item = Item(kind, id=name or '', status=status or COMPLETED)
  if kind == MESSAGE:
    return _message(item, value, field)
  call_id = messages.string(value.get('call_id'), f'{field}.call_id')
  if kind == OUTPUT:
    output = value.get('output')
    if not call_id or not isinstance(output, str):
      raise errors.UserError(
        f'{field}: found {value!r:.60}, expected strings "call_id" and '
        '"output".'
      )
    return dataclasses.replace(item, call_id=call_id, output=output)
  if not isinstance(value.get('arguments'), str):
    raise errors.UserError(
      f'{field}.arguments: found {value.get("arguments")!r:.60}, expected a '
      'JSON object as a string.'
    )
  call = tools_lib.call(
    {
      'name': value.get('name'),
      'arguments': value['arguments'],
      'id': call_id or None,
    },
    field,
  )
  checks.check_depth(call.arguments, f'{field}.arguments')
  tools_lib.check_characters(call.written, field)
  return dataclasses.replace(item, call=call)


def _message(item: Item, value, field: str) -> Item:
  role = _one_of(value.get('role'), tuple(_ROLES), f'{field}.role')
  content = value.get('content')
  if not isinstance(content, (list, tuple)) or not content:
    raise errors.UserError(
      f'{field}.content: found {content!r:.60}, expected a list of contents.'
    )
  parts = tuple(
    _part(one, role, f'{field}.content[{n}]') for n, one in enumerate(content)
  )
  return dataclasses.replace(item, role=role, parts=parts)


def _part(value: Any, role: str, field: str) -> Part:
  if not isinstance(value, Mapping):
    raise errors.UserError(f'{field}: found {value!r:.60}, expected an object.')
  kind = value.get('type')
  if role == chats.ASSISTANT and isinstance(kind, str):
    kind = _OLD.get(kind, kind)
  kind = _one_of(kind, _ROLES[role], f'{field}.type')
  text = messages.string(value.get('text'), f'{field}.text')
  transcript = messages.string(value.get('transcript'), f'{field}.transcript')
  if kind in (INPUT_TEXT, OUTPUT_TEXT):
    if text is None:
      raise errors.UserError(f'{field}.text: missing, expected a string.')
    return Part(kind, text)
  if kind == OUTPUT_AUDIO:
    # There is no sound of it, nor was there any here: it is what was said.
    if transcript is None:
      raise errors.UserError(
        f'{field}.transcript: missing, expected the words of an assistant '
        'that was not recorded here.'
      )
    return Part(kind, transcript)
  return Part(kind, transcript, data=_bytes(value.get('audio'), field))


def _bytes(value: Any, field: str) -> bytes:
  try:
    data = base64.b64decode(value, validate=True)
  except (TypeError, ValueError, binascii.Error) as error:
    raise errors.UserError(
      f'{field}.audio: found {value!r:.40}, expected base64.'
    ) from error
  if not data:
    raise errors.UserError(f'{field}.audio: found no sound, expected some.')
  return data


def _one_of(value: Any, known: tuple[str, ...], field: str) -> str:
  if not isinstance(value, str) or value not in known:
    raise errors.UserError(
      f'{field}: found {value!r:.60}, expected {", ".join(known)}'
      f'{checks.nearest(value, known)}.'
    )
  return value


def written(item: Item, audio: bool = False) -> dict[str, Any]:
  """An item as a client reads it.

  Args:
    item: Of a history.
    audio: With the recordings of the user (`conversation.item.retrieve`).
  """
  told: dict[str, Any] = {
    'id': item.id,
    'object': 'realtime.item',
    'type': item.kind,
    'status': item.status,
  }
  if item.kind == CALL:
    told['call_id'] = item.call.id
    told['name'] = item.call.name
    told['arguments'] = chats.as_json(item.call.arguments)
  elif item.kind == OUTPUT:
    told |= {'call_id': item.call_id, 'output': item.output}
  else:
    told['role'] = item.role
    told['content'] = [_written(part, audio) for part in item.parts]
  return told


def _written(part: Part, audio: bool) -> dict[str, Any]:
  if part.kind in (INPUT_TEXT, OUTPUT_TEXT):
    return {'type': part.kind, 'text': part.words}
  told: dict[str, Any] = {'type': part.kind, 'transcript': part.words}
  if part.kind == INPUT_AUDIO and part.text is None:
    told['transcript'] = None  # not "nothing was said"
  if audio and part.data is not None:
    told['audio'] = base64.b64encode(part.data).decode()
  return told
