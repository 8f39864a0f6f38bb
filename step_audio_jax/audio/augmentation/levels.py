"""Louder, quieter, cut off: gain, clipping, and a ceiling.

Axes: S samples.
"""

import dataclasses
import math

import numpy as np

from step_audio_jax.audio.augmentation import base


@dataclasses.dataclass(frozen=True)
class Gain(base.Operation):
  """Another level.

  Attributes:
    gain_db: What is added to it; full scale may be passed.
  """

  kind = 'gain'

  gain_db: base.Amount = base.amount((-10.0, 10.0), -120.0, 60.0, 'dB')

  def apply(self, wave_S, sample_rate):
    del sample_rate
    return wave_S * np.float32(10 ** (self.gain_db / 20)), {}


@dataclasses.dataclass(frozen=True)
class Clipping(base.Operation):
  """An overloaded microphone: what is beyond a limit is cut off.

  Attributes:
    limit: Of |samples|, as a share of the loudest.
  """

  kind = 'clipping'

  limit: base.Amount = base.amount((0.3, 0.9), 0.001, 1.0)

  def apply(self, wave_S, sample_rate):
    del sample_rate
    limit = np.float32(self.limit) * np.abs(wave_S).max(initial=np.float32(0))
    clipped = int(np.count_nonzero(np.abs(wave_S) > limit))
    return np.clip(wave_S, -limit, limit), {'clipped': clipped}


@dataclasses.dataclass(frozen=True)
class Ceiling(base.Operation):
  """Quieter where a sample would be beyond a limit; the last of a chain.

  Files of whole numbers end at 1: without it they would be clipped.

  Attributes:
    limit: Of |samples|.
  """

  kind = 'ceiling'

  limit: base.Amount = base.amount(0.999, 0.001, 1.0)

  def apply(self, wave_S, sample_rate):
    del sample_rate
    peak = float(np.abs(wave_S).max(initial=0.0))
    if peak <= self.limit:
      return wave_S, {'gain_db': 0.0}
    # The division may round up.
    out_S = np.clip(wave_S * (self.limit / peak), -self.limit, self.limit)
    return out_S.astype(np.float32), {
      'gain_db': 20 * math.log10(self.limit / peak)
    }
