"""What a listening page plays: recordings made alike in rate and level.

A sound must not tell its system by anything but how it sounds: all have one
sample rate, the highest that any system has, one form (16-bit FLAC, one
channel) and one level of what is active (−26 dB of full scale, as ITU-T P.56
levels are set for listening tests), lower only where samples would pass full
scale. Axes: S samples.
"""

import dataclasses
import io as streams

import numpy as np
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.audio import levels
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.meters import activity
from step_audio_jax.storage import files

LEVEL_DB = -26.0
ENDING, TYPE = '.flac', 'audio/flac'
HIGHEST_RATE = 48000  # Hz; browsers play no more
_PEAK = 0.99
_SNR_DB = 0.0  # of a sound that everybody should rate low
_TELEPHONE = 3400.0  # Hz, above which it has nothing


@dataclasses.dataclass(frozen=True)
class Sound:
  """A sound of the page.

  Attributes:
    content: The file's bytes.
    seconds: Its length.
  """

  content: bytes
  seconds: float


def load(path: files.Path, sample_rate: int, level_db: float | None):
  """Samples of a recording as the page plays it, float32 (S,).

  Args:
    path: Of the file.
    sample_rate: Hz of the page.
    level_db: dBFS of what is active; None leaves it as it is.

  Raises:
    UserError: It cannot be read, or is silent.
  """
  wave_S, _ = io.read_audio(path, sample_rate=sample_rate, audible=True)
  if level_db is not None:
    active = activity.find(wave_S, sample_rate)
    loud_T = active.power_T[active.active_T]
    power = loud_T.mean() if len(loud_T) else np.mean(wave_S.astype('d') ** 2)
    gain = 10 ** ((level_db - activity.decibels(power)) / 20)
    wave_S = wave_S * np.float32(gain)
  peak = float(np.abs(wave_S).max())
  if peak > _PEAK:
    wave_S = wave_S * np.float32(_PEAK / peak)
  return wave_S


def degraded(wave_S: np.ndarray, sample_rate: int, seed: int) -> np.ndarray:
  """The same behind as much noise, and through a telephone's band."""
  level = np.sqrt(np.mean(np.square(wave_S, dtype=np.float64)))
  noisy_S, _ = noise.Noise('white', _SNR_DB, seed).apply(wave_S, sample_rate)
  spectrum_F = np.fft.rfft(noisy_S.astype(np.float64))
  hz_F = np.fft.rfftfreq(len(noisy_S), 1 / sample_rate)
  out_S = np.fft.irfft(np.where(hz_F > _TELEPHONE, 0, spectrum_F), len(noisy_S))
  out_S *= level / max(np.sqrt(np.mean(np.square(out_S))), 1e-9)
  out_S *= min(1.0, _PEAK / np.abs(out_S).max())
  return out_S.astype(np.float32)


def encode(wave_S: np.ndarray, sample_rate: int) -> Sound:
  """A sound as the page holds it."""
  if levels.is_silent(wave_S):
    raise levels.silence('a sound of the page')
  stream = streams.BytesIO()
  soundfile.write(stream, wave_S, sample_rate, 'PCM_16', format='FLAC')
  return Sound(stream.getvalue(), len(wave_S) / sample_rate)


def common_rate(paths) -> int:
  """The highest sample rate of some recordings, at most 48 kHz.

  Raises:
    UserError: One cannot be read.
  """
  rates = {io.examine(path).sample_rate for path in paths}
  if not rates:
    raise errors.UserError('listen: found no recording, expected some.')
  return min(max(rates), HIGHEST_RATE)
