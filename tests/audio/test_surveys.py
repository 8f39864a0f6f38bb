"""The sound decides how long it is, whatever the headers of its file say."""

import io
import struct

import numpy as np
import pytest
import soundfile
import soxr

from benchmarks.pipelines import audio_cases
from benchmarks.pipelines import fuzz_audio
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio import surveys
from step_audio_jax.audio.formats import checksums
from step_audio_jax.audio.formats import mpeg
from step_audio_jax.audio.formats import spans

RATE = 16000


def voice(seconds, rate=RATE, channels=1, seed=0):
  """A loud second, then quiet ones: what an estimate gets wrong."""
  rng = np.random.default_rng(seed)
  count = int(seconds * rate)
  x = rng.normal(0, 0.2, (count, channels)).clip(-0.9, 0.9)
  x[rate:] *= 0.002
  return (np.round(x * 32768) / 32768).astype(np.float32)


def encoded(x, form, rate=RATE, subtype=None, **how):
  out = io.BytesIO()
  soundfile.write(out, x, rate, subtype, format=form, **how)
  return out.getvalue()


def read(raw, rate=RATE, **part):
  return audio_io.read_audio(raw, sample_rate=rate, name='x', **part)[0]


def clean(raw):
  return soundfile.read(io.BytesIO(raw), dtype='float32')[0]


def without_info(raw):
  """An mp3 as an encoder writes it into a pipe."""
  piece = audio_cases.Piece('MP3', RATE, raw, None)
  at = max(raw.find(b'Xing', 0, 200), raw.find(b'Info', 0, 200))
  begin = raw.rindex(b'\xff', 0, at - 8)
  return raw[:begin] + raw[begin + audio_cases._frame_size(piece.raw, begin) :]


def put(raw, place, form, value):
  raw = bytearray(raw)
  struct.pack_into(form, raw, place, value)
  return bytes(raw)


@pytest.mark.parametrize('mode', ['CONSTANT', 'VARIABLE', 'AVERAGE'])
@pytest.mark.parametrize('rate, channels', [(16000, 1), (44100, 2), (8000, 1)])
def test_mp3_without_a_count_is_read_to_its_end(mode, rate, channels):
  x = voice(9, rate, channels)
  whole = encoded(x, 'MP3', rate, bitrate_mode=mode)
  sound = audio_io.examine(without_info(whole))
  lead = audio_cases.MP3_LEAD
  assert abs(sound.seconds - 9) < 0.15 and not sound.notes and sound.is_lossy
  wave = read(without_info(whole), rate)
  assert len(wave) == sound.seconds * rate
  want = clean(whole).reshape(len(x), -1).mean(axis=1)
  np.testing.assert_allclose(wave[lead : lead + len(x)], want, atol=1e-5)
  np.testing.assert_array_equal(read(whole, rate), want)


@pytest.mark.parametrize('factor', [0.1, 0.5, 7])
def test_mp3_with_a_wrong_count(factor):
  raw = encoded(voice(4), 'MP3', bitrate_mode='VARIABLE')
  at = raw.index(b'Xing') + 8
  (count,) = struct.unpack_from('>I', raw, at)
  wrong = put(raw, at, '>I', int(count * factor))
  np.testing.assert_array_equal(read(wrong), clean(raw))
  (note,) = audio_io.examine(wrong).notes[-1:]
  assert f'found {count}' in ' '.join(audio_io.examine(wrong).notes), note


@pytest.mark.parametrize('delay, padding', [(576, 0), (0, 0), (1105, 1700)])
def test_delay_and_padding_as_a_tag_states_them(delay, padding):
  """Also where the decoder would not give its last samples."""
  raw = encoded(voice(2), 'MP3')
  at = max(raw.find(b'Xing'), raw.find(b'Info')) + 120 + 21
  raw = raw[:at] + (delay << 12 | padding).to_bytes(3, 'big') + raw[at + 3 :]
  wave = read(raw)
  bare = read(without_info(raw))
  assert len(wave) == len(bare) - delay - padding
  skip = delay + 529
  size = min(len(wave), len(bare) - skip)
  np.testing.assert_array_equal(wave[:size], bare[skip : skip + size])
  assert audio_io.probe(raw).seconds == len(wave) / RATE


def test_free_format_and_frames_without_their_beginning():
  raw = without_info(encoded(voice(3), 'MP3'))
  source = spans.Source(io.BytesIO(raw))
  starts = mpeg.survey(source).links[0].starts
  late = raw[int(starts[7]) :]
  wave = read(late)
  want = read(raw)[7 * 576 :]
  np.testing.assert_allclose(wave[6 * 576 :], want[6 * 576 :], atol=1e-6)
  assert len(wave) == len(want)
  free = b''.join(
    raw[a : a + 2] + bytes([raw[a + 2] & 0x0F]) + raw[a + 3 : b]
    for a, b in zip(starts[:9].tolist(), starts[1:10].tolist())
  )
  with pytest.raises(errors.UserError, match='x: .*free format'):
    read(free)


@pytest.mark.parametrize('form', ['WAV', 'WAVEX'])
@pytest.mark.parametrize('subtype', ['PCM_16', 'PCM_24', 'FLOAT', 'ALAW'])
@pytest.mark.parametrize('size', [0, 32000, 777, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_size_that_is_less_than_what_follows(form, subtype, size):
  raw = encoded(voice(3), form, subtype=subtype)
  wrong = put(raw, raw.index(b'data') + 4, '<I', size)
  np.testing.assert_array_equal(read(wrong), clean(raw))
  (note,) = audio_io.examine(wrong).notes
  assert 'states no length' in note or f'announces {size} bytes' in note
  part = read(wrong, offset=1.7, duration=0.5)
  np.testing.assert_array_equal(part, clean(raw)[27200:35200])


@pytest.mark.parametrize('form', ['W64', 'RF64', 'AIFF', 'AU', 'CAF'])
@pytest.mark.parametrize('share', [0.4, None])
def test_other_containers_with_a_wrong_size(form, share):
  raw = encoded(voice(2), form)
  piece = audio_cases.Piece(form, RATE, raw, None)
  place, code, more = audio_cases._place_of_size(piece)
  (size,) = struct.unpack_from(code, raw, place)
  unknown = {'I': 2**32 - 1, 'Q': 2**63 - 1, 'q': -1}[code[1]]
  wrong = put(raw, place, code, unknown if share is None else int(size * share))
  np.testing.assert_array_equal(read(wrong), clean(raw))
  assert len(audio_io.examine(wrong).notes) == 1
  with pytest.raises(errors.UserError, match='cut short: the header announces'):
    read(raw[:-500])


def test_a_size_that_wrapped_at_four_gibibytes(tmp_path):
  """9 hours; the file is a hole on the disk, with sound at its end."""
  path = tmp_path / 'long.wav'
  x = voice(1)
  raw = encoded(x, 'WAV')
  head = raw[: raw.index(b'data') + 8]
  samples = (2**32 + 2**22) // 2 + len(x)
  with open(path, 'wb') as out:
    out.write(put(head, len(head) - 4, '<I', 2 * samples % 2**32))
    out.seek(len(head) + 2 * samples - 2 * len(x))
    out.write(np.round(x * 32768).astype(np.int16).tobytes())
  sound = audio_io.examine(path)
  assert sound.seconds == samples / RATE and 'all are read' in sound.notes[0]
  offset = (samples - len(x)) / RATE
  wave, _ = audio_io.read_audio(path, offset=offset)
  np.testing.assert_array_equal(wave, x[:, 0])


def test_flac_of_unknown_and_of_wrong_length():
  raw = encoded(voice(3), 'FLAC')
  at = raw.index(b'fLaC') + 21
  for count, notes in ((0, 0), (16000, 1), (48000, 0)):
    flag = raw[at] & 0xF0
    other = raw[:at] + bytes([flag]) + count.to_bytes(4, 'big') + raw[at + 5 :]
    np.testing.assert_array_equal(read(other), clean(raw))
    sound = audio_io.examine(other)
    assert sound.seconds == 3 and len(sound.notes) == notes
    np.testing.assert_array_equal(
      read(other, offset=1.3, duration=1), clean(raw)[20800:36800]
    )
    with pytest.raises(errors.UserError, match='cut short'):
      read(other[:-3])


JOINED = {
  'OGG': [(16000, 1), (16000, 1), (44100, 2)],
  'OPUS': [(16000, 1), (48000, 2), (8000, 1)],
  'FLAC': [(16000, 1), (16000, 1), (22050, 1)],
  'MP3': [(16000, 1), (16000, 1), (44100, 1)],
  'WAV': [(16000, 1), (16000, 1), (8000, 2)],
}


@pytest.mark.parametrize('form', JOINED)
def test_joined_files_are_read_one_after_the_other(form):
  how = {'subtype': 'OPUS'} if form == 'OPUS' else {}
  container = 'OGG' if form == 'OPUS' else form
  parts = [
    encoded(voice(1.3, rate, channels, k), container, rate, **how)
    for k, (rate, channels) in enumerate(JOINED[form])
  ]
  want = []
  for raw, (rate, channels) in zip(parts, JOINED[form]):
    x = clean(raw).reshape(-1, channels)[:, 0]
    want.append(x if rate == RATE else soxr.resample(x, rate, RATE, 'HQ'))
  want = np.concatenate(want)
  joined = b''.join(parts)
  wave = read(joined, channel=0)
  np.testing.assert_allclose(wave, want, atol=2e-4)
  sound = audio_io.examine(joined)
  assert sound.seconds * RATE == len(wave)
  assert bool(sound.notes) == (form == 'WAV')
  for start, size in ((100, 50), (20000, 2000), (30000, 30000)):
    part = read(
      joined, channel=0, offset=start / RATE, duration=size / RATE
    )  # over the seams, too
    np.testing.assert_array_equal(part, wave[start : start + size])


@pytest.mark.parametrize(
  'form, subtype',
  [('OGG', None), ('OGG', 'OPUS'), ('MP3', None), ('FLAC', None),
   ('WAV', None), ('RF64', None), ('AIFF', None), ('CAF', None), ('AU', None)],
)  # fmt: skip
def test_a_cut_at_any_byte_is_told(form, subtype):
  raw = encoded(voice(1.2), form, subtype=subtype)
  rng = np.random.default_rng(0)
  for left in (1, 3, len(raw) - 1, *rng.integers(1, len(raw), 40).tolist()):
    with pytest.raises(errors.UserError, match='^x: [^\n]*$'):
      audio_io.examine(raw[:left], name='x')
      read(raw[:left])


@pytest.mark.parametrize('rate', [8000, 12000, 16000, 48000])
def test_parts_of_opus_are_those_of_the_whole(rate):
  """SILK's filters remember; a voice makes them."""
  x = voice(14, rate, seed=4)[:, 0]
  hum = np.sin(
    2 * np.pi * np.cumsum(120 + 30 * np.sin(np.arange(len(x)) / rate)) / rate
  )
  raw = encoded(0.2 * hum**9 + 0.1 * x, 'OGG', rate, 'OPUS')
  whole = read(raw, rate)
  for start in (1, 5 * rate, 9 * rate + 77, len(whole) - 900):
    size = min(rate, len(whole) - start)
    part = read(raw, rate, offset=start / rate, duration=size / rate)
    np.testing.assert_array_equal(part, whole[start : start + size])


@pytest.mark.parametrize('form', ['OGG', 'MP3', 'FLAC', 'WAV'])
def test_what_follows_and_is_no_sound_is_told(form):
  raw = encoded(voice(1.2), form)
  for rest in (bytes(500), b'<html>not found</html>' * 9, bytes(range(200))):
    (note, *_) = audio_io.examine(raw + rest).notes
    assert 'follow' in note
    wave = read(raw + rest)
    np.testing.assert_array_equal(wave[: len(clean(raw))], clean(raw))
    if form != 'WAV':
      assert len(wave) == len(clean(raw))


def test_tags_and_chunks_belong_to_a_file():
  mp3, wav = encoded(voice(1), 'MP3'), encoded(voice(1), 'WAV')
  tag = b'ID3\x04\0\0\0\0\x07\x68' + b'\xff\xfb\x90\0' * 250
  for raw, whole in (
    (tag + mp3, mp3),
    (mp3 + b'TAG' + bytes(125), mp3),
    (tag + mp3 + tag + mp3 + b'TAG' + bytes(125), mp3),
    (tag + encoded(voice(1), 'FLAC'), encoded(voice(1), 'FLAC')),
    (wav + b'LIST\x08\0\0\0INFOISFT', wav),
    (wav + b'TAG' + bytes(125), wav),
  ):
    assert audio_io.examine(raw).notes == ()
    np.testing.assert_array_equal(read(raw)[: len(clean(whole))], clean(whole))
  assert audio_io.probe(tag + mp3 + tag + mp3).seconds == 2


def test_damage_in_the_middle_is_told():
  for form in ('MP3', 'OGG', 'FLAC'):
    raw = encoded(voice(2), form)
    middle = len(raw) // 2
    for damaged in (
      raw[:middle] + raw[middle + 700 :],
      raw[:middle] + bytes(700) + raw[middle + 700 :],
      raw[:middle] + raw[: middle // 2],
    ):
      with pytest.raises(errors.UserError, match='damaged|cut short'):
        read(damaged)


@pytest.mark.parametrize('states', [True, False])
def test_whole_frames_of_flac_that_are_missing_or_moved(states):
  """libFLAC fills in silence, and says nothing."""
  raw = encoded(voice(2.5), 'FLAC')
  if not states:
    raw = raw[:21] + bytes([raw[21] & 0xF0]) + bytes(4) + raw[26:]
  # Frames of 4,096 samples, numbered from 0 by one byte.
  edges = [raw.index(b'\xff\xf8', 42)]
  for number in range(1, 6):
    mark = raw[edges[0] : edges[0] + 4] + bytes([number])
    edges.append(raw.index(mark, edges[-1]))
  a, b, c = edges[3:6]
  for damaged in (
    raw[:a] + raw[b:],
    raw[:b] + raw[a:],
    raw[:a] + raw[b:c] + raw[a:b] + raw[c:],
  ):
    with pytest.raises(errors.UserError, match='damaged: the frame of sample'):
      audio_io.examine(damaged)
  assert audio_io.examine(raw).notes == ()
  if not states:
    late = audio_io.examine(raw[: edges[0]] + raw[edges[1] :])
    assert late.seconds * RATE == 40000 - 4096 and 'missing' in late.notes[0]


def test_an_mp3_in_a_wav():
  mp3 = encoded(voice(1), 'MP3')
  fmt = struct.pack(
    '<HHIIHHHHIHHH', 0x55, 1, RATE, 4000, 1, 0, 12, 1, 2, 1, 1, 0
  )
  raw = b'RIFF\0\0\0\0WAVEfmt ' + struct.pack('<I', len(fmt)) + fmt
  raw += b'data' + struct.pack('<I', len(mp3)) + mp3
  np.testing.assert_array_equal(read(raw), clean(mp3))


def test_what_is_odd_is_said_once(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(surveys, '_told', [])
  path = tmp_path / 'odd.ogg'
  path.write_bytes(encoded(voice(1), 'OGG') + bytes(100))
  for _ in range(3):
    audio_io.read_audio(path)
  assert (
    capsys.readouterr().err == f'{path}: 100 zero bytes follow the sound.\n'
  )
  for number in range(100):
    surveys.warn(str(number), ('odd',))
  assert len(capsys.readouterr().err.splitlines()) == surveys._TOLD


def test_another_file_in_its_place_is_walked_anew(tmp_path):
  path = tmp_path / 'x.mp3'
  for seconds in (1, 2):
    path.write_bytes(encoded(voice(seconds), 'MP3'))
    assert audio_io.probe(path).seconds == seconds


def in_ogg(raw, size=4000, serial=7):
  """A FLAC file in pages (RFC 9639, 10.1), a frame of them in several."""
  packets = [b'\x7fFLAC\1\0\0\1' + raw[:42]]
  packets += [raw[q : q + size] for q in range(42, len(raw), size)]
  pages = []
  for number, packet in enumerate(packets):
    flags = 2 * (number == 0) + 4 * (number == len(packets) - 1)
    lacing = b'\xff' * (len(packet) // 255) + bytes([len(packet) % 255])
    head = struct.pack('<4s2BqIII', b'OggS', 0, flags, 0, serial, number, 0)
    page = head + bytes([len(lacing)]) + lacing + packet
    check = struct.pack('<I', checksums.crc32_ogg(page))
    pages.append(page[:22] + check + page[26:])
  return pages


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('known', [True, False])
def test_flac_in_ogg(channels, known, tmp_path):
  """Which libsndfile opens as it writes it at most, and `flac --ogg` never."""
  x = voice(3.1, channels=channels)
  raw = encoded(x, 'FLAC')
  if not known:  # as into a pipe
    raw = raw[:21] + bytes([raw[21] & 0xF0, 0, 0, 0, 0]) + raw[26:]
  pages = in_ogg(raw)
  path = tmp_path / 'x.oga'
  for copies in (1, 2):
    path.write_bytes(b''.join(pages) * copies)
    sound = audio_io.examine(path)
    assert sound.seconds == copies * 3.1 and not sound.is_lossy
    want = np.tile(x.mean(axis=1), copies)
    np.testing.assert_array_equal(read(path), want)
    part = read(path, offset=2.0, duration=0.5)
    np.testing.assert_array_equal(part, want[2 * RATE : 5 * RATE // 2])
  for broken, words in (
    (pages[:-1], 'cut short'), (pages[:3] + pages[4:], 'damaged'),
    (pages[:-1] + [pages[-1][:-9]], 'cut short'),
  ):  # fmt: skip
    with pytest.raises(errors.UserError, match=words):
      read(b''.join(broken))


@pytest.mark.parametrize('subtype', ['PCM_16', 'PCM_24', 'ULAW'])
@pytest.mark.parametrize('channels', [1, 2])
def test_sphere(subtype, channels):
  """As NIST and LDC publish speech; libsndfile reads what there is."""
  raw = encoded(voice(2, channels=channels), 'NIST', subtype=subtype)
  width = {'PCM_16': 2, 'PCM_24': 3, 'ULAW': 1}[subtype] * channels
  sound = audio_io.examine(raw)
  assert sound == audio_io.Sound(2.0, RATE, channels)
  np.testing.assert_array_equal(
    read(raw), clean(raw).reshape(2 * RATE, -1).mean(axis=1)
  )
  for cut in (raw[: len(raw) // 2], raw[:-1]):
    with pytest.raises(errors.UserError, match='cut short: the header annou'):
      audio_io.examine(cut)
  longer = audio_io.examine(raw + bytes(100 * width))
  assert longer.seconds == 2 + 100 / RATE
  assert longer.notes == (
    'the header announces 32000 samples, found 32100: all are read',
  )
  # Some count the samples of all channels.
  total = raw.replace(b'-i 32000', b'-i %d' % (32000 * channels), 1)
  total = total[:1024].rstrip(b'\0').ljust(1024, b'\0') + raw[1024:]
  assert audio_io.examine(total) == sound
  unknown = raw.replace(b'sample_count', b'simple_count', 1)
  assert audio_io.examine(unknown).seconds == 2
  assert 'states no length' in audio_io.examine(unknown).notes[0]


def test_sphere_that_is_compressed():
  head = b'NIST_1A\n   1024\nsample_count -i 9\nsample_n_bytes -i 2\n'
  head += b'sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n'
  with pytest.raises(errors.UserError, match='compressed .pcm,embedded-short'):
    audio_io.read_audio(head.ljust(1024, b'\0') + b'ajkg' + bytes(99))


def test_checksums():
  """Published vectors of the CRC catalogue, and a page of libogg."""
  assert checksums.crc16(b'123456789') == 0xFEE8  # CRC-16/UMTS
  assert checksums.crc16_reflected(b'123456789') == 0xBB3D  # CRC-16/ARC
  assert checksums.crc8(b'123456789') == 0xF4  # CRC-8/SMBUS
  rng = np.random.default_rng(0)
  for size in (0, 1, 2, 3, 65534, 65535, 100001):
    raw = rng.bytes(size)
    for stop in (0, 1, size // 3):
      state = checksums.crc16(raw[:stop])
      assert checksums.crc16(raw[stop:], state) == checksums.crc16(raw)
      state = checksums.crc16_reflected(raw[:stop])
      whole = checksums.crc16_reflected(raw)
      assert checksums.crc16_reflected(raw[stop:], state) == whole
  page = encoded(voice(1), 'OGG')
  page = page[: 27 + page[26] + sum(page[27 : 27 + page[26]])]
  bare = page[:22] + bytes(4) + page[26:]
  assert checksums.crc32_ogg(bare) == struct.unpack('<I', page[22:26])[0]


@pytest.mark.parametrize('first', range(0, 160, 20))
def test_random_files_are_read_or_told(first, monkeypatch):
  """2,000 of them by `benchmarks/pipelines/fuzz_audio.py`."""
  monkeypatch.setattr(surveys, '_told', [])
  result = fuzz_audio.run(first, 20)
  assert result['met'] and not result['silent'], result['silent_cases']
  assert result['told'] + result['equal'] == 20 and result['equal'] > 2
