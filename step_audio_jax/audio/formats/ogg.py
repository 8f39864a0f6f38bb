"""Ogg (Vorbis, Opus, FLAC): lengths by the granule positions of its pages.

A page (RFC 3533) tells the stream it belongs to, its number in it, a
checksum, and the position at its end. Pages that begin streams begin a link;
links may follow each other (`cat a.ogg b.ogg`), each with headers, rate and
channels of its own. The last page of a stream says that it is the last, so
that a stream which was cut shows it.

    Vorbis  samples = last position − first
    Opus    samples = (last position − first − pre-skip) at 48 kHz (RFC 7845)
    FLAC    the bodies of the pages behind nine bytes are a FLAC file
            (RFC 9639, 10.1), as which it is read: libsndfile reads no other
"""

import dataclasses
import struct

from step_audio_jax.audio.formats import checksums
from step_audio_jax.audio.formats import flac
from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import spans

_MAGIC = b'OggS'
_LARGEST_PAGE = 27 + 255 + 255 * 255
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_MAPPING = 9  # bytes in front of the FLAC file in its first packet
_FRONT = 64  # bytes of a page's content that tell the codec
_LONGEST_OPUS = 5760  # samples of a packet at 48 kHz
# Seconds after which a second decoder of Opus gives the same samples, to the
# last bit. SILK's filters never forget all; after a minute no more than the
# last bits of 16 differ.
_SETTLES = {'CELT': 3.0, 'SILK': 60.0}


@dataclasses.dataclass
class _Stream:
  """A logical stream of a link.

  Attributes:
    serial: Its number.
    head: Its first packet, or the beginning of it.
    pages: (begin, end) in the file.
    bodies: (begin, end) of what they hold, of FLAC.
    number: Of its last page.
    position: At the end of its last page that ends a packet.
    limit: At the end of the page before that.
    is_odd: Whether positions rise by more than the packets between hold, as
      where a recording began in the middle of a broadcast.
    has_silk: Whether it is Opus with speech coded by SILK.
    is_closed: Whether its last page says that it is.
  """

  serial: int
  head: bytes
  pages: list[tuple[int, int]] = dataclasses.field(default_factory=list)
  bodies: list[tuple[int, int]] = dataclasses.field(default_factory=list)
  number: int = -1
  position: int = 0
  limit: int = 0
  is_odd: bool = False
  has_silk: bool = False
  is_closed: bool = False

  @property
  def codec(self) -> str | None:
    for magic, name in (
      (b'\x01vorbis', 'VORBIS'),
      (b'OpusHead', 'OPUS'),
      (b'\x7fFLAC', 'FLAC'),
    ):
      if self.head.startswith(magic):
        return name
    return None

  def add(self, page: '_Page', place: int) -> str | None:
    """Appends a page; returns what is wrong with that."""
    wrong = None
    if self.pages and page.number != self.number + 1:
      wrong = (
        f'damaged: page {page.number} follows page {self.number} at byte '
        f'{place}'
      )
    elif self.is_closed:
      wrong = (
        f'damaged: the page at byte {place} follows the last of its stream'
      )
    if self.pages and self.pages[-1][1] == place:
      self.pages[-1] = self.pages[-1][0], place + page.size
    else:
      self.pages.append((place, place + page.size))
    if self.codec == 'FLAC':
      self.bodies.append((place + page.body, place + page.size))
    self.number, self.is_closed = page.number, bool(page.flags & _LAST)
    if page.position >= 0:
      rise = page.position - self.position
      if page.position and not 0 <= rise <= self._most(page):
        self.is_odd = True
      self.limit, self.position = self.position, page.position
    return wrong

  def _most(self, page: '_Page') -> int:
    """The most samples that the packets of a page may hold."""
    if self.codec == 'VORBIS' and len(self.head) > 28:
      return page.packets * (1 << (self.head[28] >> 4)) // 2
    if self.codec == 'OPUS' and not page.flags & _CONTINUED:
      self.has_silk |= page.front[:1] < b'\x80'  # configurations 0 to 15
      return page.packets * _opus_samples(page.front)
    return page.packets * _LONGEST_OPUS


@dataclasses.dataclass(frozen=True)
class _Page:
  """What the header of a page says.

  Attributes:
    flags: Whether it continues a packet, and is the first or the last.
    position: At its end; negative if no packet ends on it.
    serial: Of its stream.
    number: In its stream.
    size: Bytes.
    body: Of them, those in front of its content.
    packets: How many end on it.
    front: The beginning of its content.
  """

  flags: int
  position: int
  serial: int
  number: int
  size: int
  body: int
  packets: int
  front: bytes


def _opus_samples(packet: bytes) -> int:
  """At 48 kHz, of an Opus packet (RFC 6716, 3.1)."""
  if not packet:
    return 0
  config, code = packet[0] >> 3, packet[0] & 3
  if config < 12:
    frame = (480, 960, 1920, 2880)[config & 3]
  elif config < 16:
    frame = (480, 960)[config & 1]
  else:
    frame = (120, 240, 480, 960)[config & 3]
  count = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 48)[code]
  return frame * count


def survey(source: spans.Source, begin: int = 0) -> links.Survey:
  """Walks the pages of a file.

  Args:
    source: The file.
    begin: Of its first page.
  """
  groups, notes, fault = [], [], None
  place, is_front = begin, False
  base, block = begin, b''
  while place < source.size:
    q = place - base
    if q + _LARGEST_PAGE > len(block) and base + len(block) < source.size:
      base, block, q = place, source.read(place), 0
    page = _page(block, q)
    if page is None:
      whole, rest = source.size - place, block[q : q + 27]
      found = _find_page(source, place + 1)
      is_cut = rest[:4] == _MAGIC[: len(rest)] and found is None
      if is_cut:
        fault = fault or f'cut short: of the last page there are {whole} bytes'
        break
      if found is None:
        zero = not any(source.read(place, 2**20))
        kind = 'zero bytes' if zero else 'bytes that are no pages'
        notes.append(f'{whole} {kind} follow the sound')
        break
      fault = fault or (
        f'damaged: {found - place} bytes at byte {place} are no whole page'
      )
      place = found
      continue
    if page.flags & _FIRST:
      if not is_front:
        groups.append({})
      groups[-1][page.serial] = _Stream(page.serial, page.front)
    is_front = bool(page.flags & _FIRST)
    stream = groups[-1].get(page.serial) if groups else None
    if stream is None:
      fault = fault or f'damaged: the page at byte {place} belongs to no stream'
    else:
      wrong = stream.add(page, place)
      fault = fault or wrong
    place += page.size
  made = []
  for group in groups:
    known = [s for s in group.values() if s.codec]
    if not known:
      heads = ', '.join(repr(s.head[:8]) for s in group.values())
      fault = fault or f'it holds none of Vorbis, Opus and FLAC, but {heads}'
      continue
    if len(group) > 1:
      notes.append(f'{len(group) - 1} streams beside the first that is sound')
    stream = known[0]
    if not stream.is_closed:
      fault = fault or 'cut short: its last page does not close the stream'
    if stream.codec == 'FLAC':
      link, told, wrong = _flac(source, stream)
      notes += told
      fault = fault or wrong
    else:
      link = _link(stream)
    made.append(link)
  return links.Survey(tuple(made), tuple(notes), fault)


def _page(block: bytes, q: int) -> _Page | None:
  """The page at `q`; None if none is there, or not the whole of one."""
  head = block[q : q + 27]
  if len(head) < 27 or head[:5] != _MAGIC + b'\0':
    return None
  flags, position, serial, number, check, count = struct.unpack(
    '<BqIIIB', head[5:]
  )
  body = 27 + count
  lacing = block[q + 27 : q + body]
  size = body + sum(lacing)
  page = block[q : q + size]
  if len(lacing) < count or len(page) < size:
    return None
  if checksums.crc32_ogg(page[:22] + bytes(4) + page[26:]) != check:
    return None
  packets = count - lacing.count(255)
  front = page[body : body + _FRONT]
  return _Page(flags, position, serial, number, size, body, packets, front)


def _find_page(source: spans.Source, place: int) -> int | None:
  while True:
    place = source.find(_MAGIC, place, source.size)
    if place < 0:
      return None
    if _page(source.read(place, _LARGEST_PAGE), 0) is not None:
      return place
    place += 1


def _flac(source: spans.Source, stream: _Stream):
  """(link, notes, fault) of FLAC in Ogg."""
  (begin, end), *others = stream.bodies
  bodies = (begin + _MAPPING, end), *others
  found = flac.survey(spans.Source(spans.View(source, bodies)))
  if len(found.links) != 1:
    wrong = f'damaged: one stream of Ogg has {len(found.links)} of FLAC'
    return links.Link('FLAC', parts=bodies), (), wrong
  (link,) = found.links
  # What is shown in place of the first bytes, which lie in the first packet.
  shown = [part for part in link.parts if isinstance(part, bytes)]
  if shown:
    bodies = *shown, (bodies[0][0] + len(shown[0]), end), *others
  link = dataclasses.replace(link, parts=bodies)
  return link, found.notes, found.fault


def _link(stream: _Stream) -> links.Link:
  codec, head, parts = stream.codec, stream.head, tuple(stream.pages)
  if len(head) < 19:
    return links.Link('OGG', parts=parts, is_counted=True, settles=None)
  if codec == 'VORBIS':
    (rate,) = struct.unpack('<I', head[12:16])
    settles, before = rate // 2, 0
  else:
    # libsndfile decodes at the rate of the input, or at the next that Opus
    # has.
    (before, given) = struct.unpack('<HI', head[10:16])
    rate = next((r for r in (8000, 12000, 16000, 24000) if given <= r), 48000)
    settles = round(_SETTLES['SILK' if stream.has_silk else 'CELT'] * rate)
    before = before * rate // 48000
  limit = stream.limit if codec == 'VORBIS' else stream.limit * rate // 48000
  return links.Link(
    'OGG',
    parts=parts,
    is_counted=stream.is_odd,
    limit=limit - before,
    settles=None if stream.is_odd else settles,
  )
