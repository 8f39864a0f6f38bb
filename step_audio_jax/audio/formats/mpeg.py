"""MPEG audio (mp3, mp2, mp1): frames counted by walking from header to header.

A stream has no length, only frames, and each header gives the size of its
frame. Encoders put a frame in front that holds no sound but an estimate of
their number (Xing, Info, VBRI), and LAME's extension of it the samples to cut
at both ends; tags may lie anywhere between frames.
"""

import array
import dataclasses
import struct

import numpy as np

from step_audio_jax.audio.formats import checksums
from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import mpeg_frames
from step_audio_jax.audio.formats import mpg123
from step_audio_jax.audio.formats import spans
from step_audio_jax.audio.formats import tags

_TAGS = (b'Xing', b'Info', b'VBRI')
_LOOK = 64  # a tag begins within so many bytes of its frame


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

  head: mpeg_frames.StreamHeader
  starts: array.array
  end: int
  tags: list[int]
  cut: bool = False


def _walk(
  source: spans.Source, place: int, end: int, head: mpeg_frames.StreamHeader
) -> _Run:
  starts, found_tags, sizes = (
    array.array('q'),
    [],
    mpeg_frames.frame_sizes(head),
  )
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
        found_tags.append(base + found)
        found = block.find(tag, found + 1)
    if last or q <= limit:
      if last and 0 < end - place < 4 and not cut:
        cut = _begins_frame(source.read(place, end - place), second)
      return _Run(head, starts, place, found_tags, cut)


def _begins_frame(tail: bytes, second: int) -> bool:
  """Whether fewer bytes than a header may be the beginning of one."""
  return tail[0] == 0xFF and (len(tail) == 1 or tail[1] | 1 == second)


def _confirmed(
  source: spans.Source, place: int, end: int
) -> mpeg_frames.StreamHeader | None:
  """The head of a frame at `place` if more follow it, or the end."""
  head = mpeg_frames.parse_header(source.read(place, 4))
  if head is None:
    return None
  for number in range(4):
    header = source.read(place, 4)
    if number and (
      place >= end or tags.tag_end(source, place, end) is not None
    ):
      return head
    if mpeg_frames.parse_header(header) != head:
      return None
    size = mpeg_frames.frame_sizes(head)[header[2]]
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
        if q == tag and tags.tag_end(source, place + q, end) is not None:
          return place + q
        if (
          q == frame and mpeg_frames.parse_header(block[q : q + 4]) is not None
        ):
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
  end = tags.tags_begin(source, begin, source.size if end is None else end)
  runs, notes, fault, place = [], [], None, begin
  joined = False  # by a tag, or by other bytes that are no frames
  while place < end:
    tag = tags.tag_end(source, place, end)
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
      if (
        found == end
        and not runs
        and mpeg_frames.is_free_format(source.read(place, 4))
      ):
        fault = 'its frames have the free format, which states no size'
        break
      what = _describe_tail(source, place, found)
      if not runs:
        notes.append(f'{what} precede the sound')
      elif found == end:
        notes.append(f'{what} follow the sound')
      else:
        follows = _Info.parse(source, found, end)
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


def _describe_tail(source: spans.Source, begin: int, end: int) -> str:
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
  def parse(cls, source: spans.Source, place: int, end: int) -> '_Info | None':
    """Of the frame at `place`; None if it holds sound."""
    raw = source.read(place, min(4096, end - place))
    head = mpeg_frames.parse_header(raw)
    if head is None or head.layer != 3:
      return None
    size = mpeg_frames.frame_sizes(head)[raw[2]]
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
      if own and lame.startswith(b'LAME'):  # libavformat counts other bytes
        told['intact'] = own == checksums.crc16_reflected(raw[: at + 34])
      told['checksum'] = struct.unpack('>H', lame[32:34])[0] or None
    return cls(**told)


def _links(source: spans.Source, run: _Run):
  """Yields (link or None, notes, fault) of each stream of a run."""
  starts = np.frombuffer(run.starts, np.int64) if run.starts else np.zeros(0)
  firsts = {0} if len(starts) else set()
  for tag in run.tags:
    number = int(np.searchsorted(starts, tag, side='right')) - 1
    if number >= 0 and tag - starts[number] in (4 + run.head.side, 36):
      if _Info.parse(source, int(starts[number]), run.end) is not None:
        firsts.add(number)
  edges = [*sorted(firsts), len(starts)]
  for first, stop in zip(edges, edges[1:]):
    end = run.end if stop == len(starts) else int(starts[stop])
    yield _link(source, run.head, starts[first:stop], end)


def _link(
  source: spans.Source,
  head: mpeg_frames.StreamHeader,
  starts: np.ndarray,
  end: int,
):
  info = _Info.parse(source, int(starts[0]), end)
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
    lead = info.delay + mpg123.FILTER_DELAY
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
  quiet = mpg123.count_quiet(source, head, starts)
  if quiet:
    notes.append(f'its first {quiet} frames begin before the file: silent')
  link = mpg123.MpegLink(
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
