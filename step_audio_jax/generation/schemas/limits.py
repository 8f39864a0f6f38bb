"""How much a schema may ask for.

Schemas come from strangers: whatever costs time or memory has a limit, and a
schema that is over one is refused in a sentence.
"""

import dataclasses


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
  choices: int = 500_000
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
