"""Lossy lines: what they keep, in time and in band."""

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import codecs
from tests.audio.augmentation import speech


def tone(hertz, seconds=0.5, rate=speech.RATE):
  time = np.arange(int(seconds * rate)) / rate
  return (0.4 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def gain(wave, found):
  middle = slice(len(wave) // 4, -len(wave) // 4)
  ratio = base.power(found[middle]) / base.power(wave[middle])
  return 10 * np.log10(max(ratio, 1e-12))


def test_mu_law_is_g711(tmp_path):
  rng = np.random.default_rng(0)
  wave = rng.uniform(-1, 1, 20000) * 10 ** rng.uniform(-4, 0, 20000)
  path = tmp_path / 'law.wav'
  soundfile.write(path, wave, 8000, 'ULAW')
  theirs, _ = soundfile.read(path)
  levels = codecs.mu_law_levels()
  theirs_only = np.abs(np.abs(theirs)[:, None] - levels).min(axis=1)
  assert theirs_only.max() < 1e-9  # they decode to the same levels
  assert len(levels) == 128 and levels[0] == 0
  # Encoders draw the line between two steps a little differently.
  ours = codecs.through_mu_law(wave)
  steps = [np.searchsorted(levels, np.abs(x) - 1e-9) for x in (ours, theirs)]
  assert np.abs(steps[0] - steps[1]).max() <= 1
  assert (np.abs(ours - wave) <= np.abs(theirs - wave) + 1e-12).all()


@pytest.mark.parametrize('rate', [8000, 11025, 16000, 24000, 44100])
def test_the_telephone_keeps_speech_in_its_place(rate):
  wave = speech.speech(0.6, rate)
  found, _ = codecs.Telephone().apply(wave, rate)
  assert found.dtype == np.float32 and len(found) == len(wave)
  assert abs(speech.lag(wave, found)) <= 1


def test_the_telephone_has_a_band():
  for hertz, low, high in (
    (100, -121, -30), (1000, -0.3, 0.3), (3000, -0.3, 0.3), (5000, -121, -30)
  ):  # fmt: skip
    wave = tone(hertz)
    found, _ = codecs.Telephone().apply(wave, speech.RATE)
    assert low < gain(wave, found) < high, hertz


def test_here_are_all_three():
  # Wheels of soundfile bring a libsndfile with all of them.
  assert codecs.available() == ('mp3', 'opus', 'vorbis')


@pytest.mark.parametrize('codec', codecs.FORMATS)
@pytest.mark.parametrize('rate', [8000, 16000, 22050, 96000])
def test_codecs_keep_length_and_time(codec, rate):
  wave = speech.speech(0.7, rate)
  made = codecs.Compression(codec, 0.4)
  found, told = made.apply(wave, rate)
  assert found.dtype == np.float32 and len(found) == len(wave)
  assert np.isfinite(found).all() and told['bytes'] > 100
  assert abs(speech.lag(wave, found)) <= max(1, rate // 16000)
  correlation = np.corrcoef(wave, found)[0, 1]
  assert correlation > 0.97
  np.testing.assert_array_equal(found, made.apply(wave, rate)[0])


@pytest.mark.parametrize('codec', codecs.FORMATS)
@pytest.mark.parametrize('count', [0, 1, 37])
def test_short_and_silent(codec, count):
  for wave in (np.zeros(count, 'f'), np.full(count, 0.3, 'f')):
    for made in (codecs.Compression(codec, 0.5), codecs.Telephone()):
      found, _ = made.apply(wave, speech.RATE)
      assert len(found) == count and np.isfinite(found).all()


def test_stronger_compression_makes_less(monkeypatch):
  wave = speech.speech(1.0)
  sizes = [
    codecs.Compression('opus', level).apply(wave, speech.RATE)[1]['bytes']
    for level in (0.1, 0.5, 0.95)
  ]
  assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1.2 * sizes[-1]


def test_a_codec_that_is_not_there(monkeypatch):
  monkeypatch.setattr(codecs, 'available', lambda: ('vorbis',))
  with pytest.raises(errors.UserError, match='found mp3, expected .*: vorbis'):
    codecs.Compression('mp3', 0.5).apply(speech.speech(0.1), speech.RATE)
