"""Made audio files that are not what their headers say, with the sound in them.

A case is one to three recordings in random containers, encodings, rates and
channel counts, each changed as files get changed: sizes and counts in headers
that are missing or wrong, tags and chunks around, zeros and other bytes
behind; or damaged: cut at any byte, a part overwritten with zeros or taken
out; and joined into one file. soundfile writes the files, everything else is
done to their bytes.

A case is `silent`, which none may be, if a reader returns other samples than
were written and says nothing.
"""

import dataclasses
import io
import struct
from typing import Callable

import numpy as np
import soundfile
import soxr

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio import surveys

MP3_LEAD = 1105  # samples that LAME puts in front, and its filter bank
_FORMS = {
  'WAV': ('PCM_16', 'PCM_24', 'PCM_32', 'PCM_U8', 'FLOAT', 'DOUBLE', 'ULAW',
          'ALAW', 'IMA_ADPCM', 'MS_ADPCM'),
  'WAVEX': ('PCM_16', 'PCM_24', 'FLOAT', 'ALAW'),
  'RF64': ('PCM_16', 'PCM_24', 'FLOAT'),
  'W64': ('PCM_16', 'PCM_24', 'FLOAT', 'ULAW'),
  'AIFF': ('PCM_16', 'PCM_24', 'PCM_S8', 'FLOAT', 'ULAW'),
  'AU': ('PCM_16', 'PCM_24', 'FLOAT', 'ULAW'),
  'CAF': ('PCM_16', 'PCM_24', 'FLOAT', 'ALAW'),
  'FLAC': ('PCM_16', 'PCM_24', 'PCM_S8'),
  'VORBIS': ('VORBIS',),
  'OPUS': ('OPUS',),
  'MP3': ('CBR', 'VBR'),
}  # fmt: skip
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_GUESSED = ('IMA_ADPCM', 'MS_ADPCM')  # whole blocks, with what fills the last


@dataclasses.dataclass
class Piece:
  """A recording in the making.

  Attributes:
    form: A key of `_FORMS`.
    rate: Hz.
    raw: Its file.
    sound_SC: What is in it, float32.
    whole: Whether the sound is still whole.
    is_bare: Whether nothing says any more how long it is.
    done: What was done to it.
  """

  form: str
  rate: int
  raw: bytes
  sound_SC: np.ndarray
  whole: bool = True
  is_bare: bool = False
  done: tuple[str, ...] = ()


def make(rng: np.random.Generator, form: str, like: Piece | None) -> Piece:
  """A recording; with the rate and the channels of `like`, if it is given."""
  encoding = str(rng.choice(_FORMS[form]))
  rates = _OPUS_RATES if form == 'OPUS' else _RATES
  like = like if like and like.rate in rates else None
  rate = like.rate if like else int(rng.choice(rates))
  channels = like.sound_SC.shape[1] if like else int(rng.integers(1, 3))
  count = int(rng.integers(1, int(1.2 * rate)))
  if form in ('OPUS', 'MP3', 'VORBIS'):
    count = max(count, rate // 10)
  loud = np.repeat(rng.choice([0.001, 0.1, 0.5], count // 500 + 1), 500)
  x_SC = rng.normal(0, 0.2, (count, channels)) * loud[:count, None]
  x_SC = x_SC + 0.3 * np.sin(0.1 * np.arange(count))[:, None]
  x_SC = x_SC.clip(-0.99, 0.99).astype(np.float32)
  out = io.BytesIO()
  if form == 'MP3':
    mode = {'CBR': 'CONSTANT', 'VBR': 'VARIABLE'}[encoding]
    soundfile.write(out, x_SC, rate, format='MP3', bitrate_mode=mode)
  elif form in ('OPUS', 'VORBIS'):
    soundfile.write(out, x_SC, rate, encoding, format='OGG')
  else:
    soundfile.write(out, x_SC, rate, encoding, format=form)
  raw = out.getvalue()
  sound_SC, _ = soundfile.read(io.BytesIO(raw), dtype='float32', always_2d=True)
  return Piece(form, rate, raw, sound_SC, done=(f'{form} {encoding} {rate}',))


# --- What is done to headers. The sound stays whole.


def _place_of_size(piece: Piece) -> tuple[int, str, int] | None:
  """(where, format, what to add) of the size of the samples' chunk."""
  raw = piece.raw
  if piece.form in ('WAV', 'WAVEX'):
    return raw.index(b'data') + 4, '<I', 0
  if piece.form == 'RF64':
    if raw[:4] == b'RF64':
      return raw.index(b'ds64') + 16, '<Q', 0
    return raw.index(b'data') + 4, '<I', 0
  if piece.form == 'W64':
    return raw.index(b'data\xf3\xac') + 16, '<Q', 24
  if piece.form == 'AIFF':
    return raw.index(b'SSND') + 4, '>I', 8
  if piece.form == 'AU':
    return 8, '>I' if raw[:4] == b'.snd' else '<I', 0
  if piece.form == 'CAF':
    return raw.index(b'data') + 4, '>q', 4
  return None


def state_no_size(rng, piece):
  """What writers put there who do not know."""
  found = _place_of_size(piece)
  if found is None or b'LIST' in piece.raw or 'tag' in str(piece.done):
    return
  place, form, more = found
  if form[1] == 'I':
    value = int(rng.choice([2**32 - 1, 2**31 - 1, 0x7FFFF000]))
  else:
    value = {'<Q': 2**64 - 1, '>q': -1}[form]
    if piece.form == 'W64':
      value = 2**63 - 1
  if piece.form in ('WAV', 'WAVEX', 'AIFF') and rng.random() < 0.4:
    value = more  # nothing at all
  _put(piece, place, form, value)
  piece.is_bare = True


def state_less(rng, piece):
  """A recorder's first block, or what 4 GiB left."""
  found = _place_of_size(piece)
  if found is None or piece.is_bare:
    return
  place, form, more = found
  (size,) = struct.unpack_from(form, piece.raw, place)
  if not more + 16 < size < 2**31:
    return
  value = more + int(rng.integers(1, size - more - 8))
  _put(piece, place, form, value)
  piece.is_bare = True


def state_more(rng, piece):
  """As of a file that was cut. Nobody can tell, but something is wrong."""
  found = _place_of_size(piece)
  if found is not None:
    place, form, _ = found
    (size,) = struct.unpack_from(form, piece.raw, place)
    if 0 < size < 2**30:
      more = 8 + int(rng.integers(1, 10**6))
      _put(piece, place, form, size + more)
      piece.whole = False


def _put(piece, place, form, value):
  raw = bytearray(piece.raw)
  struct.pack_into(form, raw, place, value)
  piece.raw = bytes(raw)


def edit_flac(rng, piece):
  """The number of samples: unknown, less, or more than there are."""
  if piece.form != 'FLAC':
    return
  total = len(piece.sound_SC)
  value = int(
    rng.choice([0, 0, total // 2, total + int(rng.integers(1, 9999))])
  )
  raw = bytearray(piece.raw)
  at = raw.index(b'fLaC') + 21
  old = int.from_bytes(raw[at : at + 5], 'big') >> 36 << 36
  raw[at : at + 5] = (old | value).to_bytes(5, 'big')
  piece.raw, piece.is_bare = bytes(raw), value != total
  if value > total:
    piece.whole = False


def _xing(raw: bytes) -> int:
  return max(raw.find(b'Xing', 0, 4096), raw.find(b'Info', 0, 4096))


def _frame_size(raw: bytes, place: int) -> int:
  """Of the frame at `place`, by a way of its own: where the next begins."""
  head = raw[place + 1 : place + 3]
  at = place + 24
  while not (
    raw[at] == 0xFF
    and raw[at + 1] == head[0]
    and raw[at + 2] & 0x0C == head[1] & 0x0C
  ):
    at += 1
  return at - place


def drop_info(rng, piece):
  """An encoder that wrote into a pipe: no Info frame, or an empty one."""
  if piece.form != 'MP3' or _xing(piece.raw) < 0:
    return
  at = _xing(piece.raw)
  begin = piece.raw.rindex(b'\xff', 0, at - 8)
  size = _frame_size(piece.raw, begin)
  if rng.random() < 0.5:
    piece.raw = piece.raw[:begin] + piece.raw[begin + size :]
    frames = 'dropped'
  else:
    blank = bytearray(piece.raw[begin : begin + size])
    blank[at - begin + 4 :] = bytes(len(blank) - (at - begin) - 4)
    piece.raw = piece.raw[:begin] + bytes(blank) + piece.raw[begin + size :]
    frames = 'blank'
  piece.is_bare = True
  piece.done += (f'Info {frames}',)


def miscount(rng, piece):
  """The number of frames is wrong; that of bytes is right."""
  if piece.form != 'MP3' or _xing(piece.raw) < 0 or piece.is_bare:
    return
  at = _xing(piece.raw) + 8
  (count,) = struct.unpack_from('>I', piece.raw, at)
  value = max(1, int(count * rng.choice([0.1, 0.5, 3.0, 9.0])))
  _put(piece, at, '>I', value if value != count else count + 9)
  piece.is_bare = True


# --- What belongs to a file and is no sound.


def tag_in_front(rng, piece):
  """ID3v2, with a picture of zeros in it, or of anything."""
  if piece.form not in ('MP3', 'FLAC'):
    return
  size = int(rng.integers(10, 4000))
  body = rng.bytes(size) if rng.random() < 0.5 else bytes(size)
  length = bytes(
    [size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]
  )
  piece.raw = b'ID3\x03\0\0' + length + body + piece.raw


def tag_behind(rng, piece):
  """ID3v1, or APE."""
  if piece.form == 'MP3' and rng.random() < 0.5:
    items = b'\x04\0\0\0\0\0\0\0Title\0abcd'
    size = struct.pack('<III', 2000, len(items) + 32, 1)
    piece.raw += b'APETAGEX' + size + b'\0\0\0\xa0' + bytes(8) + items
    piece.raw += b'APETAGEX' + size + b'\0\0\0\x80' + bytes(8)
  if piece.form in ('MP3', 'FLAC', 'WAV'):
    piece.raw += b'TAG' + b'A title'.ljust(125, b'\0')
    piece.done += ('tag',)


def chunk_behind(rng, piece):
  """A LIST chunk; of odd length, now and then."""
  if piece.form not in ('WAV', 'WAVEX'):
    return
  text = bytes(rng.integers(65, 90, int(rng.integers(1, 60)), np.uint8))
  body = (
    b'INFOISFT' + struct.pack('<I', len(text)) + text + b'\0' * (len(text) % 2)
  )
  if len(piece.raw) % 2:
    piece.raw += b'\0'
  piece.raw += b'LIST' + struct.pack('<I', len(body)) + body


def chunk_in_front(rng, piece):
  """JUNK in front of the samples, longer than a reader looks at once."""
  if piece.form not in ('WAV', 'WAVEX'):
    return
  at = piece.raw.index(b'data')
  body = bytes(2 * int(rng.integers(1, 4000)))
  piece.raw = (
    piece.raw[:at] + b'JUNK' + struct.pack('<I', len(body)) + body
    + piece.raw[at:]
  )  # fmt: skip


# --- What does not belong there; it must be told.


def bytes_behind(rng, piece):
  """Zeros, text, or anything, behind the sound."""
  size = int(rng.integers(2, 3000))
  kind = int(rng.integers(3))
  extra = (bytes(size), b'<html>no such page</html>\n' * 9, rng.bytes(size))[
    kind
  ]
  if piece.form == 'MP3' and extra[0] == 0xFF:
    extra = b'x' + extra
  piece.raw += extra
  piece.whole = False


def cut(rng, piece):
  """At any byte; where nothing tells the length, within the last frame."""
  if piece.is_bare:
    if piece.form not in ('MP3', 'FLAC') or 'tag' in str(piece.done):
      return
    left = len(piece.raw) - int(rng.integers(1, 9))
  else:
    left = int(rng.integers(1, len(piece.raw)))
  piece.raw, piece.whole = piece.raw[:left], False


def zero_run(rng, piece):
  """A block that was never written. Plain samples cannot show it."""
  if piece.form not in ('FLAC', 'VORBIS', 'OPUS') and not (
    piece.form == 'MP3' and not piece.is_bare
  ):
    return
  size = int(rng.integers(20, 2000))
  begin = int(rng.integers(0, len(piece.raw)))
  stop = min(begin + size, len(piece.raw))
  if any(piece.raw[begin:stop]):
    piece.raw = piece.raw[:begin] + bytes(stop - begin) + piece.raw[stop:]
    piece.whole = False


def take_out(rng, piece):
  """A block that is missing."""
  if piece.is_bare:
    return
  size = int(rng.integers(1, min(2000, len(piece.raw))))
  begin = int(rng.integers(0, len(piece.raw) - size))
  piece.raw = piece.raw[:begin] + piece.raw[begin + size :]
  piece.whole = False


_HARMLESS = (
  state_no_size, state_less, edit_flac, drop_info, miscount, tag_in_front,
  tag_behind, chunk_behind, chunk_in_front,
)  # fmt: skip
_HARMFUL = (bytes_behind, cut, zero_run, take_out, state_more)
Change = Callable[[np.random.Generator, Piece], None]


@dataclasses.dataclass
class Case:
  """A file and what is in it.

  Attributes:
    form: Of the first piece.
    raw: The file.
    pieces: What it was joined from.
    done: How it came about.
  """

  form: str
  raw: bytes
  pieces: list[Piece]

  @property
  def done(self) -> str:
    return ' + '.join(', '.join(piece.done) for piece in self.pieces)


def case(seed: int) -> Case:
  """The case of a number; the same everywhere."""
  rng = np.random.default_rng(seed)
  form = str(rng.choice(list(_FORMS)))
  count = int(rng.choice([1, 1, 1, 2, 2, 3]))
  pieces = []
  for _ in range(count):
    like = pieces[0] if pieces and rng.random() < 0.5 else None
    piece = make(rng, form if rng.random() < 0.9 else 'MP3', like)
    changes: list[Change] = []
    for group, chance in ((_HARMLESS, 0.45), (_HARMFUL, 0.25)):
      if rng.random() < chance:
        size = int(rng.integers(1, 3)) if group is _HARMLESS else 1
        changes += list(rng.choice(np.array(group, object), size, False))
    for change in changes:
      before = piece.raw
      change(rng, piece)
      if piece.raw != before:
        piece.done += (change.__name__,)
    pieces.append(piece)
  return Case(form, b''.join(p.raw for p in pieces), pieces)


def judge(one: Case, seed: int = 0) -> str:
  """`equal`, `told`, or `silent: …`.

  Whatever can be read must have the length that a probe says, and its parts
  must be slices of the whole, to the last bit.
  """
  try:
    sound = audio_io.examine(one.raw, name='x')
    wave, rate = audio_io.read_audio(
      one.raw, sample_rate=sound.sample_rate, name='x', channel=0
    )
  except errors.UserError as error:
    if '\n' in str(error) or not str(error).startswith('x: '):
      return f'silent: not one sentence: {error}'
    if all(piece.whole for piece in one.pieces) and len(one.pieces) == 1:
      return f'silent: refused: {error}'
    return 'told'
  if len(wave) / rate != sound.seconds:
    return f'silent: read {len(wave)} samples, probed {sound.seconds * rate}'
  rng = np.random.default_rng(seed)
  start = int(rng.integers(0, len(wave)))
  size = int(rng.integers(1, len(wave) - start + 1))
  part, _ = audio_io.read_audio(
    one.raw, offset=start / rate, duration=size / rate, sample_rate=rate,
    name='x', channel=0,
  )  # fmt: skip
  if not np.array_equal(part, wave[start : start + size]):
    return f'silent: the part {start}:{start + size} is no slice of the whole'
  if sound.notes:
    clean = len(one.pieces) == 1 and len(one.pieces[0].done) == 1
    return f'silent: not clean: {sound.notes}' if clean else 'told'
  if not all(piece.whole for piece in one.pieces):
    # Some damage leaves all sound where it is: that of a tag.
    harmless = _compare(one, wave, rate) is None
    return 'equal' if harmless else f'silent: {len(wave)} samples of damaged'
  wrong = _compare(one, wave, rate)
  return 'equal' if wrong is None else f'silent: {wrong}'


def _compare(one: Case, wave: np.ndarray, rate: int) -> str | None:
  """What is not as it was written; None if nothing is."""
  place = 0
  for number, piece in enumerate(one.pieces):
    want = piece.sound_SC[:, 0]
    lead = behind = 0
    if 'Info' in ' '.join(piece.done):
      # Whole frames, with what LAME's Info frame would have cut off.
      size = 1152 if piece.rate >= 32000 else 576
      lead = MP3_LEAD
      behind = -(len(want) + lead) % size
    if piece.rate != rate:
      if lead:
        want = np.pad(want, (lead, behind))
        lead = behind = 0
      want = soxr.resample(want, piece.rate, rate, 'HQ')
      slack = 0.2 if 'Info' in ' '.join(piece.done) else 1e-4
    else:
      slack = 2e-5
    got = wave[place + lead : place + lead + len(want)]
    if len(got) < len(want):
      return f'piece {number}: {len(got)} samples, expected {len(want)}'
    worst = float(np.abs(got - want).max(initial=0.0))
    if worst > slack:
      return f'piece {number}: samples differ by {worst:.3g}'
    place += lead + len(want) + behind
    if lead and number + 1 == len(one.pieces):
      place = len(wave) if place <= len(wave) < place + 4 * 1152 else place
    elif lead:
      return None  # where the next begins is LAME's to say
  if place != len(wave):
    return f'{len(wave)} samples, expected {place}'
  return None


def hear_nothing() -> None:
  """Keeps `surveys.warn` quiet: a thousand files are odd here."""
  surveys._told[:] = [''] * 99
