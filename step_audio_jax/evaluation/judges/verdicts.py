"""What somebody says of an answer, and what many such verdicts come to.

A verdict has a value, or a kind that says why it has none. Kinds of what a
judge says (`parsing`): empty, prose, html, not_json, no_field, off_scale,
contradictory. Of several votes: tie. Of an endpoint: those of
`endpoints.chat.Reply`, and `not_kept`. Of the row itself:

    silent          the candidate said nothing; its value is the lowest
    no_reference    nobody knows what is right
"""

import collections
import math
from typing import Any, Mapping, NamedTuple, Sequence

from step_audio_jax import errors

NO_ANSWER, NO_REFERENCE, TIE = 'silent', 'no_reference', 'tie'


class Verdict(NamedTuple):
  """What is said of one answer.

  Attributes:
    value: Of it; None where there is none. Of several, the first.
    kind: Why there is none, in a word; '' of a verdict.
    parts: Name → value, where a verdict has several.
  """

  value: float | None
  kind: str = ''
  parts: Mapping[str, float] = {}

  def part(self, name: str) -> float | None:
    """A value by name; the only one where it has no names."""
    return self.parts.get(name) if self.parts else self.value


def rates(
  verdicts: Sequence[Verdict], low: float = 0.0, name: str = ''
) -> dict[str, Any]:
  """Means of verdicts: nothing is dropped without being told.

  Args:
    verdicts: One an item, all items.
    low: The worst value there is, that of an answer without a verdict.
    name: Of the part that is looked at.

  Returns:
    JSON-able: `over_all`, the mean with the worst value for what could not be
    parsed; `over_parsed`, that of the rest; `of` all, how many are `parsed`;
    `kinds`, how many are of each. Means of nothing are None.
  """
  values = [one.part(name) for one in verdicts]
  parsed = [value for value in values if value is not None]
  return {
    'over_all': mean([low if value is None else value for value in values]),
    'over_parsed': mean(parsed),
    'of': len(values),
    'parsed': len(parsed),
    'kinds': kinds(verdicts),
  }


def kinds(verdicts: Sequence[Verdict]) -> dict[str, int]:
  """How many verdicts are of each kind that is not ''."""
  counted = collections.Counter(one.kind for one in verdicts if one.kind)
  return dict(sorted(counted.items()))


def mean(values: Sequence[float]) -> float | None:
  """The same in any order; None of nothing."""
  return math.fsum(values) / len(values) if values else None


def answer(row: Mapping[str, Any]) -> str:
  """What the candidate said; '' where it said nothing.

  Raises:
    UserError: A row has no such field, or another thing in it.
  """
  return '' if _field(row, 'answer') is None else text(row, 'answer')


def references(row: Mapping[str, Any]) -> list[str]:
  """What is right: `references`, or the one `reference`; blank ones are none.

  Raises:
    UserError: A row has neither field, or another thing in it.
  """
  found = row.get('references', row.get('reference', ()))
  if 'references' not in row and 'reference' not in row:
    _field(row, 'reference')
  found = [found] if isinstance(found, str) else list(found or ())
  for one in found:
    if not isinstance(one, str):
      raise errors.UserError(
        f'{_name(row)}: references: found {one!r:.40}, expected strings.'
      )
  return [one for one in found if one.strip()]


def text(row: Mapping[str, Any], name: str) -> str:
  """A field that is a string.

  Raises:
    UserError: A row has no such field, or another thing in it.
  """
  found = _field(row, name)
  if not isinstance(found, str):
    raise errors.UserError(
      f'{_name(row)}: {name}: found {found!r:.40}, expected a string.'
    )
  return found


def _field(row, name) -> Any:
  if name not in row:
    raise errors.UserError(
      f'{_name(row)}: {name}: found no such field, expected one.'
    )
  return row[name]


def _name(row) -> str:
  return f'row {row.get("id", "without id")!r:.60}'
