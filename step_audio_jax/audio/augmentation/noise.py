"""Noise at a stated ratio: drawn, or of recordings.

    SNR = 10 log10(mean x² / mean n²)           dB, over the whole waveform

White noise is Gaussian; pink noise is white with each frequency divided by
its root, 3 dB less an octave. Of recordings one is a noise, and several voices
are babble: each gets the same power before they are added. One that is shorter
than the waveform starts over, one that is longer gives a part.

Axes: S samples, F frequencies.
"""

import dataclasses
import math

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import pools

COLOURS = ('white', 'pink')
_LOWEST, _HIGHEST = -30.0, 100.0  # dB


@dataclasses.dataclass(frozen=True)
class Noise(base.Operation):
  """Drawn noise.

  Attributes:
    colour: `white` or `pink`.
    snr_db: Signal over noise.
    seed: Of the noise.
  """

  kind = 'noise'

  colour: base.Choice = base.choice('white', COLOURS)
  snr_db: base.Amount = base.amount((5.0, 25.0), _LOWEST, _HIGHEST, 'dB')
  seed: int | None = None

  def apply(self, wave_S, sample_rate):
    del sample_rate
    noise_S = make(self.colour, len(wave_S), np.random.default_rng(self.seed))
    return mixed(wave_S, noise_S, self.snr_db)


@dataclasses.dataclass(frozen=True)
class Recordings(base.Operation):
  """Recordings that are heard behind the waveform.

  Attributes:
    pool: Where they are.
    count: How many at once.
    snr_db: Signal over all of them.
    recordings: Their names in the pool; drawn where there are none.
    seed: Of the place in each.
  """

  kind = 'recordings'

  pool: pools.Pool
  count: base.Count = base.amount(1, 1, 100)
  snr_db: base.Amount = base.amount((5.0, 25.0), _LOWEST, _HIGHEST, 'dB')
  recordings: tuple[str, ...] = ()
  seed: int | None = None

  def drawn(self, rng, avoid=None):
    settled = super().drawn(rng)
    if settled.recordings:
      return settled
    names = [name for name in self.pool.names() if name != avoid]
    if len(names) < settled.count:
      raise errors.UserError(
        f'{self.pool.where}: {len(names)} recordings besides {avoid!r}, '
        f'expected the {settled.count} that are to be heard at once.'
      )
    places = rng.choice(len(names), settled.count, replace=False)
    chosen = tuple(names[place] for place in places)
    return dataclasses.replace(settled, recordings=chosen)

  def apply(self, wave_S, sample_rate):
    rng = np.random.default_rng(self.seed)
    noise_S, heard = np.zeros(len(wave_S)), []
    for name in self.recordings:
      found_S = self.pool.read(name, sample_rate)
      heard.append({'name': name, 'sha256': pools.digest(found_S)})
      part_S = _part(found_S, len(wave_S), rng)
      level = base.power(part_S)
      if level:
        noise_S += part_S / math.sqrt(level)
    out_S, measured = mixed(wave_S, noise_S, self.snr_db)
    return out_S, {**measured, 'sources': heard}

  def check_settled(self):
    super().check_settled()
    if len(self.recordings) != self.count:
      raise errors.UserError(
        f'{self.kind}: recordings: found {len(self.recordings)}, expected '
        f'{self.count}, their count.'
      )


def make(colour: str, count: int, rng: np.random.Generator) -> np.ndarray:
  """Drawn noise, float64 (count,)."""
  white_S = rng.standard_normal(count)
  if colour == 'white' or count < 2:
    return white_S
  spectrum_F = np.fft.rfft(white_S)
  spectrum_F[0] = 0  # noise moves no loudspeaker out of its middle
  spectrum_F[1:] /= np.sqrt(np.arange(1, len(spectrum_F)))
  return np.fft.irfft(spectrum_F, count)


def mixed(
  wave_S: np.ndarray, noise_S: np.ndarray, snr_db: float
) -> tuple[np.ndarray, dict[str, float | str]]:
  """A waveform with noise of any level behind it, at `snr_db`.

  To silence no ratio can be stated: it stays, and so does a waveform whose
  noise is silent.

  Returns:
    Float32 samples, and the factor of the noise or why there is none.
  """
  signal, level = base.power(wave_S), base.power(noise_S)
  if not signal or not level:
    which = 'waveform' if not signal else 'noise'
    return wave_S, {'left_out': f'the {which} is silent'}
  factor = math.sqrt(signal / level) * 10 ** (-snr_db / 20)
  return (wave_S + factor * noise_S).astype(np.float32), {'factor': factor}


def _part(found_S, count, rng):
  if len(found_S) <= count:
    start = int(rng.integers(len(found_S)))
    return np.resize(np.roll(found_S, -start), count)
  start = int(rng.integers(len(found_S) - count + 1))
  return found_S[start : start + count]
