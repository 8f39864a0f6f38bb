"""What a listener has heard by now, judged by what was sent and when.

A listener plays what arrives without a pause, and stands still where nothing
is left. With d the seconds of each piece:

    end    ← max(end, now) + d          when a piece is sent
    played = max(0, sent − max(0, end − now))

What was sent before it is played before it. Pieces are sent at most `lead`
seconds before they are played, so that a reply that is broken off leaves little
behind it.

Axes: S samples.
"""

import dataclasses


@dataclasses.dataclass
class Playback:
  """One reply on its way to an ear.

  Attributes:
    lead: Seconds that may be sent before they are played.
    sent: Seconds that were sent.
    begun: When the first piece was sent; None before.
    end: When all that was sent is played; at first what was sent before it.
  """

  lead: float
  sent: float = 0.0
  begun: float | None = None
  end: float = float('-inf')
  _reported: float | None = None

  def send(self, seconds: float, now: float) -> None:
    """A piece went out."""
    if self.begun is None:
      self.begun = now
    self.end = max(self.end, now) + seconds
    self.sent += seconds

  def wait(self, now: float) -> float:
    """Seconds until the next piece may go out."""
    return max(0.0, self.end - now - self.lead)

  def left(self, now: float) -> float:
    """Seconds until all that was sent is played."""
    return max(0.0, self.end - now)

  def played(self, now: float) -> float:
    """Seconds that were played by now."""
    if self._reported is not None:
      return self._reported
    return max(0.0, self.sent - self.left(now))

  def stop(self, now: float) -> float:
    """Nothing more is played from now on; what was played, seconds."""
    self._reported = self.played(now)
    self.end = now
    return self._reported

  def report(self, seconds: float) -> None:
    """A listener itself says what it has played."""
    self._reported = min(seconds, self.sent)
