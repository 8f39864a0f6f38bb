"""Which id occurs twice, in 8 bytes an id."""

import array
from typing import Iterable

import numpy as np


class Marks:
  """Hashes of ids, in order."""

  def __init__(self):
    self._marks = array.array('q')

  def add(self, name: str) -> None:
    self._marks.append(hash(name))

  def repeated(self, again: Iterable[str]) -> tuple[int, str] | None:
    """Which item (from 1) is the first whose id was there before; its id.

    Args:
      again: The same ids; read only where hashes are equal.
    """
    ordered = np.sort(np.frombuffer(self._marks, np.int64))
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
      return None
    seen = set()
    for number, name in enumerate(again, start=1):
      if hash(name) in suspects:
        if name in seen:
          return number, name
        seen.add(name)
    return None
