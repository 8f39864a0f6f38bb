"""Where the options of a question stand: by seed, not as they were published.

A model that likes to say A is right as often as A is. So the options of each
question are placed by a permutation that follows from a seed and the id of the
question alone: the same on every machine, in every order of questions. Options
that speak of others (`all of the above`) stay where they are, and so do all
others beside them.
"""

import re
import string
from typing import Any, Iterable, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import digests

LETTERS = string.ascii_uppercase
# Says something of other options, or of their places.
_OF_OTHERS = re.compile(
  r'\b(?:all|none|any|both|neither|either|some|one|two) of (?:the|th[eo]se)\b'
  r'|\b(?:above|below|preceding|following) (?:options?|choices?|answers?)\b'
  r'|\b(?:option|choice|answer)s? [a-h]\b'
  r'|^(?:both |neither |either )?\(?[a-h]\)?(?:,? ?(?:and|or|nor|&|,)'
  r' ?\(?[a-h]\)?)+\W*$|以上|都对|都不对|都是|都不是',
  re.IGNORECASE,
)


class Placed(NamedTuple):
  """Options as they are asked.

  Attributes:
    options: In the order in which they are shown.
    letter: Of the right one.
    order: Place that each had when it was published.
  """

  options: tuple[str, ...]
  letter: str
  order: tuple[int, ...]

  @property
  def text(self) -> str:
    """As a question shows them: `A. one`, a line each."""
    return '\n'.join(
      f'{letter}. {option}' for letter, option in zip(LETTERS, self.options)
    )

  @property
  def about(self) -> dict[str, Any]:
    """JSON-able, what a row says of it; `rules.option` reads it."""
    told = {'options': list(self.options), 'letter': self.letter}
    return {**told, 'order': list(self.order)}


def place(
  id: str, options: Iterable[str], right: int, seed: int | None = 0
) -> Placed:
  """Options of one question.

  Args:
    id: Of the question, which no other has.
    options: As they were published.
    right: Place of the right one among them, from 0.
    seed: Of the permutation; None leaves them as they were published.

  Raises:
    UserError: There are fewer than two options or more than letters, two are
      the same, or none is right.
  """
  options = tuple(options)
  if not 2 <= len(options) <= len(LETTERS):
    raise errors.UserError(
      f'{id}: options: found {len(options)}, expected 2 to {len(LETTERS)}.'
    )
  if not 0 <= right < len(options):
    raise errors.UserError(
      f'{id}: right option: found {right}, expected 0 to {len(options) - 1}.'
    )
  folded = [one.strip().casefold() for one in options]
  if len(set(folded)) < len(folded):
    raise errors.UserError(
      f'{id}: options: found one twice, expected options that differ.'
    )
  order = list(range(len(options)))
  if seed is not None and not any(map(_OF_OTHERS.search, options)):
    order = permutation(len(options), f'{seed}\0{id}')
  return Placed(
    tuple(options[k] for k in order), LETTERS[order.index(right)], tuple(order)
  )


def permutation(size: int, key: str) -> list[int]:
  """All numbers below `size` in an order that follows from a text.

  Fisher and Yates, with a number of 64 bits for each exchange.
  """
  order = list(range(size))
  for last in range(size - 1, 0, -1):
    other = digests.number(f'{key}\0{last}') % (last + 1)
    order[last], order[other] = order[other], order[last]
  return order


def letter_of(options: Sequence[str], right: str) -> str:
  """Letter of an option by its text.

  Raises:
    UserError: It is not one of them.
  """
  folded = [one.strip().casefold() for one in options]
  if right.strip().casefold() not in folded:
    raise errors.UserError(
      f'right option: found {right!r:.60}, expected one of '
      f'{", ".join(map(repr, options))}.'
    )
  return LETTERS[folded.index(right.strip().casefold())]
