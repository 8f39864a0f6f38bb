"""Trees of expressions → deterministic automata over code points.

Positions of the tree (Glushkov 1961), then sets of positions. Work is bounded:
what would take exponentially many states is refused.
"""

import dataclasses
from typing import Any, Callable, Hashable, Iterator, Sequence

import numpy as np

from step_audio_jax.generation.schemas import expressions
from step_audio_jax.generation.schemas import limits

Ranges = expressions.Ranges
POSITIONS, STATES, WORK = 2500, 800, 400_000
PAIRS = 20_000  # states of two at once


@dataclasses.dataclass(frozen=True)
class Automaton:
  """States of which the first is the start; every one leads to an end.

  Attributes:
    classes: Disjoint sets of code points; those in none are nowhere allowed.
    next: The state behind each, -1 for none: rows are states.
    ends: Whether a text may end in a state.
  """

  classes: tuple[Ranges, ...]
  next: tuple[tuple[int, ...], ...]
  ends: tuple[bool, ...]

  @property
  def is_empty(self) -> bool:
    """Whether no text is accepted."""
    return not self.ends


def _bits(number: int) -> Iterator[int]:
  while number:
    low = number & -number
    yield low.bit_length() - 1
    number ^= low


class _Positions:
  """Follow sets, as bits of whole numbers."""

  def __init__(self):
    self.sets: list[Ranges] = []
    self.follow: list[int] = []
    self.budget = limits.Budget(WORK, 'it')

  def build(self, node: expressions.Node) -> tuple[int, int, bool]:
    """(first, last, whether it may be empty)."""
    kind = node[0]
    if kind == 'set':
      if not node[1]:
        return 0, 0, False
      if len(self.sets) >= POSITIONS:
        raise limits.Refused(f'it has more than {POSITIONS} places')
      self.sets.append(node[1])
      self.follow.append(0)
      bit = 1 << len(self.sets) - 1
      return bit, bit, False
    if kind == 'all':
      found = 0, 0, True
      for one in node[1]:
        found = self._joined(found, self.build(one))
      return found
    if kind == 'any':
      parts = [self.build(one) for one in node[1]]
      first = last = 0
      for part in parts:
        first, last = first | part[0], last | part[1]
      return first, last, any(part[2] for part in parts)
    _, inner, least, most = node
    found = 0, 0, True
    if most is None:
      found = self.build(inner)
      self._link(found[1], found[0])
      found = *found[:2], found[2] or not least
      least -= 1
    else:
      for _ in range(most - least):
        found = self._joined(self.build(inner), found)
        found = *found[:2], True
    for _ in range(least):
      found = self._joined(self.build(inner), found)
    return found

  def _link(self, last: int, first: int) -> None:
    for place in _bits(last):
      self.budget.spend(1)
      self.follow[place] |= first

  def _joined(self, one, two):
    self._link(one[1], two[0])
    return (
      one[0] | two[0] if one[2] else one[0],
      two[1] | one[1] if two[2] else two[1],
      one[2] and two[2],
    )


def _partition(sets: Sequence[Ranges]) -> tuple[list[Ranges], list[list[int]]]:
  """Classes of code points that no set tells apart, and those of each set."""
  cuts = sorted({c for some in sets for a, b in some for c in (a, b + 1)})
  places = {cut: n for n, cut in enumerate(cuts)}
  member = np.zeros((len(sets), max(1, len(cuts))), bool)
  for n, some in enumerate(sets):
    for low, high in some:
      member[n, places[low] : places[high + 1]] = True
  numbers: dict[bytes, int] = {}
  classes: list[list[tuple[int, int]]] = []
  of_set: list[list[int]] = [[] for _ in sets]
  for n in range(len(cuts) - 1):
    column = member[:, n]
    if not column.any():
      continue
    key = np.packbits(column).tobytes()
    if key not in numbers:
      numbers[key] = len(classes)
      classes.append([])
      for one in np.flatnonzero(column):
        of_set[one].append(numbers[key])
    classes[numbers[key]].append((cuts[n], cuts[n + 1] - 1))
  return [expressions.union(one) for one in classes], of_set


def explored(
  classes: Sequence[Ranges],
  start: Hashable,
  step: Callable[[Any], Sequence[Any]],
  ends: Callable[[Any], bool],
  most: int = PAIRS,
) -> Automaton:
  """The states that are met from a start and lead to an end.

  Args:
    classes: Disjoint sets of code points.
    start: A state.
    step: A state → the next one for each class; None for none.
    ends: Whether a text may end in a state.
    most: States.

  Raises:
    Refused: They are more.
  """
  states, rows, before = {start: 0}, [], [[]]
  queue = [start]
  for state in queue:  # it grows
    row = step(state)
    for target in row:
      if target is not None and target not in states:
        if len(states) >= most:
          raise limits.Refused(f'it takes more than {most} states')
        states[target] = len(states)
        queue.append(target)
        before.append([])
    row = [-1 if one is None else states[one] for one in row]
    for target in {*row} - {-1}:
      before[target].append(len(rows))
    rows.append(row)
  table = np.asarray(rows, np.int64).reshape(len(rows), len(classes))
  ends_S = np.fromiter(map(ends, queue), bool)
  live_S, found = ends_S.copy(), np.flatnonzero(ends_S).tolist()
  while found:
    for source in before[found.pop()]:
      if not live_S[source]:
        live_S[source] = True
        found.append(source)
  if not live_S[0]:
    return Automaton((), (), ())
  number_S = np.where(live_S, np.cumsum(live_S) - 1, -1)
  table = np.where(table >= 0, number_S[table], -1)[live_S]
  used = np.flatnonzero((table >= 0).any(axis=0)).tolist()
  return Automaton(
    tuple(classes[n] for n in used),
    tuple(map(tuple, table[:, used].tolist())),
    tuple(ends_S[live_S].tolist()),
  )


def automaton(tree: expressions.Node) -> Automaton:
  """What accepts the texts that a tree stands for.

  Raises:
    Refused: It takes too many states, or they are too hard to find.
  """
  positions = _Positions()
  first, last, empty = positions.build(tree)
  distinct = list(dict.fromkeys(positions.sets))
  classes, of_set = _partition(distinct)
  numbers = {some: n for n, some in enumerate(distinct)}
  of_place = [of_set[numbers[some]] for some in positions.sets]
  # One more place, which stands before the first: the start.
  start = 1 << len(positions.sets)
  follow = [*positions.follow, first]

  def step(state: int) -> list[int | None]:
    row = [0] * len(classes)
    here = 0
    for place in _bits(state):
      here |= follow[place]
    for place in _bits(here):
      positions.budget.spend(1 + len(of_place[place]))
      for kind in of_place[place]:
        row[kind] |= 1 << place
    return [one or None for one in row]

  def ends(state: int) -> bool:
    return bool(state & last) or (empty and state == start)

  return explored(classes, start, step, ends, STATES)


def both(one: Automaton, two: Automaton) -> Automaton:
  """What two automata accept.

  Raises:
    Refused: It takes too many states.
  """
  if one.is_empty or two.is_empty:
    return Automaton((), (), ())
  classes, of_set = _partition([*one.classes, *two.classes])
  left, right = [-1] * len(classes), [-1] * len(classes)
  for n, kinds in enumerate(of_set):
    for kind in kinds:
      if n < len(one.classes):
        left[kind] = n
      else:
        right[kind] = n - len(one.classes)
  common = [n for n in range(len(classes)) if min(left[n], right[n]) >= 0]
  budget = limits.Budget(WORK, 'what it is met with')

  def step(state):
    p, q = one.next[state[0]], two.next[state[1]]
    budget.spend(len(common))
    pairs = ((p[left[n]], q[right[n]]) for n in common)
    return [pair if min(pair) >= 0 else None for pair in pairs]

  return explored(
    [classes[n] for n in common],
    (0, 0),
    step,
    lambda state: one.ends[state[0]] and two.ends[state[1]],
  )


def accepts(made: Automaton, text: str) -> bool:
  """Whether a text is one of an automaton's."""
  if made.is_empty:
    return False
  state = 0
  for character in text:
    code = ord(character)
    kind = next(
      (
        n
        for n, ranges in enumerate(made.classes)
        if any(low <= code <= high for low, high in ranges)
      ),
      None,
    )
    state = -1 if kind is None else made.next[state][kind]
    if state < 0:
      return False
  return made.ends[state]
