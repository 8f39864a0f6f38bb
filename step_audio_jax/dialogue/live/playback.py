"""What a listener has heard by now, judged by what was sent and when.

A listener plays what arrives without a pause, and stands still where nothing
is left. With d the seconds of each piece:

    end    ← max(end, now) + d          when a piece is sent
    played = sent − max(0, end − now)

Pieces are sent at most `lead` seconds before they are played, so that a reply
that is broken off leaves little behind it.

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
  """

  lead: float
  sent: float = 0.0
  begun: float | None = None
  _end: float = 0.0
  _reported: float | None = None

  def send(self, seconds: float, now: float) -> None:
    """A piece went out."""
    if self.begun is None:
      self.begun = now
      self._end = now
    self._end = max(self._end, now) + seconds
    self.sent += seconds

  def wait(self, now: float) -> float:
    """Seconds until the next piece may go out."""
    return max(0.0, self._end - now - self.lead) if self.sent else 0.0

  def left(self, now: float) -> float:
    """Seconds until all that was sent is played."""
    return max(0.0, self._end - now) if self.sent else 0.0

  def played(self, now: float) -> float:
    """Seconds that were played by now."""
    if self._reported is not None:
      return self._reported
    return self.sent - self.left(now)

  def stop(self, now: float) -> float:
    """Nothing more is played from now on; what was played, seconds."""
    self._reported = self.played(now)
    self._end = now
    return self._reported

  def report(self, seconds: float) -> None:
    """A listener itself says what it has played."""
    self._reported = min(seconds, self.sent)
