"""MPEG audio (mp3, mp2, mp1): frames counted by walking from header to header.

A stream has no length, only frames; ISO/IEC 11172-3 and 13818-3 give the size
of each from its header. Encoders put a frame in front that holds no sound but
an estimate of their number (Xing, Info, VBRI), and LAME's extension of it the
samples to cut at both ends; tags (ID3, APE, Lyrics3) may lie anywhere between
frames.

libmpg123 believes the estimate, stops at it, and drops frames whose bits lie
in a frame it has not seen. So each link is shown to it behind two frames that
are made here: an Info frame with the true count, and a silent one that fills
the bit reservoir. Then frame k begins at sample (k+1) spf − 529, wherever
decoding begins. (529 samples are the delay of the filter bank, which it takes
off itself.) Sample for sample the same comes out only from every eighth
frame on, since the filter bank sums in a ring of 16.
"""

import array
import dataclasses
import struct

import numpy as np

from step_audio_jax.audio import checksums
from step_audio_jax.audio import links
from step_audio_jax.audio import spans

_FILTER_DELAY = 529
_RESERVOIR = 511  # bytes that a frame may borrow from those before it
_RING = 8
_TAGS = (b'Xing', b'Info', b'VBRI')
_LOOK = 64  # a tag begins within so many bytes of its frame

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
class Head:
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


_known: dict[Head, list[int]] = {}


def head_of(header: bytes) -> Head | None:
  """What a frame's header says of its stream; None if it is no header."""
  if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
    return None
  version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
  rate_bits, kilobits = header[2] & 0x0C, header[2] >> 4
  if version == 1 or not layer or rate_bits == 0x0C or kilobits == 15:
    return None
  return Head(header[1] | 1, rate_bits, header[3] >> 6 == 3)


def _sizes(head: Head) -> list[int]:
  if head not in _known:
    _known[head] = head.sizes()
  return _known[head]


def is_free(header: bytes) -> bool:
  """Whether a header is of the free format, whose frames state no size."""
  return head_of(header) is not None and not header[2] >> 4


@dataclasses.dataclass
class _Run:
  """Frames that follow each other.

  Attributes:
    head: Of all of them.
    starts: Their places.
    end: Where the last ends.
    tags: Places of what looks like an Info frame's tag.
    cut: Whether the file ends within the next one.
  """

  head: Head
  starts: array.array
  end: int
  tags: list[int]
  cut: bool = False


def _walk(source: spans.Source, place: int, end: int, head: Head) -> _Run:
  starts, tags, sizes = array.array('q'), [], _sizes(head)
  second, mono, add = head.second, head.mono, starts.append
  cut = False
  while True:
    base, block = place, source.read(place, min(spans.BLOCK, end - place))
    last = base + len(block) >= end
    limit = len(block) - (4 if last else _LOOK)
    q = 0
    while q <= limit:
      if block[q] != 0xFF or block[q + 1] | 1 != second:
        break
      size = sizes[block[q + 2]]
      if not size or (block[q + 3] >> 6 == 3) != mono:
        break
      if base + q + size > end:
        cut = True
        break
      add(base + q)
      q += size
    place = base + q
    for tag in _TAGS:
      found = block.find(tag)
      while 0 <= found:
        tags.append(base + found)
        found = block.find(tag, found + 1)
    if last or q <= limit:
      if last and 0 < end - place < 4 and not cut:
        cut = _begins_frame(source.read(place, end - place), second)
      return _Run(head, starts, place, tags, cut)


def _begins_frame(tail: bytes, second: int) -> bool:
  """Whether fewer bytes than a header may be the beginning of one."""
  return tail[0] == 0xFF and (len(tail) == 1 or tail[1] | 1 == second)


def tag_end(source: spans.Source, place: int, end: int) -> int | None:
  """Where the tag that begins at `place` ends; None if none begins there."""
  head = source.read(place, min(32, end - place))
  if head[:3] == b'ID3' and len(head) >= 10:
    if max(head[3:5]) < 0xFF and max(head[6:10]) < 0x80:
      size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
      return place + 10 + size + 10 * (head[5] >> 4 & 1)
  if head[:8] == b'APETAGEX' and len(head) == 32:
    size, _, flags = struct.unpack('<III', head[12:24])
    if flags & 0x20000000:  # a header: items and a footer follow
      return place + 32 + size
    return place + 32
  if head[:3] == b'TAG' and end - place >= 128:
    if head[:4] == b'TAG+' and end - place >= 227 + 128:
      return place + 227
    return place + 128
  if head[:11] == b'LYRICSBEGIN':
    stop = source.find(b'LYRICS200', place, min(end, place + 2**20))
    return None if stop < 0 else stop + 9
  return None


def tags_begin(source: spans.Source, begin: int, end: int) -> int:
  """Where the tags at the end of a file begin; `end` if there are none."""
  while True:
    tail = source.read(max(begin, end - 128), min(128, end - begin))
    if len(tail) == 128 and tail[:3] == b'TAG':
      end -= 128
      ahead = source.read(max(begin, end - 227), 4)
      if ahead == b'TAG+' and end - 227 >= begin:
        end -= 227
    elif tail[-32:-24] == b'APETAGEX':
      size, _, flags = struct.unpack('<III', tail[-20:-8])
      start = end - size - (32 if flags & 0x80000000 else 0)
      if size < 32 or start < begin:
        return end
      end = start
    elif tail[-9:] == b'LYRICS200' and tail[-15:-9].isdigit():
      start = end - 15 - int(tail[-15:-9])
      if start < begin:
        return end
      end = start
    elif tail[-10:-7] == b'3DI' and max(tail[-4:]) < 0x80:
      a, b, c, d = tail[-4:]
      start = end - 20 - (a << 21 | b << 14 | c << 7 | d)
      if start < begin or source.read(start, 3) != b'ID3':
        return end
      end = start
    else:
      return end


def _confirmed(source: spans.Source, place: int, end: int) -> Head | None:
  """The head of a frame at `place` if more follow it, or the end."""
  head = head_of(source.read(place, 4))
  if head is None:
    return None
  for number in range(4):
    header = source.read(place, 4)
    if number and (place >= end or tag_end(source, place, end) is not None):
      return head
    if head_of(header) != head:
      return None
    size = _sizes(head)[header[2]]
    if not size:
      return None
    if place + size > end:
      return head if number else None
    place += size
  return head


def find_frames(source: spans.Source, begin: int, end: int) -> int:
  """The next place from `begin` on with frames or a tag; `end` if none."""
  place = begin
  while place < end:
    block = source.read(place, min(2**16, end - place))
    stop = len(block) if place + len(block) >= end else len(block) - 16
    q = 0
    while q < stop:
      frame, tag = block.find(b'\xff', q, stop), block.find(b'ID3', q, stop)
      q = min((x for x in (frame, tag) if x >= 0), default=stop)
      if q < stop:
        if q == tag and tag_end(source, place + q, end) is not None:
          return place + q
        if q == frame and head_of(block[q : q + 4]) is not None:
          if _confirmed(source, place + q, end) is not None:
            return place + q
        q += 1
    if stop <= 0:
      break
    place += stop
  return end


def survey(
  source: spans.Source, begin: int = 0, end: int | None = None
) -> links.Survey:
  """Finds the frames of a file.

  Args:
    source: The file.
    begin: Where to begin.
    end: Where to end; None is the end of the file.

  Returns:
    A link for each stream; none if there are no frames.
  """
  end = tags_begin(source, begin, source.size if end is None else end)
  runs, notes, fault, place = [], [], None, begin
  joined = False  # by a tag, or by other bytes that are no frames
  while place < end:
    tag = tag_end(source, place, end)
    if tag is not None:
      if tag > end:
        notes.append('the file ends within a tag')
      place, joined = min(tag, end), True
      continue
    head = _confirmed(source, place, end)
    if head is None:
      # A frame that was cut has swallowed the beginning of what follows it.
      behind = runs and not joined and runs[-1].end == place
      first = runs[-1].starts[-1] + 4 if behind else place
      found = find_frames(source, first, end)
      if found < place:
        run = runs[-1]
        run.end = run.starts.pop()
        fault = fault or f'damaged: the frame at byte {run.end} is cut short'
        place = found
        continue
      what = _told(source, place, found)
      if not runs:
        notes.append(f'{what} precede the sound')
      elif found == end:
        notes.append(f'{what} follow the sound')
      else:
        follows = _Info.of(source, found, end)
        if follows is None and source.read(found, 3) != b'ID3':
          fault = (
            fault or f'damaged: {what} lie within the sound at byte {place}'
          )
        else:
          notes.append(f'{what} lie between two streams')
      place, joined = found, True
      continue
    run = _walk(source, place, end, head)
    runs.append(run)
    joined = False
    if run.cut:
      left = end - run.end
      fault = fault or f'cut short: of the last frame there are {left} bytes'
      break
    place = run.end
  made = []
  for run in runs:
    for link, told, wrong in _links(source, run):
      notes += told
      fault = fault or wrong
      if link is not None:
        made.append(link)
  return links.Survey(tuple(made), tuple(notes), fault)


def _told(source: spans.Source, begin: int, end: int) -> str:
  zero = not any(source.read(begin, min(end - begin, 2**20)))
  return f'{end - begin} {"zero bytes" if zero else "bytes that are no frames"}'


@dataclasses.dataclass(frozen=True)
class _Info:
  """What the frame of an encoder says; None where it does not.

  Attributes:
    frames: How many follow.
    size: Bytes of all frames, in most cases with this one.
    delay: Samples to cut at the beginning.
    padding: Samples to cut at the end.
    checksum: Of the frames that follow.
    intact: Whether LAME's part fits its own checksum.
  """

  frames: int | None = None
  size: int | None = None
  delay: int | None = None
  padding: int = 0
  checksum: int | None = None
  intact: bool = True

  @classmethod
  def of(cls, source: spans.Source, place: int, end: int) -> '_Info | None':
    """Of the frame at `place`; None if it holds sound."""
    raw = source.read(place, min(4096, end - place))
    head = head_of(raw)
    if head is None or head.layer != 3:
      return None
    size = _sizes(head)[raw[2]]
    raw = raw[:size]
    if raw[36:40] == b'VBRI' and len(raw) >= 54:
      size, frames = struct.unpack('>II', raw[46:54])
      return cls(frames or None, size or None)
    # With a checksum of two bytes behind the header, the tag still lies
    # where it would lie without.
    at = 4 + head.side
    if raw[at : at + 4] not in _TAGS[:2] or len(raw) < at + 8:
      return None
    (flags,) = struct.unpack('>I', raw[at + 4 : at + 8])
    at += 8
    told = {}
    for bit, name, count in (
      (1, 'frames', 4),
      (2, 'size', 4),
      (4, None, 100),
      (8, None, 4),
    ):
      if flags & bit:
        if name and len(raw) >= at + 4:
          told[name] = struct.unpack('>I', raw[at : at + 4])[0] or None
        at += count
    lame = raw[at : at + 36]
    if len(lame) == 36 and any(lame[:9]):
      delays = int.from_bytes(lame[21:24], 'big')
      told['delay'], told['padding'] = delays >> 12, delays & 0xFFF
      own = struct.unpack('>H', lame[34:36])[0]
      if own:
        told['intact'] = own == checksums.crc16_reflected(raw[: at + 34])
      told['checksum'] = struct.unpack('>H', lame[32:34])[0] or None
    return cls(**told)


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
    head = head_of(self.header)
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
  head, mode = head_of(link.header), link.header[3]
  sizes = _sizes(head)
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
  return parts, head.samples - _FILTER_DELAY


def _side_at(frame: bytes) -> int:
  """Where the side information begins: behind a checksum, if there is one."""
  return 4 if frame[1] & 1 else 6


def _borrowed(frame: bytes, head: Head) -> int:
  """How many bytes of the frames before it a frame of layer III needs."""
  at = _side_at(frame)
  if head.is_first:
    return frame[at] << 1 | frame[at + 1] >> 7
  return frame[at]


def _muted(frame: bytes, head: Head) -> bytes:
  """A frame that is silent and still holds its bits for those behind it."""
  at, stop = _side_at(frame), _side_at(frame) + head.side
  kept = bytes([frame[at], frame[at + 1] & 0x80 if head.is_first else 0])
  return frame[:at] + kept + bytes(head.side - 2) + frame[stop:]


def _count_quiet(source: spans.Source, head: Head, starts: np.ndarray) -> int:
  """Frames at the beginning whose bits lie in front of the file."""
  held = quiet = 0
  for number in range(min(len(starts) - 1, _RESERVOIR)):
    if head.layer != 3 or held >= _RESERVOIR:
      break
    frame = source.read(int(starts[number]), 40)
    if _borrowed(frame, head) > held:
      quiet = number + 1
    size = int(starts[number + 1] - starts[number])
    held += size - _side_at(frame) - head.side
  return quiet


def _links(source: spans.Source, run: _Run):
  """Yields (link or None, notes, fault) of each stream of a run."""
  starts = np.frombuffer(run.starts, np.int64) if run.starts else np.zeros(0)
  firsts = {0} if len(starts) else set()
  for tag in run.tags:
    number = int(np.searchsorted(starts, tag, side='right')) - 1
    if number >= 0 and tag - starts[number] in (4 + run.head.side, 36):
      if _Info.of(source, int(starts[number]), run.end) is not None:
        firsts.add(number)
  edges = [*sorted(firsts), len(starts)]
  for first, stop in zip(edges, edges[1:]):
    end = run.end if stop == len(starts) else int(starts[stop])
    yield _link(source, run.head, starts[first:stop], end)


def _link(source: spans.Source, head: Head, starts: np.ndarray, end: int):
  info = _Info.of(source, int(starts[0]), end)
  notes, fault, whole = [], None, end - int(starts[0])
  if info is not None:
    starts = starts[1:]
  count = len(starts)
  if not count:
    return None, notes, 'cut short: no frame follows its Info frame'
  info = info or _Info()
  told = f'its Info frame announces {info.frames} frames, found {count}'
  if info.frames is not None and info.frames not in (count, count + 1):
    # Whether sound is missing, or the number is wrong, the bytes tell.
    lacks = info.frames > count and (info.size is None or info.size > whole)
    if lacks:
      fault = f'cut short: {told}'
    else:
      notes.append(told)
  elif info.frames == count + 1 and (info.size or 0) > whole:
    fault = f'cut short: {told}'
  total, lead = count * head.samples, 0
  if info.delay is not None:
    lead = info.delay + _FILTER_DELAY
    if info.delay + info.padding >= total:
      notes.append(
        f'its LAME tag cuts {info.delay} + {info.padding} of {total} samples'
      )
      lead = 0
    else:
      total -= info.delay + info.padding
    if not info.intact:
      notes.append('its LAME tag does not fit its own checksum')
    elif info.checksum is not None and info.frames == count:
      if info.checksum != checksums.crc16_of(
        source, int(starts[0]), end, reflected=True
      ):
        fault = fault or (
          'damaged: its frames do not fit the checksum of its LAME tag'
        )
  quiet = _count_quiet(source, head, starts)
  if quiet:
    notes.append(f'its first {quiet} frames begin before the file: silent')
  link = MpegLink(
    form='MP3',
    rate=head.rate,
    channels=1 if head.mono else 2,
    frames=total,
    starts=np.array(starts, np.int64),
    end=end,
    header=source.read(int(starts[0]), 4),
    lead=lead,
    quiet=quiet,
  )
  return link, notes, fault
