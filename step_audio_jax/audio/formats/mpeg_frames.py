"""Headers of MPEG audio frames (ISO/IEC 11172-3, 13818-3): what they tell.

Layers I to III of MPEG-1, 2 and 2.5: rate, channels, samples, and the size in
bytes, by which a walker steps from frame to frame.
"""

import dataclasses

_KILOBITS = {
  (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
  (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
  (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
  (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
  (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
  (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {
  0: (11025, 12000, 8000),
  2: (22050, 24000, 16000),
  3: (44100, 48000, 32000),
}


@dataclasses.dataclass(frozen=True)
class StreamHeader:
  """What all frames of a stream share.

  Attributes:
    second: The second byte of a header, without its protection bit.
    rate_bits: The bits of the rate in the third byte.
    mono: Whether there is one channel.
  """

  second: int
  rate_bits: int
  mono: bool

  @property
  def layer(self) -> int:
    return 4 - (self.second >> 1 & 3)

  @property
  def is_first(self) -> bool:
    """MPEG-1, not 2 or 2.5 with half its rates."""
    return self.second >> 3 & 3 == 3

  @property
  def rate(self) -> int:
    return _RATES[self.second >> 3 & 3][self.rate_bits >> 2]

  @property
  def samples(self) -> int:
    """Of a frame and channel."""
    if self.layer == 1:
      return 384
    return 1152 if self.layer == 2 or self.is_first else 576

  @property
  def side(self) -> int:
    """Bytes of side information behind the header in layer III."""
    return (17, 32, 9, 17)[2 * (not self.is_first) + (not self.mono)]

  @property
  def overhead(self) -> int:
    """The most bytes of a frame in layer III that are no main data."""
    return 6 + self.side

  def sizes(self) -> list[int]:
    """Bytes of a frame by the third byte of its header; 0 is none of ours."""
    sizes = [0] * 256
    table = _KILOBITS[1 if self.is_first else 2, self.layer]
    for index, kilobits in enumerate(table, start=1):
      for pad in (0, 1):
        if self.layer == 1:
          size = 4 * (12000 * kilobits // self.rate + pad)
        else:
          size = self.samples * 125 * kilobits // self.rate + pad
        for private in (0, 1):
          sizes[index << 4 | self.rate_bits | pad << 1 | private] = size
    return sizes


_known: dict[StreamHeader, list[int]] = {}


def parse_header(header: bytes) -> StreamHeader | None:
  """What a frame's header says of its stream; None if it is no header."""
  if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
    return None
  version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
  rate_bits, kilobits = header[2] & 0x0C, header[2] >> 4
  if version == 1 or not layer or rate_bits == 0x0C or kilobits == 15:
    return None
  return StreamHeader(header[1] | 1, rate_bits, header[3] >> 6 == 3)


def frame_sizes(head: StreamHeader) -> list[int]:
  """`Head.sizes`, made once."""
  if head not in _known:
    _known[head] = head.sizes()
  return _known[head]


def is_free_format(header: bytes) -> bool:
  """Whether a header is of the free format, whose frames state no size."""
  return parse_header(header) is not None and not header[2] >> 4


def side_info_offset(frame: bytes) -> int:
  """Where the side information begins: behind a checksum, if there is one."""
  return 4 if frame[1] & 1 else 6


def reservoir_bytes(frame: bytes, head: StreamHeader) -> int:
  """How many bytes of the frames before it a frame of layer III needs."""
  at = side_info_offset(frame)
  if head.is_first:
    return frame[at] << 1 | frame[at + 1] >> 7
  return frame[at]
