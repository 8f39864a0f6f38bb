"""How much a schema may ask for.

Schemas come from strangers: whatever costs time or memory has a limit, and a
schema that is over one is refused in a sentence.
"""

import collections
import dataclasses
import threading
from typing import Any, Callable, Hashable


class Refused(ValueError):
  """An expression that is not supported, or is too much; says why."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds of what is generated and of what a schema may cost.

  Attributes:
    characters: Of a string whose schema allows more, or sets no end.
    items: Of an array or a map whose schema allows more, or sets no end.
    depth: Objects and arrays inside one another.
    nodes: Places of a schema, counted after alternatives are taken apart.
    written: Bytes of all names, enumerations and constants.
    alternatives: Of one place, after `allOf` is multiplied out.
    choices: Characters of the optional names that may come next, counted at
      every place of an object.
    states: Of the automata of all strings and numbers.
    configurations: That are followed side by side where alternatives begin
      alike; those beyond are left, so that some values cannot be written.
  """

  characters: int = 2048
  items: int = 64
  depth: int = 16
  nodes: int = 2000
  written: int = 100_000
  alternatives: int = 256
  choices: int = 60_000
  states: int = 30_000
  configurations: int = 128


class Budget:
  """Steps of work that are left."""

  def __init__(self, steps: int, what: str):
    self._left, self._what = steps, what

  def spend(self, steps: int) -> None:
    """Takes steps.

    Raises:
      Refused: There are no more.
    """
    self._left -= steps
    if self._left < 0:
      raise Refused(f'{self._what} is too complex')


class Kept:
  """The newest values of a function, up to a weight; for several threads."""

  def __init__(self, most: int, weigh: Callable[[Any], int] = lambda _: 1):
    self._left, self._weigh = most, weigh
    self._values: collections.OrderedDict = collections.OrderedDict()
    self._lock = threading.Lock()

  def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """The value of a key; made where it is not kept.

    Two threads may make the same: none waits for what is hard to make.
    """
    with self._lock:
      if key in self._values:
        self._values.move_to_end(key)
        return self._values[key]
    value = make()
    with self._lock:
      if key not in self._values:
        self._values[key] = value
        self._left -= self._weigh(value)
        while self._left < 0 and len(self._values) > 1:
          self._left += self._weigh(self._values.popitem(last=False)[1])
      return self._values[key]
