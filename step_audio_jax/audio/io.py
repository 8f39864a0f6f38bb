"""Waveforms in and out: any rate, any channel count → 16 kHz mono float32."""

import contextlib
import io
import os
import struct
from typing import Iterator, NamedTuple

import numpy as np
import soundfile
import soxr

from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax.audio import channels
from step_audio_jax.audio import levels

SAMPLE_RATE = 16000

# Sizes that writers put into a WAV header when they do not know the length
# (ffmpeg and sox into a pipe); such a header says nothing.
_UNKNOWN_SIZE = 0x7FFFF000
_UNKNOWN_FRAMES = 2**62  # libsndfile: the largest number, or about that


def read_audio(
  source: str | os.PathLike | bytes,
  *,
  offset: float = 0.0,
  duration: float | None = None,
  channel: channels.Channel = None,
  sample_rate: int = SAMPLE_RATE,
  name: str | None = None,
  audible: bool = False,
) -> tuple[np.ndarray, int]:
  """Reads a recording, or a part of one, as mono.

  One channel is heard, or the mean of all unless they cancel each other
  (`audio.channels`). Whole numbers in a file of floating point are scaled
  (`audio.levels`). Another rate is converted by soxr (HQ).

  Args:
    source: A path, or the bytes of a whole file.
    offset: Start of the part, seconds.
    duration: Length of the part, seconds; None reads to the end.
    channel: Which to hear, from 0; of several the mean, None is all.
    sample_rate: Rate of the result, Hz.
    name: What messages call the source; by default its path.
    audible: Refuse silence (`levels.SILENCE`).

  Returns:
    Samples float32 (S,), in [-1, 1] for integer files, and `sample_rate`.

  Raises:
    UserError: No such file, not audio, cut short, empty, not finite or far
      beyond full scale; no such channel, or channels that cancel.
  """
  blocks = read_blocks(
    source,
    offset=offset,
    duration=duration,
    channel=channel,
    sample_rate=sample_rate,
    name=name,
    audible=audible,
  )
  return np.concatenate(list(blocks)), sample_rate


def read_blocks(
  source: str | os.PathLike | bytes,
  *,
  offset: float = 0.0,
  duration: float | None = None,
  channel: channels.Channel = None,
  sample_rate: int = SAMPLE_RATE,
  name: str | None = None,
  audible: bool = False,
  block_seconds: float = 30.0,
) -> Iterator[np.ndarray]:
  """`read_audio` in parts, for recordings too long to hold.

  Args:
    source: As all but the last: see `read_audio`.
    offset: Seconds.
    duration: Seconds.
    channel: From 0.
    sample_rate: Hz.
    name: For messages.
    audible: Refuse silence.
    block_seconds: Length of a part before its rate is converted, about.

  Yields:
    Samples float32 (S,); joined they are what `read_audio` returns.

  Raises:
    UserError: As `read_audio`, when the fault is reached; of channels that
      cancel and of silence, behind the last part.
  """
  name = name or ('<bytes>' if isinstance(source, bytes) else str(source))
  with _opened(source, name) as raw:
    _check_wav_size(raw, name)
    parts = _read_mono(
      raw, name, offset, duration, block_seconds, channel, audible
    )
    count = 0
    for samples_S in _convert(parts, sample_rate):
      count += len(samples_S)
      yield samples_S
    if not count:
      raise errors.UserError(
        f'{name}: 0 samples at {sample_rate} Hz, expected some.'
      )


def find_peak(source: str | os.PathLike | bytes, **part) -> float:
  """The largest |sample| of what `read_blocks` yields, block by block."""
  return max(float(np.abs(x).max()) for x in read_blocks(source, **part))


class Header(NamedTuple):
  """What a recording says of itself: seconds, Hz, number of channels."""

  seconds: float
  sample_rate: int
  channels: int


def probe(
  source: str | os.PathLike | bytes, *, name: str | None = None
) -> Header:
  """Length, rate and channels of a recording, from its header.

  Args:
    source: A path, or the bytes of a whole file.
    name: What messages call the source; by default its path.

  Returns:
    Only where a header does not tell the length are the samples counted.
    Damage behind the header is found by who reads them.

  Raises:
    UserError: No such file, not audio, empty, or a WAV that is cut short.
  """
  name = name or ('<bytes>' if isinstance(source, bytes) else str(source))
  with _opened(source, name) as raw:
    _check_wav_size(raw, name)
    with _sound_file(raw, name, by_number=True) as handle:
      rate, frames, count = handle.samplerate, handle.frames, handle.channels
  if not 0 < frames < _UNKNOWN_FRAMES:
    blocks = read_blocks(source, channel=0, sample_rate=rate, name=name)
    frames = sum(map(len, blocks))
  return Header(frames / rate, rate, count)


def write_audio(
  path: str | os.PathLike,
  samples_S: np.ndarray,
  sample_rate: int = SAMPLE_RATE,
) -> None:
  """Writes mono samples in [-1, 1] as 16-bit WAV, atomically; clips beyond."""
  samples_S = np.clip(np.asarray(samples_S, np.float32), -1.0, 1.0)
  wav = io.BytesIO()  # errors of a file would be lost in libsndfile
  soundfile.write(wav, samples_S, sample_rate, 'PCM_16', format='WAV')
  with files.atomic(path) as handle:
    handle.write(wav.getbuffer())


@contextlib.contextmanager
def _opened(source, name):
  if isinstance(source, bytes):
    raw = io.BytesIO(source)
  else:
    raw = files.opened(source, name)
  with raw:
    if not raw.seek(0, os.SEEK_END):
      raise errors.UserError(f'{name}: the file is empty, expected audio.')
    raw.seek(0)
    yield raw


class _Sequential(soundfile.SoundFile):
  """Reads block after block without the seek that soundfile puts between.

  An mp3 frame borrows bits from the frames before it: behind a seek its
  samples come out wrong.
  """

  def seekable(self):
    return False


def _sound_file(raw, name, by_number=False):
  """Opens a file; by its number libsndfile does without calls of Python.

  To a million headers that is a minute; samples take their time either way.
  """
  try:
    if by_number and not isinstance(raw, io.BytesIO):
      # libsndfile begins where the number stands, which is not where its
      # buffer does.
      os.lseek(raw.fileno(), 0, os.SEEK_SET)
      return _Sequential(raw.fileno(), closefd=False)
    return _Sequential(raw)
  except soundfile.LibsndfileError as error:
    raise errors.UserError(
      f'{name}: not readable as audio ({error.error_string.strip(" .")}), '
      'expected wav, flac, ogg, mp3 or another format of libsndfile.'
    ) from error


def _read_mono(raw, name, offset, duration, block_seconds, channel, audible):
  """Yields (samples (S,), rate, whether they are the last)."""
  with _sound_file(raw, name) as handle:
    rate, total = handle.samplerate, handle.frames
    scale = _full_scale(handle, name)
    mix = channels.Mixdown(
      handle.channels, rate, channel, name=name, begin=offset
    )
    heard = levels.Extremes()
    start = round(offset * rate)
    if not 0 <= start <= total:
      raise errors.UserError(
        f'{name}: offset {offset} s lies outside the recording of '
        f'{total / rate:.3f} s.'
      )
    want = total - start
    if duration is not None:
      want = min(want, round(duration * rate))
    size = max(1, round(block_seconds * rate))
    done = 0
    try:
      if start:
        # Behind a seek the first frames of a lossy file come out wrong.
        ahead = min(start, rate // 2 if handle.format in ('MP3', 'OGG') else 0)
        handle.seek(start - ahead)
        handle.read(ahead)
      while True:
        block_SC = handle.read(
          min(size, want - done), dtype='float32', always_2d=True
        )
        block_S = mix(block_SC)
        _check_finite(block_S, name, done)
        if scale is not None:
          block_S = block_S / np.float32(scale)
          levels.check_scale(block_S, name)
        if audible:
          heard.add(block_S)
        done += len(block_S)
        last = done >= want or not len(block_S)
        if last:
          _check_whole(handle, name, done, want)
          mix.finish()
          if audible and heard.silent():
            raise levels.silence(name)
        yield block_S, rate, last
        if last:
          return
    except soundfile.LibsndfileError as error:
      raise errors.UserError(
        f'{name}: cut short or damaged after {done / rate:.3f} of '
        f'{want / rate:.3f} s ({error.error_string.strip(" .")}).'
      ) from error


def _full_scale(handle, name):
  """What samples are divided by; None where that is no question."""
  if handle.subtype not in ('FLOAT', 'DOUBLE'):
    return None
  scale = levels.full_scale(_blocks(handle))
  handle.seek(0)
  if scale != 1:
    levels.tell_scaled(name, scale)
  return scale


def _blocks(handle):
  while len(block_SC := handle.read(2**16, dtype='float32', always_2d=True)):
    yield block_SC


def _convert(parts, sample_rate):
  """Mono parts at any rate → parts at `sample_rate`, none of them empty."""
  resampler = None
  for samples_S, rate, last in parts:
    if rate != sample_rate:
      resampler = resampler or soxr.ResampleStream(
        rate, sample_rate, 1, dtype='float32', quality='HQ'
      )
      samples_S = resampler.resample_chunk(samples_S, last=last)
    if len(samples_S):
      yield np.ascontiguousarray(samples_S, np.float32)


def _check_finite(samples_S, name, done):
  if not np.isfinite(samples_S).all():
    place = int(np.argmin(np.isfinite(samples_S)))
    raise errors.UserError(
      f'{name}: sample {done + place} is {samples_S[place]}, expected finite '
      'numbers.'
    )


def _check_whole(handle, name, done, want):
  if not done:
    raise errors.UserError(f'{name}: 0 samples of audio, expected some.')
  # Other compressed formats do not store their length.
  if done < want and handle.format == 'FLAC':
    raise errors.UserError(
      f'{name}: cut short: the header announces {want} samples, found {done}.'
    )


def _check_wav_size(raw, name):
  """A WAV whose data chunk runs past the end of the file was cut short."""
  end = raw.seek(0, os.SEEK_END)
  raw.seek(0)
  head = raw.read(12)
  place = 12
  while head[:4] == b'RIFF' and head[8:] == b'WAVE' and place + 8 <= end:
    raw.seek(place)
    chunk, size = struct.unpack('<4sI', raw.read(8))
    found = end - place - 8
    if chunk == b'data':
      if found < size < _UNKNOWN_SIZE:
        raise errors.UserError(
          f'{name}: cut short: the header announces {size} bytes of samples, '
          f'found {found}.'
        )
      break
    place += 8 + size + size % 2
  raw.seek(0)
