"""Frames of a microphone for a controller, written as what is said in them."""

from typing import Iterable, Iterator

from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import events as ev

FRAME = 0.032


class Stream:
  """Feeds a controller; remembers what it wanted.

  Attributes:
    at: What time it is.
    actions: All so far.
  """

  def __init__(self, settings=None, **changed):
    self.controller = controller_lib.Controller(
      settings or controller_lib.Settings(**changed)
    )
    self.at, self.actions = 0.0, []

  def feed(self, event: ev.Event) -> list[ev.Action]:
    """One event; what it led to."""
    found = self.controller.feed(event)
    self.actions += found
    return found

  def _frames(self, seconds, speech, echo) -> Iterator[ev.Action]:
    for _ in range(round(seconds / FRAME)):
      self.at += FRAME
      yield from self.feed(ev.Frame(self.at, speech, FRAME, echo))

  def speech(self, seconds: float, echo: bool = False) -> list[ev.Action]:
    """Somebody speaks."""
    return list(self._frames(seconds, 0.9, echo))

  def silence(self, seconds: float) -> list[ev.Action]:
    """Nobody does."""
    return list(self._frames(seconds, 0.02, False))

  def words(self, text: str) -> list[ev.Action]:
    """A transcript of all up to now."""
    return self.feed(ev.Words(self.at, text, self.at))

  def now(self, kind, *of) -> list[ev.Action]:
    """An event of this moment."""
    return self.feed(kind(self.at, *of))


def kinds(actions: Iterable[ev.Action]) -> list[str]:
  """Names of actions, but that words are asked for, as at every pause."""
  return [
    type(action).__name__
    for action in actions
    if not isinstance(action, ev.Paused)
  ]
