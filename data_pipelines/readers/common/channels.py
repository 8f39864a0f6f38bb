"""Which channel of a recording a line of a corpus speaks of.

Formats count from 0 (NeMo, Lhotse, `segments` of Kaldi) or say A and B (the
tables of LDC and NIST). Two lines on two channels of one recording are two
utterances: where a line has no id of its own, its channel is a part of it, and
both are in the split of their recording.
"""

import re
from typing import Any

from step_audio_jax import errors

Channel = int | tuple[int, ...] | None
_WHOLE = re.compile(r'[0-9]{1,6}(\.0*)?')
_ALL = ('', 'average', 'avg', 'mean', 'all')  # what NeMo's selector may be


def parse(value: Any, field: str = 'channel') -> Channel:
  """A channel as corpora write it.

  Args:
    value: A number from 0 on, also as text or with `.0` behind it; a letter, A
      is the first; a list of these; None, NaN, '' or `average`: all channels.
    field: What messages call it.

  Raises:
    UserError: It is none of these.
  """
  if value is None or value != value:  # NaN, as tables of pandas have it
    return None
  if isinstance(value, str) and value.strip().lower() in _ALL:
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
    return int(float(value)) if _WHOLE.fullmatch(value) else None
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  return value if type(value) is int and value >= 0 else None


def id_with_channel(name: str, channel: Any, field: str = 'channel') -> dict:
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
