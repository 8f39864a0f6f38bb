"""Waveforms in and out: any rate, any channel count → 16 kHz mono float32."""

import contextlib
import dataclasses
import io
import os
from typing import Iterator, NamedTuple

import numpy as np
import soundfile
import soxr

from step_audio_jax import errors
from step_audio_jax.audio import channels
from step_audio_jax.audio import levels
from step_audio_jax.audio import surveys
from step_audio_jax.audio.formats import decoding
from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import spans
from step_audio_jax.storage import files

SAMPLE_RATE = 16000


class EmptyError(errors.UserError):
  """There are no samples."""


class NotFiniteError(errors.UserError):
  """A sample is no finite number."""


class Header(NamedTuple):
  """What is known of a recording: seconds, Hz, number of channels."""

  seconds: float
  sample_rate: int
  channels: int


@dataclasses.dataclass(frozen=True)
class Sound:
  """What is known of a recording without its samples.

  Attributes:
    seconds: Its length; what `read_audio` gives.
    sample_rate: Hz; of the first of several streams that were joined.
    channels: How many all of its streams have.
    notes: What is odd about the file though the sound is whole.
    is_lossy: Whether lengths that others state may differ by what codecs add
      at both ends.
  """

  seconds: float
  sample_rate: int
  channels: int
  notes: tuple[str, ...] = ()
  is_lossy: bool = False


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
  (`audio.levels`). Another rate is converted by soxr (HQ). The length is that
  of the sound, whatever headers say (`audio.surveys`).

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
  name = _name_of(source, name)
  with _opened(source, name) as opened:
    found = surveys.survey(opened, name)
    surveys.warn(name, found.notes)
    blocks = _read(opened, found, name, (offset, duration), block_seconds)
    scale = _full_scale(opened, found, name)
    parts = _mono(blocks, found, name, offset, channel, scale, audible)
    count = 0
    for samples_S in _convert(parts, sample_rate):
      count += len(samples_S)
      yield samples_S
    if not count:
      raise EmptyError(f'{name}: 0 samples at {sample_rate} Hz, expected some.')


def find_peak(source: str | os.PathLike | bytes, **part) -> float:
  """The largest |sample| of what `read_blocks` yields, block by block."""
  return max(float(np.abs(x).max()) for x in read_blocks(source, **part))


def probe(
  source: str | os.PathLike | bytes, *, name: str | None = None
) -> Header:
  """Length, rate and channels of a recording; see `examine`."""
  sound = examine(source, name=name)
  return Header(sound.seconds, sound.sample_rate, sound.channels)


def examine(
  source: str | os.PathLike | bytes, *, name: str | None = None
) -> Sound:
  """Length and rate of a recording, and what is odd about its file.

  Plain samples are counted by their bytes, compressed ones by the headers of
  their frames or pages; only where that is not possible they are decoded.

  Args:
    source: A path, or the bytes of a whole file.
    name: What messages call the source; by default its path.

  Raises:
    UserError: No such file, not audio, empty, or cut short. Damage within
      compressed samples is found by who reads them.
  """
  name = _name_of(source, name)
  with _opened(source, name) as opened:
    found = surveys.survey(opened, name)
  rate = found.links[0].rate
  frames = sum(_converted(link, rate) for link in found.links)
  if not frames:
    raise EmptyError(f'{name}: 0 samples of audio, expected some.')
  is_lossy = any(link.form in ('MP3', 'OGG') for link in found.links)
  count = min(link.channels for link in found.links)
  return Sound(frames / rate, rate, count, found.notes, is_lossy)


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


def _name_of(source, name):
  return name or ('<bytes>' if isinstance(source, bytes) else str(source))


@contextlib.contextmanager
def _opened(source, name):
  if isinstance(source, bytes):
    raw = io.BytesIO(source)
  else:
    raw = files.opened(source, name, buffering=0)
  with raw:
    if not raw.seekable():  # a pipe
      raw = io.BytesIO(raw.read())
    opened = spans.Source(raw)
    if not opened.size:
      raise EmptyError(f'{name}: the file is empty, expected audio.')
    yield opened


def _read(opened, found, name, part, block_seconds):
  """Yields (samples (S, C), their link, whether they are the last).

  All have the rate of the first link.
  """
  rate = found.links[0].rate
  total = sum(_converted(link, rate) for link in found.links)
  offset, duration = part
  start = round(offset * rate)
  if not 0 <= start <= total:
    raise errors.UserError(
      f'{name}: offset {offset} s lies outside the recording of '
      f'{total / rate:.3f} s.'
    )
  stop = total
  if duration is not None:
    stop = min(total, start + round(duration * rate))
  if not stop > start:
    raise EmptyError(f'{name}: 0 samples of audio, expected some.')
  size = max(1, round(block_seconds * rate))
  begin, done = 0, start
  for link in found.links:
    end = begin + _converted(link, rate)
    span = max(start, begin) - begin, min(stop, end) - begin
    if span[0] < span[1]:
      try:
        for block_SC in _read_link(opened, link, span, rate, size):
          done += len(block_SC)
          yield block_SC, link, done >= stop
      except soundfile.LibsndfileError as error:
        raise errors.UserError(
          f'{name}: cut short or damaged after {done / rate:.3f} of '
          f'{total / rate:.3f} s ({error.error_string.strip(" .")}).'
        ) from error
      if done < begin + span[1]:
        raise errors.UserError(
          f'{name}: cut short or damaged: its headers announce '
          f'{total} samples, found {done}.'
        )
    begin = end


def _converted(link: links.Link, rate: int) -> int:
  """Samples of a link at the rate of the first one."""
  if link.rate == rate:
    return link.frames
  return (2 * link.frames * rate + link.rate) // (2 * link.rate)


def _read_link(opened, link, span, rate, size):
  """Samples (S, C) of a link at the rate of the first one."""
  if link.rate == rate:
    yield from decoding.read_link(opened, link, *span, size)
    return
  # A stream of another rate that was joined to the first: parts of it are cut
  # from the whole.
  resampler = soxr.ResampleStream(
    link.rate, rate, link.channels, dtype='float32', quality='HQ'
  )
  place, done = 0, 0
  for block_SC in decoding.read_link(opened, link, size=size):
    done += len(block_SC)
    block_SC = resampler.resample_chunk(block_SC, last=done == link.frames)
    start, stop = (min(max(x - place, 0), len(block_SC)) for x in span)
    place += len(block_SC)
    if stop > start:
      yield block_SC[start:stop]


def _mono(blocks, found, name, offset, channel, scale, audible):
  """Yields (samples (S,), rate, whether they are the last)."""
  heard, done, mix, former = levels.Extremes(), 0, None, None
  rate = found.links[0].rate
  for block_SC, link, last in blocks:
    if link is not former:
      if mix is not None:
        mix.finish()
      begin = offset + done / rate
      mix = channels.Mixdown(
        link.channels, rate, channel, name=name, begin=begin
      )
      former = link
    block_S = mix(block_SC)
    _check_finite(block_S, name, done)
    if link.is_float:
      block_S = block_S / np.float32(scale)
      levels.check_scale(block_S, name)
    if audible:
      heard.add(block_S)
    done += len(block_S)
    if last:
      mix.finish()
      if audible and heard.silent():
        raise levels.silence(name)
    yield block_S, rate, last


def _full_scale(opened, found, name):
  """What samples of floating point are divided by."""
  blocks = (
    block_SC
    for link in found.links
    if link.is_float
    for block_SC in decoding.read_link(opened, link, size=2**16)
  )
  try:
    scale = levels.full_scale(blocks)
  except soundfile.LibsndfileError:
    return 1.0  # who reads the samples tells what is wrong with them
  if scale != 1:
    levels.warn_scaled(name, scale)
  return scale


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
    raise NotFiniteError(
      f'{name}: sample {done + place} is {samples_S[place]}, expected finite '
      'numbers.'
    )
