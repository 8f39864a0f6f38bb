"""What a survey of a recording's bytes finds: links, and what is to be told.

A link is a stretch that one decoder reads from its first sample to its last:
the whole of an ordinary file, or one of several files that were joined into
one (chained Ogg, `cat a.mp3 b.mp3`).
"""

import dataclasses

from step_audio_jax.audio.formats import spans


@dataclasses.dataclass(frozen=True)
class Link:
  """A stretch of sound with one rate and one channel count.

  Attributes:
    form: Name of the container, as libsndfile has it.
    rate: Hz; 0 if only its decoder knows.
    channels: How many; 0 if only its decoder knows.
    frames: Samples of a channel; None if only decoding tells.
    parts: The file that its decoder is shown; None is the recording itself.
    is_float: Whether it holds floating-point numbers as they are.
    is_counted: Whether a count that its decoder has of a header is no use.
    limit: Sample behind which no seek of libsndfile lands where it should.
    settles: How many samples ahead of a part decoding must begin, so that it
      comes out as it does in the whole; None begins with the first sample.
  """

  form: str
  rate: int = 0
  channels: int = 0
  frames: int | None = None
  parts: tuple[spans.Part, ...] | None = None
  is_float: bool = False
  is_counted: bool = False
  limit: int | None = None
  settles: int | None = 0

  def opening(
    self, source: spans.Source, start: int
  ) -> tuple[tuple[spans.Part, ...] | None, int, int]:
    """Where to open the link to read from sample `start` on.

    Args:
      source: The recording.
      start: Sample.

    Returns:
      The file to show the decoder, the sample to seek to in it, and how many
      samples to pass over from there.
    """
    del source
    if not start or self.settles is None:
      return self.parts, 0, start
    seek = start if self.limit is None else min(start, self.limit)
    seek = max(0, seek - self.settles)
    return self.parts, seek, start - seek


@dataclasses.dataclass(frozen=True)
class Survey:
  """The links of a recording.

  Attributes:
    links: In order.
    notes: What is odd about the file though its sound is whole: clauses such
      as `100 bytes follow that are no sound`.
    fault: Why the sound is not whole, or None.
  """

  links: tuple[Link, ...]
  notes: tuple[str, ...] = ()
  fault: str | None = None
