"""What a microphone may hear of what is sent to be played beside it.

What is played has the times of a clock; what is heard, the seconds of its own
sound. A piece of the microphone's that ends at second p of it comes at clock c,
a transport later than it was spoken; the earliest of the last ones says best
where the two meet:

    second = clock - min(c - p)

What is left is the delay to the loudspeaker and back, which `turns.echo` finds.

Axes: S samples.
"""

import collections

import numpy as np

from step_audio_jax.dialogue.turns import echo
from step_audio_jax.dialogue.turns import vad

_PIECES = 32  # of the microphone's, by which the times are told
_GAP = 1e-3  # seconds


class Loudspeaker:
  """One, and the microphone beside it."""

  def __init__(self, settings: echo.Settings = echo.Settings()):
    """Nothing is played.

    Args:
      settings: How echo is told.
    """
    self._echo = echo.Echo(settings)
    self._late: collections.deque[float] = collections.deque(maxlen=_PIECES)
    # Where what was played ends, by the clock and by the microphone's sound.
    self._end = self._place = float('-inf')

  def heard(self, second: float, now: float) -> None:
    """A piece of the microphone's sound has come.

    Args:
      second: Of that sound, at its end.
      now: Of the clock.
    """
    self._late.append(now - second)

  def plays(self, samples_S: np.ndarray, rate: int, at: float) -> None:
    """Sound is played from a time of the clock on.

    Args:
      samples_S: At `rate`.
      rate: Hz.
      at: Of the clock, as far as is known.
    """
    if not self._late or not len(samples_S):
      return
    import soxr

    heard_S = soxr.resample(
      np.asarray(samples_S, np.float32), rate, vad.RATE, quality='LQ'
    )
    # What is played without a gap has none, whatever is learnt meanwhile.
    if abs(at - self._end) > _GAP:
      self._place = at - min(self._late)
    self._echo.played(self._place, heard_S)
    seconds = len(samples_S) / rate
    self._end, self._place = at + seconds, self._place + seconds

  def is_heard(self, at: float, frame_S: np.ndarray, matters: bool) -> bool:
    """Whether a frame of the microphone is what is played; see `Echo.hears`."""
    return self._echo.hears(at, frame_S, matters)
