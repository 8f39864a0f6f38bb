"""What transmission does to speech: the telephone, and lossy codecs.

The telephone is 8 kHz, 300 to 3,400 Hz, and G.711's μ-law: eight bits whose
steps grow with the level (255 values from 8 up to 32,124 of 32,768, and zero).
MP3, Opus and Vorbis are libsndfile's: the samples go through a file in memory.
Length and time stay.

Axes: S samples, F frequencies.
"""

import dataclasses
import functools
import io

import numpy as np
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio.augmentation import base

# Format → libsndfile's names, and the rates that it can have, Hz.
FORMATS = {
  'mp3': ('MP3', 'MPEG_LAYER_III', (16000, 22050, 24000, 32000, 44100, 48000)),
  'opus': ('OGG', 'OPUS', (8000, 12000, 16000, 24000, 48000)),
  'vorbis': ('OGG', 'VORBIS', (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
}
TELEPHONE_HZ = 8000
_BAND = 300.0, 3400.0  # Hz
_SLOPE = 100.0  # Hz, from all to nothing
# Silence around: encoders look ahead, and lose what is shorter than a frame.
_MARGIN_SECONDS = 0.1
_BLOCK = 2**16  # libsndfile's Vorbis fails at many samples at once


@dataclasses.dataclass(frozen=True)
class Telephone(base.Operation):
  """A line of the telephone network."""

  kind = 'telephone'

  def apply(self, wave_S, sample_rate):
    narrow_S = _resampled(wave_S, sample_rate, TELEPHONE_HZ)
    narrow_S = through_mu_law(_in_band(narrow_S, TELEPHONE_HZ))
    out_S = _resampled(narrow_S, TELEPHONE_HZ, sample_rate)
    return base.fitted(out_S, len(wave_S)), {}


@dataclasses.dataclass(frozen=True)
class Compression(base.Operation):
  """A lossy codec, there and back.

  Attributes:
    codec: `mp3`, `opus` or `vorbis`.
    compression: libsndfile's level: 0 is the best sound, 1 the smallest file.
  """

  kind = 'compression'

  codec: base.Choice = base.choice(tuple(FORMATS), tuple(FORMATS))
  compression: base.Amount = base.amount((0.3, 0.9), 0.0, 1.0)

  def apply(self, wave_S, sample_rate):
    if not len(wave_S):
      return wave_S, {}
    if self.codec not in available():
      raise errors.UserError(
        f'{self.kind}: codec: found {self.codec}, expected one that '
        f'libsndfile {soundfile.__libsndfile_version__} has here: '
        f'{", ".join(available()) or "it has none"}.'
      )
    form, subtype, rates = FORMATS[self.codec]
    higher = [rate for rate in rates if rate >= sample_rate]
    rate = higher[0] if higher else rates[-1]
    margin = round(_MARGIN_SECONDS * rate)
    at_rate_S = np.pad(_resampled(wave_S, sample_rate, rate), margin)
    file = _encoded(at_rate_S, rate, form, subtype, self.compression)
    back_S, _ = audio_io.read_audio(file, sample_rate=rate)
    back_S = base.fitted(back_S[margin:], len(at_rate_S) - 2 * margin)
    out_S = base.fitted(_resampled(back_S, rate, sample_rate), len(wave_S))
    return out_S, {'bytes': len(file), 'codec_rate': rate}


@functools.cache
def available() -> tuple[str, ...]:
  """The codecs that give sound back here, found out by trying."""
  tone_S = np.sin(np.arange(4800) * 0.1).astype(np.float32) / 2
  found = []
  for name, (form, subtype, _) in FORMATS.items():
    try:
      file = _encoded(tone_S, 16000, form, subtype, 0.5)
      back_S, _ = audio_io.read_audio(file)
    except (ValueError, RuntimeError):  # libsndfile's, and ours of no sound
      continue
    if base.power(back_S) > 0.5 * base.power(tone_S):
      found.append(name)
  return tuple(found)


def through_mu_law(wave_S: np.ndarray) -> np.ndarray:
  """Samples within ±1 as G.711's 8 bits have them, float64 (S,)."""
  levels = mu_law_levels()
  middles = (levels[1:] + levels[:-1]) / 2
  magnitude = levels[np.searchsorted(middles, np.abs(wave_S))]
  return np.copysign(magnitude, wave_S)


@functools.cache
def mu_law_levels() -> np.ndarray:
  """The 128 magnitudes of μ-law, rising, float64."""
  # Eight segments of sixteen steps, each segment's twice those before.
  segment, step = np.divmod(np.arange(128), 16)
  return (((2 * step + 33) << segment) - 33) * 4 / 32768.0


def _in_band(wave_S, rate):
  """Speech band only; no delay."""
  low, high = _BAND
  size = 1 << (len(wave_S) + rate // 10).bit_length()  # no wrapping around
  hz = np.fft.rfftfreq(size, 1 / rate)
  rising = np.clip((hz - (low - _SLOPE)) / _SLOPE, 0, 1)
  falling = np.clip(((high + _SLOPE) - hz) / _SLOPE, 0, 1)
  gain_F = np.sin(0.5 * np.pi * np.minimum(rising, falling)) ** 2
  spectrum_F = np.fft.rfft(wave_S, size) * gain_F
  return np.fft.irfft(spectrum_F, size)[: len(wave_S)]


def _resampled(wave_S, rate, to):
  import soxr

  if rate == to or not len(wave_S):
    return wave_S
  return soxr.resample(np.asarray(wave_S, np.float64), rate, to)


def _encoded(wave_S, rate, form, subtype, compression) -> bytes:
  raw = io.BytesIO()
  with soundfile.SoundFile(
    file=raw,
    mode='w',
    samplerate=rate,
    channels=1,
    format=form,
    subtype=subtype,
    compression_level=compression,
  ) as handle:
    for start in range(0, len(wave_S), _BLOCK):
      handle.write(np.asarray(wave_S[start : start + _BLOCK], np.float32))
  return raw.getvalue()
