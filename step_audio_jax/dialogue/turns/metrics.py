"""What a controller did, in figures: how often it guessed, what that saved.

Fed with each event and what it led to, it counts

    speculated, committed, discarded    replies begun at a pause
    false interruptions                 replies that were held and went on
    saved, first audio, stop            histograms, in seconds

A speculated reply that is committed saves the time from its begin to the end of
the turn, but no more than it took to its first sound. First audio is counted
from the end of the user's speech.
"""

import bisect
import dataclasses
from typing import Any, Hashable, Sequence

from step_audio_jax.dialogue.turns import events as ev

BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.2, 2.0, 5.0)  # seconds


class Histogram:
  """Counts below bounds, as Prometheus has them.

  Attributes:
    bounds: Upper ends of all bins but the last.
    counts: One for each bin, not summed up.
    total: Sum of what was observed.
  """

  def __init__(self, bounds: Sequence[float] = BOUNDS):
    self.bounds = tuple(bounds)
    self.counts = [0] * (len(self.bounds) + 1)
    self.total = 0.0

  def observe(self, seconds: float):
    """One more."""
    self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
    self.total += seconds

  @property
  def count(self) -> int:
    """How many there are."""
    return sum(self.counts)

  def cumulative(self) -> list[tuple[float, int]]:
    """(upper end, how many are not above it), the last one infinite."""
    found, below = [], 0
    for bound, n in zip((*self.bounds, float('inf')), self.counts, strict=True):
      below += n
      found.append((bound, below))
    return found


@dataclasses.dataclass
class _Reply:
  begun: float
  is_guess: bool
  ready: float | None = None
  heard: float | None = None
  spoken: float | None = None  # where the user's speech ended
  is_counted: bool = False


@dataclasses.dataclass
class _Place:
  """Where one conversation is."""

  replies: dict[int, _Reply] = dataclasses.field(default_factory=dict)
  spoken: float | None = None  # where the user's last speech ended
  onset: float | None = None  # where the speech that is heard began

  def hear(self, event: ev.Frame):
    if event.echo or event.speech < 0.35:
      self.onset = None
    elif self.onset is None:
      self.onset = event.at - event.seconds


class Metrics:
  """Of one conversation, or of all on a server.

  Attributes:
    turns: That ended.
    dropped: That were none.
    speculated: Replies that were begun at a pause.
    committed: Of these, that were heard.
    discarded: Of these, that were given up.
    held: Times that a reply was held.
    false_interruptions: Of these, that it went on.
    interruptions: Replies that were stopped.
    saved: Histogram of seconds that speculation saved.
    first_audio: Histogram of seconds from speech to the reply's first sound.
    stop: Histogram of seconds from the begin of speech to the hold.
  """

  def __init__(self):
    self.turns = self.dropped = 0
    self.speculated = self.committed = self.discarded = 0
    self.held = self.false_interruptions = self.interruptions = 0
    self.saved, self.first_audio = Histogram(), Histogram()
    self.stop = Histogram()
    self._places: dict[Hashable, _Place] = {}

  def observe(
    self,
    event: ev.Event,
    actions: Sequence[ev.Action],
    conversation: Hashable = None,
  ):
    """Counts an event and what it led to; in the order of one conversation.

    Args:
      event: It.
      actions: What it led to.
      conversation: Which one, where there are several.
    """
    place = self._places.setdefault(conversation, _Place())
    if isinstance(event, ev.Frame):
      place.hear(event)
    for action in actions:
      self._count(place, action)
    if isinstance(event, ev.Ready) and event.reply in place.replies:
      place.replies[event.reply].ready = event.at
      self._sounds(place, event.reply)
    if isinstance(event, ev.Ended | ev.Failed):
      place.replies.pop(event.reply, None)

  def forget(self, conversation: Hashable):
    """A conversation is over."""
    self._places.pop(conversation, None)

  def figures(self) -> dict[str, float]:
    """All that is counted, by name."""
    names = (
      'turns',
      'dropped',
      'speculated',
      'committed',
      'discarded',
      'held',
      'false_interruptions',
      'interruptions',
    )
    found: dict[str, Any] = {name: getattr(self, name) for name in names}
    for name in ('saved', 'first_audio', 'stop'):
      histogram = getattr(self, name)
      found[f'{name}_count'] = histogram.count
      found[f'{name}_seconds'] = histogram.total
    return found

  def _count(self, place: _Place, action: ev.Action):
    match action:
      case ev.EndTurn(until=until):
        self.turns += 1
        place.spoken = until
      case ev.DropTurn():
        self.dropped += 1
      case ev.Speculate(at, reply):
        self.speculated += 1
        place.replies[reply] = _Reply(at, True)
      case ev.Discard(reply=reply):
        self.discarded += 1
        place.replies.pop(reply, None)
      case ev.Reply(at, reply):
        known = place.replies.setdefault(reply, _Reply(at, False))
        known.heard, known.spoken = at, place.spoken
        place.spoken = None
        self.committed += known.is_guess
        self._sounds(place, reply)
      case ev.Hold(at=at):
        self.held += 1
        if place.onset is not None:
          self.stop.observe(at - place.onset)
      case ev.Resume():
        self.false_interruptions += 1
      case ev.Stop(reply=reply):
        self.interruptions += 1
        place.replies.pop(reply, None)

  def _sounds(self, place: _Place, reply: int):
    """A reply that is both made and wanted is heard."""
    known = place.replies[reply]
    if known.ready is None or known.heard is None or known.is_counted:
      return
    known.is_counted = True
    if known.spoken is not None:
      self.first_audio.observe(max(known.ready, known.heard) - known.spoken)
    if known.is_guess:
      self.saved.observe(min(known.ready, known.heard) - known.begun)

  @property
  def commit_rate(self) -> float | None:
    """Part of the speculated replies that were heard; None without any."""
    done = self.committed + self.discarded
    return self.committed / done if done else None
