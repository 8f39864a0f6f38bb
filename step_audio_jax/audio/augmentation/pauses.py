"""Silence put in between words.

A cut is made at the quietest 10 ms within 40 ms of the place that was asked
for, and both of its edges fade within 5 ms. Axes: S samples.
"""

import dataclasses
import itertools
import math

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base

MOST_SECONDS = 10.0
_AROUND_SECONDS, _QUIET_SECONDS, _FADE_SECONDS = 0.04, 0.01, 0.005


@dataclasses.dataclass(frozen=True)
class Pauses(base.Operation):
  """Silences.

  It moves times by more the later they are: `moved`, not `time_scale`, says
  where words are behind it.

  Attributes:
    places: Where, seconds, rising.
    seconds: How long each of them is.
  """

  kind = 'pauses'

  places: tuple[float, ...]
  seconds: tuple[float, ...]

  def __post_init__(self):
    places, seconds = self.places, self.seconds
    for name, some in (('places', places), ('seconds', seconds)):
      right = isinstance(some, tuple)
      if not right or any(type(one) not in (int, float) for one in some):
        raise errors.UserError(
          f'{self.kind}: {name}: found {some!r}, expected numbers.'
        )
    rising = all(a < b for a, b in itertools.pairwise(places))
    if not rising or not all(0 <= p < math.inf for p in places):
      raise errors.UserError(
        f'{self.kind}: places: found {places!r}, expected seconds that rise.'
      )
    if len(places) != len(seconds) or not all(
      0 < one <= MOST_SECONDS for one in seconds
    ):
      raise errors.UserError(
        f'{self.kind}: seconds: found {seconds!r}, expected {len(places)} of '
        f'more than 0 and at most {MOST_SECONDS:g}.'
      )

  def apply(self, wave_S, sample_rate):
    parts, cuts, at = [], [], 0
    for place, seconds in zip(self.places, self.seconds, strict=True):
      if place > len(wave_S) / sample_rate:
        raise errors.UserError(
          f'{self.kind}: places: found {place} s, expected at most '
          f'{len(wave_S) / sample_rate:g}, where the waveform ends.'
        )
      cut = max(at, _quietest(wave_S, round(place * sample_rate), sample_rate))
      cuts.append(cut / sample_rate)
      parts += [
        _faded(wave_S[at:cut], sample_rate, bool(at), True),
        np.zeros(round(seconds * sample_rate), np.float32),
      ]
      at = cut
    parts.append(_faded(wave_S[at:], sample_rate, bool(cuts), False))
    return np.concatenate(parts), {'cuts': cuts}

  def moved(self, start: float, end: float) -> tuple[float, float]:
    """Where a word lies behind it; one at a place comes after the pause."""
    pairs = tuple(zip(self.places, self.seconds))
    return (
      start + sum(s for place, s in pairs if place <= start + 1e-6),
      end + sum(s for place, s in pairs if place < end - 1e-6),
    )


def _quietest(wave_S, place, sample_rate) -> int:
  """The sample near a place around which the least is heard."""
  around = round(_AROUND_SECONDS * sample_rate)
  half = max(1, round(_QUIET_SECONDS * sample_rate / 2))
  low = min(max(place - around, half), len(wave_S))
  high = max(min(place + around, len(wave_S) - half), low)
  if place <= 0 or place >= len(wave_S) or low == high:
    return min(max(place, 0), len(wave_S))
  squares = np.square(wave_S[low - half : high + half], dtype=np.float64)
  sums = np.concatenate([[0.0], np.cumsum(squares)])
  return low + int(np.argmin(sums[2 * half :] - sums[: -2 * half]))


def _faded(part_S, sample_rate, begins: bool, ends: bool) -> np.ndarray:
  size = min(round(_FADE_SECONDS * sample_rate), len(part_S) // 2)
  part_S = part_S.copy()
  rising = np.sin(0.5 * np.pi * (np.arange(size) + 0.5) / max(size, 1)) ** 2
  if begins:
    part_S[:size] *= rising.astype(np.float32)
  if ends:
    part_S[len(part_S) - size :] *= rising[::-1].astype(np.float32)
  return part_S
