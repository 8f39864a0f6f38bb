"""FLAC (RFC 9639): the length that its header states, or that its frames do.

STREAMINFO tells the number of samples, 0 where the encoder could not go back
to write it. The last frame tells its number, and with it the truth. Each
frame ends with a checksum that brings the register back to zero, so that the
checksum over all frames of a stream is zero if nothing is missing.
"""

import struct

from step_audio_jax.audio.formats import checksums
from step_audio_jax.audio.formats import decoding
from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import spans
from step_audio_jax.audio.formats import tags

_MAGIC = b'fLaC'
_STREAMINFO = 34  # bytes
_SIZES = {1: 192, **{n: 144 << n for n in range(2, 6)}}
_SIZES |= {n: 256 << n - 8 for n in range(8, 16)}


def survey(source: spans.Source, begin: int = 0) -> links.Survey:
  """Finds the streams of a file.

  Args:
    source: The file.
    begin: Of its first stream.
  """
  end = tags.tags_begin(source, begin, source.size)
  made, notes, fault = [], [], None
  while begin < end:
    stop = _find_stream(source, begin + 4, end)
    link, told, wrong = _link(source, begin, _tag_between(source, begin, stop))
    made.append(link)
    notes += told
    fault = fault or wrong
    begin = stop
  return links.Survey(tuple(made), tuple(notes), fault)


def _find_stream(source: spans.Source, begin: int, end: int) -> int:
  """Where the next stream begins, or `end`."""
  while True:
    place = source.find(_MAGIC, begin, end)
    if place < 0:
      return end
    head = source.read(place + 4, 4)
    if head[:1] in (b'\0', b'\x80') and head[1:] == b'\0\0\x22':
      return place
    begin = place + 4


def _tag_between(source: spans.Source, begin: int, stop: int) -> int:
  """Where the sound before `stop` ends: at a tag of the stream behind it."""
  if stop < source.size and source.read(stop, 4) == _MAGIC:
    place = source.find(b'ID3', max(begin, stop - 2**20), stop)
    while place >= 0:
      if tags.tag_end(source, place, stop) == stop:
        return tags.tags_begin(source, begin, place)
      place = source.find(b'ID3', place + 3, stop)
  return tags.tags_begin(source, begin, stop)


def _link(source: spans.Source, begin: int, end: int):
  """(link, notes, fault) of the stream in [begin, end)."""
  notes, fault = [], None
  head = source.read(begin, 8 + _STREAMINFO)
  place, last = begin + 4, False
  while not last and place + 4 <= end:
    (block,) = struct.unpack('>I', source.read(place, 4))
    last, place = bool(block >> 31), place + 4 + (block & 0xFFFFFF)
  link = links.Link('FLAC', parts=((begin, end),))
  if len(head) < 8 + _STREAMINFO or head[4] & 0x7F or place >= end:
    return link, notes, 'cut short within its header'
  info = head[8:]
  rate = int.from_bytes(info[10:13], 'big') >> 4
  channels = (info[12] >> 1 & 7) + 1
  announced = int.from_bytes(info[13:18], 'big') & 0xF_FFFF_FFFF
  limit = int.from_bytes(info[7:10], 'big') or 2**17
  first = _frame(source.read(place, 16), info)
  if first is None:
    return link, notes, 'cut short or damaged: no frame follows its header'
  if first[0]:
    notes.append(
      f'its first sample has number {first[0]}: what was before is missing'
    )
  intact = checksums.crc16_of(source, place, end) == 0
  last = _last(source, place, end, limit if intact else end, info, intact)
  frames = None if last is None else sum(last) - first[0]
  if frames != announced and announced:
    told = f'the header announces {announced} samples, found {frames or 0}'
    if frames is None or announced > frames:
      fault = f'cut short: {told}'
    else:
      notes.append(told)
  parts = ((begin, end),)
  if frames != announced:
    # libFLAC stops where the header says, and libsndfile knows no other end.
    told = (frames or announced or 0xF_FFFF_FFFF).to_bytes(5, 'big')
    told = bytes([info[13] & 0xF0 | told[0]]) + told[1:]
    parts = (head[:21] + told, (begin + 26, end))
  link = links.Link('FLAC', rate, channels, frames, parts)
  if intact and frames is not None and not fault:
    broken = _break(source, place, end, info, first[0], first[0] + frames)
    if broken is not None:
      fault = f'damaged: the frame of sample {broken} is not where it belongs'
  zeros = len(tail := source.read(max(place, end - 2**16), 2**16))
  zeros -= len(tail.rstrip(b'\0'))
  if intact and zeros > 2:  # which leave the checksum as it is
    notes.append(f'{zeros} zero bytes follow the sound')
  if not intact and not fault:
    tail = source.read(end - 1, 1)
    if tail != b'\xff' and frames and decoding.can_decode(source, link, frames):
      notes.append('bytes that are no frames follow the sound')
    else:
      fault = 'cut short or damaged: a frame is not whole'
  return link, notes, fault


def _last(source, begin, end, limit, info, intact) -> tuple[int, int] | None:
  """(first sample, samples) of the last frame of a stream.

  Args:
    source: The file.
    begin: Of the first frame.
    end: Of the stream.
    limit: How far before `end` the frame begins at most.
    info: STREAMINFO.
    intact: Whether the frame fills the stream to its end.
  """
  head = source.read(begin, 4)
  size, limit = 2**12, min(end - begin, limit + 16)
  while True:
    size = min(size, limit)
    tail = source.read(end - size, size)
    for place in _syncs(tail):
      if intact and checksums.crc16(tail[place:]):
        continue
      last = _frame(tail[place : place + 16], info)
      same = _same(head, tail[place : place + 4])
      if last is not None and same:
        return last
    if size >= limit:
      return None
    size *= 4


def _break(source, begin, end, info, expected, stop) -> int | None:
  """The first sample whose frame is missing or out of order; None if none is.

  Args:
    source: The file.
    begin: Of the first frame of a stream whose checksums are right.
    end: Of the stream.
    info: STREAMINFO.
    expected: The first sample.
    stop: Behind the last.
  """
  head = source.read(begin, 4)
  place = former = begin
  while place < end:
    block = source.read(place, min(spans.BLOCK, end - place))
    is_last = place + len(block) >= end
    limit = len(block) if is_last else len(block) - 16
    q = block.find(head[:2], 0, limit)
    while q >= 0:
      frame = _frame(block[q : q + 16], info)
      if frame is not None and _same(head, block[q : q + 4]):
        if frame[0] == expected:
          expected, former = expected + frame[1], place + q
        elif checksums.crc16_of(source, former, place + q) == 0:
          return expected  # a frame of another place, not a chance in samples
      q = block.find(head[:2], q + 1, limit)
    if is_last:
      break
    place += limit
  return None if expected == stop else expected


def _same(head: bytes, other: bytes) -> bool:
  """Whether two frames may be of one stream: of one rate and width."""
  return head[1] == other[1] and not (
    (head[2] ^ other[2]) & 15 or (head[3] ^ other[3]) & 15
  )


def _syncs(tail: bytes):
  """Places of what looks like a frame, the last first."""
  place = len(tail)
  while (place := tail.rfind(b'\xff', 0, place)) >= 0:
    if tail[place + 1 : place + 2] in (b'\xf8', b'\xf9'):
      yield place


def _frame(head: bytes, info: bytes) -> tuple[int, int] | None:
  """(first sample, samples) of the frame with this header."""
  if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
    return None
  lead = head[4]
  extra = 0 if lead < 0x80 else 7 - (lead ^ 0xFF).bit_length()
  if lead >= 0x80 and not 1 <= extra <= 6 or len(head) < 8 + extra:
    return None
  number = lead if not extra else lead & (0x3F >> extra)
  for byte in head[5 : 5 + extra]:
    if byte & 0xC0 != 0x80:
      return None
    number = number << 6 | byte & 0x3F
  place, code = 5 + extra, head[2] >> 4
  if code == 6:
    size, place = head[place] + 1, place + 1
  elif code == 7:
    size = int.from_bytes(head[place : place + 2], 'big') + 1
    place += 2
  elif code in _SIZES:
    size = _SIZES[code]
  else:
    return None
  place += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
  if head[2] & 15 == 15 or len(head) <= place:
    return None
  if checksums.crc8(head[:place]) != head[place]:
    return None
  if not head[1] & 1:
    # Blocks of one size are counted. The header of the last block tells its
    # own size, STREAMINFO that of the others.
    number *= int.from_bytes(info[2:4], 'big')
  return number, size
