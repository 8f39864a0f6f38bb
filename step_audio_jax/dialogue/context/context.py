"""The context of one spoken dialogue.

    items come (`create`), recordings are heard (`hear`), their words follow
    (`transcribe`); a reply is an item that is written and spoken (`write`,
    `speak`), finished, and maybe truncated; `turns` is what the mind is asked.

Nothing here waits for anybody: a recording without a transcript stays a
recording.
"""

import dataclasses
from typing import Any, Callable, Collection, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import budget
from step_audio_jax.dialogue.context import history
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.context import laying
from step_audio_jax.dialogue.context import played

Item = items_lib.Item
Schemas = Sequence[Mapping[str, Any]]


@dataclasses.dataclass
class Compression:
  """Ids of recordings that are kept as words.

  Attributes:
    audio: As recordings.
    text: As words.
  """

  audio: int = 0
  text: int = 0

  @property
  def ratio(self) -> float | None:
    """How many times shorter words are; None where there are none yet."""
    return self.audio / self.text if self.text else None


class Context:
  """See the module.

  Attributes:
    instructions: What the system says first.
    tools: Schemas (`chats.tools`), of ours and of the client.
    truncation: What happens when it grows too long.
    items: The conversation.
    heard: How much shorter the user's words are than the recordings.
    spoken: The same of replies, as far as they were played.
  """

  def __init__(
    self,
    mind: services.Mind,
    *,
    instructions: str = '',
    tools: Schemas = (),
    truncation: budget.Truncation = budget.Truncation(),
    limits: history.Limits = history.Limits(),
    marks: laying.Marks = laying.Marks(),
    naming: Callable[[str], str] = history.new_id,
  ):
    """An empty one.

    Args:
      mind: That is asked; counts ids, and says whether it hears.
      instructions: As the attribute.
      tools: As the attribute.
      truncation: As the attribute.
      limits: Of what it may hold.
      marks: What stands where nothing is known yet.
      naming: Prefix → a new id.
    """
    self.instructions, self.tools = instructions, tools
    self.truncation = truncation
    self.items = history.History(limits, naming)
    self.heard, self.spoken = Compression(), Compression()
    self._mind, self._marks = mind, marks
    self._pace = played.Pace()
    self._left_out: set[str] = set()  # items that are not told any more
    self._empty: int | None = None  # ids of a turn that says nothing

  # Items.

  def create(self, item: Item, previous_item_id: str | None = None) -> Item:
    """Adds an item.

    Raises:
      UserError: As `history.History.create`, or a recording is none that the
        mind can be given.
    """
    for part in item.parts:
      self._check(part.speech)
    made = self.items.create(item, previous_item_id)
    if history.is_of_user(made):
      self._forget()
    return made

  def delete(self, item_id: str) -> Item:
    """Takes an item out.

    Raises:
      UserError: There is none.
    """
    self._left_out.discard(item_id)
    return self.items.delete(item_id)

  def truncate(
    self, item_id: str, content_index: int, audio_end_ms: float, final=True
  ) -> played.Played:
    """A reply was interrupted: what was played of it stays.

    Raises:
      UserError: As `history.History.truncate`.
    """
    return self.items.truncate(item_id, content_index, audio_end_ms, final)

  # What the user says.

  def hear(
    self, item_id: str, content_index: int, speech: chats.Speech
  ) -> None:
    """An ear has heard a recording.

    Raises:
      UserError: There is no such recording, or the mind cannot be given it.
    """
    part = self._recording(item_id, content_index)
    self._check(speech)
    text = part.text if speech.text is None else speech.text
    self.items.replace_part(item_id, content_index, speech=speech, text=text)
    if text is not None:
      self._measure(speech, text)
      self._forget()

  def transcribe(self, item_id: str, content_index: int, text: str) -> bool:
    """The words of a recording have come, at whatever time.

    Returns:
      Whether it is still in the conversation.

    Raises:
      UserError: It is no recording.
    """
    if item_id not in self.items:
      return False
    part = self._recording(item_id, content_index)
    self.items.replace_part(item_id, content_index, text=text)
    if part.speech is not None:
      if part.text is None:  # else it has been counted
        self._measure(part.speech, text)
      self._forget()
    return True

  @property
  def untranscribed(self) -> list[tuple[str, int]]:
    """(item, content) of the recordings whose words are not known."""
    return [
      (item.id, n)
      for item in self.items
      for n, part in enumerate(item.parts)
      if part.kind == items_lib.INPUT_AUDIO and part.text is None
    ]

  def _recording(self, item_id: str, content_index: int) -> items_lib.Part:
    part = self.items.part(item_id, content_index)
    if part.kind != items_lib.INPUT_AUDIO:
      raise errors.UserError(
        f'content_index: found {part.kind} of {item_id!r:.60}, expected '
        f'{items_lib.INPUT_AUDIO}.'
      )
    return part

  def _forget(self) -> None:
    """Speech that has words and is not the last: nobody asks for it again."""
    spoken = [item for item in self.items if history.is_of_user(item)]
    for item in spoken[:-1]:
      for n, part in enumerate(item.parts):
        if part.speech is not None and part.text is not None:
          self.items.replace_part(item.id, n, speech=None)

  def _check(self, speech: chats.Speech | None) -> None:
    """Refuses what is too short to have ids: every later turn would fail.

    Raises:
      UserError: It is.
    """
    if speech is not None and self._mind.hears:
      self._ids(speech)

  def _measure(self, speech: chats.Speech, text: str) -> None:
    if self._mind.hears and text.strip():
      self._count(self.heard, speech, text)

  def _count(
    self,
    found: Compression,
    sound: chats.Speech | np.ndarray,
    text: str,
  ) -> None:
    """One more recording, or the ids of one, and its words."""
    try:
      words = self._ids(text)
      audio = (
        self._ids(sound) if isinstance(sound, chats.Speech) else len(sound)
      )
    except errors.UserError:  # it is refused where it is asked
      return
    found.audio += audio
    found.text += words

  def _ids(self, content: str | chats.Speech) -> int:
    """Ids of a content by itself."""

    def length(one) -> int:
      return self._mind.length((chats.Turn(chats.USER, (one,)),))

    if self._empty is None:
      self._empty = length('a') - 1  # a letter is one id
    return max(length(content) - self._empty, 0)

  # What the assistant says.

  def reply(self, previous_item_id: str | None = None) -> Item:
    """Begins a message of the assistant.

    Raises:
      UserError: As `create`.
    """
    item = items_lib.message(chats.ASSISTANT, status=items_lib.IN_PROGRESS)
    return self.create(item, previous_item_id)

  def speak(
    self, item_id: str, sample_rate: int, speed: float = 1.0
  ) -> tuple[int, played.Ledger]:
    """A content of a message that is spoken.

    Args:
      item_id: Of `reply`.
      sample_rate: Hz, of the sound as it goes out.
      speed: That the mouth was asked for.

    Returns:
      Its index, and the ledger that is told every `services.Sound` that goes
      out.

    Raises:
      UserError: There is no such item.
    """
    ledger = played.Ledger(sample_rate, speed, self._pace)
    return self._append(item_id, items_lib.OUTPUT_AUDIO, ledger=ledger), ledger

  def write(self, item_id: str, text: str, content_index: int = -1) -> int:
    """A content of a message that is written, or more of one.

    Args:
      item_id: Of `reply`.
      text: More of it.
      content_index: Of a content that goes on; -1 begins one.

    Returns:
      Its index.

    Raises:
      UserError: There is no such item or content.
    """
    if content_index < 0:
      return self._append(item_id, items_lib.OUTPUT_TEXT, text=text)
    part = self.items.part(item_id, content_index)
    if part.kind != items_lib.OUTPUT_TEXT:
      raise errors.UserError(
        f'content_index: found {part.kind} of {item_id!r:.60}, expected '
        f'{items_lib.OUTPUT_TEXT}.'
      )
    whole = (part.text or '') + text
    self.items.replace_part(item_id, content_index, text=whole)
    return content_index

  def _append(self, item_id: str, kind: str, **fields) -> int:
    parts = self.items.retrieve(item_id).parts
    self.items.replace(item_id, parts=(*parts, items_lib.Part(kind, **fields)))
    return len(parts)

  def finish(
    self, item_id: str, status: str = items_lib.COMPLETED
  ) -> Item | None:
    """A message of the assistant is over.

    Args:
      item_id: Of `reply`; it may have been deleted.
      status: How it ended; one that was truncated stays incomplete.

    Returns:
      The item, if it is still there.
    """
    if item_id not in self.items:
      return None
    item = self.items.retrieve(item_id)
    for part in item.parts:
      whole = status == items_lib.COMPLETED
      if part.ledger is not None and part.ledger.close(whole):
        ids, words = part.ledger.played.ids, part.words
        if len(ids) and words.strip():
          self._count(self.spoken, ids, laying.clean(words))
    cut = any(
      part.ledger is not None
      and part.ledger.is_cut
      and not part.ledger.played.is_whole
      for part in item.parts
    )
    return self.items.replace(
      item_id, status=items_lib.INCOMPLETE if cut else status
    )

  # What the mind is asked.

  def turns(
    self,
    most: int = services.Manner.most,
    *,
    also: Sequence[Item] = (),
    only: Sequence[Item] | None = None,
    instructions: str | None = None,
    tools: Schemas | None = None,
  ) -> tuple[chats.Turn, ...]:
    """The chat to which a reply is wanted.

    Args:
      most: Ids that the reply may have.
      also: Items behind all, as if they were in the conversation: what the
        user may be about to have said, for a reply on speculation.
      only: Items in place of the conversation, for a reply beside it.
      instructions: In place of the conversation's.
      tools: In place of the conversation's.

    Raises:
      UserError: What has to stay is too long.
    """
    everything = [*(self.items if only is None else only), *also]
    told = everything
    if only is None:
      self._left_out &= _ids_of(everything)
      told = [item for item in everything if item.id not in self._left_out]
    instructions = self.instructions if instructions is None else instructions
    tools = self.tools if tools is None else tools
    # What the system says stays, and calls may be answered late.
    opening = laying.opening(everything, instructions, tools)
    calls = {
      item.call.id: item.call
      for item in [*self.items, *everything]
      if item.kind == items_lib.CALL
    }
    dialogue = laying.dialogue(
      told, tools, hears=self._mind.hears, calls=calls, marks=self._marks
    )
    cut = budget.fit(self._mind, opening, dialogue, most, self.truncation)
    if cut and only is None:
      names = [item.id for item in told]
      self._left_out.update(names[: names.index(dialogue[cut].item)])
    return tuple(one.turn for one in (*opening, *dialogue[cut:]))

  @property
  def left_out(self) -> Collection[str]:
    """Ids of the items that were too old to be told."""
    return frozenset(self._left_out)


def _ids_of(items: Sequence[Item]) -> set[str]:
  return {item.id for item in items}
