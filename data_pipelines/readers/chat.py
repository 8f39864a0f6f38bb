"""`chat_jsonl`: conversations, written and spoken, one a line.

    {"messages": [{"role": "user", "content": "hello"},
                  {"role": "assistant", "content": "hi"}][, "id", "split"]}
    {"conversations": [{"from": "human", "value": "hello"}, …]}

A content is a text, or a list of parts: {"type": "text", "text": …} any number
of times, or {"type": "audio", "audio": path} once, also written {"type":
"input_audio", "input_audio": {"data": base64}}. A message may also say `audio`
beside its `text`, which then is the transcript. `system` beside the messages
goes in front of them.

A spoken turn becomes an utterance `ID-turn-N` of the corpus, in front of the
chat that refers to it; paths are relative to the file of the line and do not
lead out of the source.
"""

import base64
import binascii
import pathlib
from typing import Any, Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import media
from step_audio_jax import errors

ENDINGS = ('.jsonl', '.jsonl.gz')
FIELDS = ('id', 'language', 'split')
_ROLES = {
  'system': 'system',
  'user': 'user',
  'human': 'user',
  'assistant': 'assistant',
  'gpt': 'assistant',
}


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads chats, each behind what is spoken in it."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
  root = options.root(source)
  for found in columns_lib.json_rows(source, options, ENDINGS):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem, number, row = found
    below = pathlib.PurePosixPath(stem).parent
    items = base.reject_on_error(
      f'{path}:{number}',
      _items,
      columns,
      (root, below),
      f'{path}:{number}',
      f'{stem}-{number}',
      row,
      number,
      id=columns.value('id', row),
      line=number,
    )
    if isinstance(items, base.Rejected):
      yield items
    else:
      yield from items


def _items(columns, place, where, name, row, number) -> list[base.Item]:
  fields = columns.fields(row, kind='chat')
  del fields['text']
  fields['id'] = fields['id'] or name
  messages = row.get('messages', row.get('conversations'))
  if not isinstance(messages, list) or not messages:
    raise errors.UserError('messages: missing, expected a list of them.')
  system = columns_lib.string(row.get('system'), 'system')
  items, turns = [], []
  if system and system.strip():
    turns.append({'role': 'system', 'text': system})
  for count, message in enumerate(messages):
    role, text, audio = _turn(message, count)
    if audio is None:
      turns.append({'role': role, 'text': text})
      continue
    root, below = place
    spoken = f'{fields["id"]}-turn-{count}'
    if isinstance(audio, bytes):
      path, audio_name = audio, f'{name}-{count}{media.audio_suffix(audio)}'
    else:
      path, audio_name = base.locate(root, str(below / audio))
    turns.append({'role': role, 'speech': spoken})
    said = {**fields, 'kind': 'speech', 'id': spoken, 'text': text}
    said['part_of'] = fields['id']
    items.append(
      base.Item(where, said, path, audio_name, line=number, may_lack=('text',))
    )
  fields['turns'] = turns
  return [*items, base.Item(where, fields, line=number)]


def _turn(
  message: Any, count: int
) -> tuple[str, str | None, str | bytes | None]:
  """(role, text, path or bytes of audio); at least one of the last two."""
  field = f'messages[{count}]'
  if not isinstance(message, dict):
    raise errors.UserError(f'{field}: expected an object.')
  role = message.get('role', message.get('from'))
  if not isinstance(role, str) or role not in _ROLES:
    raise errors.UserError(
      f'{field}.role: found {role!r}, expected {", ".join(_ROLES)}.'
    )
  text, audio = message.get('text'), message.get('audio')
  content = message.get('content', message.get('value'))
  if isinstance(content, list):
    said, heard = _parts(content, f'{field}.content')
    text, audio = said or text, heard or audio
  elif content is not None:
    text = content
  text = columns_lib.string(text, f'{field}.content')
  if not isinstance(audio, bytes):
    audio = columns_lib.string(audio, f'{field}.audio')
  if not audio and not (text or '').strip():
    raise errors.UserError(f'{field}: found neither text nor audio.')
  return _ROLES[role], text, audio or None


def _parts(parts: list, field: str) -> tuple[str, Any]:
  """A content in parts → (text, audio), of which one is there."""
  texts, audios = [], []
  for part in parts:
    kind = part.get('type') if isinstance(part, dict) else None
    if kind == 'text':
      texts.append(columns_lib.string(part.get('text'), field) or '')
    elif kind == 'audio':
      audios.append(part.get('audio'))
    elif kind == 'input_audio':
      audios.append(_inline(part.get('input_audio'), field))
    else:
      raise errors.UserError(
        f'{field}: found the type {kind!r:.50}, expected text, audio or '
        'input_audio.'
      )
  if len(audios) > 1 or (audios and any(text.strip() for text in texts)):
    raise errors.UserError(
      f'{field}: found {len(audios)} recordings and {len(texts)} texts, '
      'expected one recording or texts; a transcript is `text` beside '
      '`content`.'
    )
  return '\n'.join(texts), audios[0] if audios else None


def _inline(value: Any, field: str) -> bytes:
  """The recording that a message holds itself."""
  data = value.get('data') if isinstance(value, dict) else None
  if not isinstance(data, str):
    raise errors.UserError(f'{field}: expected {{"data": base64}}.')
  # A URL says the type in front of a comma: data:audio/wav;base64,…
  try:
    return base64.b64decode(data.rpartition(',')[2], validate=True)
  except (binascii.Error, ValueError) as error:
    raise errors.UserError(f'{field}: not base64: {error}.') from error
