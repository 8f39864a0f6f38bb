"""Silence, and the full scale of floating-point files."""

import io

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio import levels
from step_audio_jax.tokenizers.speech import storage

RNG = np.random.default_rng(0)
WAVE = np.concatenate([np.zeros(20000), RNG.uniform(-0.5, 0.5, 60000)])


def wav(samples, rate=16000, subtype='FLOAT'):
  out = io.BytesIO()
  soundfile.write(out, samples, rate, subtype, format='WAV')
  return out.getvalue()


def read(raw, **how):
  return audio_io.read_audio(raw, name='x.wav', **how)[0]


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
  monkeypatch.setattr(levels, '_told', [])


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('subtype', ['FLOAT', 'DOUBLE'])
@pytest.mark.parametrize('bits', [16, 24, 32])
def test_whole_numbers_are_divided(bits, subtype, channels, capsys):
  whole = np.round(WAVE * 2 ** (bits - 1))
  raw = wav(np.repeat(whole[:, None], channels, 1), subtype=subtype)
  found = read(raw)
  np.testing.assert_allclose(found, WAVE, atol=2.0 ** (1 - min(bits, 24)))
  message = capsys.readouterr().err
  assert message.count('\n') == 1
  assert f'x.wav: whole numbers of {bits} bits' in message
  # Parts, whatever is in them, and blocks have the same scale; told once.
  np.testing.assert_array_equal(
    read(raw, offset=1.0, duration=1.0), found[16000:32000]
  )
  assert not read(raw, duration=1.0).any()
  blocks = audio_io.read_blocks(raw, block_seconds=0.01)
  np.testing.assert_array_equal(np.concatenate(list(blocks)), found)
  assert not capsys.readouterr().err


def test_floats_a_little_above_one_are_as_they_are(capsys):
  for wave in (3 * WAVE, np.sign(WAVE), 15.5 * WAVE):
    np.testing.assert_allclose(read(wav(wave)), wave, atol=1e-6)
  assert not capsys.readouterr().err


@pytest.mark.parametrize('factor', [20, 32768.0, 1e12, 2.0**33])
def test_floats_far_above_one_are_refused(factor):
  wave = np.round(WAVE * factor) if factor > 1e9 else WAVE * factor
  raw = wav(wave, subtype='DOUBLE')
  with pytest.raises(errors.UserError, match='x.wav: a sample of .*within ±1'):
    read(raw)
  with pytest.raises(errors.UserError, match='x.wav: a sample of .*within ±1'):
    storage.check_wave(wave, 'x.wav')


def test_integer_files_are_not_looked_at():
  """A 16-bit file of small whole numbers is what it is."""
  wave = np.round(WAVE * 200) / 32768
  np.testing.assert_allclose(read(wav(wave, subtype='PCM_16')), wave)


SILENT = {
  'zeros': np.zeros(8000),
  'an offset': np.full(8000, 0.3),
  'dither': RNG.integers(-2, 3, 8000) / 32768,
  'dither and an offset': RNG.integers(-2, 3, 8000) / 32768 - 0.1,
  'whole zeros': np.zeros(8000),
  'whole dither': RNG.integers(-2, 3, 8000).astype(float),
}


@pytest.mark.parametrize('rate', [16000, 44100])
@pytest.mark.parametrize('name', SILENT)
def test_silence_is_told(name, rate):
  """Before the rate is converted, which makes edges of an offset."""
  raw = wav(SILENT[name], rate)
  with pytest.raises(errors.UserError, match='^x.wav: silence, no sample is a'):
    read(raw, audible=True)
  assert abs(len(read(raw)) - 8000 * 16000 / rate) < 1


def test_quiet_sound_is_none():
  for wave in (WAVE * 0.0021, np.eye(1, 8000, 4000)[0], 0.4 + WAVE * 0.0021):
    assert len(read(wav(wave), audible=True)) == len(wave)
    assert not levels.is_silent(wave)
  assert levels.is_silent(WAVE * 0.0019) and levels.is_silent(WAVE[:0])


def test_silence_is_known_behind_the_last_block():
  wave = np.zeros(16000)
  wave[-1] = 0.5
  blocks = audio_io.read_blocks(wav(wave), audible=True, block_seconds=0.1)
  assert len(list(blocks)) == 10
  blocks = audio_io.read_blocks(wav(0 * wave), audible=True, block_seconds=0.1)
  with pytest.raises(errors.UserError, match='silence'):
    list(blocks)
