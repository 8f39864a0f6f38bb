"""How much of a text, or of speech codes, was there before.

    share = 1 − different n-grams / n-grams

0 where nothing comes twice; a sequence that says one thing for ever goes to 1.
Words are those of `quiz.words`: a Han character is one. Of a set, n-grams are
summed over its members first, so that long ones weigh more.
"""

import dataclasses
from typing import Any, Iterable, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.metrics import quiz

LENGTH = 3


@dataclasses.dataclass(frozen=True)
class Repeats:
  """Counts, which can be added.

  Attributes:
    repeated: N-grams that were there before.
    total: N-grams.
    longest: Most that stood one behind the other and were the same part.
  """

  repeated: int = 0
  total: int = 0
  longest: int = 0

  @property
  def share(self) -> float | None:
    """Of n-grams; None where there is none."""
    return self.repeated / self.total if self.total else None

  def __add__(self, other: 'Repeats') -> 'Repeats':
    return Repeats(
      self.repeated + other.repeated,
      self.total + other.total,
      max(self.longest, other.longest),
    )


def count(parts: Sequence[Any], length: int = LENGTH) -> Repeats:
  """Repeats of one sequence of words or ids.

  Raises:
    UserError: `length` is below one.
  """
  if length < 1:
    raise errors.UserError(
      f'repetition: length is {length}, expected at least 1.'
    )
  grams = [
    tuple(parts[start : start + length])
    for start in range(len(parts) - length + 1)
  ]
  longest = run = 0
  for place, part in enumerate(parts):
    run = run + 1 if place and part == parts[place - 1] else 1
    longest = max(longest, run)
  return Repeats(len(grams) - len(set(grams)), len(grams), longest)


def of_text(text: str, length: int = LENGTH) -> Repeats:
  """Repeats of the words of a text."""
  return count(quiz.words(text), length)


def total(found: Iterable[Repeats]) -> Repeats:
  """Repeats of a set."""
  return sum(found, Repeats())
