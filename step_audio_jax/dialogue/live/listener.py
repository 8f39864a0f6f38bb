"""Sound of a microphone → turns: VAD, controller, and what an ear is given.

Time is that of the sound: its first sample is second 0. So a conversation is
the same whether its sound comes at once or as it is spoken.

Axes: S samples at `services.HEARD_RATE`.
"""

from typing import Iterator

import numpy as np

from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import vad

_KEPT = 6.0  # seconds in front of a turn that are remembered
_LONGEST = 300.0  # seconds of one turn; what is before is forgotten


class Listener:
  """One microphone.

  Attributes:
    controller: Says who speaks when.
    hearing: The turn that is heard; None between turns.
  """

  def __init__(
    self,
    ear: services.Ear,
    judge: vad.Detector,
    settings: controller_lib.Settings,
  ):
    """Hears nothing yet.

    Args:
      ear: Is given turns.
      judge: Judges frames.
      settings: How turns are told.
    """
    self._ear, self._frames = ear, vad.Frames(judge)
    self.controller = controller_lib.Controller(settings)
    self.hearing: services.Hearing | None = None
    self._samples = 0  # that came
    self._recent: list[np.ndarray] = []  # of them, the last
    self._judged = 0.0  # seconds up to which frames were judged

  @property
  def at(self) -> float:
    """Seconds of sound that were judged."""
    return self._judged

  def push(self, samples_S: np.ndarray) -> Iterator[ev.Action]:
    """More sound; what is to be done about it, one by one."""
    self._recent.append(np.asarray(samples_S, np.float32))
    self._samples += len(samples_S)
    self._forget()
    if self.hearing is not None:
      self.hearing.push(self._recent[-1])
    for _, speech in self._frames.push(samples_S):
      self._judged += vad.SECONDS
      yield from self.feed(ev.Frame(self._judged, speech, vad.SECONDS))

  def feed(self, event: ev.Event) -> Iterator[ev.Action]:
    """What is to be done about an event, one by one."""
    for action in self.controller.feed(event):
      if isinstance(action, ev.BeginTurn):
        self._begin(action.since)
      yield action
      if isinstance(action, ev.EndTurn | ev.DropTurn):
        self.hearing = None

  def begin(self) -> None:
    """Begins a turn without a voice: all that is remembered belongs to it."""
    if self.hearing is None:
      self._begin(-1.0)

  def forget(self) -> None:
    """What was heard so far belongs to no other turn."""
    self.hearing, self._recent = None, []

  def clear(self) -> None:
    """Nobody has said anything."""
    if self.hearing is not None:
      self.hearing.cancel()
    self.forget()
    if self.controller.is_open:
      settings = self.controller.settings
      self.controller = controller_lib.Controller(settings)

  @property
  def seconds(self) -> float:
    """Of sound that is remembered."""
    return sum(map(len, self._recent)) / services.HEARD_RATE

  def _begin(self, since: float) -> None:
    self.hearing = self._ear.listen()
    held_S = np.concatenate([np.zeros(0, np.float32), *self._recent])
    first = self._samples - len(held_S)  # number of the oldest that is held
    skipped = max(0, round(since * services.HEARD_RATE) - first)
    self.hearing.push(held_S[skipped:])

  def _forget(self) -> None:
    """Keeps the last seconds; of a turn that is committed by hand, all."""
    manual = self.controller.settings.mode == controller_lib.MANUAL
    most = _LONGEST if manual else _KEPT
    held = sum(map(len, self._recent))
    while held - len(self._recent[0]) > most * services.HEARD_RATE:
      held -= len(self._recent.pop(0))
