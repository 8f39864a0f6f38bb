"""Gates of the sound alone: length, level, clipping, silence, noise."""

import dataclasses
import math

import numpy as np

from data_pipelines.factory.gates import activity
from data_pipelines.factory.gates import base
from step_audio_jax import errors
from step_audio_jax.audio import levels

WHERE = ('all', 'leading', 'trailing')


@dataclasses.dataclass(frozen=True)
class Duration(base.Gate):
  """Seconds from the first sample to the last."""

  cost = 0
  unit = 's'

  least: float | None = 0.3
  most: float | None = 30.0
  name: str = 'duration'

  def score(self, take):
    return take.seconds


@dataclasses.dataclass(frozen=True)
class Level(base.Gate):
  """Root mean square of what is active, dB of full scale.

  A full sine has −3 dB.
  """

  cost = 1
  unit = 'dB'

  least: float | None = -45.0
  most: float | None = -3.0
  name: str = 'level'

  def score(self, take):
    power_F = activity.powers(take.samples, take.sample_rate)
    active_F = activity.active(take.samples, take.sample_rate)
    if not active_F.any():
      return -math.inf
    return 10 * math.log10(power_F[active_F].mean())


@dataclasses.dataclass(frozen=True)
class Clipping(base.Gate):
  """Share of samples that were cut off (`levels.clipped_share`)."""

  cost = 1

  most: float | None = 0.001
  name: str = 'clipping'

  def score(self, take):
    return levels.clipped_share(take.samples)


@dataclasses.dataclass(frozen=True)
class Silence(base.Gate):
  """How much silence there is.

  Attributes:
    where: `all` is the share of frames without activity, 0 to 1; `leading` and
      `trailing` are the seconds before and behind all activity.
    top_db: A frame so far below the loudest is silent.
  """

  cost = 1

  most: float | None = 0.6
  name: str = ''
  where: str = 'all'
  top_db: float = activity.TOP_DB

  def __post_init__(self):
    if self.where not in WHERE:
      raise errors.UserError(
        f'silence: where: found {self.where!r}, expected {", ".join(WHERE)}.'
      )
    if not self.name:
      object.__setattr__(self, 'name', f'silence_{self.where}')
    super().__post_init__()

  @property
  def unit(self):
    return '' if self.where == 'all' else 's'

  def score(self, take):
    wave_S, rate = take.samples, take.sample_rate
    if self.where == 'all':
      active_F = activity.active(wave_S, rate, self.top_db)
      return 1.0 - float(active_F.mean())
    start, stop = activity.bounds(wave_S, rate, self.top_db)
    if not stop:
      return take.seconds
    samples = start if self.where == 'leading' else len(wave_S) - stop
    return samples / rate


@dataclasses.dataclass(frozen=True)
class Noise(base.Gate):
  """Signal over noise, dB, as it can be told without the clean signal.

  The tenth part of frames that are the quietest is taken for the noise, so that
  a recording without pauses seems worse than it is, never better.
  """

  cost = 1
  unit = 'dB'

  least: float | None = 15.0
  name: str = 'noise'

  def score(self, take):
    return estimated_snr(take.samples, take.sample_rate)


def estimated_snr(wave_S: np.ndarray, sample_rate: int) -> float:
  """See `Noise`; ∞ where the quietest frames are digital silence.

  Raises:
    UserError: The waveform is silent.
  """
  power_F = activity.powers(wave_S, sample_rate)
  frame, hop = activity.sizes(sample_rate)
  # Frames at the ends are half empty.
  inside = power_F[frame // 2 // hop + 1 : -(frame // 2 // hop) - 1]
  if not len(inside) or not inside.max():
    raise errors.UserError(
      f'{len(wave_S)} samples, expected sound of several frames.'
    )
  quiet = np.sort(inside)[: max(1, len(inside) // 10)]
  noise = float(quiet.mean())
  signal = float(inside.mean()) - noise
  if not noise:
    return math.inf
  return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
