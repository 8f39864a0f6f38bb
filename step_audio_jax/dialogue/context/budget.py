"""What is told of a conversation that is longer than a prompt may be.

The oldest exchanges are left out, whole ones, from a turn of the user to the
next, with their calls and results. The system, the schemas and all from the
last turn of the user on stay. As every cut makes a mind read the rest anew,
one cut goes further than it has to: to `retention` of the room.
"""

import dataclasses
import math
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import laying

AUTO, DISABLED, RATIO = KINDS = ('auto', 'disabled', 'retention_ratio')


@dataclasses.dataclass(frozen=True)
class Truncation:
  """As `truncation` of OpenAI's sessions.

  Attributes:
    retention: How much of the room a cut leaves filled, 0 to 1.
    is_off: Whether what is too long is refused, and nothing is cut.
    longest: Ids behind system and schemas; None for what the mind has room
      for.
  """

  retention: float = 0.8
  is_off: bool = False
  longest: int | None = None

  def __post_init__(self):
    errors.within(
      'truncation', self, {'retention': (0, 1), 'longest': (1, math.inf)}
    )


def parse(value: Any, field: str = 'truncation') -> Truncation:
  """A `Truncation` of a client's JSON.

  Raises:
    UserError: It is none.
  """
  if value in (None, AUTO):
    return Truncation()
  if value == DISABLED:
    return Truncation(is_off=True)
  kind = value.get('type') if isinstance(value, Mapping) else value
  if kind != RATIO:
    raise errors.UserError(
      f'{field}: found {kind!r:.60}, expected {", ".join(KINDS)}.'
    )
  ratio = value.get('retention_ratio')
  if not _is_number(ratio) or not 0 <= ratio <= 1:
    raise errors.UserError(
      f'{field}.retention_ratio: found {ratio!r:.40}, expected 0 to 1.'
    )
  limits = value.get('token_limits') or {}
  if not isinstance(limits, Mapping):
    raise errors.UserError(
      f'{field}.token_limits: found {limits!r:.40}, expected an object.'
    )
  longest = limits.get('post_instructions')
  whole = longest is None or isinstance(longest, int) and _is_number(longest)
  if not whole or longest is not None and longest < 1:
    raise errors.UserError(
      f'{field}.token_limits.post_instructions: found {longest!r:.40}, '
      'expected a whole number from 1.'
    )
  return Truncation(float(ratio), longest=longest)


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def fit(
  mind: services.Mind,
  opening: Sequence[laying.Laid],
  dialogue: Sequence[laying.Laid],
  most: int,
  how: Truncation = Truncation(),
) -> int:
  """How many turns of the dialogue are left out.

  Args:
    mind: Counts ids.
    opening: System and schemas.
    dialogue: What follows them.
    most: Ids that the reply may have.
    how: How far to cut.

  Raises:
    UserError: What has to stay is too long.
  """
  front = [one.turn for one in opening]
  turns = [one.turn for one in dialogue]
  room = mind.longest - most
  if how.longest is not None:
    room = min(room, how.longest + (mind.length(front) if front else 0))
  length = _length(mind, [*front, *turns])
  if length <= room:
    return 0
  starts = [n for n, one in enumerate(dialogue) if one.begins and n]
  least = length
  if starts:
    least = _length(mind, [*front, *turns[starts[-1] :]])
  if how.is_off or least > room:
    found = length if how.is_off else least
    what = 'the conversation' if how.is_off else 'the last exchange'
    raise errors.UserError(
      f'conversation: {what} has {found} ids, expected at most {room} with '
      f'{most} kept for the reply.'
    )
  # It grows shorter with every exchange that is left out.
  wanted = max(least, int(how.retention * room))
  low, high = 0, len(starts) - 1
  while low < high:
    middle = (low + high) // 2
    if _length(mind, [*front, *turns[starts[middle] :]]) <= wanted:
      high = middle
    else:
      low = middle + 1
  return starts[low]


def _length(mind: services.Mind, turns: Sequence[chats.Turn]) -> int:
  return mind.length(turns) if turns else 0
