"""Audio on the wire: 16-bit PCM at 24 kHz, and the two laws of G.711 at 8 kHz.

A byte of G.711 is a sign and one of 128 magnitudes that grow by segments of
sixteen; μ-law sends all bits inverted, A-law every second one. ITU-T G.711.

Axes: S samples.
"""

import base64
import binascii
import functools
import re

import numpy as np

from step_audio_jax.audio.augmentation import codecs
from step_audio_jax.serving.realtime import faults

# Name → (Hz, bytes of a sample)
FORMATS = {
  'audio/pcm': (24000, 2),
  'audio/pcmu': (8000, 1),
  'audio/pcma': (8000, 1),
}
PCM = 'audio/pcm'
# soxr's: what ears were trained on is near, and a reply's begin is not late.
_HEARD, _SAID = 'MQ', 'LQ'
_SPACE = re.compile(rb'[ \t\r\n]+')


def from_base64(text: str, param: str) -> bytes:
  """Bytes of a field.

  Raises:
    Fault: It is no base64.
  """
  try:
    raw = _SPACE.sub(b'', text.encode('ascii'))
    return base64.b64decode(raw, validate=True)
  except (UnicodeEncodeError, binascii.Error) as error:
    reason = str(error) if isinstance(error, binascii.Error) else 'not ASCII'
    raise faults.Fault(
      f'{param}: found {len(text)} characters that are no base64 ({reason}).',
      'invalid_base64',
      param,
    ) from error


def to_base64(raw: bytes) -> str:
  """As a field holds bytes."""
  return base64.b64encode(raw).decode('ascii')


def decode(name: str, raw: bytes) -> np.ndarray:
  """Samples (S,) float32 in [-1, 1) of whole samples' bytes."""
  if name == PCM:
    return np.frombuffer(raw, '<i2').astype(np.float32) / np.float32(32768)
  return _table(name)[np.frombuffer(raw, np.uint8)]


def encode(name: str, samples_S: np.ndarray) -> bytes:
  """Bytes of samples; what is beyond ±1 is clipped."""
  if name == PCM:
    levels_S = np.rint(np.asarray(samples_S, np.float32) * 32768)
    return np.clip(levels_S, -32768, 32767).astype('<i2').tobytes()
  _, middles = _magnitudes(name)
  index_S = np.searchsorted(middles, np.abs(samples_S)).astype(np.uint8)
  if name == 'audio/pcmu':
    return (~np.where(np.signbit(samples_S), index_S | 0x80, index_S)).tobytes()
  index_S = np.where(np.signbit(samples_S), index_S, index_S | 0x80)
  return (index_S ^ 0x55).tobytes()


@functools.cache
def _magnitudes(name: str) -> tuple[np.ndarray, np.ndarray]:
  """128 magnitudes, rising, and what lies between them."""
  if name == 'audio/pcmu':
    levels = codecs.mu_law_levels()
  else:
    # The first two segments have the same steps, then each twice those before.
    segment, step = np.divmod(np.arange(128), 16)
    rising = (2 * step + 33) << np.maximum(segment - 1, 0)
    levels = np.where(segment == 0, 2 * step + 1, rising) * 8 / 32768.0
  return levels, (levels[1:] + levels[:-1]) / 2


@functools.cache
def _table(name: str) -> np.ndarray:
  """The sample of each byte."""
  levels, _ = _magnitudes(name)
  code = np.arange(256, dtype=np.uint8)
  code = ~code if name == 'audio/pcmu' else code ^ 0x55
  is_negative = (code & 0x80 > 0) == (name == 'audio/pcmu')
  magnitude = levels[code & 0x7F]
  return np.where(is_negative, -magnitude, magnitude).astype(np.float32)


class Resampler:
  """Samples of one rate → another, as they come."""

  def __init__(self, rate: int, to: int, quality: str):
    """Rates in Hz, and a quality of soxr."""
    self._rate, self._to, self._quality = rate, to, quality
    self._stream = None

  def __call__(self, samples_S: np.ndarray, last: bool = False) -> np.ndarray:
    """What is complete by now; all of it with `last`, and it begins anew."""
    samples_S = np.ascontiguousarray(samples_S, np.float32)
    if self._rate == self._to:
      return samples_S
    if self._stream is None:
      import soxr

      self._stream = soxr.ResampleStream(
        self._rate, self._to, 1, dtype='float32', quality=self._quality
      )
    out_S = self._stream.resample_chunk(samples_S, last=last)
    if last:
      self._stream = None
    return out_S


class Incoming:
  """Bytes of a client → samples, whatever the pieces are."""

  def __init__(self, name: str, to: int):
    """From a format to a rate, Hz."""
    rate, self._width = FORMATS[name]
    self.name, self.rate = name, rate
    self._left = b''
    self._resample = Resampler(rate, to, _HEARD)

  def __call__(self, raw: bytes) -> np.ndarray:
    """Samples (S,) at the rate that is wanted."""
    raw = self._left + raw
    whole = len(raw) - len(raw) % self._width
    self._left = raw[whole:]
    return self._resample(decode(self.name, raw[:whole]))


class Outgoing:
  """Samples of a mouth → bytes for a client."""

  def __init__(self, name: str, rate: int):
    """From a rate, Hz, to a format."""
    self.name = name
    self.rate, self.width = FORMATS[name]
    self._resample = Resampler(rate, self.rate, _SAID)

  def __call__(self, samples_S: np.ndarray, last: bool = False) -> bytes:
    """Bytes that are complete by now; all with `last`."""
    return encode(self.name, self._resample(samples_S, last))
