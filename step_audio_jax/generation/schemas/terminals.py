r"""Automata over the bytes of JSON text: strings, numbers, fixed texts.

A string is written as `chats.conversation.as_json` writes it: `"`, `\` and
control characters are escaped in the one form of Python's `json`, all else
stands for itself in UTF-8. So a value has one text, and what a model wrote is
what its history holds. How many characters a string has is counted beside the
automaton, not in its states.

Letters: S states, C classes of bytes, N counts.
"""

import dataclasses
import functools
import itertools
from typing import Iterator, Mapping, Sequence

import numpy as np

from step_audio_jax.generation.schemas import characters
from step_audio_jax.generation.schemas import expressions
from step_audio_jax.generation.schemas import limits

_SHORT = {8: 'b', 9: 't', 10: 'n', 12: 'f', 13: 'r', 34: '"', 92: '\\'}
_ROWS, _TABLE = 1_000_000, 400_000  # entries of counts and of states
_KEPT = 128
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True, eq=False)
class Terminal:
  """An automaton over bytes; its first state is the start.

  Attributes:
    next_SC: The state behind a byte of a class, -1 for none, int32.
    class_256: Class of each byte.
    cost_SC: Characters that are complete with it, 0 or 1, int8.
    label_S: What was read where it may end, -1 elsewhere.
    fits_RS: Whether an end can be reached from a state, for each kind of
      count; None where nothing is counted.
    row_N: Kind of each count.
    number: Of its transitions; terminals that differ in bounds share it.
    bounds: Number of it with its bounds.
  """

  next_SC: np.ndarray
  class_256: np.ndarray
  cost_SC: np.ndarray
  label_S: np.ndarray
  fits_RS: np.ndarray | None = None
  row_N: np.ndarray | None = None
  number: int = dataclasses.field(default_factory=lambda: next(_numbers))
  bounds: int = dataclasses.field(default_factory=lambda: next(_numbers))

  @functools.cached_property
  def leaves_S(self) -> np.ndarray:
    """Whether a state has anything behind it."""
    return (self.next_SC >= 0).any(axis=1)

  @property
  def sizes(self) -> tuple[tuple[int, int], ...]:
    """(what is shared, how many states it is worth)."""
    counted = 0 if self.fits_RS is None else self.fits_RS.size
    return (self.number, len(self.label_S)), (self.bounds, counted // 100)

  def fits(self, state: int, count: int) -> bool:
    """Whether an end can be reached."""
    if self.fits_RS is None:
      return True
    return count < len(self.row_N) and bool(
      self.fits_RS[self.row_N[count], state]
    )

  def step(self, state: int, count: int, byte: int) -> tuple[int, int] | None:
    """The state and the count behind a byte; None where it is not allowed."""
    kind = self.class_256[byte]
    target = int(self.next_SC[state, kind])
    if target < 0:
      return None
    count += int(self.cost_SC[state, kind])
    return (target, count) if self.fits(target, count) else None

  def label(self, state: int, count: int) -> int:
    """What was read, if it may end here; else -1."""
    found = int(self.label_S[state])
    return found if found < 0 or self.fits(state, count) else -1


def fixed(texts: Mapping[bytes, int] | Sequence[bytes]) -> Terminal:
  """Fixed texts and their labels; no label is 0 of all."""
  if not isinstance(texts, Mapping):
    texts = dict.fromkeys(texts, 0)
  rows: list[dict[int, int]] = [{}]
  labels = [-1]
  for text, label in texts.items():
    state = 0
    for byte in text:
      if byte not in rows[state]:
        rows[state][byte] = len(rows)
        rows.append({})
        labels.append(-1)
      state = rows[state][byte]
    labels[state] = label
  used = sorted({byte for row in rows for byte in row})
  place = {byte: n for n, byte in enumerate(used)}
  next_SC = np.full((len(rows), len(used) + 1), -1, np.int32)
  for state, row in enumerate(rows):
    for byte, target in row.items():
      next_SC[state, place[byte]] = target
  class_256 = np.full(256, len(used), np.uint8)
  class_256[used] = np.arange(len(used))
  cost_SC = np.zeros(next_SC.shape, np.int8)
  return Terminal(next_SC, class_256, cost_SC, np.asarray(labels, np.int32))


@functools.lru_cache(4096)
def _utf8(low: int, high: int) -> tuple[tuple[tuple[int, int], ...], ...]:
  """Ranges of bytes, one for each byte, that make a range of characters."""
  for last in (0x7F, 0x7FF, 0xFFFF):
    if low <= last < high:
      return _utf8(low, last) + _utf8(last + 1, high)
  for digits in range(1, len(chr(high).encode())):
    rest = (1 << 6 * digits) - 1
    if low & ~rest != high & ~rest:
      if low & rest:
        return _utf8(low, low | rest) + _utf8((low | rest) + 1, high)
      if high & rest != rest:
        return _utf8(low, (high & ~rest) - 1) + _utf8(high & ~rest, high)
  return (tuple(zip(chr(low).encode(), chr(high).encode())),)


def _escaped(code: int) -> tuple[tuple[int, int], ...]:
  text = '\\' + _SHORT[code] if code in _SHORT else f'\\u{code:04x}'
  return tuple((b, b) for b in text.encode())


def _written(ranges, quoted: bool) -> Iterator[tuple[tuple[int, int], ...]]:
  """How characters are written, as ranges of bytes."""
  for low, high in ranges:
    if quoted:
      for code in (*range(32), 34, 92):
        if low <= code <= high:
          yield _escaped(code)
      for start, end in ((32, 33), (35, 91), (93, 0x10FFFF)):
        if max(low, start) <= min(high, end):
          yield from _utf8(max(low, start), min(high, end))
    else:
      yield from _utf8(low, high)


@functools.lru_cache(_KEPT)
def _letters(classes: tuple[expressions.Ranges, ...], quoted: bool):
  """Bytes of characters as a trie of which equal parts are one.

  Returns:
    class of each byte (256,); next (N, C): the node behind one of a class, -1
    for none, or -2 - k where it ends a character of `classes[k]`; and which of
    them are behind a node (N, K). Node 0 is between two characters.

  Raises:
    Refused: It is too complex.
  """
  budget = limits.Budget(500_000, 'it')
  root = frozenset(
    (way, k)
    for k, ranges in enumerate(classes)
    for way in _written(ranges, quoted)
  )
  nodes, queue = {root: 0}, [root]
  next_N256: list[list[int]] = []
  for node in queue:  # it grows
    edges: dict[int, set] = {}
    for (first, *rest), k in node:
      budget.spend(first[1] - first[0] + 1)
      for byte in range(first[0], first[1] + 1):
        edges.setdefault(byte, set()).add((tuple(rest), k))
    row = [-1] * 256
    for byte, ways in edges.items():
      (rest, k), *_ = ways
      if rest:
        ways = frozenset(ways)
        if ways not in nodes:
          nodes[ways] = len(nodes)
          queue.append(ways)
        row[byte] = nodes[ways]
      else:
        row[byte] = -2 - k
    next_N256.append(row)
  # A quote is told from all others: it ends a string.
  columns = np.asarray([*next_N256, np.arange(256) == 34]).T
  kept, class_256 = np.unique(columns, axis=0, return_inverse=True)
  behind_NK = np.zeros((len(queue), len(classes)), bool)
  for node, number in nodes.items():
    behind_NK[number, list({k for _, k in node})] = True
  return class_256.reshape(-1).astype(np.uint8), kept[:, :-1].T, behind_NK


@dataclasses.dataclass(frozen=True, eq=False)
class _Bytes:
  """The states of an automaton, and those between bytes of a character.

  Attributes:
    class_256: Class of each byte.
    next_TC: The state behind one of a class, -1 for none.
    whole_TC: Whether a character is whole with it.
    of_T: The automaton's own state.
    behind_TK: Which classes of characters may still be meant.
    ends_T: Whether a text may end here.
  """

  class_256: np.ndarray
  next_TC: np.ndarray
  whole_TC: np.ndarray
  of_T: np.ndarray
  behind_TK: np.ndarray
  ends_T: np.ndarray


@functools.lru_cache(_KEPT)
def _over_bytes(made: characters.Automaton, quoted: bool) -> _Bytes:
  """An automaton over characters as one over bytes.

  Raises:
    Refused: It is too complex.
  """
  class_256, next_NC, behind_NK = _letters(made.classes, quoted)
  # One more class, which there is not: no number is out of range.
  next_QK = np.full((len(made.ends), len(made.classes) + 1), -1)
  next_QK[:, :-1] = np.asarray(made.next).reshape(len(made.ends), -1)
  # A text may be at a node if something may follow behind it.
  live_QN = ((next_QK[:, None, :-1] >= 0) & behind_NK).any(axis=2)
  live_QN[:, 0] = True
  if live_QN.sum() * next_NC.shape[1] > _TABLE:
    raise limits.Refused('it is too complex')
  number_QN = np.where(
    live_QN, np.cumsum(live_QN).reshape(live_QN.shape) - 1, -1
  )
  of_T, node_T = np.nonzero(live_QN)
  goes_TC = next_NC[node_T]
  kind_TC = np.where(goes_TC <= -2, -2 - goes_TC, len(made.classes))
  target_TC = next_QK[of_T[:, None], kind_TC]
  inside_TC = number_QN[of_T[:, None], np.maximum(goes_TC, 0)]
  next_TC = np.where(goes_TC >= 0, inside_TC, -1)
  next_TC = np.where(target_TC >= 0, number_QN[target_TC, 0], next_TC)
  return _Bytes(
    class_256,
    next_TC.astype(np.int32),
    target_TC >= 0,
    of_T,
    behind_NK[node_T],
    np.asarray(made.ends, bool)[of_T] & (node_T == 0),
  )


@functools.lru_cache(_KEPT)
def bare(made: characters.Automaton) -> Terminal:
  """What stands without quotes: numbers.

  Raises:
    Refused: It is too complex.
  """
  found = _over_bytes(made, False)
  return Terminal(
    found.next_TC,
    found.class_256,
    np.zeros(found.next_TC.shape, np.int8),
    np.where(found.ends_T, 0, -1),
  )


@functools.lru_cache(_KEPT)
def _string(made: characters.Automaton) -> Terminal:
  """A string of any length; its start is the first state, its end the last."""
  found = _over_bytes(made, True)
  T, C = found.next_TC.shape
  next_SC = np.full((T + 2, C), -1, np.int32)
  next_SC[1:-1] = np.where(found.next_TC >= 0, found.next_TC + 1, -1)
  quote = found.class_256[34]
  next_SC[0, quote] = 1
  next_SC[1:-1][found.ends_T, quote] = T + 1
  cost_SC = np.zeros((T + 2, C), np.int8)
  cost_SC[1:-1] = found.whole_TC
  label_S = np.full(T + 2, -1)
  label_S[-1] = 0
  return Terminal(next_SC, found.class_256, cost_SC, label_S)


@functools.lru_cache(_KEPT)
def string(
  made: characters.Automaton, least: int, most: int
) -> Terminal | None:
  """A string whose characters `made` accepts, `least` to `most` of them.

  None where there is no such string.

  Raises:
    Refused: It is too complex.
  """
  if made.is_empty or least > most:
    return None
  found = _over_bytes(made, True)
  ends_Q = np.asarray(made.ends, bool)
  next_QK = np.asarray(made.next, np.int64).reshape(len(ends_Q), -1)
  rows: dict[bytes, int] = {}
  row_N = np.zeros(most + 1, np.int32)
  after_Q = np.zeros(len(ends_Q), bool)  # what fits with one more
  count = most
  while count >= 0:
    goes_QK = after_Q[next_QK] & (next_QK >= 0)
    fits_Q = (ends_Q & (count >= least)) | goes_QK.any(axis=1)
    fits_T = (found.ends_T & (count >= least)) | (
      goes_QK[found.of_T] & found.behind_TK
    ).any(axis=1)
    begins = count == 0 and fits_Q[0]
    row = np.asarray([begins, *fits_T, count >= least], bool).tobytes()
    row_N[count] = rows.setdefault(row, len(rows))
    if len(rows) * len(row) > _ROWS:
      raise limits.Refused('it is too complex for its bounds of length')
    if least < count < most and np.array_equal(fits_Q, after_Q):
      row_N[least + 1 : count] = row_N[count]  # nothing changes down to it
      count = least + 1
    after_Q = fits_Q
    count -= 1
  fits_RS = np.frombuffer(b''.join(rows), bool).reshape(len(rows), -1)
  if not fits_RS[row_N[0], 0]:
    return None
  return dataclasses.replace(
    _string(made), fits_RS=fits_RS, row_N=row_N, bounds=next(_numbers)
  )


@functools.lru_cache(_KEPT)
def expression(pattern: str) -> characters.Automaton:
  """Of texts in which a pattern is found.

  Raises:
    Refused: It is not supported, or too complex.
  """
  return characters.automaton(expressions.whole(pattern))


@functools.lru_cache(_KEPT)
def counted(pattern: str) -> tuple[characters.Automaton, int, int | None]:
  """The same, how many characters at least, and at most.

  A pattern that says nothing but which characters there are, and how many, is
  of one state.

  Raises:
    Refused: It is not supported, or too complex.
  """
  tree = expressions.whole(pattern)
  if tree[0] == 'repeat' and tree[1][0] == 'set':
    _, some, least, most = tree
    return characters.automaton(('repeat', some, 0, None)), least, most
  return characters.automaton(tree), 0, None


ANYTHING = characters.Automaton((expressions.ALL,), ((0,),), (True,))
