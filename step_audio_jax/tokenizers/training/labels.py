"""The characters that CTC heads spell.

Letters of an alphabet, or Chinese characters, without spaces and punctuation:
at 16.67 frames a second a space is a label too many (with spaces, 8 % of quick
English is longer in labels than in frames, and no CTC path exists).
"""

import dataclasses
import os
from typing import Collection, Sequence
import unicodedata

from step_audio_jax import errors
from step_audio_jax.corpus import manifest

BLANK = 0


def spelling(text: str) -> str:
  """What of a text is spelt: case-folded letters, marks and digits."""
  text = unicodedata.normalize('NFKC', text).casefold()
  return ''.join(c for c in text if unicodedata.category(c)[0] in 'LMN')


@dataclasses.dataclass(frozen=True)
class Labels:
  """A label set; id 0 is CTC's blank.

  Attributes:
    characters: Those with ids 1, 2, …
  """

  characters: tuple[str, ...]

  def __post_init__(self):
    object.__setattr__(self, 'characters', tuple(self.characters))
    if len(set(self.characters)) < len(self.characters):
      raise errors.UserError('labels: a character occurs twice.')

  @property
  def size(self) -> int:
    """Number of labels, the blank included."""
    return len(self.characters) + 1

  def encode(self, text: str) -> list[int]:
    """Ids of a text.

    Raises:
      UserError: A character has no label.
    """
    table = {c: i for i, c in enumerate(self.characters, start=1)}
    ids = []
    for character in spelling(text):
      if character not in table:
        raise errors.UserError(
          f'text {text!r}: no label for {character!r}; the labels come from '
          'the transcripts of the training split.'
        )
      ids.append(table[character])
    return ids

  def decode(self, ids: Sequence[int]) -> str:
    """Text of a frame-wise best path: repeats merged, blanks left out."""
    text, last = [], BLANK
    for i in map(int, ids):
      if i not in (last, BLANK):
        text.append(self.characters[i - 1])
      last = i
    return ''.join(text)


def of_corpus(
  corpus: str | os.PathLike, splits: Collection[str] = ('train',)
) -> Labels:
  """The characters of a corpus' transcripts, in code point order.

  Raises:
    UserError: The manifest is bad, or none of its transcripts has a letter.
  """
  found = set()
  for utterance in manifest.read(corpus, splits=splits, kind='speech'):
    found.update(spelling(utterance.text or ''))
  if not found:
    raise errors.UserError(
      f'{manifest.path_of(corpus)}: no transcripts in {", ".join(splits)}; '
      'training a tokenizer needs them.'
    )
  return Labels(tuple(sorted(found)))
