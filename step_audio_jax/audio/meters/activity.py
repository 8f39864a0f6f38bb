"""Where a recording is speech and where it pauses, by its level alone.

    p_T = mean square of 25 ms, every 10 ms

A frame is active where its level is within 30 dB of the loud ones (the 95th
percentile of what is within 50 dB of the loudest), whatever the gain; where
none is above −60 dBFS all is silence. So the noise has to be 30 dB below the
speech; behind less, pauses are not found. A pause is 0.2 s or more between
active frames: the closure of a stop is shorter. What is active in three frames
or less is a click: a frame alone touches as many.

Levels are dB of the mean square, relative to full scale 1: a sine of full scale
has −3.01. Axes: S samples, T frames.

Trimming (`audio.preparation`) and the gates of data have a plainer rule,
against the loudest frame alone: a click counts there.
"""

import dataclasses

import numpy as np

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.01
FLOOR_DB = -60.0
RANGE_DB = 30.0
_HEARD_DB = 50.0
PAUSE_SECONDS = 0.2
_CLICK_FRAMES = 3
_LOUD = 95  # percentile


@dataclasses.dataclass(frozen=True)
class Activity:
  """What is speech in a recording.

  Attributes:
    active_T: Whether a frame is, pauses not filled.
    power_T: Mean square of each frame, float64.
    begin: Where speech begins, seconds.
    end: Where it ends, seconds; `begin` where there is none.
    pauses: (start, end) of each pause between, seconds.
  """

  active_T: np.ndarray
  power_T: np.ndarray
  begin: float = 0.0
  end: float = 0.0
  pauses: tuple[tuple[float, float], ...] = ()

  @property
  def pause_seconds(self) -> float:
    """Of all pauses."""
    return sum(end - start for start, end in self.pauses)

  @property
  def speech_seconds(self) -> float:
    """From its begin to its end, without pauses."""
    return self.end - self.begin - self.pause_seconds


def find(wave_S: np.ndarray, sample_rate: int) -> Activity:
  """Looks for speech and pauses.

  Args:
    wave_S: Finite samples.
    sample_rate: Hz.
  """
  power_T = frame_powers(wave_S, sample_rate)
  level_T = decibels(power_T)
  loudest = level_T.max(initial=-np.inf)
  if loudest <= FLOOR_DB:
    return Activity(np.zeros(len(power_T), bool), power_T)
  heard_T = level_T[level_T > loudest - _HEARD_DB]
  active_T = level_T > np.percentile(heard_T, _LOUD) - RANGE_DB
  for start, stop in runs(active_T):
    if stop - start <= _CLICK_FRAMES:
      active_T[start:stop] = False
  if not active_T.any():
    return Activity(active_T, power_T)
  first, last = np.flatnonzero(active_T)[[0, -1]]
  # A frame is active from where its end touches the sound until its start has
  # left it; quiet ones lie in the pause as a whole.
  shrunk = WINDOW_SECONDS - HOP_SECONDS
  begin = first * HOP_SECONDS + shrunk if first else 0.0
  whole = len(wave_S) / sample_rate
  end = whole if last == len(active_T) - 1 else (last + 1) * HOP_SECONDS
  pauses = tuple(
    (start * HOP_SECONDS, stop * HOP_SECONDS + shrunk)
    for start, stop in runs(~active_T)
    if first < start
    and stop <= last
    and (stop - start) * HOP_SECONDS + shrunk >= PAUSE_SECONDS
  )
  return Activity(active_T, power_T, float(begin), float(end), pauses)


def frame_powers(wave_S: np.ndarray, sample_rate: int) -> np.ndarray:
  """Mean square of each frame around the recording's mean, float64 (T,)."""
  wave_S = np.asarray(wave_S, np.float64)
  window = round(WINDOW_SECONDS * sample_rate)
  if len(wave_S) < window:
    return np.zeros(0)
  squares = np.square(wave_S - wave_S.mean())
  sums = np.concatenate([[0.0], np.cumsum(squares)])
  count = int((len(wave_S) - window) / (HOP_SECONDS * sample_rate)) + 1
  starts_T = np.round(np.arange(count) * HOP_SECONDS * sample_rate).astype(int)
  starts_T = np.minimum(starts_T, len(wave_S) - window)
  return np.maximum(sums[starts_T + window] - sums[starts_T], 0.0) / window


def decibels(power) -> np.ndarray:
  """Mean squares in dB; −200 of nothing."""
  return 10 * np.log10(np.maximum(power, 1e-20))


def runs(flags_T: np.ndarray) -> list[tuple[int, int]]:
  """(start, stop) of each stretch of true ones."""
  edges = np.diff(np.concatenate([[0], np.asarray(flags_T, np.int8), [0]]))
  starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
  return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]
