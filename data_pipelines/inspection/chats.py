"""Conversations as people read them: turns, what is learnt, what is wrong.

A source is a corpus with chats, or a file of conversations in one of the
formats of `step_audio_jax.chats.formats`, one a line or an array of them.
"""

import html
import itertools
import pathlib
from typing import Any, Iterator, Mapping

import numpy as np

from data_pipelines.readers import chat
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from step_audio_jax.chats import rendering
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.pages import page as page_lib
from step_audio_jax.storage import files

TOLD = 20  # lines that are wrong, by name
_SHOWN = 300  # characters of a turn
_LONGEST = 86400.0  # seconds of a recording, as far as a file is believed
_BOT = vocabulary_lib.CONTROL['<|BOT|>']
Line = tuple[int, str, chats.Conversation | str]  # or why it is none

STYLE = """
.turn { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: .5rem .9rem; margin: .5rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.turn.learnt { border-left: 5px solid var(--c3); }
"""


def lines(path: pathlib.Path) -> Iterator[Line]:
  """(number, id, conversation or what is wrong) of every chat of a source.

  Raises:
    UserError: The file cannot be opened.
  """
  for found in chat.rows_of(_source(path)):
    if isinstance(found, base.Rejected):
      yield found.line, '', found.reason
      continue
    number, value = found
    if value.get('kind', 'chat') != 'chat' or _is_speech(value):
      continue
    name = f'line {number}'
    try:
      checks.check_depth(value, 'the line')
      name = str(value.get('id') or name)
      # Neither halves of characters nor what moves a cursor.
      name = name if name.isprintable() else ascii(name)
      yield number, name, formats.parse(value, training=True)
    except errors.UserError as error:
      yield number, name, str(error)


def _is_speech(value: Mapping[str, Any]) -> bool:
  """Whether a line of a manifest is of the kind that need not be said."""
  return 'audio' in value and not any(name in value for name in formats.FORMATS)


def read(
  path: pathlib.Path,
  *,
  first: int = 0,
  count: int = 4,
  table: vocabulary_lib.Vocabulary | None = None,
  length: int | None = None,
) -> dict[str, Any]:
  """Figures of a source, its wrong lines, and some conversations.

  Args:
    path: Corpus folder, manifest or file.
    first: The first conversation that is shown.
    count: How many, at most.
    table: Turns text into ids; None shows no lengths.
    length: Ids that a row has: what is longer is cut.

  Raises:
    UserError: There is no conversation, or none is the `first`.
  """
  total, wrong, shown = 0, [], []
  turns = dict.fromkeys(chats.ROLES, 0)
  spoken = 0
  for number, name, found in lines(path):
    if isinstance(found, str):
      wrong.append({'line': number, 'id': name, 'reason': found})
      continue
    for turn in found.turns:
      turns[turn.role] += 1
      spoken += turn.speech is not None
    if first <= total < first + count:
      shown.append((number, name, found))
    total += 1
  if not total and not wrong:
    raise errors.UserError(f'{path}: no conversations, expected some.')
  if not shown and total:
    raise errors.UserError(
      f'--row: found {first}, expected 0..{total - 1} in {path}.'
    )
  seconds = _seconds(path, [found for *_, found in shown])
  return {
    'conversations': total,
    'turns': turns,
    'spoken': spoken,
    'wrong': wrong,
    'shown': [
      {'line': number, 'id': name, **_told(found, table, seconds, length)}
      for number, name, found in shown
    ],
  }


def _seconds(path, conversations) -> dict[str, float]:
  """Utterance → its length, of a corpus."""
  wanted = {
    turn.speech.id
    for one in conversations
    for turn in one.turns
    if turn.speech is not None
  } - {None}
  if not wanted:
    return {}
  found = {}
  for row in chat.rows_of(_source(path)):
    name = None if isinstance(row, base.Rejected) else row[1].get('id')
    if isinstance(name, str) and name in wanted:
      said = row[1].get('duration')
      if isinstance(said, (int, float)) and 0 < said < _LONGEST:
        found[name] = float(said)
  return found


def _source(path: pathlib.Path) -> pathlib.Path:
  return manifest.path_of(path) if files.is_dir(path) else path


def _told(conversation, table, seconds, length) -> dict[str, Any]:
  """A conversation for JSON."""
  told = [_turn(turn, seconds) for turn in conversation.turns]
  result: dict[str, Any] = {'turns': told}
  if table is None:
    return result

  def ids_of(speech: chats.Speech) -> np.ndarray:
    # As many as the recording will have; of one whose length is not known one
    # group.
    known = seconds.get(speech.id) or vocabulary_lib.GROUP_SECONDS
    groups = max(1, int(known / vocabulary_lib.GROUP_SECONDS))
    pair = np.zeros(2 * groups, int), np.zeros(3 * groups, int)
    return table.interleave(*pair)

  turns = rendering.turns_of(conversation, ids_of)
  try:
    document, _ = rendering.document(table, 'x', turns)
    starts = [*np.flatnonzero(document.tokens == _BOT), len(document)]
    for turn, (begin, end) in zip(told, itertools.pairwise(starts)):
      turn['tokens'] = int(end - begin)
      turn['loss_tokens'] = int((document.loss_weights[begin:end] > 0).sum())
    result['tokens'] = len(document)
    result['loss_tokens'] = int((document.loss_weights > 0).sum())
    if length is not None:
      _, cut = rendering.document(table, 'x', turns, longest=length)
      result['cut'] = None if cut is None else str(cut)
  except errors.UserError as error:
    result['cut' if 'tokens' in result else 'wrong'] = str(error)
  return result


def _turn(turn: chats.Turn, seconds) -> dict[str, Any]:
  told: dict[str, Any] = {'role': turn.role}
  parts = [_part(part, seconds) for part in turn.parts]
  parts += [f'<|CALL_START|>{call.written}<|CALL_END|>' for call in turn.calls]
  if turn.tools:
    parts.append(chats.as_json(list(turn.tools)))
  told['content'] = ' '.join(parts)
  told['learnt'] = turn.role == chats.ASSISTANT
  return told


def _part(part: str | chats.Speech, seconds) -> str:
  if isinstance(part, str):
    return part
  name = part.id or part.path or f'{len(part.data or b"")} bytes'
  known = seconds.get(part.id)
  return f'[speech {name}{f", {known:.2f} s" if known else ""}]'


def show(path: pathlib.Path, told: Mapping[str, Any]) -> None:
  """Prints what `read` gave."""
  turns = ', '.join(f'{n} {role}' for role, n in told['turns'].items() if n)
  print(
    f'{path}: {told["conversations"]} conversations; turns: {turns or "none"}; '
    f'{told["spoken"]} spoken; {len(told["wrong"])} lines are wrong'
  )
  for one in told['wrong'][:TOLD]:
    print(f'  {path}:{one["line"]}: {one["reason"]}')
  if len(told['wrong']) > TOLD:
    print(f'  … and {len(told["wrong"]) - TOLD} more')
  for one in told['shown']:
    print(f'\n{one["id"]} (line {one["line"]}{_lengths(one)})')
    for number, turn in enumerate(one['turns']):
      text = turn['content']
      if len(text) > _SHOWN:
        text = f'{text[:_SHOWN]}… ({len(text)} characters)'
      mark = '*' if turn['learnt'] else ' '
      print(f' {mark}{number} {turn["role"]}{_lengths(turn)}: {text!r}')
    if one.get('cut') or one.get('wrong'):
      print(f'  {one.get("cut") or one["wrong"]}')


def _lengths(told: Mapping[str, Any]) -> str:
  if 'tokens' not in told:
    return ''
  return f', {told["tokens"]} ids, {told["loss_tokens"]} learnt'


def page(path: pathlib.Path, told: Mapping[str, Any]) -> str:
  """The same as one HTML page; all text in it is escaped."""
  body = [f'<style>{STYLE}</style><h1>{html.escape(str(path))}</h1>']
  tiles = [
    (f'{told["conversations"]:,}', 'conversations'),
    *((f'{n:,}', f'turns of {role}') for role, n in told['turns'].items() if n),
    (f'{told["spoken"]:,}', 'spoken turns'),
    (f'{len(told["wrong"]):,}', 'lines that are wrong'),
  ]
  cards = ''.join(page_lib.tile(*one) for one in tiles)
  body.append(f'<div class="tiles">{cards}</div>')
  if told['wrong']:
    rows = [[one['line'], one['reason']] for one in told['wrong'][:TOLD]]
    body.append(page_lib.table(['line', 'what is wrong'], rows))
  for one in told['shown']:
    about = f'line {one["line"]}{_lengths(one)}'
    body.append(
      f'<h2>{html.escape(one["id"])} <small>{about}</small></h2>'
      f'<p class="quiet">{html.escape(one.get("cut") or "")}</p>'
    )
    for turn in one['turns']:
      learnt = ' learnt' if turn['learnt'] else ''
      head = f'<b>{turn["role"]}</b> <small>{_lengths(turn)[2:]}</small>'
      text = html.escape(turn['content'])
      body.append(f'<div class="turn{learnt}">{head}\n{text}</div>')
  return page_lib.page(f'Chats of {path.name}', ''.join(body))
