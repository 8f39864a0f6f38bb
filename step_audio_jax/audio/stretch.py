"""Faster or slower at the same pitch: WSOLA.

Overlap-add of windowed pieces, half a window apart in the output and `speed`
times as far apart in the input; each piece is moved by a few milliseconds to
where it goes on best from the piece before (Verhelst & Roelands 1993, "An
overlap-add technique based on waveform similarity"). Axes: S samples.
"""

import numpy as np

from step_audio_jax import errors

SLOWEST, FASTEST = 0.5, 2.0
_WINDOW_SECONDS = 0.03  # a few periods of a low voice
_SEARCH_SECONDS = 0.01  # a period of 100 Hz


def check_speed(speed: float) -> None:
  """Refuses a speed that no speech survives.

  Raises:
    UserError: It is outside 0.5 … 2.
  """
  if not SLOWEST <= speed <= FASTEST:
    raise errors.UserError(
      f'speed: found {speed}, expected a number from {SLOWEST} to {FASTEST:g}.'
    )


def stretch(wave_S: np.ndarray, speed: float, sample_rate: int) -> np.ndarray:
  """Speech at another speed and the same pitch.

  Args:
    wave_S: Samples.
    speed: 2 is twice as fast; 1 returns the samples as they are.
    sample_rate: Hz.

  Returns:
    Float32, round(S / speed) samples.

  Raises:
    UserError: `speed` is outside 0.5 … 2.
  """
  check_speed(speed)
  wave_S = np.asarray(wave_S, np.float32)
  if speed == 1 or not len(wave_S):
    return wave_S
  half = max(1, round(_WINDOW_SECONDS * sample_rate / 2))
  search = max(1, round(_SEARCH_SECONDS * sample_rate))
  total = round(len(wave_S) / speed)
  rising = np.sin(0.5 * np.pi * (np.arange(half) + 0.5) / half) ** 2
  window = np.concatenate([rising, rising[::-1]]).astype(np.float32)
  pieces = -(-total // half) + 1
  # One half window and the search before the start, and behind the end as
  # much as the last piece may ask for.
  margin = half + search
  behind = max(0, round(pieces * half * speed) - len(wave_S))
  padded = np.pad(wave_S, (margin, behind + 2 * margin + half))
  out = np.zeros((pieces + 1) * half, np.float32)
  last = None
  for piece in range(pieces):
    start = round(piece * half * speed) - half + margin
    if last is not None:
      # What would follow the last piece, compared with every candidate.
      wanted = padded[last + half : last + 2 * half]
      field = padded[start - search : start + search + half]
      start += best_offset(wanted, field) - search
    out[piece * half : (piece + 2) * half] += (
      window * padded[start : start + 2 * half]
    )
    last = start
  return out[half : half + total]


def best_offset(wanted: np.ndarray, field: np.ndarray) -> int:
  """Where in `field` the piece most like `wanted` begins.

  The likeness is the cosine; `field` is at least as long as `wanted`.
  """
  product = np.correlate(field, wanted, 'valid')
  energy = np.cumsum(np.concatenate([[0.0], np.square(field, dtype=float)]))
  power = energy[len(wanted) :] - energy[: -len(wanted)]
  return int(np.argmax(product / np.sqrt(np.maximum(power, 1e-9))))
