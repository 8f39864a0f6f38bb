"""Audio on the wire, against Python's own G.711."""

import base64
import warnings

import numpy as np
import pytest

from step_audio_jax.serving.realtime import faults
from step_audio_jax.serving.realtime import formats


@pytest.fixture
def audioop():
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return pytest.importorskip('audioop')


@pytest.mark.parametrize('name, law', [('pcmu', 'ulaw'), ('pcma', 'alaw')])
def test_g711_is_that_of_the_telephone(audioop, name, law):
  every = bytes(range(256))
  linear = getattr(audioop, f'{law}2lin')(every, 2)
  ours = formats.decode(f'audio/{name}', every)
  assert (ours * 32768 == np.frombuffer(linear, '<i2')).all()
  samples = np.arange(-32768, 32768, 7, dtype=np.int16)
  theirs = getattr(audioop, f'lin2{law}')(samples.tobytes(), 2)
  wave_S = samples / np.float32(32768)

  def error(raw):
    return np.abs(formats.decode(f'audio/{name}', raw) - wave_S)

  found = error(formats.encode(f'audio/{name}', wave_S))
  # The nearest level; theirs is at times the one beside it.
  assert (found <= error(theirs) + 1e-7).all()
  again = formats.encode(f'audio/{name}', ours)
  assert (formats.decode(f'audio/{name}', again) == ours).all()


def test_pcm_there_and_back_and_clipped():
  raw = np.arange(-32768, 32768, dtype='<i2').tobytes()
  assert formats.encode(formats.PCM, formats.decode(formats.PCM, raw)) == raw
  loud = formats.encode(formats.PCM, np.array([-3.0, 3.0], np.float32))
  assert np.frombuffer(loud, '<i2').tolist() == [-32768, 32767]


@pytest.mark.parametrize('name', formats.FORMATS)
@pytest.mark.parametrize('size', [1, 777, 10**6])
def test_pieces_of_any_size_are_one_sound(name, size):
  rate, _ = formats.FORMATS[name]
  tone_S = np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate) / 2
  raw = formats.encode(name, tone_S.astype(np.float32))
  came = formats.Incoming(name, 16000)
  parts = [
    came(raw[begin : begin + size], last=begin + size >= len(raw))
    for begin in range(0, len(raw), size)
  ]
  heard_S = np.concatenate(parts)
  assert len(heard_S) == pytest.approx(4000, abs=1)
  wanted_S = np.sin(2 * np.pi * 440 * np.arange(4000) / 16000) / 2
  inner = slice(400, 3600)
  assert np.abs(heard_S[: len(wanted_S)] - wanted_S)[inner].max() < 0.03


@pytest.mark.parametrize('rate', [16000, 22050, 24000])
@pytest.mark.parametrize('name', formats.FORMATS)
def test_all_of_a_reply_goes_out(name, rate):
  out = formats.Outgoing(name, rate)
  for _ in range(2):  # it begins anew behind the last
    raw = out(np.zeros(rate // 2, np.float32))
    raw += out(np.zeros(0, np.float32), last=True)
    assert len(raw) / out.width == pytest.approx(out.rate / 2, abs=2)


@pytest.mark.parametrize('text', ['!', 'AAA', 'ü', '=AAA', 'AA==A'])
def test_what_is_no_base64_is_refused(text):
  with pytest.raises(faults.Fault) as refused:
    formats.from_base64(text, 'audio')
  assert refused.value.code == 'invalid_base64'
  assert refused.value.param == 'audio'


def test_base64_may_be_broken_into_lines():
  lines = base64.encodebytes(bytes(range(200))).decode()
  assert formats.from_base64(lines, 'audio') == bytes(range(200))
