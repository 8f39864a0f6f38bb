"""What the ids of a text vocabulary write, as bytes, and a trie over them.

A piece stands for bytes in one of two ways: in SentencePiece `▁` is a space and
`<0x0A>` a byte; in byte-level BPE every byte has a letter (Radford et al.
2019). Which it is, and whether the first space of a text is left out, is seen
by decoding, not by what a file says of itself.

Letters: V vocabulary, M nodes of the trie.
"""

import dataclasses
import functools
from typing import Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib

_MARK = '\u2581'
_SHOWN = 400  # pieces that are compared
_NEEDED = (*range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF5))


@functools.cache
def _letters() -> dict[str, int]:
  """The letter of each byte in byte-level BPE."""
  plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(256) if byte not in plain]
  found = {chr(byte): byte for byte in plain}
  return found | {chr(256 + n): byte for n, byte in enumerate(others)}


def _by_marks(piece: str, kind: str) -> bytes:
  if kind == 'byte':
    return bytes([int(piece[3:-1], 16)])
  return piece.replace(_MARK, ' ').encode()


def _by_letters(piece: str, kind: str) -> bytes:
  del kind
  letters = _letters()
  if all(letter in letters for letter in piece):
    return bytes(letters[letter] for letter in piece)
  return piece.encode()  # pieces that were added later


@dataclasses.dataclass(frozen=True, eq=False)
class Trie:
  """Bytes of all ids; node 0 is the root, children lie side by side.

  Attributes:
    byte_M: The byte that leads to a node.
    first_M: Its first child.
    count_M: How many children it has.
    begins_M: Where its ids begin in `ids`; one longer than the nodes.
    ids: Ids in the order of their nodes.
    longest: Bytes of the longest id.
  """

  byte_M: np.ndarray
  first_M: np.ndarray
  count_M: np.ndarray
  begins_M: np.ndarray
  ids: np.ndarray
  longest: int

  @classmethod
  def of(cls, written: Sequence[bytes]) -> 'Trie':
    """Of what ids write; b'' is in no trie."""
    lengths_V = np.asarray([len(one) for one in written], np.int64)
    longest = int(lengths_V.max(initial=0))
    left = np.flatnonzero(lengths_V)
    joined = np.frombuffer(b''.join(written), np.uint8)
    starts_V = np.cumsum(lengths_V) - lengths_V
    at_V = np.zeros(len(written), np.int64)  # the node that an id has come to
    byte, parents, total = [np.zeros(1, np.uint8)], [np.full(1, -1)], 1
    for depth in range(longest):
      left = left[lengths_V[left] > depth]
      keys = at_V[left] * 256 + joined[starts_V[left] + depth]
      keys, places = np.unique(keys, return_inverse=True)
      at_V[left] = total + places.reshape(-1)
      byte.append((keys % 256).astype(np.uint8))
      parents.append(keys // 256)
      total += len(keys)
    parent_M = np.concatenate(parents)
    count_M = np.bincount(parent_M[1:], minlength=total)
    # Nodes are numbered by their parents, so children begin behind those of
    # the nodes before.
    first_M = 1 + np.cumsum(count_M) - count_M
    ids = np.flatnonzero(lengths_V)
    ids = ids[np.argsort(at_V[ids], kind='stable')]
    begins_M = np.searchsorted(at_V[ids], np.arange(total + 1))
    return cls(
      np.concatenate(byte),
      first_M.astype(np.int32),
      count_M.astype(np.int32),
      begins_M.astype(np.int32),
      ids.astype(np.int32),
      longest,
    )

  def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(children, which of the nodes each is of)."""
    return _spans(self.first_M[nodes], self.count_M[nodes])

  def ids_of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids that end at nodes, which of the nodes each is of)."""
    begins = self.begins_M[nodes]
    places, whose = _spans(begins, self.begins_M[nodes + 1] - begins)
    return self.ids[places], whose


def _spans(begins, counts) -> tuple[np.ndarray, np.ndarray]:
  """Numbers from each beginning on, and which beginning each is of."""
  whose = np.repeat(np.arange(len(counts)), counts)
  ends = np.cumsum(counts)
  total = int(ends[-1]) if len(ends) else 0
  return np.arange(total) + (begins - ends + counts)[whose], whose


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
  """The text ids of a vocabulary.

  Attributes:
    size: Rows of the table, V.
    written: What each id writes; b'' for what is no text.
    text_V: Which are text.
    drops_space: Whether decoding leaves out a space that a text begins with.
    trie: Of what they write.
    vocabulary: Theirs.
  """

  size: int
  written: tuple[bytes, ...]
  text_V: np.ndarray
  drops_space: bool
  trie: Trie
  vocabulary: vocabulary_lib.Vocabulary


def of_vocabulary(vocabulary: vocabulary_lib.Vocabulary) -> Tokens:
  """The text ids of a vocabulary.

  Raises:
    UserError: It has no text model, its decoder does more than to join pieces,
      or a character of JSON cannot be written.
  """
  text = vocabulary.text
  if text is None:
    raise errors.UserError(
      'vocabulary: found no text model, expected one: without it nothing can '
      'be held to a schema.'
    )
  pieces = text.pieces
  places = [
    n
    for n, (piece, kind) in enumerate(pieces)
    if n >= vocabulary_lib.CONTROL_SIZE and kind in ('normal', 'byte') and piece
  ]
  named = getattr(text, 'path', 'vocabulary')
  by_bytes = any(pieces[n][1] == 'byte' for n in places)
  ways = (_by_marks, _by_letters) if by_bytes else (_by_letters, _by_marks)
  # What is decoded behind another piece has no first space to lose.
  before = text.encode('a')
  known = len(text.decode(before).encode())
  step = max(1, len(places) // _SHOWN)
  some = [n for n in places[::step] if pieces[n][1] == 'normal']
  for way in ways:
    wrong = None
    for n in some:
      expected = way(*pieces[n]).decode('utf-8', 'replace')
      found = text.decode([*before, n]).encode()[known:].decode()
      # Part of a character is shown as one or more signs.
      if found != expected and '\ufffd' not in expected:
        wrong = n, found, expected
        break
    if wrong is None:
      break
  else:
    raise errors.UserError(
      f'{named}: the piece {pieces[wrong[0]][0]!r:.40} is decoded as '
      f'{wrong[1]!r:.40}, expected {wrong[2]!r:.40}: replies '
      'cannot be held to schemas with this decoder.'
    )
  written = [b''] * vocabulary.table_size
  for n in places:
    written[n] = way(*pieces[n])
  lacking = set(_NEEDED) - {one[0] for one in written if len(one) == 1}
  if lacking:
    raise errors.UserError(
      f'{named}: no piece for the byte 0x{min(lacking):02X}, expected one '
      'for each: replies cannot be held to schemas.'
    )
  text_V = np.zeros(vocabulary.table_size, bool)
  text_V[places] = True
  space = [n for n in places if written[n] in (b' a', b' t', b' the', b' ')]
  drops = any(text.decode([n]).encode() == written[n][1:] for n in space)
  return Tokens(
    vocabulary.table_size,
    tuple(written),
    text_V,
    drops,
    Trie.of(written),
    vocabulary,
  )
