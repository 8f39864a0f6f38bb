"""Files made of chunks: WAV, RF64, BW64, W64, AIFF, CAF; and AU, which has one.

The chunk that holds the samples states its size. A recorder that was switched
off has written that of its first block, or 0; one that passed 4 GiB has
written what was left of it; one that writes into a pipe does not know it. So
the size is believed where other chunks, or the end of the file, follow it.
Where it is not, libsndfile is shown a header with the true size.
"""

import dataclasses
import struct

from step_audio_jax.audio.formats import headers
from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import spans
from step_audio_jax.audio.formats import tags

MAGICS = (
  b'RIFF',
  b'RIFX',
  b'RF64',
  b'BW64',
  b'riff',
  b'FORM',
  b'caff',
  b'.snd',
)

_HEAD = 2**12  # bytes that hold the header of nearly every file
_TAIL = 2**16  # behind samples, other chunks lie within
_UNKNOWN_64 = 2**62  # for writers of 64 bits what `headers.UNKNOWN_32` is
_IDS = (
  b'LIST list fact bext smpl inst PEAK JUNK junk FLLR iXML _PMX afsp acid DISP '
  b'plst adtl note labl cart axml chna levl umid minf elm1 regn SAUR COMM NAME '
  b'AUTH ANNO MARK INST MIDI APPL AESD FVER CHAN info strg pakt kuki free uuid '
  b'ovvw mark midi'
).split()
_NAMES = frozenset(
  [*_IDS, b'cue ', b'PAD ', b'id3 ', b'ID3 ', b'(c) ', b'fmt ']
)


@dataclasses.dataclass
class _Layout:
  """Where a file's chunks lie.

  Attributes:
    form: Name of the container.
    begin: Of the file.
    order: Of bytes, as `struct` has it.
    data: Where the samples begin; None if nothing says.
    announced: Their bytes; None if the header does not know.
    chunks: Name → (begin, end) of the content of the others in front.
    name: Bytes of a chunk's name.
    size: Format of its size.
    pad: Chunks begin at multiples of so many bytes.
    whole: Whether the size counts the chunk's own head.
  """

  form: str
  begin: int
  order: str = '<'
  data: int | None = None
  announced: int | None = None
  chunks: dict[bytes, tuple[int, int]] = dataclasses.field(default_factory=dict)
  name: int = 4
  size: str = 'I'
  pad: int = 2
  whole: bool = False

  @property
  def head(self) -> int:
    """Bytes in front of a chunk's content."""
    return self.name + struct.calcsize(f'={self.size}')

  def chunk(self, source: spans.Source, place: int):
    """(name, begin, end) of the content of the chunk at `place`, or None."""
    raw = source.read(place, self.head)
    if len(raw) < self.head:
      return None
    (size,) = struct.unpack(self.order + self.size, raw[self.name :])
    begin = place + self.head
    return raw[:4], begin, begin + size - (self.head if self.whole else 0)

  def behind(self, end: int) -> int:
    """Where the chunk behind one that ends at `end` begins."""
    return end + (self.begin - end) % self.pad


def survey(source: spans.Source, begin: int = 0) -> links.Survey | None:
  """Finds the samples of a file.

  Args:
    source: The file.
    begin: Of its header.

  Returns:
    None if it has no samples in chunks.
  """
  layout = _layout(source, begin)
  if layout is None or layout.data is None:
    return None
  notes, fault, chained = [], None, None
  found = source.size - layout.data
  announced = layout.announced
  if announced is None:
    end, told = _sound_end(source, layout, layout.data)
    notes.append(
      f'its header states no length: {end - layout.data} bytes are read as '
      'samples'
    )
  elif announced > found:
    fault = (
      f'cut short: the header announces {announced} bytes of samples, found '
      f'{found}'
    )
    end = source.size
  else:
    end, told, chained = _behind(source, layout, announced)
    notes += told
  made = headers.make_links(source, layout, end, notes)
  if made is None:
    return None
  made, more, wrong = made
  fault = fault or wrong
  if chained is not None:
    made += chained.links
    notes += chained.notes
    fault = fault or chained.fault
  return links.Survey(tuple(made), tuple([*notes, *more]), fault)


def _layout(source: spans.Source, begin: int) -> _Layout | None:
  """Walks the chunks up to the samples."""
  head = source.read(begin, _HEAD)
  magic, kind = head[:4], head[8:12]
  if magic in (b'RIFF', b'RIFX', b'RF64', b'BW64') and kind == b'WAVE':
    order = '>' if magic == b'RIFX' else '<'
    layout, place = _Layout('WAV', begin, order), begin + 12
  elif magic == b'FORM' and kind in (b'AIFF', b'AIFC'):
    layout, place = _Layout('AIFF', begin, '>'), begin + 12
  elif magic == b'caff':
    layout, place = _Layout('CAF', begin, '>', size='q', pad=1), begin + 8
  elif magic == b'riff' and head[24:28] == b'wave':
    layout = _Layout('W64', begin, name=16, size='q', pad=8, whole=True)
    place = begin + 40
  elif magic in (b'.snd', b'dns.') and len(head) >= 24:
    order = '>' if magic == b'.snd' else '<'
    offset, size = struct.unpack(order + 'II', head[4:12])
    layout = _Layout('AU', begin, order, begin + offset, pad=1)
    unknown = size >= headers.UNKNOWN_32 and size > source.size - layout.data
    layout.announced = None if unknown else size
    return layout if offset >= 24 else None
  else:
    return None
  long = 0
  data = {b'SSND'} if layout.form == 'AIFF' else {b'data'}
  while place < source.size:
    found = layout.chunk(source, place)
    if found is None:
      return layout
    name, start, end = found
    if name in data:
      size = end - start
      if layout.form == 'AIFF':
        (offset,) = struct.unpack('>I', source.read(start, 4).ljust(4, b'\0'))
        start, size = start + 8 + offset, size - 8 - offset
      elif layout.form == 'CAF':
        start, size = start + 4, size - 4
      if magic in (b'RF64', b'BW64') and size == 0xFFFFFFFF:
        size = long
        if long >= _UNKNOWN_64 or not long:
          size = -1
      elif layout.size == 'I' and size >= headers.UNKNOWN_32 - 64:
        size = -1 if size > source.size - start else size
      elif size >= _UNKNOWN_64:
        size = -1
      layout.data = min(start, source.size)
      layout.announced = None if size < 0 else size
      return layout
    if end < start:
      return layout
    if name == b'ds64':
      ds64 = source.read(start, 16)
      long = struct.unpack('<8xQ', ds64)[0] if len(ds64) == 16 else 0
    layout.chunks.setdefault(name, (start, end))
    place = layout.behind(end)
  return layout


def _behind(source, layout, announced):
  """(end of the samples, notes, a survey of a file that follows or None)."""
  end = layout.data + announced
  place = layout.behind(end)
  left = source.size - place
  if left <= 0 or left == 1 and not any(source.read(place, 1)):
    return end, [], None
  for start in (place, end):  # some writers do not pad
    while (tag := tags.tag_end(source, start, source.size)) is not None:
      start = tag
    if source.read(start, 4) in MAGICS:
      more = survey(source, start)
      if more is not None:
        return end, ['another file follows in it'], more
    rest, notes = _walk(source, layout, start)
    if rest:
      return end, notes, None
  if announced and not _reaches(source, layout, source.size):
    stop, notes = _sound_end(source, layout, end)
    if stop <= end:
      return end, notes, None
    zero = _all_zero(source, end)
    if zero or _is_text(source, end):
      kind = 'zero bytes' if zero else 'bytes of text'
      return end, [f'{source.size - end} {kind} follow the sound'], None
  stop, notes = _sound_end(source, layout, layout.data)
  notes.append(
    f'its header announces {announced} bytes of samples, '
    f'{stop - layout.data} follow: all are read'
  )
  return stop, notes, None


def _reaches(source, layout, end) -> bool:
  """Whether the size of the whole file, as its first bytes tell, says so."""
  if layout.form not in ('WAV', 'AIFF'):
    return False
  raw = source.read(layout.begin + 4, 4)
  (size,) = struct.unpack(layout.order + 'I', raw)
  return layout.begin + 8 + size in (end - 1, end)


def _walk(source, layout, place) -> tuple[bool, list[str]]:
  """Whether other chunks follow up to the end of the file, and notes."""
  count = 0
  if place >= source.size:
    return True, []
  while place < source.size:
    left = source.size - place
    found = layout.chunk(source, place)
    if found is None:
      if count and left < layout.head:
        told = (
          []
          if not any(source.read(place, left))
          else ([f'{left} bytes follow its last chunk'])
        )
        return True, told
      return False, []
    name, _, end = found
    known = name in _NAMES
    if end < place or not (known or name.isascii() and name.isalnum()):
      return (
        (True, [f'{left} bytes follow its last chunk'])
        if count
        else (False, [])
      )
    if end > source.size:
      if known:
        return True, [f'its chunk {name.decode()} is cut short']
      return (
        (True, [f'{left} bytes follow its last chunk'])
        if count
        else (False, [])
      )
    # A name that is not known is believed if all fits up to the end.
    count += known
    place = layout.behind(end)
    if place >= source.size:
      return True, []
  return bool(count), []


def _sound_end(source, layout, begin):
  """Where samples end that go on beyond `begin`: at chunks or tags, or not."""
  end = tags.tags_begin(source, begin, source.size)
  start = max(begin, end - _TAIL)
  tail = source.read(start, end - start)
  for name in sorted(_NAMES):
    place = tail.find(name)
    while place >= 0:
      at = start + place
      if at >= begin and _ends(source, layout, at, end):
        return at, []
      place = tail.find(name, place + 1)
  return end, []


def _ends(source, layout, place, end) -> bool:
  while place < end:
    found = layout.chunk(source, place)
    if found is None or found[0] not in _NAMES or not place < found[2] <= end:
      return False
    place = layout.behind(found[2])
  return True


def _all_zero(source, begin) -> bool:
  if any(source.read(max(begin, source.size - _TAIL))):
    return False
  while block := source.read(begin):
    if block != bytes(len(block)):
      return False
    begin += len(block)
  return True


def _is_text(source, begin) -> bool:
  raw = source.read(begin, _TAIL + 1)
  if len(raw) > _TAIL:
    return False
  try:
    text = raw.decode()
  except UnicodeDecodeError:
    return False
  return all(c.isprintable() or c.isspace() for c in text)
