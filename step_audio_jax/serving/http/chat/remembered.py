"""What was said aloud, by its id: a later turn may name it.

A client that was given audio sends its id in place of the words. What is kept
is the words, for an hour, in this process alone; a client that sends the
transcript along needs none of it.
"""

import collections
from typing import Callable
import uuid

KEPT = 3600  # seconds
_MOST = 1024


class Remembered:
  """Transcripts by id; the oldest is forgotten first."""

  def __init__(self, wall: Callable[[], float]):
    """Nothing was said yet.

    Args:
      wall: Seconds since 1970.
    """
    self._wall = wall
    self._said: collections.OrderedDict[str, tuple[str, float]] = (
      collections.OrderedDict()
    )

  def new(self) -> tuple[str, int]:
    """An id, and when it is forgotten."""
    return f'audio_{uuid.uuid4().hex}', int(self._wall()) + KEPT

  def put(self, id: str, expires_at: int, transcript: str) -> None:
    """Keeps what was said."""
    self._said[id] = transcript, expires_at
    while len(self._said) > _MOST:
      self._said.popitem(last=False)

  def get(self, id: str) -> str | None:
    """What was said; None where nobody knows any more."""
    transcript, expires_at = self._said.get(id, (None, 0))
    return transcript if expires_at > self._wall() else None
