"""Conversations as ids: the one way for what is trained on and what is asked.

A training document is its prompt, the answer, and `<|EOT|>`
(`documents.Turns`). One that is longer than it may be loses its oldest
exchanges: whole ones, from a turn of the user to the next, behind the system
and the schemas of tools. What the user says last, and all behind it, stays.
"""

import dataclasses
from typing import Callable, Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import pairs
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import tools as tools_lib

_BOT = vocabulary_lib.CONTROL['<|BOT|>']
_CALL, _CALLED = (
  vocabulary_lib.CONTROL[piece] for piece in ('<|CALL_START|>', '<|CALL_END|>')
)
# Whose turns open a chat and are never cut.
_OPENING = (chats.SYSTEM, chats.TOOLS)
Turn = documents_lib.Turn


@dataclasses.dataclass(frozen=True)
class Cut:
  """What was left out of a conversation that is too long.

  Attributes:
    first: Number of the first turn that was left out, from 0.
    turns: How many turns were left out.
    ids: How many ids they have.
    length: Ids of the whole conversation.
    longest: Ids that it may have.
  """

  first: int
  turns: int
  ids: int
  length: int
  longest: int

  def __str__(self) -> str:
    last = self.first + self.turns - 1
    return (
      f'{self.length} ids, {self.length - self.longest} more than '
      f'{self.longest}: turns {self.first} to {last} were left out, '
      f'{self.ids} ids.'
    )


def layout(starts: bool = False, speaks: bool = False) -> documents_lib.Turns:
  """How turns are written.

  Args:
    starts: With `<s>` behind every `<|BOT|>`, as released code does it.
    speaks: As those that ask for speech (`documents.TTS_TURNS`).
  """
  how = documents_lib.TTS_TURNS if speaks else documents_lib.CHAT
  return dataclasses.replace(how, starts=starts)


def turns_of(
  conversation: chats.Conversation,
  ids_of: Callable[[chats.Speech], np.ndarray],
) -> list[Turn]:
  """A conversation as `documents.Turns` takes it.

  Args:
    conversation: A checked one.
    ids_of: Gives the interleaved ids of a recording.
  """
  return [(turn.role, _content(turn, ids_of)) for turn in conversation.turns]


def _content(turn: chats.Turn, ids_of) -> documents_lib.Said:
  if turn.role == chats.TOOLS:
    return chats.as_json(list(turn.tools))
  parts = [
    part if isinstance(part, str) else ids_of(part) for part in turn.parts
  ]
  parts += [documents_lib.Call(call.written) for call in turn.calls]
  if len(parts) == 1 and not turn.calls:
    return parts[0]
  return documents_lib.Mixed(parts)


def document(
  table: vocabulary_lib.Vocabulary,
  name: str,
  turns: Sequence[Turn],
  *,
  style: documents_lib.Turns = documents_lib.CHAT,
  prompt_loss: float = 0.0,
  last_only: bool = False,
  longest: int | None = None,
) -> tuple[documents_lib.Document, Cut | None]:
  """A document to learn from, and what it lacks.

  Args:
    table: Turns text into ids.
    name: Id of the document.
    turns: Of `turns_of`.
    style: How turns are written, of `layout`.
    prompt_loss: Weight of what is not learnt.
    last_only: Learn the last reply alone.
    longest: Ids that it may have; None for any number.

  Raises:
    UserError: There is nothing to learn, a content has no ids, or the last
      exchange alone is too long.
  """
  settings = {'prompt_loss': prompt_loss, 'last_only': last_only}
  whole = style.document(table, name, turns, **settings)
  kept, cut = _shortened(turns, whole.tokens, longest)
  if cut is None:
    return whole, None
  return style.document(table, name, kept, **settings), cut


def pair(
  table: vocabulary_lib.Vocabulary,
  name: str,
  turns: Sequence[Turn],
  answers: Sequence[Turn | None],
  *,
  style: documents_lib.Turns = documents_lib.CHAT,
  margin: float = 0.0,
  category: str = '',
) -> pairs.Pair:
  """Two answers to one prompt as one document, or one of them.

  The answers alone are learnt, and nothing that the assistant said before.

  Args:
    table: Turns text into ids.
    name: Id of the document.
    turns: The prompt, of `turns_of`.
    answers: The better one and the other; None is missing.
    style: How turns are written, of `layout`.
    margin: As in `Pair`.
    category: As in `Pair`.

  Raises:
    UserError: A content has no ids, or both answers have the same.
  """
  sides: list[documents_lib.Document | None] = []
  for answer in answers:
    if answer is None:
      sides.append(None)
      continue
    whole = style.document(table, name, [*turns, answer], last_only=True)
    weights = whole.loss_weights.copy()
    # No text and no code has that id: a tool may have been called before.
    weights[: np.flatnonzero(whole.tokens == _BOT)[-1]] = 0
    sides.append(dataclasses.replace(whole, loss_weights=weights))
  chosen, rejected = sides
  both = chosen is not None and rejected is not None
  if both and np.array_equal(chosen.tokens, rejected.tokens):
    raise errors.UserError(
      f'rejected: found the {len(rejected)} ids of chosen as both are shown '
      'here, expected others.'
    )
  return pairs.join(chosen, rejected, margin=margin, category=category)


def prompt(
  table: vocabulary_lib.Vocabulary,
  turns: Sequence[Turn],
  *,
  style: documents_lib.Turns = documents_lib.CHAT,
  longest: int | None = None,
) -> tuple[list[int], Cut | None]:
  """Ids up to where the assistant speaks next, and what they lack.

  Args:
    table: Turns text into ids.
    turns: Of `turns_of`.
    style: How turns are written, of `layout`.
    longest: Ids that the prompt may have; None for any number.

  Raises:
    UserError: The last exchange alone is too long.
  """
  whole = style.prompt(table, turns)
  kept, cut = _shortened(turns, np.asarray(whole), longest)
  return (whole, None) if cut is None else (style.prompt(table, kept), cut)


def answer_of(
  table: vocabulary_lib.Vocabulary, ids: Sequence[int]
) -> tuple[str, list[chats.Call | str]]:
  """What a model said: its text, and calls, as JSON where one is none.

  Args:
    table: Turns ids into text.
    ids: Behind a prompt, without speech.
  """
  said: list[list[int]] = [[]]
  found: list[chats.Call | str] = []
  called: list[int] | None = None
  for one in ids:
    if called is None and one != _CALL:
      said[-1].append(one)
    elif called is None:
      called = []
    elif one != _CALLED:
      called.append(one)
    else:
      found.append(call_of(table.decode(called)))
      said.append([])
      called = None
  if called is not None:  # it came to its limit
    found.append(table.decode(called))
  text = ''.join(map(table.decode, said))
  return text, found


def call_of(written: str) -> chats.Call | str:
  """A call as it is written between the control pieces; itself if none."""
  try:
    return tools_lib.call(tools_lib.parsed(written, 'call'), 'call')
  except errors.UserError:
    return written


def _shortened(
  turns: Sequence[Turn], tokens: np.ndarray, longest: int | None
) -> tuple[Sequence[Turn], Cut | None]:
  """Turns that fit; `tokens` are those of all."""
  if longest is None or len(tokens) <= longest:
    return turns, None
  roles = [role for role, _ in turns]
  first = next((n for n, r in enumerate(roles) if r not in _OPENING), 0)
  asked = [n for n, r in enumerate(roles) if r == chats.USER and n > first]
  # No text and no code has that id.
  starts = np.flatnonzero(tokens == _BOT)
  for place in asked:
    saved = int(starts[place] - starts[first])
    if len(tokens) - saved <= longest:
      cut = Cut(first, place - first, saved, len(tokens), longest)
      return [*turns[:first], *turns[place:]], cut
  least = len(tokens) - (int(starts[asked[-1]] - starts[first]) if asked else 0)
  raise errors.UserError(
    f'turns: {len(tokens)} ids, {len(tokens) - longest} more than {longest}; '
    'what stays when all older turns are cut (the system, the last turn of the '
    f'user and what is behind it) has {least}.'
  )
