"""Where in a recording someone speaks: energy of frames.

A frame of 32 ms every 8 ms is active where its power is within `top_db` of the
loudest frame's, the rule by which Step-Audio trims silence
(`audio.preparation.active_bounds`, for batches on accelerators). Nothing is
active in silence. Axes: S samples, F frames.

Gates refuse by it what that trimming would leave or lose, so it is the same
rule at another level. `audio.meters.activity` measures how somebody speaks: it
holds frames against the loud ones rather than the loudest, and passes over
clicks, which here are sound that has to be explained.
"""

import numpy as np

from step_audio_jax.audio import levels

FRAME_SECONDS, HOP_SECONDS = 0.032, 0.008
TOP_DB = 35.0  # pauses of clean speech are lower, its weakest sounds higher


def powers(wave_S: np.ndarray, sample_rate: int) -> np.ndarray:
  """Mean square of each frame, float64 (F,); frame f is around f hops."""
  frame, hop = sizes(sample_rate)
  square = np.square(np.asarray(wave_S, np.float64))
  summed = np.cumsum(np.pad(square, (frame // 2 + 1, frame)))
  starts = np.arange(1 + len(wave_S) // hop) * hop
  return np.maximum(summed[starts + frame] - summed[starts], 0.0) / frame


def active(
  wave_S: np.ndarray, sample_rate: int, top_db: float = TOP_DB
) -> np.ndarray:
  """Whether someone speaks in each frame, bool (F,)."""
  power_F = powers(wave_S, sample_rate)
  if levels.is_silent(wave_S):
    return np.zeros(len(power_F), bool)
  return power_F > power_F.max() * 10 ** (-top_db / 10)


def bounds(
  wave_S: np.ndarray, sample_rate: int, top_db: float = TOP_DB
) -> tuple[int, int]:
  """First and one-past-last sample of what is active; (0, 0) of silence."""
  found = np.flatnonzero(active(wave_S, sample_rate, top_db))
  if not len(found):
    return 0, 0
  _, hop = sizes(sample_rate)
  return int(found[0]) * hop, min((int(found[-1]) + 1) * hop, len(wave_S))


def sizes(sample_rate: int) -> tuple[int, int]:
  """Samples of a frame and between frames."""
  hop = max(1, round(HOP_SECONDS * sample_rate))
  return max(hop, round(FRAME_SECONDS * sample_rate)), hop
