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
_ROWS = 8_000_000  # entries of a table of counts
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

  @functools.cached_property
  def rows(self) -> tuple[list, list, list, list]:
    """Tables as lists, which Python reads one by one faster."""
    return (
      self.next_SC.tolist(),
      self.class_256.tolist(),
      self.cost_SC.tolist(),
      self.label_S.tolist(),
    )

  def fits(self, state: int, count: int) -> bool:
    """Whether an end can be reached."""
    if self.fits_RS is None:
      return True
    return count < len(self.row_N) and bool(
      self.fits_RS[self.row_N[count], state]
    )

  def step(self, state: int, count: int, byte: int) -> tuple[int, int] | None:
    """The state and the count behind a byte; None where it is not allowed."""
    following, classes, costs, _ = self.rows
    kind = classes[byte]
    target = following[state][kind]
    if target < 0:
      return None
    count += costs[state][kind]
    return (target, count) if self.fits(target, count) else None

  def label(self, state: int, count: int) -> int:
    """What was read, if it may end here; else -1."""
    found = self.rows[3][state]
    return found if found < 0 or self.fits(state, count) else -1


def _compressed(next_S256, cost_S256, label_S, **keywords) -> Terminal:
  """Bytes that nothing tells apart become one class."""
  joined = np.concatenate([next_S256, cost_S256]).T
  _, first, kinds = np.unique(
    joined, axis=0, return_index=True, return_inverse=True
  )
  return Terminal(
    np.ascontiguousarray(next_S256[:, first], np.int32),
    kinds.reshape(-1).astype(np.uint8),
    np.ascontiguousarray(cost_S256[:, first], np.int8),
    np.asarray(label_S, np.int32),
    **keywords,
  )


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


def _bytes_of(
  made: characters.Automaton, quoted: bool, budget: limits.Budget
) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
  """Transitions and costs over bytes; states of `made` come first.

  Returns:
    next (S, 256), cost (S, 256), and for every state between two characters
    the states of `made` that are next.
  """
  count = len(made.ends)
  rows, costs = [], []
  between: dict[frozenset, int] = {}
  pending: list[frozenset] = []

  def add(edges: list[set]) -> None:
    row, cost = [-1] * 256, [0] * 256
    known: dict[frozenset, int] = {}
    for byte, ways in enumerate(edges):
      if not ways:
        continue
      key = frozenset(ways)
      if key not in known:
        (rest, target), *others = ways
        if not rest:
          assert not others
          known[key] = target
        else:
          if key not in between:
            between[key] = count + len(between)
            pending.append(key)
          known[key] = between[key]
      row[byte] = known[key]
      cost[byte] = int(known[key] < count)
    rows.append(row)
    costs.append(cost)

  def edges_of(ways) -> list[set]:
    edges: list[set] = [set() for _ in range(256)]
    for (first, *rest), target in ways:
      budget.spend(first[1] - first[0] + 1)
      for byte in range(first[0], first[1] + 1):
        edges[byte].add((tuple(rest), target))
    return edges

  for state in range(count):
    add(
      edges_of(
        (way, target)
        for ranges, target in zip(made.classes, made.next[state])
        if target >= 0
        for way in _written(ranges, quoted)
      )
    )
  for key in pending:  # it grows
    add(edges_of(key))
  behind = [sorted({target for _, target in key}) for key in pending]
  return np.asarray(rows, np.int32), np.asarray(costs, np.int8), behind


@functools.lru_cache(512)
def bare(made: characters.Automaton) -> Terminal:
  """What stands without quotes: numbers.

  Raises:
    Refused: It is too complex.
  """
  budget = limits.Budget(2_000_000, 'it')
  following, costs, _ = _bytes_of(made, False, budget)
  labels = np.where(made.ends, 0, -1)
  return _compressed(following, np.zeros_like(costs), labels)


@functools.lru_cache(256)
def _string(made: characters.Automaton) -> tuple[Terminal, list[list[int]]]:
  budget = limits.Budget(2_000_000, 'it')
  inner, costs, behind = _bytes_of(made, True, budget)
  S = len(inner)
  following = np.full((S + 2, 256), -1, np.int32)
  cost = np.zeros((S + 2, 256), np.int8)
  # The start is 0, the end the last.
  following[1:-1] = np.where(inner >= 0, inner + 1, -1)
  cost[1:-1] = costs
  following[0, 34] = 1
  for state in np.flatnonzero(made.ends):
    following[state + 1, 34] = S + 1
  labels = np.full(S + 2, -1, np.int32)
  labels[-1] = 0
  return _compressed(following, cost, labels), behind


@functools.lru_cache(512)
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
  whole, behind = _string(made)
  ends_Q = np.asarray(made.ends, bool)
  next_QK = np.asarray(made.next, np.int64).reshape(len(ends_Q), -1)
  rows: list[np.ndarray] = []
  row_N = np.zeros(most + 1, np.int32)
  after_Q = np.zeros(len(ends_Q), bool)  # what fits with one more
  count = most
  while count >= 0:
    fits_Q = (ends_Q & (count >= least)) | (
      after_Q[next_QK] & (next_QK >= 0)
    ).any(axis=1)
    # In the order of the states: the start, characters, between bytes of one,
    # the end.
    between = [after_Q[targets].any() for targets in behind]
    begins = count == 0 and fits_Q[0]
    row = np.asarray([begins, *fits_Q, *between, count >= least], bool)
    if not rows or not np.array_equal(row, rows[-1]):
      rows.append(row)
      if len(rows) * len(row) > _ROWS:
        raise limits.Refused('it is too complex for its bounds of length')
    row_N[count] = len(rows) - 1
    if least < count < most and np.array_equal(fits_Q, after_Q):
      row_N[least + 1 : count] = len(rows) - 1  # nothing changes down to it
      count = least + 1
    after_Q = fits_Q
    count -= 1
  if not rows[row_N[0]][0]:
    return None
  return dataclasses.replace(
    whole, fits_RS=np.stack(rows), row_N=row_N, bounds=next(_numbers)
  )


@functools.lru_cache(512)
def expression(pattern: str) -> characters.Automaton:
  """Of texts in which a pattern is found.

  Raises:
    Refused: It is not supported, or too complex.
  """
  return characters.automaton(expressions.whole(pattern))


ANYTHING = characters.Automaton((expressions.ALL,), ((0,),), (True,))
