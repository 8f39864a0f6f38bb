"""`chat_jsonl`: conversations, written and spoken, one a line or an array.

    {"messages": [{"role": "user", "content": "hello"},
                  {"role": "assistant", "content": "hi"}][, "id", "split"]}
    {"conversations": [{"from": "human", "value": "hello"}, …]}

A file that ends with `.json` may be an array of such objects, counted as lines
are. `step_audio_jax.chats` reads both: OpenAI's (`messages`) with recordings,
tools and their calls, and ShareGPT's (`sharegpt`) with those of LLaMA-Factory.

A spoken turn becomes an utterance `ID-turn-N` of the corpus, in front of the
chat that refers to it; paths are relative to the file of the line and do not
lead out of the source.
"""

import dataclasses
import pathlib
from typing import Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import json_stream
from data_pipelines.readers.common import media
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from step_audio_jax.chats import own
from step_audio_jax.storage import files

ENDINGS = ('.jsonl', '.jsonl.gz', '.json')
FIELDS = ('id', 'language', 'split')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads chats, each behind what is spoken in it."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
  root = options.root(source)
  for found in _rows(source, options):
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


def _rows(source: pathlib.Path, options: base.Options):
  """(path, name, number, object) of each, as `columns.json_rows`."""
  for found in columns_lib.files_of(source, options, ENDINGS):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    of_settings = path.name.endswith('.json') and not json_stream.is_array(path)
    if of_settings and files.is_dir(source):
      continue  # of whoever made the folder
    for row in rows_of(path):
      yield row if isinstance(row, base.Rejected) else (path, stem, *row)


def rows_of(path: pathlib.Path):
  """The objects of one file, by lines or as an array; each with its number.

  No field is in one of them twice: a part of the chat would be lost.

  Yields:
    (number from 1, object), or `Rejected` with the number as its line.

  Raises:
    UserError: The file cannot be opened.
  """
  if not (path.name.endswith('.json') and json_stream.is_array(path)):
    yield from base.json_lines(path, base.once)
    return
  rows = json_stream.elements(path, pairs=base.once)
  for number, row in enumerate(rows, start=1):
    if isinstance(row, base.Rejected):
      yield dataclasses.replace(row, line=number)
    else:
      yield number, row[1]


def _items(columns, place, where, name, row, number) -> list[base.Item]:
  checks.check_depth(row, 'the line')
  fields = columns.fields(row, kind='chat')
  del fields['text']
  fields['id'] = fields['id'] or name
  items, turns, count = [], [], -1
  for turn in formats.parse(row, training=True).turns:
    # Others stand beside the list of messages.
    count += turn.where.endswith(']')
    speech = turn.speech
    if speech is not None and speech.id is None:
      spoken = f'{fields["id"]}-turn-{count}'
      said = {**fields, 'kind': 'speech', 'id': spoken, 'text': speech.text}
      said['part_of'] = fields['id']
      audio = _recording(speech, place, f'{name}-{count}')
      items.append(
        base.Item(where, said, *audio, line=number, may_lack=('text',))
      )
      turn = _with_id(turn, spoken)
    turns.append(turn)
  fields['turns'] = own.written(chats.Conversation(tuple(turns)))
  return [*items, base.Item(where, fields, line=number)]


def _recording(
  speech: chats.Speech, place, name: str
) -> tuple[pathlib.Path | bytes, str]:
  """The recording of a turn, and what it is called in the corpus."""
  root, below = place
  if speech.data is not None:
    return speech.data, name + media.audio_suffix(speech.data)
  return base.locate(root, str(below / speech.path))


def _with_id(turn: chats.Turn, name: str) -> chats.Turn:
  """A turn whose recording is an utterance of the corpus."""
  return dataclasses.replace(
    turn,
    parts=tuple(
      chats.Speech(id=name) if isinstance(part, chats.Speech) else part
      for part in turn.parts
    ),
  )
