"""Ratios, spectra and recordings, against closed forms."""

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import pools
from tests.audio.augmentation import speech


def measured_snr(before, after):
  rest = after.astype(np.float64) - before
  return 10 * np.log10(base.power(before) / base.power(rest))


@pytest.fixture
def pool(tmp_path):
  for name, seconds in (('a', 0.3), ('b', 1.0), ('c', 2.5)):
    wave = speech.speech(seconds, seed=ord(name))
    (tmp_path / 'voices').mkdir(exist_ok=True)
    soundfile.write(tmp_path / 'voices' / f'{name}.wav', wave, speech.RATE)
  return pools.Folder(str(tmp_path / 'voices'))


@pytest.mark.parametrize('colour', noise.COLOURS)
@pytest.mark.parametrize('snr_db', [-10.0, 0.0, 7.3, 40.0])
def test_the_ratio_is_the_one_asked_for(colour, snr_db):
  wave = speech.speech()
  found, told = noise.Noise(colour, snr_db, 5).apply(wave, speech.RATE)
  assert measured_snr(wave, found) == pytest.approx(snr_db, abs=0.01)
  assert found.dtype == np.float32 and len(found) == len(wave)
  assert told['factor'] > 0


def test_white_is_flat_and_pink_falls_by_three_decibels_an_octave():
  rng = np.random.default_rng(0)
  for colour, slope in (('white', 0.0), ('pink', -3.01)):
    power = np.abs(np.fft.rfft(noise.make(colour, 2**17, rng))) ** 2
    octaves = [
      10 * np.log10(power[2**k : 2**k * 2].mean()) for k in range(6, 15)
    ]
    found = np.polyfit(range(len(octaves)), octaves, 1)[0]
    assert found == pytest.approx(slope, abs=0.15)


def test_the_seed_decides():
  wave = speech.speech(0.1)
  first, _ = noise.Noise('pink', 3.0, 8).apply(wave, speech.RATE)
  again, _ = noise.Noise('pink', 3.0, 8).apply(wave, speech.RATE)
  other, _ = noise.Noise('pink', 3.0, 9).apply(wave, speech.RATE)
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


@pytest.mark.parametrize('count', [0, 1, 2, 3])
@pytest.mark.parametrize('colour', noise.COLOURS)
def test_short_waveforms(colour, count):
  wave = np.full(count, 0.25, np.float32)
  found, _ = noise.Noise(colour, 10.0, 1).apply(wave, speech.RATE)
  assert len(found) == count and np.isfinite(found).all()


def test_silence_stays_and_says_so():
  wave = np.zeros(100, np.float32)
  found, told = noise.Noise('white', 10.0, 1).apply(wave, speech.RATE)
  np.testing.assert_array_equal(found, wave)
  assert told == {'left_out': 'the waveform is silent'}


def test_babble_has_every_voice_at_the_same_level(pool):
  wave = speech.speech(1.7)
  names = ('a.wav', 'b.wav', 'c.wav')
  made = noise.Recordings(pool, 3, 4.0, names, 2)
  found, told = made.apply(wave, speech.RATE)
  assert measured_snr(wave, found) == pytest.approx(4.0, abs=0.01)
  assert [one['name'] for one in told['sources']] == list(names)
  # One voice alone, with its level, is a third of the babble's power.
  rest = (found - wave) / told['factor']
  assert base.power(rest) == pytest.approx(3.0, rel=0.4)


def test_drawing_leaves_out_the_utterance_itself(pool):
  rng = np.random.default_rng(0)
  asked = noise.Recordings(pool, (1, 2), (0.0, 20.0))
  for _ in range(20):
    drawn = asked.drawn(rng, avoid='b.wav')
    assert 'b.wav' not in drawn.recordings
    assert len(set(drawn.recordings)) == drawn.count in (1, 2)
    drawn.check_settled()
  with pytest.raises(errors.UserError, match='2 recordings besides .b.wav.'):
    noise.Recordings(pool, 3).drawn(rng, avoid='b.wav')


def test_a_pool_that_is_none(tmp_path, pool):
  with pytest.raises(errors.UserError, match='expected a folder of recordings'):
    pools.Folder(str(tmp_path / 'nowhere'))
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UserError, match='no recording in it'):
    pools.Folder(str(tmp_path / 'empty')).names()
  with pytest.raises(errors.UserError, match='expected the name'):
    pool.read('../voices/a.wav', speech.RATE)
  with pytest.raises(errors.UserError, match='no such file'):
    pool.read('z.wav', speech.RATE)
  soundfile.write(tmp_path / 'voices' / 'mute.wav', np.zeros(100), speech.RATE)
  with pytest.raises(errors.UserError, match='silence'):
    pool.read('mute.wav', speech.RATE)
