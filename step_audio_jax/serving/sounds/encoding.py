"""What a mouth says → bytes of a container, as it is said.

    wav    a header without lengths (0xFFFFFFFF), then samples
    pcm    16-bit samples, little-endian
    flac   without a length, which only its end would know
    mp3    constant bit rate: a player knows the length of what it has
    opus   in Ogg, a page every 60 ms or so

All at 24 kHz, one channel, as OpenAI has it.

Axes: S samples.
"""

import struct
from typing import Any

import numpy as np
import soundfile
import soxr

from step_audio_jax.serving.guards import faults

RATE = 24000  # Hz
PCM = 'pcm'
MEDIA_TYPES = {
  'mp3': 'audio/mpeg',
  'opus': 'audio/ogg',
  'flac': 'audio/flac',
  'wav': 'audio/wav',
  PCM: f'audio/pcm;rate={RATE};channels=1',
}
ALIASES = {'pcm16': PCM}
_UNKNOWN = 0xFFFFFFFF
_LATENCY = 60.0  # milliseconds of a page of Ogg
_PAGE_LATENCY = 0x1302  # SFC_SET_OGG_PAGE_LATENCY_MS
_OPENED = {
  'flac': {'format': 'FLAC', 'subtype': 'PCM_16'},
  # 80 kbit/s, the middle of what MPEG-2 has at this rate.
  'mp3': {
    'format': 'MP3',
    'subtype': 'MPEG_LAYER_III',
    'bitrate_mode': 'CONSTANT',
    'compression_level': 0.5,
  },
  'opus': {'format': 'OGG', 'subtype': 'OPUS'},
}


def check(name: str, field: str) -> str:
  """Our name of a format.

  Raises:
    Fault: It cannot be made here.
  """
  name = ALIASES.get(name, name)
  if name not in MEDIA_TYPES:
    raise faults.invalid(
      f'{field}: {name!r:.40} cannot be encoded here, expected one of '
      f'{", ".join(MEDIA_TYPES)}.',
      field,
      'unsupported_format',
    )
  return name


class Resampled:
  """Samples of a mouth's rate → `RATE`, as they come."""

  def __init__(self, rate: int):
    """From this rate, Hz."""
    self._stream = None
    if rate != RATE:
      self._stream = soxr.ResampleStream(rate, RATE, 1, dtype='float32')

  def __call__(self, samples_S: np.ndarray, last: bool = False) -> np.ndarray:
    """What is complete by now; with `last` all of it."""
    samples_S = np.ascontiguousarray(samples_S, np.float32)
    if self._stream is None:
      return samples_S
    return self._stream.resample_chunk(samples_S, last=last)


class Encoder:
  """One recording of a format, in pieces."""

  def __init__(self, name: str, rate: int):
    """Nothing is said yet.

    Args:
      name: Of `MEDIA_TYPES`.
      rate: Of what comes, Hz.
    """
    self._resampled, self._head = Resampled(rate), b''
    self._sink = self._file = None
    self.seconds = 0.0
    if name == 'wav':
      self._head = wav_header()
    elif name != PCM:
      self._sink = _Sink()
      self._file = soundfile.SoundFile(
        self._sink, 'w', samplerate=RATE, channels=1, **_OPENED[name]
      )
      if name == 'opus':
        _make_pages_short(self._file)

  def add(self, samples_S: np.ndarray) -> bytes:
    """The bytes that more samples complete; clips beyond full scale."""
    return self._made(self._resampled(samples_S))

  def end(self) -> bytes:
    """The rest, of a recording that is over."""
    made = self._made(self._resampled(np.zeros(0, np.float32), last=True))
    if self._file is not None:
      self._file.close()
      made += self._sink.taken()
    return made

  def _made(self, samples_S: np.ndarray) -> bytes:
    self.seconds += len(samples_S) / RATE
    head, self._head = self._head, b''
    samples_S = np.clip(np.nan_to_num(samples_S), -1.0, 1.0)
    if self._file is None:
      return head + pcm16(samples_S)
    if len(samples_S):
      self._file.write(samples_S)
    return head + self._sink.taken()


def whole(name: str, pieces: bytes) -> bytes:
  """A recording of `Encoder`, with the lengths that are known by now."""
  if name != 'wav':
    return pieces
  header = wav_header(len(pieces) - len(wav_header()))
  return header + pieces[len(header) :]


def pcm16(samples_S: np.ndarray) -> bytes:
  """Samples in [-1, 1] as 16 bits, little-endian."""
  return np.rint(samples_S * 32767).astype('<i2').tobytes()


def wav_header(count: int | None = None) -> bytes:
  """The head of a wav at `RATE`.

  Args:
    count: Bytes of samples; None where nobody knows yet.
  """
  size = _UNKNOWN if count is None else count
  form = struct.pack('<HHIIHH', 1, 1, RATE, 2 * RATE, 2, 16)
  return b''.join(
    (
      b'RIFF',
      struct.pack('<I', _UNKNOWN if count is None else count + 36),
      b'WAVEfmt ',
      struct.pack('<I', len(form)),
      form,
      b'data',
      struct.pack('<I', size),
    )
  )


class _Sink:
  """A file that was sent as far as it was written.

  Encoders go back to put lengths into what is on its way already: that is left
  out.
  """

  def __init__(self):
    self._parts, self._place, self._end = [], 0, 0

  def taken(self) -> bytes:
    """What was written since it was asked last."""
    parts, self._parts = self._parts, []
    return b''.join(parts)

  def write(self, data: Any) -> int:
    data = bytes(data)
    fresh = data[max(0, self._end - self._place) :]
    self._place += len(data)
    if fresh:
      self._parts.append(fresh)
      self._end = self._place
    return len(data)

  def seek(self, offset: int, whence: int = 0) -> int:
    begin = {0: 0, 1: self._place, 2: self._end}[whence]
    self._place = begin + offset
    return self._place

  def tell(self) -> int:
    return self._place

  def read(self, count: int = -1) -> bytes:
    del count
    return b''

  def flush(self) -> None:
    pass


def _make_pages_short(file: soundfile.SoundFile) -> None:
  """libsndfile gathers a second of Opus in a page, unless it is told."""
  milliseconds = soundfile._ffi.new('double *', _LATENCY)
  soundfile._snd.sf_command(file._file, _PAGE_LATENCY, milliseconds, 8)
