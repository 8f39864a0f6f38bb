"""Whether a microphone hears what we play ourselves.

What was played, x, comes back through air and room as x ⋆ h, later and quieter,
and somebody may speak over it: y = x ⋆ h + v. Over the last half second the
delay is where the cross-correlation of y and x, whitened by the spectrum of x,
is largest; around it h is the short filter that leaves the least of y (least
squares, Haykin, Adaptive Filter Theory, chapter 8). Sound is echo where what h
leaves of it, r = y - x ⋆ h, is small beside it, over the last frames:

    Σ |r|² < (1 - explained) Σ |y|² + reverberation

with the power of the quietest frames, the room's noise, taken off both sides.
Reverberation is what rooms give back when h is over: part of the echo that was
found, which fades. So neither gain nor delay need be known, and who speaks over
the echo, even as loudly as it, is heard.

All of it is done below 4 kHz, where voices are; it costs some milliseconds of
numpy a frame that matters, and next to nothing for others.

Axes: S samples, K taps.
"""

import dataclasses

import numpy as np

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import vad

_PAST = 0.1  # seconds that a reference may be later than it was said to be
_TAPS = 31  # of the low pass in front of every second sample
_FADES = 0.7  # of reverberation, a frame
_STEPS = 16  # of the solver, at most


@dataclasses.dataclass(frozen=True)
class Settings:
  """How echo is told.

  Attributes:
    delay: Seconds of delay that are searched.
    window: Seconds of sound of which delay and filter are estimated.
    taps: Of the filter, at 8 kHz.
    explained: Part of the energy from which on it is echo.
    frames: Whose energy is judged together.
    tail: Part of the echo that may come back when the filter is over.
    quiet_db: Level of what is played, below which it makes no echo.
  """

  delay: float = 0.5
  window: float = 0.512
  taps: int = 320
  explained: float = 0.7
  frames: int = 2
  tail: float = 0.05
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
        'frames': (1, 8),
        'tail': (0.0, 1.0),
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
    self._window = _even(settings.window)
    self._late = _even(_PAST)
    self._reach = self._late + _even(settings.delay)
    self._heard_S = np.zeros(self._window)
    self._room = 1.0  # power of the quietest frame
    self._fading = 0.0  # energy of the last echo
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

  def hears(self, at: float, frame_S: np.ndarray, matters: bool = True) -> bool:
    """Whether a frame of the microphone is echo; each frame once, in order.

    Args:
      at: Seconds where it ends.
      frame_S: At 16 kHz, at most a window.
      matters: Whether anybody asks; else it is only remembered.
    """
    frame_S = np.asarray(frame_S, np.float64)
    self._heard_S = np.concatenate([self._heard_S, frame_S])[-self._window :]
    power = float(np.mean(np.square(frame_S)))
    # The quietest is forgotten slowly: rooms become louder.
    self._room = min(power, self._room * 1.01 + 1e-12)
    self._fading *= _FADES
    end = round(at * vad.RATE)
    self._drop(end)
    if not power or not matters or not len(self._played_S):
      return False
    reference_S = self._reference(end)
    if reference_S is None:
      return False
    return self._is_echo(reference_S, len(frame_S))

  def _is_echo(self, reference_S: np.ndarray, size: int) -> bool:
    """Whether the last frames are, given what may be in them."""
    heard_S, played_S = _halved(self._heard_S), _halved(reference_S)
    lag = self._lag(played_S, heard_S)
    last = self._settings.frames * size // 2
    rest_S = self._unexplained(played_S, heard_S, lag, last)
    energy, rest = (float(one @ one) for one in (heard_S[-last:], rest_S))
    # What a room has always says nothing of who speaks, nor what is no louder.
    room = min(self._room * last, 0.5 * energy)
    border = (1 - self._settings.explained) * (energy - room)
    border += self._settings.tail * self._fading
    if rest - 2 * room < border:
      self._fading = max(self._fading, energy - rest)
      return True
    return False

  def _drop(self, end: int) -> None:
    """Forgets what was played too long before a sample to be heard in it."""
    begin = end - self._window - self._reach
    if len(self._played_S) and begin > self._first:
      self._played_S = self._played_S[begin - self._first :]
      self._first = begin

  def _reference(self, end: int) -> np.ndarray | None:
    """What was played in the window and the reach before it; None: nothing."""
    begin = end - self._window - self._reach
    whole_S = np.zeros(self._window + self._reach + self._late)
    known_S = self._played_S[: max(0, end + self._late - self._first)]
    at = self._first - begin
    if not len(known_S) or at >= len(whole_S):
      return None
    whole_S[at : at + len(known_S)] = known_S
    floor = 10 ** (self._settings.quiet_db / 10)
    return whole_S if np.mean(np.square(whole_S)) > floor else None

  def _lag(self, played_S: np.ndarray, heard_S: np.ndarray) -> int:
    """Samples from the reference's begin to where the window fits best."""
    size = 1 << (len(played_S) + len(heard_S) - 1).bit_length()
    played_F = np.fft.rfft(played_S, size)
    heard_F = np.fft.rfft(heard_S, size)
    power_F = np.square(np.abs(played_F))
    # Half of the whitening: pitch makes no side peaks, noise is not raised.
    cross_F = played_F * np.conj(heard_F)
    cross_F /= np.sqrt(power_F + 1e-3 * power_F.max())
    places = len(played_S) - len(heard_S)
    return int(np.argmax(np.abs(np.fft.irfft(cross_F, size)[:places])))

  def _unexplained(self, played_S, heard_S, lag: int, last: int) -> np.ndarray:
    """What the best filter around a lag leaves of the last samples."""
    taps, window = self._settings.taps, len(heard_S)
    # Reflections come behind the direct sound: most taps look back.
    begin = lag + taps // 8 + taps
    padded_S = np.concatenate([np.zeros(taps), played_S, np.zeros(2 * taps)])
    part_S = padded_S[begin - taps + 1 : begin + window]
    gram_KK = _gram(part_S, taps)
    load = 1e-4 * np.trace(gram_KK) / taps + 1e-9
    gram_KK[np.diag_indices(taps)] += load
    cross_K = np.correlate(part_S, heard_S, 'valid')
    filter_K = _solve(gram_KK, cross_K)
    tail_S = part_S[-(last + taps - 1) :]
    return heard_S[-last:] - np.convolve(tail_S, filter_K[::-1], 'valid')


def _even(seconds: float) -> int:
  """Samples, so many that every second one can be left out."""
  return 2 * round(seconds * vad.RATE / 2)


def _halved(sound_S: np.ndarray) -> np.ndarray:
  """At half its rate."""
  place = np.arange(_TAPS) - _TAPS // 2
  low_K = 0.5 * np.sinc(place / 2) * np.hanning(_TAPS + 2)[1:-1]
  return np.convolve(sound_S, low_K, 'same')[::2]


def _circulant(row_K: np.ndarray) -> np.ndarray:
  """Eigenvalues of the circulant matrix nearest a Toeplitz one (T. Chan)."""
  place = np.arange(len(row_K)) / len(row_K)
  turned_K = np.concatenate([[0.0], row_K[:0:-1]])
  return np.fft.rfft((1 - place) * row_K + place * turned_K).real


def _solve(gram_KK: np.ndarray, cross_K: np.ndarray) -> np.ndarray:
  """Of gram · x = cross: conjugate gradients, led by a circulant matrix.

  It is good enough after some steps; and solvers of LAPACK wait for threads,
  which other work on the machine holds up for a second at times.
  """
  taps = len(cross_K)
  # Shifts are alike but for their ends: the first and the last row tell.
  leader_F = _circulant((gram_KK[0] + gram_KK[-1, ::-1]) / 2)
  leader_F = np.maximum(leader_F, 1e-4 * leader_F.max())
  filter_K, rest_K = np.zeros(taps), cross_K
  ahead_K, before, first = 0.0, 1.0, None
  for _ in range(_STEPS):
    led_K = np.fft.irfft(np.fft.rfft(rest_K) / leader_F, taps)
    now = float(np.sum(rest_K * led_K))
    first = now if first is None else first
    if not now > 1e-5 * first:
      break
    ahead_K = led_K + (now / before) * ahead_K
    moved_K = np.einsum('ij,j->i', gram_KK, ahead_K)
    step = now / float(np.sum(ahead_K * moved_K))
    filter_K = filter_K + step * ahead_K
    rest_K = rest_K - step * moved_K
    before = now
  return filter_K


def _gram(part_S: np.ndarray, taps: int) -> np.ndarray:
  """Products of all pairs of shifts of a sound, (K, K).

  One row costs a product with the window; each next one is that before, moved
  by a sample that enters and one that leaves.
  """
  size = len(part_S) - taps + 1
  gram_KK = np.empty((taps, taps))
  gram_KK[0] = gram_KK[:, 0] = np.correlate(part_S, part_S[:size], 'valid')
  leaves_K, enters_K = part_S[: taps - 1], part_S[size : size + taps - 1]
  for i in range(taps - 1):
    change_K = enters_K[i] * enters_K - leaves_K[i] * leaves_K
    gram_KK[i + 1, 1:] = gram_KK[i, :-1] + change_K
  return gram_KK
