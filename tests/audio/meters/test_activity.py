"""Speech and pauses of sounds whose gaps are known."""

import numpy as np
import pytest

from step_audio_jax.audio.meters import activity
from tests.audio.meters import sounds


def joined(*parts):
  return np.concatenate(parts)


@pytest.mark.parametrize('rate', [8000, 16000, 22050, 44100])
@pytest.mark.parametrize('gap', [0.25, 0.4, 1.0])
def test_gaps_are_as_long_as_they_are(gap, rate):
  one, two = sounds.buzz(0.5, rate=rate), sounds.buzz(0.7, 200, rate=rate)
  found = activity.find(
    joined(
      *(sounds.quiet(0.3, rate), one, sounds.quiet(gap, rate), two),
      sounds.quiet(0.6, rate),
    ),
    rate,
  )
  assert found.begin == pytest.approx(0.3, abs=0.015)
  assert found.end == pytest.approx(1.5 + gap, abs=0.015)
  ((start, end),) = found.pauses
  assert start == pytest.approx(0.8, abs=0.015)
  assert end - start == pytest.approx(gap, abs=0.02)
  assert found.pause_seconds == pytest.approx(gap, abs=0.02)
  assert found.speech_seconds == pytest.approx(1.2, abs=0.03)


def test_what_is_shorter_than_a_pause_is_none():
  for gap, count in ((0.1, 0), (0.17, 0), (0.23, 1)):
    parts = sounds.buzz(0.4), sounds.quiet(gap), sounds.buzz(0.4)
    assert len(activity.find(joined(*parts), sounds.RATE).pauses) == count


def test_a_click_is_no_speech():
  click = np.zeros(16000, np.float32)
  click[8000:8030] = 0.9 * (-1) ** np.arange(30)
  assert not activity.find(click, sounds.RATE).active_T.any()
  found = activity.find(joined(click, sounds.buzz(0.5)), sounds.RATE)
  assert found.begin == pytest.approx(1.0, abs=0.015)


def test_sound_to_the_ends_is_all_speech():
  wave = sounds.buzz(0.503)
  found = activity.find(wave, sounds.RATE)
  assert (found.begin, found.end) == (0.0, len(wave) / sounds.RATE)
  assert not found.pauses and found.active_T.all()


def test_quiet_noise_below_loud_speech_is_a_pause():
  rng = np.random.default_rng(0)
  noise = 1e-3 * rng.standard_normal(32000)
  wave = joined(sounds.buzz(0.5), sounds.quiet(0.5), sounds.buzz(1.0))
  assert len(activity.find(wave + noise, sounds.RATE).pauses) == 1
  # 20 dB below the speech it hides the pause, as is stated.
  loud = wave + 20 * noise
  assert not activity.find(loud, sounds.RATE).pauses


@pytest.mark.parametrize('amplitude', [1.0, 0.1, 0.01])
@pytest.mark.parametrize('offset', [0.0, 0.2])
def test_levels_are_those_of_sines(amplitude, offset):
  time = np.arange(16000) / sounds.RATE
  wave = amplitude * np.sin(2 * np.pi * 200 * time) + offset
  level_T = activity.decibels(activity.frame_powers(wave, sounds.RATE))
  wanted = 20 * np.log10(amplitude) - 10 * np.log10(2)
  np.testing.assert_allclose(level_T, wanted, atol=0.01)


@pytest.mark.parametrize('samples', [0, 1, 100, 399, 400, 401])
def test_short_ones(samples):
  wave = sounds.buzz(1.0)[:samples]
  found = activity.find(wave, sounds.RATE)
  assert len(found.power_T) == (samples >= 400)
  assert found.speech_seconds == found.begin == found.end == 0
  assert not found.pauses


def test_runs():
  flags = np.array([1, 1, 0, 0, 1, 0, 1], bool)
  assert activity.runs(flags) == [(0, 2), (4, 5), (6, 7)]
  assert activity.runs(flags[:0]) == []
