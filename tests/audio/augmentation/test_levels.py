"""Gain, clipping, ceilings and speeds."""

import numpy as np
import pytest

from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import speed
from tests.audio.augmentation import speech

RATE = speech.RATE


def test_gain_is_in_decibels():
  wave = speech.speech(0.2)
  found, _ = levels.Gain(-6.0).apply(wave, RATE)
  change = 10 * np.log10(base.power(found) / base.power(wave))
  assert change == pytest.approx(-6.0, abs=1e-4)
  assert found.dtype == np.float32


def test_clipping_is_counted():
  wave = np.array([0.5, -0.5, 0.1, -0.3, 0.2, 0.0], np.float32)
  found, told = levels.Clipping(0.5).apply(wave, RATE)
  np.testing.assert_array_equal(
    found, np.array([0.25, -0.25, 0.1, -0.25, 0.2, 0.0], np.float32)
  )
  assert told == {'clipped': 3}
  whole, told = levels.Clipping(1.0).apply(wave, RATE)
  np.testing.assert_array_equal(whole, wave)
  assert told == {'clipped': 0}


@pytest.mark.parametrize('peak', [0.3, 0.999, 1.0, 3.7, 1e6])
def test_nothing_passes_the_ceiling(peak):
  wave = speech.speech(0.2)
  wave = wave / np.abs(wave).max() * np.float32(peak)
  found, told = levels.Ceiling().apply(wave, RATE)
  assert np.abs(found).max() <= np.float32(0.999)
  if peak <= 0.999:
    np.testing.assert_array_equal(found, wave)
  else:
    assert told['gain_db'] == pytest.approx(
      20 * np.log10(0.999 / peak), abs=1e-5
    )


@pytest.mark.parametrize(
  'one',
  [levels.Gain(3.0), levels.Clipping(0.5), levels.Ceiling(),
   speed.Speed(1.1), speed.Tempo(0.8)],
)  # fmt: skip
@pytest.mark.parametrize('count', [0, 1, 2, 40])
def test_short_and_silent(one, count):
  for wave in (np.zeros(count, 'f'), np.full(count, 0.3, 'f')):
    found, _ = one.apply(wave, RATE)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    assert len(found) == round(count * one.time_scale)


@pytest.mark.parametrize('factor', [0.5, 0.93, 1.0, 1.17, 2.0])
@pytest.mark.parametrize('kind', [speed.Speed, speed.Tempo])
def test_words_are_where_their_times_say(kind, factor):
  wave = np.zeros(RATE, np.float32)
  times = (0.25, 0.6)
  for at in times:
    burst = np.sin(2 * np.pi * 400 * np.arange(800) / RATE)
    wave[int(at * RATE) :][:800] = burst * np.hanning(800)
  made = kind(factor)
  found, _ = made.apply(wave, RATE)
  assert len(found) == round(len(wave) / factor)
  for at in times:
    begin, end = (x * made.time_scale for x in (at, at + 0.05))
    inside = found[int(begin * RATE) : int(end * RATE)]
    where = np.sum(inside**2 * np.arange(len(inside))) / np.sum(inside**2)
    assert where / len(inside) == pytest.approx(0.5, abs=0.2)


def test_speed_moves_the_pitch_and_tempo_does_not():
  time = np.arange(RATE) / RATE
  wave = np.sin(2 * np.pi * 500 * time).astype(np.float32)
  for made, hertz in ((speed.Speed(1.2), 600), (speed.Tempo(1.2), 500)):
    found, _ = made.apply(wave, RATE)
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found)), 1 << 17))
    assert spectrum.argmax() * RATE / (1 << 17) == pytest.approx(
      hertz, rel=0.005
    )
