"""Faster or slower: with the pitch (resampled) or without it (WSOLA).

Both give round(S / factor) samples, and times within them are divided by the
factor. Axes: S samples.
"""

import dataclasses

import numpy as np

from step_audio_jax.audio import stretch
from step_audio_jax.audio.augmentation import base


@dataclasses.dataclass(frozen=True)
class _Faster(base.Operation):
  """What both have in common."""

  factor: base.Amount = base.amount(
    (0.9, 1.1), stretch.SLOWEST, stretch.FASTEST
  )

  @property
  def time_scale(self):
    return 1.0 / self.factor


@dataclasses.dataclass(frozen=True)
class Speed(_Faster):
  """As a tape that runs faster: pitch and formants rise by the factor.

  Attributes:
    factor: 2 is twice as fast.
  """

  kind = 'speed'

  def apply(self, wave_S, sample_rate):
    del sample_rate
    import soxr

    count = round(len(wave_S) / self.factor)
    if self.factor == 1 or not count:
      return base.fitted(wave_S, count), {}
    made_S = soxr.resample(wave_S.astype(np.float64), self.factor, 1.0)
    return base.fitted(made_S, count), {}


@dataclasses.dataclass(frozen=True)
class Tempo(_Faster):
  """As one who speaks faster: the pitch stays.

  Attributes:
    factor: 2 is twice as fast.
  """

  kind = 'tempo'

  def apply(self, wave_S, sample_rate):
    return stretch.stretch(wave_S, self.factor, sample_rate), {}
