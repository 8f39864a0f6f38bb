"""Rows of one vocabulary's tables as rows of another's, by what ids mean.

    text         by piece and kind, control pieces by name
    linguistic   by code, where both are codes of one speech tokenizer
    semantic     by code, likewise
    padding      rows that nothing emits stay behind each other

What the old table does not know is drawn like its rows (`transfer.DrawnRows`).
So a table that only grows keeps its rows bit for bit, and text rows never
become speech rows.

Axes: V rows of the new table.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import bindings

# What may be done with speech rows of another tokenizer's codes.
MATCH, KEEP, FRESH = POLICIES = ('match', 'keep', 'fresh')
_FRESH = -1


@dataclasses.dataclass(frozen=True)
class VocabularySide:
  """One of the two vocabularies.

  Attributes:
    name: What messages call it.
    sizes: As `Vocabulary.describe` tells them.
    pieces: Of all text ids, `tokenizers.text`; None if not known.
    tokenizer: Whose codes the speech rows are; None if not known.
  """

  name: str
  sizes: Mapping[str, Any]
  pieces: Sequence[tuple[str, str]] | None = None
  tokenizer: bindings.Described = None

  @property
  def speech(self) -> int:
    """First row of the speech block."""
    return self.sizes['text_size']

  @property
  def end(self) -> int:
    """One past the last row that something emits."""
    sizes = self.sizes
    return self.speech + sizes['linguistic_size'] + sizes['semantic_size']

  @property
  def rows(self) -> int:
    """Of the table."""
    return self.sizes['table_size']


@dataclasses.dataclass(frozen=True)
class RowMap:
  """Where the rows of a new table lie in an old one.

  Attributes:
    index: Old row of each new one, -1 where it is drawn, int64 (V,).
    old_rows: Rows of the old table.
    known: Old rows that new ones are drawn like: all but its padding.
    told: Counts: text rows taken and drawn, old text rows without a place,
      speech rows taken and drawn.
  """

  index: np.ndarray
  old_rows: int
  known: int
  told: dict[str, int]

  def is_identity(self) -> bool:
    """Whether the new table is the old one."""
    return len(self.index) == self.old_rows and np.array_equal(
      self.index, np.arange(self.old_rows)
    )


def rows_between(
  old: VocabularySide, new: VocabularySide, speech: str = MATCH
) -> RowMap:
  """Finds each row of the new table in the old one.

  Args:
    old: What is started from.
    new: What is trained.
    speech: Of `POLICIES`, for codes of another tokenizer.

  Raises:
    UserError: Text rows cannot be told apart, or the codes are of another
      tokenizer and nothing is said of it.
  """
  index = np.full(new.rows, _FRESH, np.int64)
  text = _text_rows(old, new)
  index[: len(text)] = text
  taken = int((text >= 0).sum())
  told = {
    'text_taken': taken,
    'text_drawn': len(text) - taken,
    'text_left_out': int(old.speech - taken),
  }
  blocks = _speech_rows(old, new, speech)
  for place, source, count in blocks:
    index[place : place + count] = np.arange(source, source + count)
  kept = sum(count for _, _, count in blocks)
  told |= {
    'speech_taken': kept,
    'speech_drawn': new.end - new.speech - kept,
  }
  padding = max(0, min(new.rows - new.end, old.rows - old.end))
  index[new.end : new.end + padding] = np.arange(old.end, old.end + padding)
  return RowMap(index, old.rows, old.end, told)


def _text_rows(old: VocabularySide, new: VocabularySide) -> np.ndarray:
  """Old row of each new text id."""
  same = bindings.same_pieces(old.sizes, new.sizes)
  if same is None and old.pieces and new.pieces:
    same = tuple(old.pieces) == tuple(new.pieces)
  if same or (same is None and old.speech == new.speech):
    index = np.full(new.speech, _FRESH, np.int64)
    both = min(old.speech, new.speech)
    index[:both] = np.arange(both)
    return index
  if not (old.pieces and new.pieces):
    raise errors.UserError(
      f'{old.name}: its text ids belong to the vocabulary '
      f'{bindings.vocabulary_name(old.sizes)}, those of {new.name} to '
      f'{bindings.vocabulary_name(new.sizes)}, and rows can be matched only '
      'where the pieces of both are known; put back the text model that it '
      'was trained with, or start from a model of the same vocabulary.'
    )
  places = {
    piece: place
    for place, piece in enumerate(old.pieces)
    if piece[1] != 'unused'
  }
  index = [places.get(tuple(piece), _FRESH) for piece in new.pieces]
  behind = new.speech - len(index)  # ids that no piece has
  return np.asarray(index + [_FRESH] * behind, np.int64)


def _speech_rows(
  old: VocabularySide, new: VocabularySide, policy: str
) -> list[tuple[int, int, int]]:
  """(new row, old row, count) of the stretches of speech that are taken."""
  if policy not in POLICIES:
    raise errors.UserError(
      f'speech_rows: found {policy!r}, expected one of {", ".join(POLICIES)}.'
    )
  counts = [
    min(old.sizes[name], new.sizes[name])
    for name in ('linguistic_size', 'semantic_size')
  ]
  if not any(counts):
    return []
  one, two = old.tokenizer, new.tokenizer
  if not (one and two and one['sha256'] == two['sha256']):
    if policy == FRESH:
      return []
    if one and two and policy == MATCH:
      raise errors.UserError(
        f'{old.name}: its speech rows are codes of the tokenizer '
        f'{bindings.tokenizer_name(one)}, those of {new.name} of '
        f"{bindings.tokenizer_name(two)}; set SPEECH_ROWS to 'fresh' to draw "
        "them anew, to 'keep' to start from the old ones all the same, or "
        'start from a model of the same tokenizer.'
      )
  first = old.speech + old.sizes['linguistic_size']
  mine = new.speech + new.sizes['linguistic_size']
  blocks = [(new.speech, old.speech, counts[0]), (mine, first, counts[1])]
  return [block for block in blocks if block[2]]
