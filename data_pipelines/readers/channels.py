"""Which channel of a recording a line of a corpus speaks of.

Formats count from 0 (NeMo, Lhotse, `segments` of Kaldi) or say A and B (the
tables of LDC and NIST). Two lines on two channels of one recording are two
utterances: where a line has no id of its own, its channel is a part of it, and
both are in the split of their recording.
"""

from typing import Any

from step_audio_jax import errors

Channel = int | tuple[int, ...] | None
_ALL = ('', 'average', 'avg', 'mean', 'all')  # what NeMo's selector may be


def parse(value: Any, field: str = 'channel') -> Channel:
  """A channel as corpora write it.

  Args:
    value: A number from 0 on, also as text; a letter, A is the first; a list
      of these; None, '' or `average`: all channels.
    field: What messages call it.

  Raises:
    UserError: It is none of these.
  """
  if isinstance(value, str):
    value = value.strip()
  if value is None or isinstance(value, str) and value.lower() in _ALL:
    return None
  several = isinstance(value, (list, tuple))
  found = tuple(map(_number, value)) if several else (_number(value),)
  if not found or None in found or len(set(found)) < len(found):
    raise errors.UserError(
      f'{field}: found {value!r:.50}, expected the number of a channel from 0 '
      'on, a letter from A on, or a list of different ones.'
    )
  return found if len(found) > 1 else found[0]


def _number(value: Any) -> int | None:
  if isinstance(value, str):
    value = value.strip()
    if len(value) == 1 and 'A' <= value.upper() <= 'Z':
      return ord(value.upper()) - ord('A')
    digits = value.isascii() and value.isdigit() and len(value) < 6
    return int(value) if digits else None
  return value if type(value) is int and value >= 0 else None


def told_apart(name: str, channel: Any, field: str = 'channel') -> dict:
  """Fields of a line whose id is made of its recording's name.

  Args:
    name: What the id would be without a channel.
    channel: As `parse` takes it.
    field: What messages call it.

  Raises:
    UserError: As `parse`.
  """
  found = parse(channel, field)
  if found is None:
    return {'id': name}
  numbers = found if isinstance(found, tuple) else (found,)
  return {
    'id': f'{name}-ch{"+".join(map(str, numbers))}',
    'part_of': name,
    'channel': found,
  }
