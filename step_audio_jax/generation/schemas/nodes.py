"""Nodes of a schema as a grammar: what a value may begin with, and then.

Every alternative of a node is a terminal (a string, a number, fixed texts), an
object, a map (an object whose keys are free) or an array. Only known keys of an
object are written, in the order of the schema; keys are free where it names
none. A node knows how deep its least value is: what would not end within the
depth that is left is never begun, so no text runs into a dead end.
"""

import dataclasses
import itertools
import math
from typing import Any, Iterable

from step_audio_jax.chats import conversation as chats
from step_audio_jax.generation.schemas import characters
from step_audio_jax.generation.schemas import forms as forms_lib
from step_audio_jax.generation.schemas import limits as limits_lib
from step_audio_jax.generation.schemas import reading
from step_audio_jax.generation.schemas import scalars
from step_audio_jax.generation.schemas import terminals

Places, Form, Terminal = forms_lib.Places, forms_lib.Form, terminals.Terminal
NEVER = math.inf
_LONGEST_NAME = 1000  # characters


@dataclasses.dataclass(eq=False)
class Node:
  """A set of places, and what a value of it may be.

  Attributes:
    places: Of the schema.
    terminals: Values without parts.
    objects: Objects of known keys.
    maps: Objects of free keys.
    arrays: Arrays.
    least: Objects and arrays inside one another that a value needs.
  """

  places: Places
  terminals: list[Terminal] = dataclasses.field(default_factory=list)
  objects: list['Object'] = dataclasses.field(default_factory=list)
  maps: list['Map'] = dataclasses.field(default_factory=list)
  arrays: list['Array'] = dataclasses.field(default_factory=list)
  least: float = NEVER

  def measure(self) -> float:
    """What `least` is by what those of its parts are."""
    if self.terminals:
      return 0
    parts = (*self.objects, *self.maps, *self.arrays)
    return 1 + min((part.least for part in parts), default=NEVER)


@dataclasses.dataclass(eq=False)
class Object:
  """Known keys in order.

  Attributes:
    names: As they are written, each with its colon.
    nodes: Of their values.
    required: Which have to be there.
    fewest: Of the keys.
    most: The same.
  """

  names: tuple[bytes, ...]
  nodes: tuple[Node, ...]
  required: tuple[bool, ...]
  fewest: int
  most: int

  @property
  def least(self) -> float:
    """Of the values that have to be there."""
    needed = [n.least for n, must in zip(self.nodes, self.required) if must]
    others = sorted(
      n.least for n, must in zip(self.nodes, self.required) if not must
    )
    lacking = max(0, self.fewest - len(needed))
    if max(len(needed), self.fewest) > self.most or lacking > len(others):
      return NEVER
    return max([0, *needed, *others[:lacking]])

  def options(self, place: int, count: int, depth: int) -> list[int]:
    """Which keys may be next; their number stands for the end.

    Args:
      place: The first that has not been passed.
      count: Keys that are written.
      depth: Objects and arrays that may be opened inside.
    """
    # How many behind each may still come, and have to.
    able = [node.least <= depth for node in self.nodes]
    more = [*itertools.accumulate(reversed(able), initial=0)][::-1]
    must = [*itertools.accumulate(reversed(self.required), initial=0)][::-1]
    found = []
    for n in range(place, len(self.nodes)):
      if (
        able[n]
        and count + 1 + more[n + 1] >= self.fewest
        and count + 1 + must[n + 1] <= self.most
      ):
        found.append(n)
      if self.required[n]:
        return found
    if count >= self.fewest:
      found.append(len(self.nodes))
    return found


@dataclasses.dataclass(eq=False)
class Map:
  """Free keys, `fewest` to `most` of them, whose values are of one node."""

  key: terminals.Terminal
  node: Node
  fewest: int
  most: int

  @property
  def least(self) -> float:
    """Of the values that have to be there."""
    if self.fewest > self.most:
      return NEVER
    return self.node.least if self.fewest else 0


@dataclasses.dataclass(eq=False)
class Array:
  """Items, `fewest` to `most` of them; those behind the first are of `rest`."""

  first: tuple[Node, ...]
  rest: Node | None
  fewest: int
  most: int

  @property
  def least(self) -> float:
    """Of the items that have to be there."""
    if self.fewest > self.most:
      return NEVER
    items = [*self.first[: self.fewest]]
    if self.fewest > len(self.first):
      if self.rest is None:
        return NEVER
      items.append(self.rest)
    return max([0, *(item.least for item in items)])

  def item(self, place: int, depth: int) -> Node | None:
    """The node of an item; None where there cannot be one."""
    if place >= self.most:
      return None
    node = self.first[place] if place < len(self.first) else self.rest
    return node if node is not None and node.least <= depth else None


class Builder:
  """Makes the nodes of one schema."""

  def __init__(self, schema: Any, where: str, limits: limits_lib.Limits):
    self._reader = reading.Reader(schema, where, limits)
    self._limits, self._where = limits, where
    self._nodes: dict[Places, Node] = {}
    self._queue: list[Node] = []
    self._states, self._written = limits.states, limits.written
    self._counted: set[int] = set()

  def build(self) -> Node:
    """The node of the whole schema.

    Raises:
      UserError: Something is not supported, is too much, or nothing fits.
    """
    root = self._node(('#',))
    self._grow()
    probes: list[tuple[str, Node]] = []
    for place, form in self._reader.apart:  # it may grow
      if not self._plainly_apart(form):
        probe = Node(())
        probes.append((place, probe))
        self._fill(probe, [form], place.partition(' ')[0])
        self._grow()
    every = [*self._nodes.values(), *(probe for _, probe in probes)]
    for _ in range(self._limits.depth + 1):
      changed = False
      for node in every:
        least = node.measure()
        changed |= least != node.least
        node.least = least
      if not changed:
        break
    for place, probe in probes:
      if probe.least < NEVER:
        raise self._reader.refuse(
          place, 'both branches may fit one value, expected that none does'
        )
    if root.least > self._limits.depth:
      raise self._reader.refuse(
        self._lacking(root),
        'no value that can be written fits (within '
        f'{self._limits.depth} levels and {self._limits.characters} '
        'characters)',
      )
    return root

  def _plainly_apart(self, form: Form) -> bool:
    """Whether an object would need a key that no value fits."""
    if form.types != {'object'}:
      return False
    found = form.object
    nodes = [found.properties.get(one, found.extra) for one in found.required]
    return any(one is None or not self._reader.forms(one) for one in nodes)

  def _lacking(self, node: Node) -> str:
    """The place for whose want nothing fits."""
    seen = set()
    while node not in seen:
      seen.add(node)
      for form in (*node.objects, *node.arrays):
        parts = form.nodes if isinstance(form, Object) else form.first
        needed = (
          [n for n, must in zip(form.nodes, form.required) if must]
          if isinstance(form, Object)
          else [*parts[: form.fewest], *filter(None, [form.rest])]
        )
        worse = [n for n in needed if n.least > self._limits.depth]
        if worse:
          node = worse[0]
          break
      else:
        break
    return node.places[0] if node.places else '#'

  def _node(self, places: Places) -> Node:
    if places not in self._nodes:
      if len(self._nodes) >= self._limits.nodes:
        raise self._reader.refuse(
          '#', f'it has more than {self._limits.nodes} different places'
        )
      self._nodes[places] = node = Node(places)
      self._queue.append(node)
    return self._nodes[places]

  def _grow(self) -> None:
    while self._queue:
      node = self._queue.pop()
      place = node.places[0] if node.places else '#'
      self._fill(node, self._reader.forms(node.places), place)

  def _fill(self, node: Node, forms: Iterable[Form], place: str) -> None:
    texts: dict[bytes, int] = {}
    for form in forms:
      try:
        self._add(node, form, place, texts)
      except limits_lib.Refused as error:
        raise self._reader.refuse(place, str(error)) from error
    if texts:
      node.terminals.append(self._taken(terminals.fixed(texts), place))

  def _taken(self, terminal, place: str):
    """A terminal, within the limit of all."""
    for number, size in terminal.sizes:
      if number not in self._counted:
        self._counted.add(number)
        self._states -= size
    if self._states < 0:
      raise self._reader.refuse(
        place, f'the schema takes more than {self._limits.states} states'
      )
    return terminal

  def _write(self, value: Any, place: str) -> bytes:
    """A value as it is written, within the limit of all."""
    try:
      written = chats.as_json(value).encode()
    except (ValueError, RecursionError) as error:
      raise self._reader.refuse(
        place, f'found what is no JSON ({str(error):.60})'
      ) from error
    self._written -= len(written)
    if self._written < 0:
      raise self._reader.refuse(
        place,
        f'names and values of the schema have more than {self._limits.written}'
        ' bytes',
      )
    return written

  def _add(self, node: Node, form: Form, place: str, texts) -> None:
    if form.values is not None:
      for value in form.values:
        if self._allows(form, value, place):
          texts[self._write(value, place)] = 0
      return
    types = form.types
    if 'null' in types:
      texts[b'null'] = 0
    if 'boolean' in types:
      texts |= {b'true': 0, b'false': 0}
    if 'string' in types:
      terminal = self._string(form.text)
      if terminal is not None:
        node.terminals.append(self._taken(terminal, place))
    if 'integer' in types or 'fraction' in types:
      made = _number(form.number, types)
      if not made.is_empty:
        node.terminals.append(self._taken(terminals.bare(made), place))
    if 'object' in types:
      self._add_object(node, form.object, place)
    if 'array' in types:
      found = form.array
      node.arrays.append(
        Array(
          tuple(self._node(one) for one in found.first),
          None if found.rest is None else self._node(found.rest),
          found.least,
          _most(found.most, max(found.least, self._limits.items)),
        )
      )
      if found.least > self._limits.items:
        raise self._reader.refuse(
          f'{place}/minItems',
          f'found {found.least}, expected at most {self._limits.items}',
        )

  def _string(self, text: forms_lib.Text) -> terminals.Terminal | None:
    made, least, most = _characters(text)
    most = _most(most, self._limits.characters)
    return terminals.string(made, least, most)

  def _add_object(self, node: Node, found: forms_lib.Object, place) -> None:
    names = dict(found.properties)
    for name in found.required:
      if name not in names:
        if found.extra is None:
          return
        names[name] = found.extra
    if not names and found.extra is not None:
      self._add_map(node, found, place)
      return
    if found.names:
      raise self._reader.refuse(
        place, 'propertyNames is supported only where no key is named'
      )
    self._check_choices(found, names, place)
    node.objects.append(
      Object(
        tuple(self._write(name, place) + b': ' for name in names),
        tuple(self._node(one) for one in names.values()),
        tuple(name in found.required for name in names),
        found.least,
        _most(found.most, len(names)),
      )
    )

  def _check_choices(self, found: forms_lib.Object, names, place) -> None:
    """Wherever keys are optional, those up to the next that is not may come."""
    choices = run = 0
    for name in reversed(names):
      run = len(name) + (0 if name in found.required else run)
      choices += run
    if (
      choices > self._limits.choices
      or max(map(len, names), default=0) > _LONGEST_NAME
    ):
      raise self._reader.refuse(
        f'{place}/properties',
        f'{len(names)} names, too many of which are optional, or one of more '
        f'than {_LONGEST_NAME} characters',
      )

  def _add_map(self, node: Node, found: forms_lib.Object, place) -> None:
    if found.least > 1:
      raise self._reader.refuse(
        place, 'minProperties above 1 is supported only where keys are named'
      )
    keys = []
    for form in self._reader.forms(found.names):
      if 'string' not in form.types:
        continue
      if form.values is not None:
        some = [v for v in form.values if self._allows(form, v, place)]
        texts = [self._write(v, place) for v in some if isinstance(v, str)]
        keys += [terminals.fixed(texts)] if texts else []
      elif (terminal := self._string(form.text)) is not None:
        keys.append(terminal)
    if len(keys) > 1:
      raise self._reader.refuse(
        f'{place}/propertyNames', 'alternatives are not supported here'
      )
    most = _most(found.most, self._limits.items)
    if not keys:
      if not found.least:
        node.objects.append(Object((), (), (), 0, 0))
      return
    node.maps.append(
      Map(
        self._taken(keys[0], place), self._node(found.extra), found.least, most
      )
    )

  def _allows(self, form: Form, value: Any, place: str) -> bool:
    """Whether what stands beside an enumeration or a constant allows a value.

    Raises:
      UserError: It says something of the parts of an object or an array.
    """
    if _type(value) not in form.types:
      return False
    if isinstance(value, str):
      made, least, most = _characters(form.text)
      if not least <= len(value) <= _most(most, len(value)):
        return False
      return made is terminals.ANYTHING or characters.accepts(made, value)
    if isinstance(value, (dict, list)):
      whole = form.object if isinstance(value, dict) else form.array
      if whole != type(whole)():
        raise self._reader.refuse(
          place,
          'enum and const of objects or arrays are supported only where '
          'nothing else is said of them',
        )
      return True
    if isinstance(value, bool) or value is None:
      return True
    return _within(form.number, value)


def _most(asked: int | None, otherwise: int) -> int:
  return otherwise if asked is None else min(asked, otherwise)


def _type(value: Any) -> str | None:
  if isinstance(value, bool):
    return 'boolean'
  if isinstance(value, int):
    return 'integer'
  if isinstance(value, float):
    return 'integer' if value.is_integer() else 'fraction'
  names = {str: 'string', dict: 'object', list: 'array', type(None): 'null'}
  return names.get(type(value))


def _within(found: forms_lib.Number, value: int | float) -> bool:
  low = (
    found.low is None
    or value > found.low
    or (value == found.low and not found.low_open)
  )
  high = (
    found.high is None
    or value < found.high
    or (value == found.high and not found.high_open)
  )
  return low and high and all(value % step == 0 for step in found.steps)


def _characters(text: forms_lib.Text):
  """(the characters of a string, how many at least, and at most)."""
  made, least, most = terminals.ANYTHING, text.least, text.most
  for pattern in text.patterns:
    one, fewest, longest = terminals.counted(pattern)
    made = one if made is terminals.ANYTHING else characters.both(made, one)
    least, most = max(least, fewest), forms_lib.lower(most, longest)
  return made, least, most


def _number(found: forms_lib.Number, types) -> characters.Automaton:
  if 'fraction' not in types or found.steps:
    low, high = found.low, found.high
    if low is not None:
      low = math.floor(low) + 1 if found.low_open else math.ceil(low)
    if high is not None:
      high = math.ceil(high) - 1 if found.high_open else math.floor(high)
    return scalars.whole(low, high, math.lcm(*found.steps))
  return scalars.number(found.low, found.high, found.low_open, found.high_open)
