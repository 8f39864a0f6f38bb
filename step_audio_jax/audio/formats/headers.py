"""Headers that libsndfile is shown: those of files of chunks, mended.

What stands in front of the samples says how they are coded and how many there
are. Where the number is wrong, or the file lies inside another, a header with
the true one is made.
"""

import struct

from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import mpeg

# What writers state who do not know the size (ffmpeg, sox, arecord).
UNKNOWN_32 = 0x7FFFF000
_RIFF_LIMIT = 2**32 - 2**12
# Of WAVE_FORMAT_EXTENSIBLE.
_GUID = bytes.fromhex('000000001000800000aa00389b71')
# Bytes of a sample of PCM, floating point, A-law and µ-law.
_WIDTHS = {1: (1, 2, 3, 4), 3: (4, 8), 6: (1,), 7: (1,)}
_MPEG = (0x50, 0x55)


def make_links(source, layout, end, notes):
  """(links, notes, fault) of the samples in [layout.data, end).

  Args:
    source: The file.
    layout: Where its chunks lie, as `chunks` found them.
    end: Of its samples.
    notes: What was odd about it; with any, the header is made anew.

  Returns:
    None if no chunk says how the samples are coded.
  """
  if layout.form in ('WAV', 'W64'):
    span = layout.chunks.get(b'fmt ')
    if span is None:
      return None
    fmt = source.read(span[0], span[1] - span[0])
    if len(fmt) < 16:
      return None
    tag, channels, rate, _, align, _ = struct.unpack(
      layout.order + 'HHIIHH', fmt[:16]
    )
    if tag == 0xFFFE and fmt[26:40] == _GUID:
      (tag,) = struct.unpack('<H', fmt[24:26])
    if tag in _MPEG:
      found = mpeg.survey(source, layout.data, end)
      return list(found.links), found.notes, found.fault
    parts = None
    if (
      notes
      or layout.begin
      or layout.form == 'W64'
      or source.read(0, 4) == b'BW64'
    ):
      parts = _wav(layout, fmt, end)
    width = align // channels if channels and align % channels == 0 else 0
    plain = align if width in _WIDTHS.get(tag, ()) else 0
    return _link(
      source, 'WAV', rate, channels, plain, layout, end, parts, tag == 3
    )
  if layout.form == 'AU':
    head = source.read(layout.begin, layout.data - layout.begin)
    code, rate, channels = struct.unpack(layout.order + 'III', head[12:24])
    align = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(code, 0)
    size = struct.pack(layout.order + 'I', min(end - layout.data, 2**32 - 1))
    parts = None
    if notes or layout.begin:
      parts = head[:8] + size + head[12:], (layout.data, end)
    align *= channels
    is_float = code in (6, 7)
    return _link(
      source, 'AU', rate, channels, align, layout, end, parts, is_float
    )
  if layout.form == 'AIFF':
    return _aiff(source, layout, end, notes)
  return _caf(source, layout, end, notes)


def _link(source, form, rate, channels, align, layout, end, parts, is_float):
  size = end - layout.data
  if not (align and rate and channels):
    return [links.Link(form, parts=parts)], [], None
  rest = size % align
  pad = rest == 1 and not any(source.read(end - 1, 1))
  told = [f'{rest} bytes of a sample end it'] if rest and not pad else []
  link = links.Link(form, rate, channels, size // align, parts, is_float)
  return [link], told, None


def _wav(layout, fmt, end):
  """A WAV, or from 4 GiB on an RF64, with the same samples."""
  size, order = end - layout.data, layout.order
  body = struct.pack(order + '4sI', b'fmt ', len(fmt)) + fmt
  body += b'\0' * (len(fmt) % 2)
  if size < _RIFF_LIMIT or order == '>':
    head = b'RIFX' if order == '>' else b'RIFF'
    head += struct.pack(order + 'I', min(len(body) + size + 12, 2**32 - 1))
    told = min(size, 2**32 - 1)
  else:
    head = struct.pack('<4sI', b'RF64', 2**32 - 1)
    ds64 = struct.pack('<QQQI', len(body) + size + 48, size, 0, 0)
    body = struct.pack('<4sI', b'ds64', len(ds64)) + ds64 + body
    told = 2**32 - 1
  body += struct.pack(order + '4sI', b'data', told)
  return head + b'WAVE' + body, (layout.data, end)


def _aiff(source, layout, end, notes):
  span = layout.chunks.get(b'COMM') or _later(source, layout, b'COMM', end)
  if span is None:
    return None
  comm = source.read(span[0], span[1] - span[0])
  if len(comm) < 18:
    return None
  channels, announced, bits = struct.unpack('>hIh', comm[:8])
  kind = source.read(layout.begin + 8, 4)
  code = comm[18:22] if kind == b'AIFC' else b'NONE'
  width = {b'NONE': -(-bits // 8), b'twos': -(-bits // 8),
           b'sowt': -(-bits // 8), b'fl32': 4, b'FL32': 4, b'fl64': 8,
           b'FL64': 8, b'ulaw': 1, b'alaw': 1, b'ULAW': 1, b'ALAW': 1,
           b'raw ': 1, b'in24': 3, b'in32': 4}.get(code, 0)  # fmt: skip
  exponent, mantissa = struct.unpack('>HQ', comm[8:18])
  rate = round(mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63))
  align, size = width * max(channels, 0), end - layout.data
  frames = size // align if align else announced
  if align and frames != announced:
    if announced > frames and not notes and announced < UNKNOWN_32 // align:
      return (
        [links.Link('AIFF', rate, channels, frames)],
        [],
        (f'its header announces {announced} samples, found {frames}'),
      )
    told = f'its header announces {announced} samples, found {frames}'
    if not notes:
      notes.append(told)
  parts = None
  if notes or layout.begin:
    comm = comm[:2] + struct.pack('>I', min(frames, 2**32 - 1)) + comm[6:]
    body = (
      struct.pack('>4sI', b'COMM', len(comm)) + comm + b'\0' * (len(comm) % 2)
    )
    size = min(size + 8, 2**32 - 1)
    body = kind + body + struct.pack('>4sIII', b'SSND', size, 0, 0)
    head = struct.pack('>4sI', b'FORM', min(len(body) + size - 8, 2**32 - 1))
    parts = head + body, (layout.data, end)
  is_float = code.lower() in (b'fl32', b'fl64')
  return _link(
    source, 'AIFF', rate, channels, align, layout, end, parts, is_float
  )


def _later(source, layout, name, place):
  """The span of a chunk that follows the samples."""
  place = layout.behind(place)
  while found := layout.chunk(source, place):
    if found[0] == name and found[2] <= source.size:
      return found[1:]
    if found[2] <= place:
      return None
    place = layout.behind(found[2])
  return None


def _caf(source, layout, end, notes):
  span = layout.chunks.get(b'desc')
  if span is None or span[1] - span[0] < 32:
    return None
  desc = source.read(span[0], 32)
  rate, code, flags, size, packet, channels, _ = struct.unpack(
    '>d4sIIIII', desc
  )
  align = size if packet == 1 and code in (b'lpcm', b'alaw', b'ulaw') else 0
  parts = None
  if notes or layout.begin:
    head = source.read(layout.begin, layout.data - layout.begin - 12)
    told = struct.pack('>q', end - layout.data + 4)
    parts = head + told + bytes(4), (layout.data, end)
  is_float = code == b'lpcm' and bool(flags & 1)
  rate = round(rate)
  return _link(
    source, 'CAF', rate, channels, align, layout, end, parts, is_float
  )
