"""Streams of MPEG frames, and the file that libmpg123 is shown to decode one.

libmpg123 believes the estimate of an Info frame, stops at it, and drops frames
whose bits lie in a frame that it has not seen. So a stream is shown to it
behind two frames that are made here: an Info frame with the true count, and a
silent one that fills the bit reservoir. Then frame k begins at sample
(k+1) spf − 529, wherever decoding begins. (529 samples are the delay of the
filter bank, which it takes off itself.) Sample for sample the same comes out
only from every eighth frame on, since the filter bank sums in a ring of 16.
"""

import dataclasses
import struct

import numpy as np

from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import mpeg_frames
from step_audio_jax.audio.formats import spans

FILTER_DELAY = 529
_RESERVOIR = 511  # bytes that a frame may borrow from those before it
_RING = 8


@dataclasses.dataclass(frozen=True)
class MpegLink(links.Link):
  """A stream of frames.

  Attributes:
    starts: Places of the frames: int64 (N,).
    end: Where the last one ends.
    header: Of the first one.
    lead: Samples to cut at the beginning, without those of made frames.
    quiet: Frames at the beginning that cannot sound.
  """

  starts: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64), compare=False
  )
  end: int = 0
  header: bytes = b''
  lead: int = 0
  quiet: int = 0

  def opening(self, source, start):
    head = mpeg_frames.parse_header(self.header)
    first = (start + self.lead) // head.samples
    heard = max(0, first - 2)  # the filter bank remembers two frames
    fill, held = heard, 0
    while head.layer == 3 and fill and held < _RESERVOIR:
      fill -= 1
      held += int(self.starts[fill + 1] - self.starts[fill]) - head.overhead
    fill = fill // _RING * _RING
    heard = max(self.quiet, heard if fill else 0)
    parts, before = _shown(source, self, fill, heard)
    return parts, 0, before + start + self.lead - fill * head.samples


def _shown(source: spans.Source, link: MpegLink, fill: int, heard: int):
  """The file to decode.

  Args:
    source: Of the frames.
    link: Whose frames are decoded.
    fill: The first frame in the file.
    heard: The first that sounds; those before it only fill the reservoir.

  Returns:
    Its parts, and the samples before frame `fill`.
  """
  head, mode = mpeg_frames.parse_header(link.header), link.header[3]
  sizes = mpeg_frames.frame_sizes(head)
  keys = [index << 4 | head.rate_bits for index in range(1, 15)]

  def made(key: int) -> bytes:
    front = bytes([0xFF, head.second, key, mode])
    return front + bytes(sizes[key] - 4)

  begin = int(link.starts[fill])
  if head.layer != 3:
    # No Info frame here: libmpg123 takes the size of the first frame for that
    # of all, so the smallest makes the count long enough.
    return (made(keys[0]), (begin, link.end)), head.samples
  silent = made(keys[-1])
  at = 4 + head.side
  info = bytearray(made(next(k for k in keys if sizes[k] >= at + 16)))
  count = len(link.starts) - fill + 2
  size = len(info) + 2 * len(silent) + link.end - begin
  info[at : at + 16] = b'Info' + struct.pack('>III', 3, count, size)
  begins = link.starts[fill : heard + 1].tolist()
  muted = [
    _muted(source.read(one, two - one), head)
    for one, two in zip(begins, begins[1:])
  ]
  rest = begins[-1], link.end
  # The silent frame behind them lets the filter bank give its last samples.
  parts = bytes(info) + silent, *muted, rest, silent
  return parts, head.samples - FILTER_DELAY


def _muted(frame: bytes, head: mpeg_frames.StreamHeader) -> bytes:
  """A frame that is silent and still holds its bits for those behind it."""
  at, stop = (
    mpeg_frames.side_info_offset(frame),
    mpeg_frames.side_info_offset(frame) + head.side,
  )
  kept = bytes([frame[at], frame[at + 1] & 0x80 if head.is_first else 0])
  return frame[:at] + kept + bytes(head.side - 2) + frame[stop:]


def count_quiet(
  source: spans.Source, head: mpeg_frames.StreamHeader, starts: np.ndarray
) -> int:
  """Frames at the beginning whose bits lie in front of the file."""
  held = quiet = 0
  for number in range(min(len(starts) - 1, _RESERVOIR)):
    if head.layer != 3 or held >= _RESERVOIR:
      break
    frame = source.read(int(starts[number]), 40)
    if mpeg_frames.reservoir_bytes(frame, head) > held:
      quiet = number + 1
    size = int(starts[number + 1] - starts[number])
    held += size - mpeg_frames.side_info_offset(frame) - head.side
  return quiet
