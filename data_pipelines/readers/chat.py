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
from typing import Any, Iterable, Iterator, Mapping

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import json_stream
from data_pipelines.readers.common import media
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from step_audio_jax.chats import own
from step_audio_jax.storage import files

Place = tuple[pathlib.Path, pathlib.PurePath]  # a root, and a folder below it

ENDINGS = ('.jsonl', '.jsonl.gz', '.json')
FIELDS = ('id', 'language', 'split')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads chats, each behind what is spoken in it."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
  root = options.root(source)
  for found in rows(source, options):
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


def rows(source: pathlib.Path, options: base.Options):
  """Yields (path, name, number, object) of each, or `Rejected`.

  Raises:
    UserError: There are no files.
  """
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
  found = formats.parse(row, training=True)
  turns, items = placed(found.turns, fields, place, where, name, number)
  fields['turns'] = own.written(chats.Conversation(turns))
  return [*items, base.Item(where, fields, line=number)]


def placed(
  turns: Iterable[chats.Turn],
  fields: Mapping[str, Any],
  place: Place,
  where: str,
  name: str,
  line: int,
) -> tuple[tuple[chats.Turn, ...], list[base.Item]]:
  """Turns whose recordings are utterances `ID-turn-N`, and these as items.

  Args:
    turns: Of a chat.
    fields: Of the chat: what its recordings share with it.
    place: Where they lie.
    where: As in `Item`.
    name: What their files are called where they have no name.
    line: As in `Item`.

  Raises:
    UserError: A recording is not there, or leads out of the source.
  """
  count, found, items = -1, [], []
  for turn in turns:
    # Others stand beside the list of messages.
    count += turn.where.endswith(']')
    names = f'{fields["id"]}-turn-{count}', f'{name}-{count}'
    turn, item = placed_turn(turn, names, fields, place, where, line)
    found.append(turn)
    items += item
  return tuple(found), items


def placed_turn(
  turn: chats.Turn,
  names: tuple[str, str],
  fields: Mapping[str, Any],
  place: Place,
  where: str,
  line: int,
) -> tuple[chats.Turn, list[base.Item]]:
  """As `placed`, one turn; `names` are those of the utterance and its file."""
  speech = turn.speech
  if speech is None or speech.id is not None:
    return turn, []
  spoken, file = names
  said = {**fields, 'kind': 'speech', 'id': spoken, 'text': speech.text}
  said['part_of'] = fields.get('part_of') or fields['id']
  audio = _recording(speech, place, file)
  item = base.Item(where, said, *audio, line=line, may_lack=('text',))
  return _with_id(turn, spoken), [item]


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
