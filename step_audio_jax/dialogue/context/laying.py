"""Items of a conversation as the turns that a mind is asked with.

    system      instructions, and all that was said as system
    tools       schemas
    user        its last turn as it was heard; older ones are their transcripts
    assistant   what was played, and calls behind it
    tool        results, behind the turn that called

Tools run while the dialogue goes on, and a result belongs behind its call. A
result that comes when others have spoken is laid at the end, behind its call
once more, and the first call is followed by a word that the result is not
there yet. So what was laid once stays as it is, and a mind that keeps the ids
of its last prompt can go on from there.
"""

import dataclasses
import re
from typing import Any, Iterable, Mapping, Sequence

from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import messages
from step_audio_jax.chats import tools as tools_lib
from step_audio_jax.dialogue.context import history
from step_audio_jax.dialogue.context import items as items_lib

_SURROGATES = re.compile('[\ud800-\udfff]')  # halves, which JSON may hold
_SPOKEN = (items_lib.INPUT_AUDIO,)


@dataclasses.dataclass(frozen=True)
class Marks:
  """What stands where nothing is known yet.

  Attributes:
    unheard: A recording that has no transcript and cannot be given as it is.
    pending: A tool that has not answered yet.
  """

  unheard: str = '[not transcribed yet]'
  pending: str = 'The result is not there yet; it comes later.'


@dataclasses.dataclass(frozen=True)
class Laid:
  """A turn, and where it comes from.

  Attributes:
    turn: As the mind is given it.
    item: Id of the item; '' of the opening.
    begins: Whether an exchange begins with it: the user speaks.
  """

  turn: chats.Turn
  item: str = ''
  begins: bool = False


def opening(
  items: Iterable[items_lib.Item],
  instructions: str,
  tools: Sequence[Mapping[str, Any]],
) -> list[Laid]:
  """Turns of the system and of the schemas."""
  told = [instructions] + [
    part.words
    for item in items
    if item.kind == items_lib.MESSAGE and item.role == chats.SYSTEM
    for part in item.parts
  ]
  laid = []
  text = '\n'.join(one for one in map(clean, told) if one.strip())
  if text:
    laid.append(Laid(chats.Turn(chats.SYSTEM, (text,), where='instructions')))
  if tools:
    turn = chats.Turn(chats.TOOLS, tools=tuple(tools), where='tools')
    laid.append(Laid(turn))
  return laid


def dialogue(
  items: Sequence[items_lib.Item],
  tools: Sequence[Mapping[str, Any]],
  *,
  hears: bool,
  calls: Mapping[str, chats.Call],
  marks: Marks = Marks(),
) -> list[Laid]:
  """Turns of the user, the assistant and the tools, in order.

  Args:
    items: Those that are told.
    tools: Schemas; calls of others, and what they gave, are left out.
    hears: Whether the mind is given recordings.
    calls: Id → call, of all items, also of those that are not told.
    marks: What stands where nothing is known yet.
  """
  last = max(
    (n for n, item in enumerate(items) if history.is_of_user(item)), default=-1
  )
  layer = _Layer(frozenset(map(tools_lib.name_of, tools)), marks)
  for number, item in enumerate(items):
    if history.is_of_user(item):
      layer.ask(item, _said(item, number == last, hears, marks))
    elif item.kind == items_lib.CALL:
      layer.call(item)
    elif item.kind == items_lib.OUTPUT:
      layer.answer(item, calls.get(item.call_id))
    elif item.role == chats.ASSISTANT:
      layer.say(item)
  layer.close()
  return layer.laid


def _said(
  item: items_lib.Item, is_last: bool, hears: bool, marks: Marks
) -> list[str | chats.Speech]:
  """What a message of the user says."""
  found: list[str | chats.Speech] = []
  for part in item.parts:
    given = part.speech if hears and part.kind in _SPOKEN else None
    if given is not None and (is_last or part.text is None):
      found.append(given)
    elif part.text is None:
      found.append(marks.unheard)
    elif part.text.strip():
      found.append(clean(part.text))
  return found


def clean(text: str) -> str:
  """A text of characters, without halves of any."""
  return _SURROGATES.sub('\ufffd', text)


class _Layer:
  """Lays items one behind the other."""

  def __init__(self, known: frozenset, marks: Marks):
    self.laid: list[Laid] = []
    self._known = known
    self._marks = marks
    # The turn of the assistant that is being made, and its calls without
    # results; it is laid when results or somebody else follow.
    self._item = ''
    self._texts: list[str] = []
    self._calls: list[chats.Call] = []
    self._awaited: dict[str, chats.Call] = {}

  def ask(self, item, parts: list[str | chats.Speech]) -> None:
    """The user says something; a turn has one recording at most."""
    self.close()
    begins, turn = True, []
    for part in [*parts, None]:
      is_full = isinstance(part, chats.Speech) and any(
        isinstance(one, chats.Speech) for one in turn
      )
      if turn and (part is None or is_full):
        self._lay(item.id, chats.USER, messages.joined(turn), begins=begins)
        begins, turn = False, []
      turn.append(part)

  def say(self, item) -> None:
    """The assistant says something."""
    text = '\n'.join(filter(str.strip, (part.words for part in item.parts)))
    if text:
      self._open(item.id)
      self._texts.append(clean(text))

  def call(self, item) -> None:
    """The assistant calls a tool."""
    if item.call.name in self._known:
      self._open(item.id)
      self._calls.append(item.call)
      self._awaited[item.call.id] = item.call

  def answer(self, item, call: chats.Call | None) -> None:
    """A tool gives a result."""
    if call is None or call.name not in self._known:
      return
    if call.id not in self._awaited:
      self.close()
      self._open(item.id)
      self._calls.append(call)
    self._flush()
    self._awaited.pop(call.id, None)
    self._result(item.id, call.id, clean(item.output))

  def close(self) -> None:
    """The turn of the assistant is over; what it waits for comes later."""
    self._flush()
    for name in self._awaited:
      self._result(self._item, name, self._marks.pending)
    self._awaited = {}

  def _open(self, item: str) -> None:
    """Goes on with the assistant's turn, if no result has followed it."""
    if self._texts or self._calls:
      return
    self.close()
    self._item = item

  def _flush(self) -> None:
    if self._texts or self._calls:
      text = '\n'.join(self._texts)
      parts = (text,) if text else ()
      self._lay(self._item, chats.ASSISTANT, parts, calls=tuple(self._calls))
    self._texts, self._calls = [], []

  def _result(self, item: str, call_id: str, text: str) -> None:
    # A turn has to say something.
    parts = (text if text.strip() else '""',)
    self._lay(item, chats.RESULT, parts, call_id=call_id)

  def _lay(self, item: str, role: str, parts, begins=False, **fields) -> None:
    turn = chats.Turn(role, parts, where=f'item {item}', **fields)
    self.laid.append(Laid(turn, item, begins))
