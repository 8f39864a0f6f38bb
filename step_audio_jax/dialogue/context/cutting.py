"""How much of a sentence was said when a part of its sound was played.

Nobody has timed the words, so a sentence is shared out in proportion: a letter
weighs 1, a character of a script without spaces (one syllable, mostly) 3, a
digit 4, because "7" is said as "seven"; white space weighs nothing. A text is
cut behind a word; in scripts without spaces behind a character with all its
marks. What is cut off was not heard as a whole.
"""

import dataclasses
from typing import Sequence
import unicodedata

from step_audio_jax import languages

_LETTER, _SYLLABLE, _DIGIT = 1, 3, 4
# Letters by their category, and yet marks of the letter before them: vowels of
# Thai and Lao, voicing of narrow katakana.
_MARKS = frozenset('\u0e33\u0eb3\uff9e\uff9f')
# What joins the next letter: stacked consonants of Khmer and Burmese, and the
# joiner of emoji and of many scripts.
_JOINERS = frozenset('\u17d2\u1039\u200d')


@dataclasses.dataclass(frozen=True)
class Cuts:
  """Where a text may be cut.

  Attributes:
    text: The text.
    ends: Places in it behind a word or a character, in order.
    weights: What the text up to each of them weighs.
  """

  text: str
  ends: Sequence[int]
  weights: Sequence[int]

  @property
  def weight(self) -> int:
    """Of all of it."""
    return self.weights[-1] if self.weights else 0

  def up_to(self, share: float) -> str:
    """The words that end within the first `share` (0 to 1) of the sound."""
    if share >= 1:
      return self.text
    # A hair more: 3/7 of a sentence of 7 equal words has three of them.
    most = share * self.weight + 1e-6
    place = 0
    for end, weight in zip(self.ends, self.weights):
      if weight > most:
        break
      place = end
    return self.text[:place]


def cuts(text: str) -> Cuts:
  """Where `text` may be cut, and what is in front of each place."""
  ends, weights, weight = [], [], 0
  for k, character in enumerate(text):
    if _may_cut(text, k):
      ends.append(k)
      weights.append(weight)
    weight += _weight(character)
  stripped = len(text.rstrip())
  if stripped and stripped not in ends[-1:]:
    ends.append(stripped)
    weights.append(weight)
  return Cuts(text, ends, weights)


def _may_cut(text: str, k: int) -> bool:
  """Whether a word, or a character that is one, ends in front of place k."""
  if not k or text[k - 1].isspace():
    return False
  here, before = text[k], text[k - 1]
  if here.isspace():
    return True
  if here in _MARKS or before in _JOINERS or _opens(before):
    return False
  if _opens(here):
    return bool(languages.looks_spaceless(before))
  if not here.isalnum():
    return False  # what is said with the word before, or not at all
  return bool(
    languages.looks_spaceless(here) or languages.looks_spaceless(before)
  )


def _opens(character: str) -> bool:
  """Whether it is a bracket or a quote that belongs to what follows."""
  return unicodedata.category(character) in ('Ps', 'Pi')


def _weight(character: str) -> int:
  if character.isascii():
    if character.isdigit():
      return _DIGIT
    return 0 if character.isspace() else _LETTER
  category = unicodedata.category(character)
  if category[0] in 'MZC':
    return 0  # marks, spaces, and what controls
  if category[0] == 'N':
    return _DIGIT
  if category[0] == 'L' and languages.looks_spaceless(character):
    return 0 if character in _MARKS else _SYLLABLE
  return _LETTER
