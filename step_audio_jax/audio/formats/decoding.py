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
    return SequentialFile(io.BytesIO(view.readall()) if small else view)
  if isinstance(source.raw, (io.BytesIO, spans.View)):
    source.raw.seek(0)
    return SequentialFile(source.raw)
  # By its number libsndfile does without calls of Python. It begins where the
  # number stands, which is not where its buffer does.
  os.lseek(source.raw.fileno(), 0, os.SEEK_SET)
  return SequentialFile(source.raw.fileno(), closefd=False)


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
