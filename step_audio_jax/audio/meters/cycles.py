"""Jitter and shimmer: how much one cycle of a voice differs from the next.

    jitter = mean |P(i) − P(i+1)| / mean P      shimmer likewise of A

P are the periods and A the amplitudes, root mean squares under a Hann window of
one period, of the cycles of a voiced stretch (the "local" measures of Praat:
Boersma & Weenink; its limits of 1.3 for neighbouring periods and 1.6 for
amplitudes are kept). A cycle ends where the waveform is most like its
beginning: the largest cosine of a period's samples with those 0.8 to 1.25
periods on, between samples by a parabola; where it is below 0.7, voice ends.

Axes: S samples, T frames, L lags.
"""

from typing import Sequence

import numpy as np

from step_audio_jax.audio.meters import activity

LEAST = 10  # pairs of cycles, for a figure
_SHORTEST, _LONGEST = 0.8, 1.25  # of what the pitch track says
_PERIODS, _AMPLITUDES = 1.3, 1.6  # largest ratio of neighbours
_ALIKE = 0.7  # cosine of two cycles


def jitter_and_shimmer(
  wave_S: np.ndarray, sample_rate: int, hz_T: np.ndarray, hop: int
) -> tuple[float | None, float | None]:
  """Both, as fractions; None where there are too few cycles.

  Args:
    wave_S: Finite samples.
    sample_rate: Hz.
    hz_T: Of `pitch.track`.
    hop: Samples between its frames.
  """
  wave_S = np.asarray(wave_S, np.float64)
  stretches = [
    stretch
    for start, stop in activity.runs(hz_T > 0)
    for stretch in _cycles(wave_S, sample_rate, hz_T, hop, start, stop)
  ]
  periods, amplitudes = zip(*stretches) if stretches else ((), ())
  return _local(periods, _PERIODS), _local(amplitudes, _AMPLITUDES)


def _local(stretches: Sequence[np.ndarray], most: float) -> float | None:
  """Mean difference of neighbours over their mean."""
  differences, values = [np.zeros(0)], [np.zeros(0)]
  for found in stretches:
    if len(found) < 2:
      continue
    one, two = found[:-1], found[1:]
    near = np.maximum(one, two) <= most * np.minimum(one, two)
    differences.append(np.abs(one - two)[near])
    values.append(found)
  differences, values = np.concatenate(differences), np.concatenate(values)
  if len(differences) < LEAST or not values.mean():
    return None
  return float(differences.mean() / values.mean())


def _cycles(wave_S, sample_rate, hz_T, hop, start, stop):
  """Periods in samples and amplitudes of a voiced stretch, float64 each.

  More than one pair of them where cycles are not alike in between.
  """
  period = sample_rate / hz_T[start]
  first, end = start * hop, min(stop * hop, len(wave_S))
  at = first + int(np.abs(wave_S[first : first + int(period) + 1]).argmax())
  found: list[tuple[list[float], list[float]]] = [([], [])]
  while at < end:
    period = sample_rate / hz_T[min(at // hop, stop - 1)]
    half = int(period / 2)
    low, high = int(_SHORTEST * period), int(_LONGEST * period) + 2
    begin, alike = at - half, 0.0
    if begin >= 0 and at + half + high <= len(wave_S):
      here = wave_S[begin : at + half]
      lag, alike = _best_lag(here, wave_S[begin + low : at + half + high])
    if alike < _ALIKE:
      found.append(([], []))
      at += half + 1
      continue
    window = np.hanning(len(here) + 2)[1:-1]
    found[-1][0].append(low + lag)
    found[-1][1].append(np.sqrt(window @ (here * here) / window.sum()))
    at += round(low + lag)
  return [tuple(map(np.array, pair)) for pair in found if pair[0]]


def _best_lag(wanted: np.ndarray, field: np.ndarray) -> tuple[float, float]:
  """Where in `field` it goes on like `wanted`, between samples; how alike."""
  product_L = np.correlate(field, wanted, 'valid')
  energy = np.cumsum(np.concatenate([[0.0], field * field]))
  power_L = (energy[len(wanted) :] - energy[: -len(wanted)]) * (wanted @ wanted)
  like_L = product_L / np.sqrt(np.maximum(power_L, 1e-24))
  best = int(like_L.argmax())
  if not 0 < best < len(like_L) - 1:
    return float(best), float(like_L[best])
  left, here, right = like_L[best - 1 : best + 2]
  bend = left - 2 * here + right
  shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
  return best + shift, float(here)
