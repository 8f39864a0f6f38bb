"""Recordings that are sent before they are over."""

import io

import numpy as np
import pytest
import soundfile

from step_audio_jax.audio import io as audio_io
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.sounds import decoding
from step_audio_jax.serving.sounds import encoding
from tests.serving import running


def encoded(name, samples_S, rate, size):
  encoder = encoding.Encoder(name, rate)
  parts = [
    encoder.add(samples_S[n : n + size]) for n in range(0, len(samples_S), size)
  ]
  return parts, encoder.end()


@pytest.mark.parametrize('name', list(encoding.MEDIA_TYPES))
@pytest.mark.parametrize('rate', [24000, 22050])
def test_all_of_it_arrives_and_most_of_it_at_once(name, rate):
  samples_S = running.speech(2.0, rate)
  parts, rest = encoded(name, samples_S, rate, rate // 10)
  raw = b''.join(parts) + rest
  assert len(b''.join(parts[:10])) > 0.4 * len(raw)
  assert all(parts[n] or parts[n + 1] for n in range(5, 15))
  if name == 'pcm':
    raw = encoding.wav_header() + raw
  back_S, _ = audio_io.read_audio(raw, sample_rate=24000)
  slack = 3000 if name == 'mp3' else 2
  assert len(back_S) == pytest.approx(48000, abs=slack)
  assert np.abs(back_S[4000:44000]).max() == pytest.approx(1 / 3, abs=0.06)


def test_pieces_of_any_size_are_one_recording():
  samples_S = running.speech(0.3, 22050)
  whole, end = encoded('pcm', samples_S, 22050, 10**6)
  parts, rest = encoded('pcm', samples_S, 22050, 17)
  assert b''.join(parts) + rest == b''.join(whole) + end


def test_beyond_full_scale_and_no_number():
  samples_S = np.array([2.0, -2.0, np.nan, np.inf], np.float32)
  raw = encoding.Encoder('pcm', 24000).add(samples_S)
  assert np.frombuffer(raw, '<i2').tolist() == [32767, -32767, 0, 32767]


def test_a_wav_that_is_over_tells_its_length():
  parts, rest = encoded('wav', running.speech(0.1, 24000), 24000, 100)
  raw = b''.join(parts) + rest
  assert encoding.whole('wav', raw)[44:] == raw[44:]
  assert soundfile.info(io.BytesIO(encoding.whole('wav', raw))).frames == 2400
  assert encoding.whole('mp3', b'abc') == b'abc'


def test_nothing_said_is_a_recording_too():
  parts, rest = encoded('wav', np.zeros(0, np.float32), 24000, 1)
  assert not parts and rest == encoding.wav_header()


def test_formats_that_cannot_be_made():
  assert encoding.check('pcm16', 'audio.format') == 'pcm'
  with pytest.raises(faults.Fault, match="'aac' cannot be encoded") as told:
    encoding.check('aac', 'response_format')
  assert told.value.param == 'response_format'


def test_base64_as_clients_write_it():
  assert decoding.from_base64('YWJj', 'data') == b'abc'
  assert decoding.from_base64('YW\nJj ', 'data') == b'abc'
  assert decoding.from_base64('data:audio/wav;base64,YWJj', 'data') == b'abc'
  long = 'data:audio/wav;base64,' + 'YWJj' * 1000
  assert decoding.from_base64(long, 'data') == b'abc' * 1000
  assert decoding.from_base64('YWJj' * 1000, 'data') == b'abc' * 1000
  for text in ('YWJ', 'Y WJ', 'ä', 'data:,%'):
    with pytest.raises(faults.Fault):
      decoding.from_base64(text, 'data')
