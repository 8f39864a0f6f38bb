"""`preference_jsonl`, `preference_parquet`: two answers, one of them better.

    {"prompt": "…", "chosen": "…", "rejected": "…"}
    {"messages": [{"role": "user", "content": "…"}],
     "answers": [{"text": "…", "scores": [4, 5]}, {"text": "…", "scores": [2]}]}

`layouts` has all of them. A row with one answer or two is the preference `ID`;
one whose answers are ranked has `ID-0over2`, … for each pair. Spoken turns are
utterances `ID-turn-N`, spoken answers `ID-answer-N`; all share a split, as do
answers that stand alone and are to one prompt. `rankings` says what
`--reader_option=gap=1`, `margin=0.5`, `score=helpfulness`, `pairs=best` and
`scale=0-10` do.
"""

import pathlib
import re
from typing import Any, Iterator, Mapping

from data_pipelines.readers import chat
from data_pipelines.readers import parquet
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.preferences import layouts
from data_pipelines.readers.preferences import rankings
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import own
from step_audio_jax.chats import preferences
from step_audio_jax.storage import digests

FIELDS = ('id', 'language', 'split', 'category')
_BATCH = 64  # rows of parquet that are held
_PREFS = '_prefs'  # behind the names of UltraFeedback's splits
Found = base.Item | base.Rejected


def read(source: pathlib.Path, options: base.Options) -> Iterator[Found]:
  """Reads JSON: a row a line, or an array of them."""
  maker = _Maker(source, options)
  for found in chat.rows(source, options):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem, number, row = found
    split = columns_lib.split_of_file(stem)
    if split and maker.columns.value('split', row) is None:
      row = {**row, maker.columns.names['split'][0]: split}
    yield from maker.items(f'{path}:{number}', f'{stem}-{number}', number, row)


def read_parquet(
  source: pathlib.Path, options: base.Options
) -> Iterator[Found]:
  """Reads parquet."""
  maker = _Maker(source, options)
  for found in parquet.rows(
    source, options, maker.columns, _BATCH, lambda columns, names: list(names)
  ):
    if isinstance(found, base.Rejected):
      yield found
    else:
      yield from maker.items(*found)


class _Maker:
  """Makes items of rows."""

  def __init__(self, source: pathlib.Path, options: base.Options):
    self.columns = columns_lib.Columns.from_options(
      options, FIELDS, rankings.OPTIONS
    )
    self._rules = rankings.Rules.from_options(options)
    self._root = options.root(source)

  def items(
    self, where: str, name: str, number: int, row: Mapping[str, Any]
  ) -> Iterator[Found]:
    """Recordings and preferences of a row, or what is wrong with it."""
    found = base.reject_on_error(
      where,
      self._items,
      where,
      name,
      number,
      row,
      id=self.columns.value('id', row),
      line=number,
    )
    if isinstance(found, base.Rejected):
      yield found
    else:
      yield from found

  def _items(self, where, name, number, row) -> list[Found]:
    checks.check_depth(row, 'the row')
    fields = self._fields(row, name)
    judged = layouts.parse(row, self._rules)
    for answer in judged.answers:
      preferences.check_answer(judged.prompt, answer)
    preferences.check_prompt(judged.prompt)
    if any(None in pair for pair in judged.pairs):
      fields['part_of'] = _digest(judged.prompt)
    place = self._root, pathlib.PurePosixPath(name).parent
    turns, items = chat.placed(
      judged.prompt.turns, fields, place, where, name, number
    )
    answers: list[chats.Turn] = []
    for k, answer in enumerate(judged.answers):
      label = f'answer-{k}'
      names = f'{fields["id"]}-{label}', f'{name}-{label}'
      answer, spoken = chat.placed_turn(
        answer, names, fields, place, where, number
      )
      items += spoken
      answers.append(answer)
    told = own.written(chats.Conversation(turns))
    category = self._category(row)
    made: list[Found] = []
    for pair in judged.pairs:
      of_pair = {
        **fields,
        'turns': told,
        'margin': pair.margin,
        'category': category,
        'part_of': fields.get('part_of') or fields['id'],
      }
      if judged.ranked:
        of_pair['id'] = f'{fields["id"]}-{pair.better}over{pair.worse}'
      one = base.reject_on_error(
        where,
        _item,
        where,
        number,
        of_pair,
        *(None if n is None else answers[n] for n in pair[:2]),
        id=of_pair['id'],
        line=number,
      )
      made.append(one)
    if not any(isinstance(one, base.Item) for one in made):
      return made  # nobody needs its recordings
    return [*items, *made]

  def _fields(self, row, name: str) -> dict[str, Any]:
    fields = self.columns.fields(row, kind='preference')
    del fields['text']
    fields['id'] = fields['id'] or name
    split = (fields['split'] or '').removesuffix(_PREFS)
    fields['split'] = columns_lib.split(split)
    return fields

  def _category(self, row) -> str | None:
    """One word: what is none of its letters becomes `_`."""
    found = self.columns.value('category', row)
    found = columns_lib.string(found, 'category') or ''
    return re.sub(r'[^\w.-]+', '_', found.strip()) or None


def _item(where, number, fields, chosen, rejected) -> base.Item:
  if chosen is not None and rejected is not None:
    preferences.check_pair(chosen, rejected)
  for name, answer in zip(preferences.ANSWERS, (chosen, rejected)):
    if answer is not None:
      (fields[name],) = own.written(chats.Conversation((answer,)))
  return base.Item(where, fields, line=number)


def _digest(prompt: chats.Conversation) -> str:
  """Of what is asked, whichever answer stands beside it."""
  said = []
  for turn in prompt.turns:
    heard = turn.speech
    data = heard.data if heard else None
    sound = digests.of_bytes(data) if data else heard and (heard.id, heard.path)
    said.append((turn.role, turn.text, sound))
  return digests.of_value(said)
