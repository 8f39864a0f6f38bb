"""Where a JSON text is: configurations, each a terminal and what is behind it.

A pushdown automaton over bytes. A configuration is a terminal, its state, how
many characters of a string are read, and a cell: the objects and arrays around
it. Cells are shared, so that equal ones are one object, and what is known of a
configuration (`masks`) is found again. Alternatives that begin alike are
followed side by side. Every configuration can be brought to an end.
"""

import dataclasses
from typing import Any

from step_audio_jax.generation.schemas import limits as limits_lib
from step_audio_jax.generation.schemas import nodes as nodes_lib
from step_audio_jax.generation.schemas import terminals

Terminal = terminals.Terminal
_CELLS = 5000  # that are known again
_CHOICES = 500_000  # entries of tables of what comes next

_COLON, _SPACE = terminals.fixed([b': ']), terminals.fixed([b' '])
# What has ended already: closing a state makes `done` of it.
_NOTHING = terminals.fixed([b''])


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
  """What follows a terminal or a value.

  Attributes:
    kind: What it is of: 'object', 'member', 'map', 'key', 'colon', 'entry',
      'array', 'item', or 'space' before all.
    form: The object, map or array.
    place: Where in it.
    count: Keys of the object that are written.
    depth: Objects and arrays that may be opened inside.
    behind: What follows its end; None at the end of the text.
  """

  kind: str
  form: Any
  place: int
  count: int
  depth: int
  behind: 'Cell | None'


@dataclasses.dataclass(frozen=True)
class Configuration:
  """One way in which a text may go on.

  Attributes:
    terminal: What is read.
    state: Of it.
    count: Characters of a string.
    cell: What is behind it.
  """

  terminal: Terminal
  state: int
  count: int
  cell: Cell | None


@dataclasses.dataclass(frozen=True)
class State:
  """Where a text is.

  Attributes:
    ways: How it may go on.
    done: Whether it may end.
  """

  ways: tuple[Configuration, ...]
  done: bool


_END = State((), True)


class Automaton:
  """JSON texts that fit a schema.

  Attributes:
    start: Before the first byte.
    spaced: The same, where one space may come first.
  """

  def __init__(self, root: nodes_lib.Node, limits: limits_lib.Limits):
    self._limits = limits
    self._cells = limits_lib.Kept(_CELLS)
    self._choices = limits_lib.Kept(_CHOICES, lambda one: one.next_SC.size)
    self._root = root
    self.start = self._closed(self._value(root, None, limits.depth))
    space = Configuration(
      _SPACE, 0, 0, self._cell('space', root, 0, 0, 0, None)
    )
    self.spaced = self._closed([*self.start.ways, space])

  def step(self, state: State, byte: int) -> State | None:
    """Behind a byte; None where it may not come."""
    moved = []
    for way in state.ways:
      target = way.terminal.step(way.state, way.count, byte)
      if target is not None:
        moved.append(Configuration(way.terminal, *target, way.cell))
    return self._closed(moved) if moved else None

  def after(self, cell: Cell | None, label: int) -> State:
    """Where a text is when a terminal has ended."""
    return _END if cell is None else self._closed(self._follow(cell, label))

  def _closed(self, ways: list[Configuration]) -> State:
    """With all that may follow what may end."""
    found: dict[Configuration, None] = {}
    done = False
    queue = list(ways)
    for way in queue:  # it grows
      if way in found or len(found) >= self._limits.configurations:
        continue
      label = way.terminal.label(way.state, way.count)
      if label < 0 or way.terminal.leaves_S[way.state]:
        found[way] = None
      if label >= 0:
        if way.cell is None:
          done = True
        else:
          queue.extend(self._follow(way.cell, label))
    return State(tuple(found), done)

  def _cell(self, *parts) -> Cell:
    return self._cells.get(parts, lambda: Cell(*parts))

  def _value(self, node, behind, depth: int) -> list[Configuration]:
    """How a value begins."""
    ways = [Configuration(one, 0, 0, behind) for one in node.terminals]
    depth -= 1
    for form in node.objects:
      if form.least <= depth:
        cell = self._cell('object', form, 0, 0, depth, behind)
        ways.append(Configuration(self._keys(cell, True), 0, 0, cell))
    for form in node.maps:
      if form.least <= depth:
        cell = self._cell('map', form, 0, 0, depth, behind)
        more = form.most > 0 and form.node.least <= depth
        opening = self._either(b'{', more, b'{}', not form.fewest)
        ways.append(Configuration(opening, 0, 0, cell))
    for form in node.arrays:
      if form.least <= depth:
        cell = self._cell('array', form, 0, 0, depth, behind)
        more = form.item(0, depth) is not None
        opening = self._either(b'[', more, b'[]', not form.fewest)
        ways.append(Configuration(opening, 0, 0, cell))
    return ways

  def _either(self, one: bytes, goes: bool, two: bytes, ends: bool) -> Terminal:
    """What goes on (label 0) and what ends (label 1), if they may."""
    texts = ({one: 0} if goes else {}) | ({two: 1} if ends else {})
    return self._choices.get(
      (one, goes, two, ends), lambda: terminals.fixed(texts)
    )

  def _keys(self, cell: Cell, opens: bool) -> Terminal:
    """The names of which one may be next, and the end."""
    form = cell.form
    options = form.options(cell.place, cell.count, cell.depth)
    end = len(form.names)

    def made() -> Terminal:
      before = b'{' if opens else b', '
      texts = {before + form.names[n]: n for n in options if n < end}
      if end in options:
        texts[b'{}' if opens else b'}'] = end
      return terminals.fixed(texts)

    return self._choices.get((form, opens, tuple(options)), made)

  def _follow(self, cell: Cell, label: int) -> list[Configuration]:
    """Behind a terminal that has read `label`, or behind a value."""
    kind, form, depth, behind = cell.kind, cell.form, cell.depth, cell.behind
    if kind == 'space':
      return self._value(self._root, None, self._limits.depth)
    if kind == 'object':
      if label == len(form.names):
        return self._ended(behind)
      member = self._cell(
        'member', form, label + 1, cell.count + 1, depth, behind
      )
      return self._value(form.nodes[label], member, depth)
    if kind == 'member':
      choice = self._cell('object', form, cell.place, cell.count, depth, behind)
      return [Configuration(self._keys(choice, False), 0, 0, choice)]
    if kind in ('map', 'array') and label:
      return self._ended(behind)
    if kind == 'map':
      key = self._cell('key', form, cell.place, 0, depth, behind)
      return [Configuration(form.key, 0, 0, key)]
    if kind == 'key':
      colon = self._cell('colon', form, cell.place, 0, depth, behind)
      return [Configuration(_COLON, 0, 0, colon)]
    if kind == 'colon':
      entry = self._cell('entry', form, cell.place + 1, 0, depth, behind)
      return self._value(form.node, entry, depth)
    if kind == 'array':
      item = self._cell('item', form, cell.place + 1, 0, depth, behind)
      return self._value(form.item(cell.place, depth), item, depth)
    if kind == 'entry':
      cell = self._cell('map', form, cell.place, 0, depth, behind)
      more, bracket = cell.place < form.most, b'}'
    else:
      cell = self._cell('array', form, cell.place, 0, depth, behind)
      more, bracket = form.item(cell.place, depth) is not None, b']'
    going = self._either(b', ', more, bracket, cell.place >= form.fewest)
    return [Configuration(going, 0, 0, cell)]

  def _ended(self, cell: Cell | None) -> list[Configuration]:
    """Behind the end of an object or an array."""
    if cell is None:
      return [Configuration(_NOTHING, 0, 0, None)]
    return self._follow(cell, 0)
