"""Tags around sound: ID3v1 and v2, APE, Lyrics3. They are no sound."""

import struct

from step_audio_jax.audio.formats import spans


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
