"""All meters on sounds whose pace, pitch and level are known."""

import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import stretch
from step_audio_jax.audio.meters import measure as measure_lib
from tests.audio.meters import sounds

measure = measure_lib.measure


@pytest.mark.parametrize('hertz', [70.0, 100.0, 173.2, 250.0, 440.0])
@pytest.mark.parametrize('rate', [16000, 24000])
def test_pitch_is_in_semitones(hertz, rate):
  found = measure(sounds.buzz(0.8, hertz, rate=rate), rate)
  assert found.f0_hz == pytest.approx(hertz, rel=0.002)
  assert found.f0_semitones == pytest.approx(
    12 * np.log2(hertz / 100), abs=0.05
  )
  assert found.f0_range < 0.1


def test_the_range_is_that_of_a_glide():
  # Five semitones up; its middle nine tenths are four and a half.
  count = 32000
  hertz = 120 * 2 ** (np.linspace(0, 5, count) / 12)
  found = measure(sounds.buzz(2.0, hertz), sounds.RATE)
  assert found.f0_range == pytest.approx(4.5, abs=0.1)
  assert found.f0_semitones == pytest.approx(12 * np.log2(1.2) + 2.5, abs=0.05)


def test_a_few_frames_octaves_away_move_neither_pitch_nor_range():
  # As tracked in fricatives and creak of a low voice.
  low, high = sounds.buzz(1.8, 100.0), sounds.buzz(0.2, 520.0)
  parts = [low[:14400], high[:1600], low[14400:], high[1600:]]
  found = measure(np.concatenate(parts), sounds.RATE)
  assert found.f0_semitones == pytest.approx(0, abs=0.05)
  assert found.f0_range < 1


@pytest.mark.parametrize('gain', [1.0, 0.5, 0.1])
def test_the_level_follows_the_gain_and_not_the_silence(gain):
  wave = sounds.buzz(1.0)
  loud = measure(wave, sounds.RATE).level_db
  wanted = 10 * np.log10(np.mean(np.square(wave, dtype=float)))
  assert loud == pytest.approx(wanted, abs=0.05)
  parts = [sounds.quiet(0.7), wave * gain, sounds.quiet(1.0)]
  found = measure(np.concatenate(parts), sounds.RATE)
  # The frames at both edges are half empty.
  assert found.level_db == pytest.approx(loud + 20 * np.log10(gain), abs=0.15)


def test_the_rate_is_that_of_the_text_without_pauses():
  parts = sounds.buzz(0.5), sounds.quiet(0.5), sounds.buzz(0.5)
  wave = np.concatenate(parts)
  found = measure(wave, sounds.RATE, text='The red cat, 3!')
  assert found.unit == 'characters'
  assert found.rate == pytest.approx(10 / 1.0, rel=0.03)
  assert found.pause_share == pytest.approx(1 / 3, abs=0.02)
  assert (found.pauses, found.seconds) == (1, 1.5)
  assert measure(wave, sounds.RATE, text='你好，世界').rate == pytest.approx(
    4.0, rel=0.03
  )


def test_words_say_where_speech_is():
  wave = np.concatenate([sounds.buzz(2.0), sounds.quiet(0.3), sounds.buzz(0.5)])
  words = [('red', 0.5, 1.0), ('cats', 1.0, 2.8)]
  # 2.3 s from the first to the last, of which 0.3 s are a pause.
  found = measure(wave, sounds.RATE, words=words)
  assert found.rate == pytest.approx(7 / 2.0, rel=0.02)
  assert found.unit == 'characters'


@pytest.mark.parametrize('each', [0.15, 0.2, 0.25, 0.35])
def test_nuclei_are_counted_where_there_is_no_text(each):
  wave = sounds.syllables(9, each)
  found = measure(wave, sounds.RATE)
  assert found.unit == 'nuclei'
  assert found.rate * found.speech_seconds == pytest.approx(9)
  assert found.rate == pytest.approx(1 / each, rel=0.05)


def test_unvoiced_swells_are_no_nuclei():
  rng = np.random.default_rng(0)
  swell = np.sin(np.pi * np.arange(32000) / 4000) ** 2
  noise = rng.normal(size=32000) * swell * 0.1
  found = measure(noise.astype('f'), sounds.RATE)
  assert found.rate == 0 and found.f0_hz is None
  assert any(note.startswith('f0:') for note in found.notes)


@pytest.mark.parametrize('speed', [0.6, 0.8, 1.25, 1.7])
def test_stretching_changes_the_pace_alone(speed):
  wave = sounds.syllables(12, 0.22, 140.0)
  one = measure(wave, sounds.RATE, 'a' * 40)
  two = measure(stretch.stretch(wave, speed, 16000), sounds.RATE, 'a' * 40)
  assert two.rate / one.rate == pytest.approx(speed, rel=0.03)
  assert two.f0_semitones == pytest.approx(one.f0_semitones, abs=0.1)
  assert two.level_db == pytest.approx(one.level_db, abs=0.7)


def test_clipping_is_survived():
  wave = np.clip(6 * sounds.buzz(0.8, 150.0), -1, 1)
  found = measure(wave, sounds.RATE)
  assert found.f0_hz == pytest.approx(150, rel=0.002)
  assert -5 < found.level_db < 0


@pytest.mark.parametrize('samples', [0, 1, 399, 400, 480, 800, 1600])
def test_short_ones_are_not_computed(samples):
  found = measure(sounds.buzz(1.0)[:samples], sounds.RATE, 'hello')
  assert found.seconds == samples / sounds.RATE
  values = [v for v in found.to_json().values() if isinstance(v, float)]
  assert np.isfinite(values).all()
  if samples < 800:
    assert found.rate is found.level_db is found.f0_hz is None
    assert 'nothing computed' in found.notes[0]
  assert found.jitter is None and found.notes


@pytest.mark.parametrize('offset', [0.0, 0.5])
def test_silence_is_not_computed(offset):
  found = measure(sounds.quiet(1.0) + np.float32(offset), sounds.RATE, 'hi')
  assert found.rate is None and found.pause_share is None
  assert found.speech_seconds == 0 and len(found.notes) == 1


@pytest.mark.parametrize(
  'wave, message',
  [
    (np.array([0.1, np.nan], 'f'), 'sample 1 is nan, expected finite'),
    (np.array([np.inf], 'f'), 'sample 0 is inf, expected finite'),
    (np.zeros((2, 100), 'f'), 'expected floating-point samples'),
    (np.zeros(100, np.int16), 'expected floating-point samples'),
  ],
)
def test_what_is_no_sound_is_named(wave, message):
  with pytest.raises(errors.UserError, match=message):
    measure(wave, sounds.RATE)


@pytest.mark.parametrize('rate', [0, 16000.5, 3999])
def test_rates_that_are_none(rate):
  with pytest.raises(errors.UserError, match='sample_rate: found'):
    measure(sounds.buzz(0.5), rate)


def test_it_is_json():
  value = measure(sounds.buzz(1.0), sounds.RATE, 'one').to_json()
  assert json.loads(json.dumps(value, allow_nan=False)) == value
  assert (
    set(measure_lib.METERS.values()) == set(measure_lib.UNITS) <= set(value)
  )
