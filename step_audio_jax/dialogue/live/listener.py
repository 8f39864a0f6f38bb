"""Sound of a microphone → turns: VAD, controller, and what an ear is given.

Time is that of the sound: its first sample is second 0. So a conversation is
the same whether its sound comes at once or as it is spoken. Where a microphone
is muted, time goes on without sound (`wait`).

Axes: S samples at `services.HEARD_RATE`.
"""

import collections
from typing import Callable, Iterator, Sequence

import numpy as np

from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.live import loudspeaker as loudspeaker_lib
from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import vad

Watch = Callable[[ev.Event, Sequence[ev.Action]], None]
_KEPT = 6.0  # seconds in front of a turn that are remembered
LONGEST = 300.0  # seconds of one turn; what goes on is another


class Listener:
  """One microphone.

  Attributes:
    controller: Says who speaks when.
    hearing: The turn that is heard, or what is said over a reply; None else.
  """

  def __init__(
    self,
    ear: services.Ear,
    judge: vad.Detector,
    settings: controller_lib.Settings,
    watch: Watch | None = None,
  ):
    """Hears nothing yet.

    Args:
      ear: Is given turns.
      judge: Judges frames.
      settings: How turns are told.
      watch: Is told each event, and what it led to.
    """
    self._ear, self._frames = ear, vad.Frames(judge)
    self._watch = watch
    self.controller = controller_lib.Controller(settings)
    self.hearing: services.Hearing | None = None
    self._samples = 0  # that came
    self._recent: list[np.ndarray] = []  # of them, the last
    self._held = 0  # samples of these
    self._judged = 0.0  # seconds up to which frames were judged
    self._muted = 0.0  # seconds that went by without sound
    # Of these the last, as [time they began, seconds].
    self._mutes: collections.deque[list[float]] = collections.deque(maxlen=32)
    self._given = 0  # samples of the turn's that the ear has
    self._since = 0.0  # where these begin
    self._loudspeaker = loudspeaker_lib.Loudspeaker()

  @property
  def at(self) -> float:
    """The time, seconds."""
    return self._judged + self._muted

  def place(self, at: float) -> float:
    """Seconds of sound in front of a time."""
    behind = sum(
      min(seconds, max(0.0, began + seconds - at))
      for began, seconds in self._mutes
    )
    return max(0.0, at - self._muted + behind)

  @property
  def is_waiting(self) -> bool:
    """Whether something happens if nobody says anything more."""
    return self.controller.is_open or self.controller.is_held

  def plays(self, samples_S: np.ndarray, rate: int, at: float) -> None:
    """We play something, which is not to be taken for a voice.

    Args:
      samples_S: At `rate`.
      rate: Hz.
      at: When it begins, by the clock of `push`.
    """
    self._loudspeaker.plays(samples_S, rate, at)

  def push(
    self, samples_S: np.ndarray, now: float | None = None
  ) -> Iterator[ev.Action]:
    """More sound; what is to be done about it, one by one.

    Args:
      samples_S: That comes behind what came.
      now: When it has come; None where nobody hears what we play.
    """
    samples_S = np.asarray(samples_S, np.float32)
    if now is not None:
      samples = self._samples + len(samples_S)
      self._loudspeaker.heard(samples / services.HEARD_RATE + self._muted, now)
    # By frames: what comes behind the end of a turn is not of that turn.
    for begin in range(0, len(samples_S), vad.FRAME):
      yield from self._push(samples_S[begin : begin + vad.FRAME])

  def _push(self, part_S: np.ndarray) -> Iterator[ev.Action]:
    self._recent.append(part_S)
    self._samples += len(part_S)
    self._held += len(part_S)
    self._trim()
    if self.hearing is not None:
      self._give(part_S)
    for frame_S, speech in self._frames.push(part_S):
      self._judged += vad.SECONDS
      matters = speech >= self.controller.settings.release
      is_echo = self._loudspeaker.is_heard(self.at, frame_S, matters)
      yield from self.feed(ev.Frame(self.at, speech, vad.SECONDS, is_echo))
    is_manual = self.controller.settings.mode == controller_lib.MANUAL
    if not is_manual and self._given > LONGEST * services.HEARD_RATE:
      yield from self.feed(ev.Commit(self.at))

  def wait(self, seconds: float) -> Iterator[ev.Action]:
    """Time that passed without sound: the microphone is muted."""
    if self._mutes and abs(sum(self._mutes[-1]) - self.at) < 1e-6:
      self._mutes[-1][1] += seconds
    else:
      self._mutes.append([self.at, seconds])
    self._muted += seconds
    yield from self.feed(ev.Tick(self.at))

  def feed(self, event: ev.Event) -> Iterator[ev.Action]:
    """What is to be done about an event, one by one."""
    for action in self.decide(event):
      if isinstance(action, ev.BeginTurn | ev.Hold):
        self._begin(self.place(action.since))
      if isinstance(action, ev.DropTurn) and self.hearing is not None:
        self.hearing.cancel()
      yield action
      if isinstance(action, ev.EndTurn | ev.DropTurn | ev.Resume):
        self.hearing, self._given = None, 0

  def decide(self, event: ev.Event) -> list[ev.Action]:
    """What the controller says to an event; whoever asks does it all."""
    actions = self.controller.feed(event)
    if self._watch is not None:
      self._watch(event, actions)
    return actions

  def begin(self) -> None:
    """Begins a turn without a voice: all that is remembered belongs to it."""
    if self.hearing is None:
      self._begin(-1.0)

  def forget(self) -> None:
    """What was heard so far belongs to no other turn."""
    self.hearing, self._given = None, 0
    self._recent, self._held = [], 0

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
    return self._held / services.HEARD_RATE

  def _begin(self, since: float) -> None:
    if self.hearing is not None:
      if since == self._since:  # what was said over a reply is a turn
        return
      self.hearing.cancel()  # two turns that nobody parted
    self._since = since
    self.hearing, self._given = self._ear.listen(), 0
    held_S = np.concatenate([np.zeros(0, np.float32), *self._recent])
    first = self._samples - len(held_S)  # number of the oldest that is held
    skipped = max(0, round(since * services.HEARD_RATE) - first)
    self._give(held_S[skipped:])

  def _give(self, samples_S: np.ndarray) -> None:
    self.hearing.push(samples_S)
    self._given += len(samples_S)

  def _trim(self) -> None:
    """Keeps the last seconds; of a turn that is committed by hand, all."""
    manual = self.controller.settings.mode == controller_lib.MANUAL
    most = (LONGEST if manual else _KEPT) * services.HEARD_RATE
    gone = 0
    while self._held - len(self._recent[gone]) > most:
      self._held -= len(self._recent[gone])
      gone += 1
    del self._recent[:gone]
