"""Reading recordings of every kind, and refusing what is none."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io


def tone(rate, seconds=0.5, hz=440.0, channels=1):
  x = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)
  return np.repeat(x[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(
  'rate, channels', [(8000, 1), (16000, 2), (22050, 1), (96000, 6)]
)
def test_any_rate_and_channel_count(tmp_path, rate, channels):
  path = tmp_path / 'x.wav'
  soundfile.write(path, tone(rate, channels=channels), rate, 'FLOAT')
  samples, got_rate = audio_io.read_audio(path)
  assert got_rate == 16000
  assert samples.dtype == np.float32 and samples.shape == (8000,)
  # The tone itself must come out, away from the resampler's edges.
  inner = slice(400, -400)
  np.testing.assert_allclose(samples[inner], tone(16000)[inner, 0], atol=2e-3)


@pytest.mark.parametrize('suffix', ['wav', 'flac', 'ogg', 'mp3'])
@pytest.mark.parametrize('rate, channels', [(16000, 1), (44100, 2)])
def test_formats(tmp_path, suffix, rate, channels):
  path = tmp_path / f'x.{suffix}'
  soundfile.write(path, tone(rate, channels=channels), rate)
  samples, _ = audio_io.read_audio(path)
  assert np.abs(samples[1000:7000] - tone(16000)[1000:7000, 0]).max() < 0.05


def test_part_of_a_recording(tmp_path):
  path = tmp_path / 'x.wav'
  wave = np.random.default_rng(0).uniform(-0.9, 0.9, 16000)
  audio_io.write_audio(path, wave)
  whole, _ = audio_io.read_audio(path)
  part, _ = audio_io.read_audio(path, offset=0.25, duration=0.5)
  np.testing.assert_array_equal(part, whole[4000:12000])
  rest, _ = audio_io.read_audio(path, offset=0.75)
  np.testing.assert_array_equal(rest, whole[12000:])
  with pytest.raises(errors.UserError, match='offset 2.0 s lies outside'):
    audio_io.read_audio(path, offset=2.0)


def test_bytes_and_round_trip(tmp_path):
  wave = np.linspace(-1.5, 1.5, 16001, dtype=np.float32)
  audio_io.write_audio(tmp_path / 'x.wav', wave)
  samples, _ = audio_io.read_audio((tmp_path / 'x.wav').read_bytes())
  np.testing.assert_allclose(samples, np.clip(wave, -1, 1), atol=1e-4)
  assert [p.name for p in tmp_path.iterdir()] == ['x.wav']


def bad_files(folder):
  wave = np.zeros(1000, np.float32)
  soundfile.write(folder / 'good.wav', wave, 16000)
  good = (folder / 'good.wav').read_bytes()
  broken = wave.copy()
  broken[7] = np.nan
  buffer = io.BytesIO()
  soundfile.write(buffer, broken, 16000, 'FLOAT', format='WAV')
  none = io.BytesIO()
  soundfile.write(none, wave[:0], 16000, format='WAV')
  flac, one = io.BytesIO(), io.BytesIO()
  soundfile.write(flac, tone(16000, 3.0), 16000, format='FLAC')
  soundfile.write(one, wave[:1], 192000, format='WAV')
  return {
    'text.wav': (b'this is a transcript, not a recording', 'not readable as'),
    'empty.wav': (b'', 'the file is empty'),
    'cut.wav': (good[: len(good) // 2], 'cut short'),
    'header.wav': (good[:30], 'text|not readable as|cut short'),
    'noise.wav': (b'RIFF' + bytes(range(200)), 'not readable as'),
    'nan.wav': (buffer.getvalue(), 'sample 7 is nan'),
    'none.wav': (none.getvalue(), '0 samples'),
    'cut.flac': (flac.getvalue()[: len(flac.getvalue()) // 2], 'cut short'),
    'head.flac': (flac.getvalue()[:60], 'cut short'),
    'one.wav': (one.getvalue(), '0 samples at 16000 Hz'),
  }


def test_bad_files_are_told_in_one_sentence(tmp_path):
  for name, (content, pattern) in bad_files(tmp_path).items():
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match=pattern) as error:
      audio_io.read_audio(path)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)


def test_missing_file_and_folder(tmp_path):
  with pytest.raises(errors.UserError, match='no such file'):
    audio_io.read_audio(tmp_path / 'absent.wav')
  with pytest.raises(errors.UserError, match='not readable as a file'):
    audio_io.read_audio(tmp_path)


def test_header_without_a_known_length(tmp_path):
  """ffmpeg writes such headers into pipes; they are complete files."""
  audio_io.write_audio(tmp_path / 'x.wav', tone(16000)[:, 0])
  raw = bytearray((tmp_path / 'x.wav').read_bytes())
  place = raw.index(b'data') + 4
  raw[place : place + 4] = b'\xff\xff\xff\xff'
  samples, _ = audio_io.read_audio(bytes(raw))
  assert len(samples) == 8000


@pytest.mark.parametrize('rate, channels', [(16000, 1), (44100, 2), (8000, 1)])
def test_blocks_joined_are_the_whole(tmp_path, rate, channels):
  """Also across resampling; `find_peak` is the peak of the whole."""
  wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * rate + 77, channels))
  soundfile.write(tmp_path / 'x.wav', wave, rate, 'FLOAT')
  whole, _ = audio_io.read_audio(tmp_path / 'x.wav', offset=0.1)
  blocks = list(
    audio_io.read_blocks(tmp_path / 'x.wav', offset=0.1, block_seconds=0.3)
  )
  assert len(blocks) == 7 and all(len(b) for b in blocks)
  np.testing.assert_array_equal(np.concatenate(blocks), whole)
  expected = soxr.resample(
    wave[round(0.1 * rate) :].astype(np.float32).mean(axis=1), rate, 16000, 'HQ'
  )
  np.testing.assert_allclose(whole, expected, atol=1e-6)
  peak = audio_io.find_peak(tmp_path / 'x.wav', offset=0.1, block_seconds=0.3)
  assert peak == np.abs(whole).max()


@pytest.mark.parametrize('suffix', ['flac', 'ogg', 'mp3'])
def test_blocks_of_compressed_files_have_no_seams(tmp_path, suffix):
  """Nor has a part that begins in the middle. Bursts fill mp3's reservoir."""
  loudness = np.repeat(
    np.random.default_rng(0).choice([0, 0.01, 0.5], 40), 1600
  )
  path = tmp_path / f'x.{suffix}'
  soundfile.write(path, np.sin(0.2 * np.arange(64000)) * loudness, 16000)
  expected = soundfile.read(path, dtype='float32')[0]
  blocks = list(audio_io.read_blocks(path, block_seconds=0.31))
  assert len(blocks) == 13
  np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)
  for offset in (0.3, 1.0, 2.7):
    part, _ = audio_io.read_audio(path, offset=offset, duration=1.1)
    begin = round(offset * 16000)
    np.testing.assert_allclose(part, expected[begin : begin + 17600], atol=1e-6)


def test_ten_milliseconds_and_silence_are_audio(tmp_path):
  audio_io.write_audio(tmp_path / 'x.wav', np.zeros(160))
  samples, _ = audio_io.read_audio(tmp_path / 'x.wav')
  assert samples.shape == (160,) and not samples.any()
