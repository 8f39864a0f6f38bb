"""Links of a recording → blocks of samples, by libsndfile."""

import io
import os
from typing import Iterator

import numpy as np
import soundfile

from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import spans

_BLOCK = 2**18  # samples
_SMALL = 2**24  # bytes of a file that may be held


class SequentialFile(soundfile.SoundFile):
  """Reads block after block without the seek that soundfile puts between.

  An mp3 frame borrows bits from the frames before it: behind a seek its
  samples come out wrong.
  """

  def seekable(self) -> bool:
    return False


class ObjectFile(SequentialFile):
  """A file that Python reads: what goes wrong there is raised here.

  libsndfile knows no exceptions, and takes a store that did not answer for the
  end of the file.
  """

  def __init__(self, raw):
    self._raw = _Kept(raw)
    try:
      super().__init__(self._raw)
    except soundfile.LibsndfileError:
      self._raw.check()
      raise

  def read(self, *args, **keywords):
    samples = super().read(*args, **keywords)
    self._raw.check()
    return samples

  def seek(self, *args, **keywords):
    place = super().seek(*args, **keywords)
    self._raw.check()
    return place


class _Kept:
  """A file that is at its end once something went wrong, and keeps what."""

  def __init__(self, raw):
    self._raw, self._error = raw, None
    self.tell = raw.tell

  def seek(self, *args):
    return self._attempt(self._raw.seek, *args)

  def readinto(self, buffer):
    return self._attempt(self._raw.readinto, buffer)

  def _attempt(self, function, *args):
    try:
      return 0 if self._error else function(*args)
    except Exception as error:
      self._error = error
      return 0

  def check(self):
    if self._error:
      raise self._error


def open_file(
  source: spans.Source, parts: tuple[spans.Part, ...] | None
) -> SequentialFile:
  """Opens a recording, or a file made of its parts.

  Raises:
    soundfile.LibsndfileError: It is none.
  """
  if parts is not None and parts != ((0, source.size),):
    view = spans.View(source, parts)
    # libmpg123 asks for a few bytes at a time.
    small = view.size <= _SMALL
    return _opened(io.BytesIO(view.readall()) if small else view)
  number = number_of(source)
  if number is None:
    source.raw.seek(0)
    return _opened(source.raw)
  # By its number libsndfile does without calls of Python. It begins where the
  # number stands, which is not where its buffer does.
  os.lseek(number, 0, os.SEEK_SET)
  return SequentialFile(number, closefd=False)


def _opened(raw) -> SequentialFile:
  return SequentialFile(raw) if isinstance(raw, io.BytesIO) else ObjectFile(raw)


def number_of(source: spans.Source) -> int | None:
  """The number of a recording's open file; None of bytes and of an object."""
  try:
    return source.raw.fileno()
  except OSError:
    return None


def read_link(
  source: spans.Source,
  link: links.Link,
  start: int = 0,
  stop: int | None = None,
  size: int = _BLOCK,
) -> Iterator[np.ndarray]:
  """Decodes a link.

  Args:
    source: The recording.
    link: Of it.
    start: First sample.
    stop: Behind the last; None reads to the end of the link.
    size: Samples of a block.

  Yields:
    Samples float32 (S, C). There are fewer than `stop` − `start` where the
    link has no more.

  Raises:
    soundfile.LibsndfileError: Its bytes are damaged.
  """
  parts, seek, drop = link.opening(source, start)
  stop = link.frames if stop is None else stop
  with open_file(source, parts) as handle:
    if seek:
      handle.seek(seek)
    while drop:
      got = len(handle.read(min(drop, _BLOCK), dtype='float32'))
      if not got:
        return
      drop -= got
    while stop is None or start < stop:
      want = size if stop is None else min(size, stop - start)
      block_SC = handle.read(want, dtype='float32', always_2d=True)
      if not len(block_SC):
        return
      yield block_SC
      start += len(block_SC)


def can_decode(source: spans.Source, link: links.Link, count: int) -> bool:
  """Whether so many samples of a link can be decoded."""
  try:
    return sum(map(len, read_link(source, link, stop=count))) == count
  except soundfile.LibsndfileError:
    return False
