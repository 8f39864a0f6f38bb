"""Length and rate from a header: of a path, of bytes, against the samples."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io


def encoded(form, rate, channels, count, subtype=None):
  samples = np.random.default_rng(count).normal(0, 0.1, (count, channels))
  out = io.BytesIO()
  soundfile.write(out, samples.clip(-1, 1), rate, subtype, format=form)
  return out.getvalue()


@pytest.mark.parametrize('form', ['WAV', 'FLAC', 'OGG', 'MP3', 'AIFF', 'W64'])
@pytest.mark.parametrize(
  'rate, channels, count',
  [(8000, 1, 4001), (16000, 2, 7919), (44100, 1, 90000)],
)
def test_it_says_what_reading_finds(form, rate, channels, count, tmp_path):
  raw = encoded(form, rate, channels, count)
  path = tmp_path / 'a'  # the bytes tell the format, not the name
  path.write_bytes(raw)
  header = audio_io.probe(path)
  assert header == audio_io.probe(raw) == audio_io.probe(str(path))
  seconds = header.seconds
  assert (header.sample_rate, header.channels) == (rate, channels)
  samples, _ = audio_io.read_audio(path, sample_rate=rate)
  assert seconds == len(samples) / rate
  if form != 'MP3':  # which is made of whole frames
    assert seconds == count / rate


def test_no_file_stays_open(tmp_path):
  path = tmp_path / 'a.wav'
  path.write_bytes(encoded('WAV', 8000, 1, 100))
  broken = tmp_path / 'b.wav'
  broken.write_bytes(b'RIFF\0\0\0\0WAVEjunk')
  before = os.listdir('/proc/self/fd')
  for _ in range(20):
    audio_io.probe(path)
    with pytest.raises(errors.UserError):
      audio_io.probe(broken)
  assert len(os.listdir('/proc/self/fd')) == len(before)


@pytest.mark.parametrize('size', [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_header_that_does_not_know_its_length(size, tmp_path):
  """As ffmpeg and sox write them into a pipe: the samples are counted."""
  raw = bytearray(encoded('WAV', 8000, 1, 1234))
  place = raw.index(b'data') + 4
  raw[place : place + 4] = struct.pack('<I', size)
  raw[4:8] = struct.pack('<I', 0xFFFFFFFF)
  path = tmp_path / 'piped.wav'
  path.write_bytes(raw)
  header = audio_io.Header(1234 / 8000, 8000, 1)
  assert audio_io.probe(path) == audio_io.probe(bytes(raw)) == header


@pytest.mark.parametrize(
  'raw, words',
  [
    (b'', 'the file is empty'),
    (b'these are words', 'not readable as audio'),
    (b'RIFF', 'not readable as audio'),
    (encoded('WAV', 8000, 1, 1000)[:-200], 'cut short: the header announces'),
    (encoded('FLAC', 8000, 1, 1000)[:20], 'cut short within its header'),
    (encoded('WAV', 8000, 1, 0), '0 samples'),
  ],
)
def test_what_is_no_recording(raw, words, tmp_path):
  path = tmp_path / 'a.wav'
  path.write_bytes(raw)
  for source, name in ((path, str(path)), (raw, '<bytes>'), (raw, 'mine')):
    with pytest.raises(errors.UserError, match=words) as caught:
      audio_io.probe(source, name=name if name == 'mine' else None)
    assert str(caught.value).startswith(name)


def test_no_file(tmp_path):
  for path, words in (
    (tmp_path / 'no', 'no such file'),
    (tmp_path, 'not read'),
  ):
    with pytest.raises(errors.UserError, match=words):
      audio_io.probe(path)
