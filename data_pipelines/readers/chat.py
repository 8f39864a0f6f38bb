"""`chat_jsonl`: conversations, written and spoken, one a line.

    {"messages": [{"role": "user", "content": "hello"},
                  {"role": "assistant", "content": "hi"}][, "id", "split"]}
    {"conversations": [{"from": "human", "value": "hello"}, …]}

A content is a text, or a list of one part: {"type": "text", "text": …} or
{"type": "audio", "audio": path}. A message may also say `audio` beside its
`text`, which then is the transcript. A spoken turn becomes an utterance
`ID-turn-N` of the corpus, in front of the chat that refers to it; paths are
relative to the file of the line and do not lead out of the source.
"""

import pathlib
from typing import Any, Iterator

from data_pipelines.readers import base
from data_pipelines.readers import columns as columns_lib
from step_audio_jax import errors

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
  columns = columns_lib.Columns.of(options, FIELDS)
  root = options.root(source)
  for found in columns_lib.files_of(source, options, ('.jsonl', '.jsonl.gz')):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    below = pathlib.PurePosixPath(stem).parent
    for line in base.json_lines(path):
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, row = line
      items = base.guarded(
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
  items, turns = [], []
  for count, message in enumerate(messages):
    role, text, audio = _turn(message, count)
    if audio is None:
      turns.append({'role': role, 'text': text})
      continue
    root, below = place
    path, audio_name = base.locate(root, str(below / audio))
    spoken = f'{fields["id"]}-turn-{count}'
    turns.append({'role': role, 'speech': spoken})
    said = {**fields, 'kind': 'speech', 'id': spoken, 'text': text}
    items.append(
      base.Item(where, said, path, audio_name, line=number, may_lack=('text',))
    )
  fields['turns'] = turns
  return [*items, base.Item(where, fields, line=number)]


def _turn(message: Any, count: int) -> tuple[str, str | None, str | None]:
  """(role, text, audio); at least one of the last two."""
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
    if len(content) != 1 or not isinstance(content[0], dict):
      raise errors.UserError(
        f'{field}.content: found {len(content)} parts, expected one.'
      )
    kind = content[0].get('type')
    if kind not in ('text', 'audio'):
      raise errors.UserError(
        f'{field}.content: found the type {kind!r}, expected text or audio.'
      )
    if kind == 'audio':
      audio = content[0].get('audio')
    else:
      text = content[0].get('text')
  elif content is not None:
    text = content
  text = columns_lib.string(text, f'{field}.content')
  audio = columns_lib.string(audio, f'{field}.audio')
  if not audio and not (text or '').strip():
    raise errors.UserError(f'{field}: found neither text nor audio.')
  return _ROLES[role], text, audio or None
