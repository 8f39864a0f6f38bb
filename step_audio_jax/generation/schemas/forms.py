"""Alternatives of a schema: what fits each type, and what fits two at once.

A node of a schema is named by the places (JSON pointers) that all hold for a
value; `reading` makes the forms of a node.
"""

import dataclasses
from typing import Any, Mapping

from step_audio_jax.chats import conversation as chats
from step_audio_jax.generation.schemas import scalars

Places = tuple[str, ...]  # sorted; of none anything is a value

# 'integer' and 'fraction' together are what JSON Schema calls a number.
TYPES = {
  'null': ('null',),
  'boolean': ('boolean',),
  'integer': ('integer',),
  'number': ('integer', 'fraction'),
  'string': ('string',),
  'object': ('object',),
  'array': ('array',),
}
EVERY = frozenset(kind for kinds in TYPES.values() for kind in kinds)


@dataclasses.dataclass(frozen=True)
class Text:
  """What a string is: bounds of its length, and patterns all of which fit."""

  least: int = 0
  most: int | None = None
  patterns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Number:
  """Between which bounds a number is; they may be open."""

  low: scalars.Number | None = None
  high: scalars.Number | None = None
  low_open: bool = False
  high_open: bool = False
  steps: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Object:
  """What an object has.

  Attributes:
    properties: Nodes of known keys, in order.
    required: Keys.
    extra: The node of all other keys; None where there may be none.
    names: The node of keys.
    least: Of its keys.
    most: The same.
  """

  properties: Mapping[str, Places] = dataclasses.field(default_factory=dict)
  required: tuple[str, ...] = ()
  extra: Places | None = ()
  names: Places = ()
  least: int = 0
  most: int | None = None


@dataclasses.dataclass(frozen=True)
class Array:
  """What an array has: nodes of the first items, and of those behind them."""

  first: tuple[Places, ...] = ()
  rest: Places | None = ()
  least: int = 0
  most: int | None = None


@dataclasses.dataclass(frozen=True)
class Form:
  """One alternative: a value fits if that of its own type does."""

  types: frozenset[str] = EVERY
  values: tuple[Any, ...] | None = None
  text: Text = Text()
  number: Number = Number()
  object: Object = Object()
  array: Array = Array()

  @property
  def size(self) -> int:
    """How much there is to compare."""
    parts = self.values or (), self.object.properties, self.array.first
    return sum(map(len, parts))


def lower(one, two):
  """The lower of two bounds, either of which may be None."""
  return one if two is None else two if one is None else min(one, two)


def _joined(one: Places | None, two: Places | None) -> Places | None:
  if one is None or two is None:
    return None
  return tuple(sorted({*one, *two}))


def met_numbers(a: Number, b: Number) -> Number:
  """Between the bounds of both."""
  low, low_open = a.low, a.low_open
  if b.low is not None and (low is None or b.low >= low):
    low_open = b.low_open or (low == b.low and low_open)
    low = b.low
  high, high_open = a.high, a.high_open
  if b.high is not None and (high is None or b.high <= high):
    high_open = b.high_open or (high == b.high and high_open)
    high = b.high
  steps = tuple(dict.fromkeys((*a.steps, *b.steps)))
  return Number(low, high, low_open, high_open, steps)


def _met_objects(a: Object, b: Object) -> Object:
  properties: dict[str, Places] = {}
  required = dict.fromkeys((*a.required, *b.required))
  for name in (*a.properties, *b.properties):
    node = _joined(
      a.properties.get(name, a.extra), b.properties.get(name, b.extra)
    )
    if node is not None:
      properties[name] = node
  return Object(
    properties,
    tuple(required),
    _joined(a.extra, b.extra),
    _joined(a.names, b.names),
    max(a.least, b.least),
    lower(a.most, b.most),
  )


def _met_arrays(a: Array, b: Array) -> Array:
  first = []
  for n in range(max(len(a.first), len(b.first))):
    node = _joined(
      a.first[n] if n < len(a.first) else a.rest,
      b.first[n] if n < len(b.first) else b.rest,
    )
    if node is None:
      most = lower(lower(a.most, b.most), n)
      return Array(tuple(first), None, max(a.least, b.least), most)
    first.append(node)
  return Array(
    tuple(first),
    _joined(a.rest, b.rest),
    max(a.least, b.least),
    lower(a.most, b.most),
  )


def met(a: Form, b: Form) -> Form | None:
  """What fits both; None where it is plain that nothing does."""
  types = a.types & b.types
  values = a.values if b.values is None else b.values
  if a.values is not None and b.values is not None:
    known = {chats.as_json(one) for one in b.values}
    values = tuple(one for one in a.values if chats.as_json(one) in known)
  if not types or values == ():
    return None
  text = Text(
    max(a.text.least, b.text.least),
    lower(a.text.most, b.text.most),
    tuple(dict.fromkeys((*a.text.patterns, *b.text.patterns))),
  )
  return Form(
    types,
    values,
    text,
    met_numbers(a.number, b.number),
    _met_objects(a.object, b.object),
    _met_arrays(a.array, b.array),
  )
