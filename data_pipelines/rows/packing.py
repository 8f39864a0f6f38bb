"""Documents → rows of one length with next to no padding.

Documents wait in a window. Each row takes the oldest one (or one over half a
row, while there is any) and the set of others that fills it best: a subset-sum
over the lengths in the window, with reachable sums as the bits of one integer
(Bellman 1957). Old documents are tried first, so that the lengths left in the
window stay those of the corpus, and row after row can be filled exactly;
best-fit decreasing ends with documents that do not go together. Where no set
fits exactly, a document that may be cut gives its first piece. What is left of
a window is carried over to the next one.
"""

import dataclasses
from typing import Iterable, Iterator

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import pairs as pairs_lib

Document = documents_lib.Document
HARD = 2  # a document over L / HARD cannot meet its like, so it goes first
SHORTEST_PIECE = 16  # ids; shorter pieces are not worth a cut


@dataclasses.dataclass(frozen=True)
class Row:
  """One packed row; L is the row length.

  Attributes:
    tokens: int32 (L,), 0 behind the last document.
    segment_ids: int32 (L,), 1, 2, … by document and 0 for padding.
    loss_weights: float32 (L,).
    images: uint8 (n, H, W, 3), or None if the row has none.
    image_slots: int32 (n,).
    ids: Of the documents, in order; the two of a pair have one id.
    pairs: int32 (K, 2), the segments of the better and of the worse answer; 0
      of one that is missing.
    margins: float32 (K,).
    categories: Names, of each pair.
  """

  tokens: np.ndarray
  segment_ids: np.ndarray
  loss_weights: np.ndarray
  images: np.ndarray | None
  image_slots: np.ndarray
  ids: tuple[str, ...]
  pairs: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros((0, 2), np.int32)
  )
  margins: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.float32)
  )
  categories: tuple[str, ...] = ()


def fits(document: Document, length: int) -> bool:
  """Whether a document can be in a row of `length`, cut or whole."""
  return len(document) <= length or document.split(length) is not None


def pack(
  documents: Iterable[Document],
  length: int,
  *,
  window: int = 4096,
) -> Iterator[Row]:
  """Packs documents into rows.

  Every document is in exactly one row, or, if it may be cut, its pieces are
  each in one. The same documents give the same rows.

  Args:
    documents: Read once, at most `window` of them held at a time.
    length: Row length L.
    window: Documents to choose from.

  Raises:
    UserError: A document is longer than a row and may not be cut; see `fits`.
  """
  pool = _Pool(length)
  for document in documents:
    pool.add(document)
    if len(pool) >= window:
      while len(pool) > window // 2:
        yield make_row(pool.take_row(), length)
  while len(pool):
    yield make_row(pool.take_row(), length)


class _Pool:
  """Waiting documents in order of arrival."""

  def __init__(self, length: int):
    self.length = length
    self._waiting: list[Document] = []
    self._sizes: list[int] = []  # of each: they are looked at row after row

  def __len__(self) -> int:
    return len(self._waiting)

  def add(self, document: Document) -> None:
    while len(document) > self.length:
      pieces = document.split(self.length)
      if pieces is None:
        raise errors.UserError(
          f'{document.id}: {len(document)} ids, expected at most '
          f'{self.length}, the row length.'
        )
      self._append(pieces[0])
      document = pieces[1]
    self._append(document)

  def _append(self, document: Document) -> None:
    self._waiting.append(document)
    self._sizes.append(len(document))

  def _pop(self, place: int) -> Document:
    del self._sizes[place]
    return self._waiting.pop(place)

  def take_row(self) -> list[Document]:
    """Removes the documents of the next row."""
    longest = max(self._sizes)
    hard = longest > self.length / HARD
    first = self._pop(self._sizes.index(longest) if hard else 0)
    places, left = self._best_subset(self.length - len(first))
    chosen = [self._pop(place) for place in reversed(places)]
    chosen = [first, *reversed(chosen)]
    return self._cut_to_fit(chosen, left) if left else chosen

  def _best_subset(self, room: int) -> tuple[list[int], int]:
    """Places of the documents that fill `room` best, and what stays free."""
    mask = (1 << (room + 1)) - 1
    sums, history, used = 1, [], []
    for place, size in enumerate(self._sizes):
      reached = (sums << size) & mask
      if reached | sums == sums:
        continue
      history.append(sums)
      used.append(place)
      sums |= reached
      if sums >> room & 1:
        break
    total = sums.bit_length() - 1
    left = room - total
    places = []
    for place, before in zip(reversed(used), reversed(history)):
      if not before >> total & 1:
        places.append(place)
        total -= self._sizes[place]
    return places[::-1], left

  def _cut_to_fit(self, chosen, left):
    """Fills what is free with the first piece of a document that may be cut.

    Either a waiting document gives a piece of the free room, or a chosen one
    makes room for a piece of itself or of another.
    """
    best, waste = None, left
    candidates = [d for d in self._waiting if d.fills][:2]
    for out in [None, *chosen]:
      room = left + (len(out) if out else 0)
      for document in [*candidates, *([out] if out and out.fills else [])]:
        pieces = document.split(room)
        if pieces is None or min(map(len, pieces)) < SHORTEST_PIECE:
          continue
        if room - len(pieces[0]) < waste:
          waste = room - len(pieces[0])
          best = out, document, pieces
    if best is None:
      return chosen
    out, document, (first, second) = best
    self._waiting = [second] + [
      out if other is document else other
      for other in self._waiting
      if other is not document or out is not None
    ]
    self._sizes = list(map(len, self._waiting))
    return [other for other in chosen if other is not out] + [first]


def make_row(chosen: list[Document], length: int) -> Row:
  """Lays documents one behind the other; a pair is two of them."""
  tokens = np.zeros(length, np.int32)
  segments = np.zeros(length, np.int32)
  weights = np.zeros(length, np.float32)
  slots, images, at = [], [], 0
  ids: list[str] = []
  pairs: list[tuple[int, int]] = []
  for document in chosen:
    stop = at + len(document)
    tokens[at:stop] = document.tokens
    paired = isinstance(document, pairs_lib.Pair)
    sides, first = [], at
    for size in document.sizes if paired else (len(document),):
      if size or not paired:
        ids.append(document.id)
        segments[first : first + size] = len(ids)
      sides.append(len(ids) if size else 0)
      first += size
    if paired:
      pairs.append((sides[0], sides[1]))
    weights[at:stop] = document.loss_weights
    slots.append(document.image_slots + at)
    if document.images is not None:
      images.append(document.images)
    at = stop
  joined = [one for one in chosen if isinstance(one, pairs_lib.Pair)]
  return Row(
    tokens=tokens,
    segment_ids=segments,
    loss_weights=weights,
    images=np.concatenate(images) if images else None,
    image_slots=np.concatenate(slots).astype(np.int32),
    ids=tuple(ids),
    pairs=np.array(pairs, np.int32).reshape(-1, 2),
    margins=np.array([one.margin for one in joined], np.float32),
    categories=tuple(one.category for one in joined),
  )
