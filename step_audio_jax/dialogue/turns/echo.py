"""Whether a microphone hears what we play ourselves.

What was played, x, comes back through air and room as x ⋆ h, later and quieter,
and somebody may speak over it: y = x ⋆ h + v. Over the last half second the
delay is where the cross-correlation of y and x, whitened by the spectrum of x,
is largest; around it h is the short filter that leaves the least of y (least
squares, Haykin, Adaptive Filter Theory, chapter 8). A frame is echo where what
h leaves of it is small:

    |y - x ⋆ h|² < (1 - explained) |y|²     in the frame

with the power of the quietest frames, the room's noise, taken off both sides.

So neither gain nor delay need be known, and who speaks over the echo, even as
loudly as it, is heard. It costs a few milliseconds of numpy a frame while
something is played, nothing else.

Axes: S samples, K taps.
"""

import dataclasses

import numpy as np

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import vad

_PAST = 0.1  # seconds that a reference may be later than it was said to be


@dataclasses.dataclass(frozen=True)
class Settings:
  """How echo is told.

  Attributes:
    delay: Seconds of delay that are searched.
    window: Seconds of sound of which delay and filter are estimated.
    taps: Of the filter.
    explained: Part of a frame's energy from which on it is echo.
    quiet_db: Level of what is played, below which it makes no echo.
  """

  delay: float = 0.5
  window: float = 0.512
  taps: int = 256
  explained: float = 0.7
  quiet_db: float = -60.0

  def __post_init__(self):
    errors.within(
      'echo',
      self,
      {
        'delay': (0.0, 2.0),
        'window': (0.1, 2.0),
        'taps': (1, 512),
        'explained': (0.0, 1.0),
        'quiet_db': (-120.0, 0.0),
      },
    )


class Echo:
  """Knows what is played, and finds it in what is heard."""

  def __init__(self, settings: Settings = Settings()):
    """Begins with nothing played.

    Args:
      settings: How echo is told.
    """
    self._settings = settings
    self._window = round(settings.window * vad.RATE)
    self._late = round(_PAST * vad.RATE)
    self._reach = self._late + round(settings.delay * vad.RATE)
    self._heard_S = np.zeros(self._window)
    self._room = 1.0  # power of the quietest frame
    # Sample `_first` of the clock is the first of what is kept as played.
    self._first = 0
    self._played_S = np.zeros(0)

  def played(self, at: float, samples_S: np.ndarray):
    """What is played from a time on, which may be in the future.

    Args:
      at: Seconds on the clock of `hears`.
      samples_S: At 16 kHz; takes the place of what was to be played then.
    """
    begin = round(at * vad.RATE)
    if not len(self._played_S):
      self._first = begin
    if begin < self._first:
      samples_S = samples_S[self._first - begin :]
      begin = self._first
    kept = self._played_S[: begin - self._first]
    gap = np.zeros(begin - self._first - len(kept))
    self._played_S = np.concatenate([kept, gap, samples_S])

  def stopped(self, at: float):
    """What was to be played from a time on is not."""
    keep = max(0, round(at * vad.RATE) - self._first)
    self._played_S = self._played_S[:keep]

  def hears(self, at: float, frame_S: np.ndarray) -> bool:
    """Whether a frame of the microphone is echo; each frame once, in order.

    Args:
      at: Seconds where it ends.
      frame_S: At 16 kHz, at most a window.
    """
    frame_S = np.asarray(frame_S, np.float64)
    self._heard_S = np.concatenate([self._heard_S, frame_S])[-self._window :]
    power = float(np.mean(np.square(frame_S)))
    # The quietest is forgotten slowly: rooms become louder.
    self._room = min(power, self._room * 1.01 + 1e-12)
    end = round(at * vad.RATE)
    reference_S = self._reference(end)
    if reference_S is None:
      return False
    energy = float(frame_S @ frame_S)
    if energy == 0:
      return False
    # What a room has always says nothing of who speaks.
    energy_of_room = min(self._room * len(frame_S), 0.15 * energy)
    lag = self._lag(reference_S)
    rest_S = self._unexplained(reference_S, lag, len(frame_S))
    rest = float(rest_S @ rest_S) - 2 * energy_of_room
    return rest < (1 - self._settings.explained) * (energy - energy_of_room)

  def _reference(self, end: int) -> np.ndarray | None:
    """What was played in the window and the reach before it; None: nothing."""
    begin = end - self._window - self._reach
    drop = begin - self._first
    if drop > 0:
      self._played_S, self._first = self._played_S[drop:], begin
    whole_S = np.zeros(self._window + self._reach + self._late)
    known_S = self._played_S[: max(0, end + self._late - self._first)]
    at = self._first - begin
    if not len(known_S) or at >= len(whole_S):
      return None
    whole_S[at : at + len(known_S)] = known_S
    floor = 10 ** (self._settings.quiet_db / 10)
    return whole_S if np.mean(np.square(whole_S)) > floor else None

  def _lag(self, reference_S: np.ndarray) -> int:
    """Samples from the reference's begin to where the window fits best."""
    size = 1 << (len(reference_S) + self._window - 1).bit_length()
    played_F = np.fft.rfft(reference_S, size)
    heard_F = np.fft.rfft(self._heard_S, size)
    power_F = np.square(np.abs(played_F))
    # Half of the whitening: pitch makes no side peaks, noise is not raised.
    cross_F = played_F * np.conj(heard_F)
    cross_F /= np.sqrt(power_F + 1e-3 * power_F.max())
    return int(np.argmax(np.abs(np.fft.irfft(cross_F, size)[: self._places()])))

  def _places(self) -> int:
    return self._reach + self._late

  def _unexplained(
    self, reference_S: np.ndarray, lag: int, last: int
  ) -> np.ndarray:
    """What the best filter around a lag leaves of the last samples."""
    taps = self._settings.taps
    # Reflections come behind the direct sound: most taps look back.
    first = lag + taps // 4
    padded_S = np.concatenate([np.zeros(taps), reference_S, np.zeros(taps)])
    begin = first + taps
    part_S = padded_S[begin - taps + 1 : begin + self._window]
    if len(part_S) < self._window + taps - 1:
      missing = self._window + taps - 1 - len(part_S)
      part_S = np.concatenate([part_S, np.zeros(missing)])
    views_SK = np.lib.stride_tricks.sliding_window_view(part_S, taps)
    gram_KK = _gram(part_S, taps)
    load = 1e-4 * np.trace(gram_KK) / taps + 1e-9
    filter_K = np.linalg.solve(
      gram_KK + load * np.eye(taps), views_SK.T @ self._heard_S
    )
    return self._heard_S[-last:] - views_SK[-last:] @ filter_K


def _gram(part_S: np.ndarray, taps: int) -> np.ndarray:
  """Products of all pairs of shifts of a sound, (K, K).

  One row costs a product with the window; each next one is that before, moved
  by a sample that enters and one that leaves.
  """
  size = len(part_S) - taps + 1
  views_SK = np.lib.stride_tricks.sliding_window_view(part_S, taps)
  gram_KK = np.empty((taps, taps))
  gram_KK[0] = gram_KK[:, 0] = part_S[:size] @ views_SK
  leaves_K, enters_K = part_S[: taps - 1], part_S[size : size + taps - 1]
  for i in range(taps - 1):
    change_K = enters_K[i] * enters_K - leaves_K[i] * leaves_K
    gram_KK[i + 1, 1:] = gram_KK[i, :-1] + change_K
  return gram_KK
