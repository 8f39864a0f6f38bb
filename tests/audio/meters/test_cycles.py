"""Jitter and shimmer of pulses that alternate by a known amount."""

import numpy as np
import pytest

from step_audio_jax.audio.features import pitch
from step_audio_jax.audio.meters import cycles
from tests.audio.meters import sounds


def told(wave, rate=sounds.RATE):
  hop = rate // 100
  hz_T = pitch.track(wave, rate, hop)
  return cycles.jitter_and_shimmer(wave, rate, hz_T, hop)


def alternating(count, mean, share):
  """mean (1 + share), mean (1 − share), mean (1 + share), …"""
  return mean * (1 + share * (-1.0) ** np.arange(count))


@pytest.mark.parametrize('share', [0.005, 0.01, 0.02])
@pytest.mark.parametrize('rate', [16000, 44100])
def test_jitter_of_alternating_periods(share, rate):
  """Neighbours differ by 2 · share of the mean."""
  periods = alternating(120, 1 / 110, share)
  jitter, shimmer = told(sounds.pulses(periods, np.ones(120), rate), rate)
  assert jitter == pytest.approx(2 * share, rel=0.1)
  assert shimmer < 0.01


@pytest.mark.parametrize('share', [0.01, 0.03, 0.06])
def test_shimmer_of_alternating_amplitudes(share):
  # Whole samples. Much more, and two of them are the period.
  periods = np.full(120, 1 / 125)
  wave = sounds.pulses(periods, alternating(120, 1.0, share))
  jitter, shimmer = told(wave)
  assert shimmer == pytest.approx(2 * share, rel=0.05)
  assert jitter < 0.001


@pytest.mark.parametrize('hertz', [90.0, 151.3, 310.0])
def test_a_steady_voice_has_next_to_none(hertz):
  jitter, shimmer = told(sounds.buzz(1.0, hertz))
  assert jitter < 0.001
  assert shimmer < 0.01


def test_noise_and_little_have_none():
  rng = np.random.default_rng(0)
  assert told(rng.normal(size=8000).astype('f') * 0.1) == (None, None)
  assert told(sounds.buzz(0.05)) == (None, None)
  assert told(sounds.quiet(0.5)) == (None, None)
