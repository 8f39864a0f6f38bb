"""The items of a conversation in order: created, deleted, read, truncated.

It is one event loop's; nothing in it waits.
"""

import dataclasses
import itertools
import secrets
from typing import Callable, Iterator

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.context import items as items_lib
from step_audio_jax.dialogue.context import played

Item = items_lib.Item
Part = items_lib.Part


def new_id(prefix: str) -> str:
  """A name that nobody else has."""
  return f'{prefix}_{secrets.token_hex(8)}'


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one conversation may hold.

  Attributes:
    items: In it.
    size: Characters, and bytes of recordings, of one item.
    recordings: Bytes of recordings that can be retrieved; older ones are
      forgotten, their words are not.
  """

  items: int = 4096
  size: int = 2**24
  recordings: int = 2**24

  def __post_init__(self):
    errors.at_least_one('limits', self, ('items', 'size'))


class History:
  """See the module."""

  def __init__(
    self,
    limits: Limits = Limits(),
    naming: Callable[[str], str] = new_id,
  ):
    """An empty one.

    Args:
      limits: Of what it holds.
      naming: Prefix → a new id.
    """
    self._limits = limits
    self._naming = naming
    self._items: dict[str, Item] = {}  # in order
    self._recordings = 0  # bytes

  def __iter__(self) -> Iterator[Item]:
    return iter(tuple(self._items.values()))

  def __len__(self) -> int:
    return len(self._items)

  def __contains__(self, name: str) -> bool:
    return name in self._items

  def before(self, name: str) -> str | None:
    """The id in front of an item; None for the first.

    Raises:
      UserError: There is no such item.
    """
    self.retrieve(name)
    last = None
    for one in self._items:
      if one == name:
        return last
      last = one
    return None

  def retrieve(self, name: str, field: str = 'item_id') -> Item:
    """An item by its id.

    Raises:
      UserError: There is none.
    """
    if not isinstance(name, str) or name not in self._items:
      raise errors.UserError(
        f'{field}: found {name!r:.60}, expected the id of an item of the '
        'conversation.'
      )
    return self._items[name]

  def create(self, item: Item, previous_item_id: str | None = None) -> Item:
    """Puts an item at the end, or behind another.

    Args:
      item: It is given an id, and a call one of its own, where it has none.
      previous_item_id: Of that in front of it; 'root' is in front of all, None
        is at the end.

    Returns:
      The item as it is kept.

    Raises:
      UserError: There is one of that id or no such place, a call of that id
        is there already, an output is of no call or of one that has one, or
        the conversation is full.
    """
    if not item.id:
      item = dataclasses.replace(item, id=self._naming('item'))
    if item.id in self._items:
      raise errors.UserError(
        f'item.id: {item.id!r:.60} is in the conversation already, expected '
        'another.'
      )
    if len(self._items) >= self._limits.items:
      raise errors.UserError(
        f'item: the conversation has {len(self._items)} items, expected at '
        f'most {self._limits.items}; delete some.'
      )
    if item.size > self._limits.size:
      raise errors.UserError(
        f'item: found {item.size} characters and bytes, expected at most '
        f'{self._limits.size}.'
      )
    if item.kind == items_lib.CALL:
      item = self._with_call_id(item)
    place = len(self._items)
    if previous_item_id == items_lib.ROOT:
      place = 0
    elif previous_item_id is not None:
      self.retrieve(previous_item_id, 'previous_item_id')
      place = list(self._items).index(previous_item_id) + 1
    if item.kind == items_lib.OUTPUT:
      self._check_output(item, place)
    if place == len(self._items):
      self._items[item.id] = item
    else:
      order = list(self._items.items())
      order.insert(place, (item.id, item))
      self._items = dict(order)
    self._count(item)
    return item

  def _with_call_id(self, item: Item) -> Item:
    call = item.call
    if call.id is None:
      call = dataclasses.replace(call, id=self._naming('call'))
    elif any(
      one.kind == items_lib.CALL and one.call.id == call.id for one in self
    ):
      raise errors.UserError(
        f'item.call_id: there is a call {call.id!r:.60} already, expected '
        'another id.'
      )
    return dataclasses.replace(item, call=call)

  def _check_output(self, item: Item, place: int) -> None:
    front = itertools.islice(self._items.values(), place)
    calls = [one.call.id for one in front if one.kind == items_lib.CALL]
    if item.call_id not in calls:
      raise errors.UserError(
        f'item.call_id: found {item.call_id!r:.60}, expected the id of a call '
        'in front of it.'
      )
    for one in self:
      if one.kind == items_lib.OUTPUT and one.call_id == item.call_id:
        raise errors.UserError(
          f'item.call_id: the call {item.call_id!r:.60} has an output already.'
        )

  def _count(self, item: Item) -> None:
    """Forgets the oldest recordings where there are too many bytes of them."""
    self._recordings += _bytes(item)
    if self._recordings <= self._limits.recordings:
      return
    for one in self:
      if one.id == item.id:
        return
      if held := _bytes(one):
        self.replace(
          one.id,
          parts=tuple(dataclasses.replace(p, data=None) for p in one.parts),
        )
        if self._recordings <= self._limits.recordings or not held:
          return

  def delete(self, name: str) -> Item:
    """Takes an item out; outputs of a call that is gone are not told.

    Raises:
      UserError: There is none.
    """
    item = self.retrieve(name)
    self._recordings -= _bytes(item)
    return self._items.pop(name)

  def replace(self, name: str, **fields) -> Item:
    """An item with other fields.

    Raises:
      UserError: There is none.
    """
    item = self.retrieve(name)
    self._recordings -= _bytes(item)
    item = self._items[name] = dataclasses.replace(item, **fields)
    self._recordings += _bytes(item)
    return item

  def part(self, name: str, content_index: int) -> Part:
    """A content of a message.

    Raises:
      UserError: There is none.
    """
    item = self.retrieve(name)
    good = isinstance(content_index, int) and not isinstance(
      content_index, bool
    )
    if not good or not 0 <= content_index < len(item.parts):
      there = f'0 to {len(item.parts) - 1}' if item.parts else 'none'
      raise errors.UserError(
        f'content_index: found {content_index!r:.40}, expected {there} of '
        f'{name!r:.60}.'
      )
    return item.parts[content_index]

  def replace_part(self, name: str, content_index: int, **fields) -> Part:
    """A content with other fields.

    Raises:
      UserError: There is none.
    """
    part = dataclasses.replace(self.part(name, content_index), **fields)
    parts = list(self.retrieve(name).parts)
    parts[content_index] = part
    self.replace(name, parts=tuple(parts))
    return part

  def truncate(
    self,
    name: str,
    content_index: int,
    audio_end_ms: float,
    final: bool = True,
  ) -> played.Played:
    """A reply was interrupted: keeps what was heard of it.

    Contents behind that one were not heard at all.

    Args:
      name: Of a message of the assistant.
      content_index: Of the content that was playing.
      audio_end_ms: How much of its sound was played.
      final: As in `played.Ledger.cut`.

    Raises:
      UserError: It is no sound of the assistant, or more than was sent.
    """
    part = self.part(name, content_index)
    if part.ledger is None:
      raise errors.UserError(
        f'item_id: found {name!r:.60}, whose content {content_index} has no '
        'sound of the assistant, expected one that has.'
      )
    found = part.ledger.cut(audio_end_ms, final)
    item = self.retrieve(name)
    for later in item.parts[content_index + 1 :]:
      if later.ledger is not None:
        later.ledger.cut(0, final)
    if not found.is_whole:
      self.replace(name, status=items_lib.INCOMPLETE)
    return found


def _bytes(item: Item) -> int:
  return sum(len(part.data or b'') for part in item.parts)


def is_of_user(item: Item) -> bool:
  """Whether the user says something with it."""
  return item.kind == items_lib.MESSAGE and item.role == chats.USER
