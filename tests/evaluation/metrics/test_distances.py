"""Distances of recordings against closed forms."""

import numpy as np
import pytest

from step_audio_jax.evaluation.metrics import distances


def mel(frames=37, bands=20, seed=0):
  return np.random.default_rng(seed).normal(size=(frames, bands))


def test_equal_mels_are_at_no_distance_and_tails_do_not_count():
  one = mel()
  longer = np.concatenate([one, mel(5, seed=1)])
  assert distances.mel_distance(one, longer) == 0
  assert distances.mel_cepstral_distortion(longer, one) == 0


def test_loudness_moves_the_mel_and_not_the_cepstrum():
  one = mel()
  assert distances.mel_distance(one, one + 0.5) == pytest.approx(0.5)
  assert distances.mel_cepstral_distortion(one, one + 0.5) == pytest.approx(0)


@pytest.mark.parametrize('k', [1, 4, 13])
def test_one_coefficient_gives_its_closed_form(k):
  bands = 40
  wave = np.cos(np.pi * k * (np.arange(bands) + 0.5) / bands)
  one = mel(11, bands)
  # The wave's own coefficient is a half, as Σ cos² = bands / 2.
  expected = 10 / np.log(10) * np.sqrt(2 * (0.3 / 2) ** 2)
  found = distances.mel_cepstral_distortion(one, one + 0.3 * wave)
  assert found == pytest.approx(expected)


def test_higher_coefficients_are_left_out():
  bands = 40
  wave = np.cos(np.pi * 14 * (np.arange(bands) + 0.5) / bands)
  one = mel(11, bands)
  assert distances.mel_cepstral_distortion(one, one + wave) == pytest.approx(0)


def test_pitch_counts_where_both_are_voiced():
  one = np.array([0, 100, 110, 120, 0, 130.0])
  two = np.array([0, 200, 220, 0, 90, 260.0, 50])
  found = distances.pitch_difference(one, two)
  assert found['cents'] == pytest.approx(1200)
  assert found['correlation'] == pytest.approx(1)
  assert found['voicing'] == pytest.approx(2 / 6)


def test_pitch_of_silence_is_not_a_number():
  found = distances.pitch_difference(np.zeros(5), np.ones(5) * 100)
  assert np.isnan(found['cents']) and np.isnan(found['correlation'])
  assert found['voicing'] == 1
  assert distances.pitch_difference(np.zeros(0), np.zeros(0))['voicing'] == 0


def test_cosine():
  assert distances.cosine([1, 0], [2, 0]) == pytest.approx(1)
  assert distances.cosine([1, 0], [0, 3]) == 0
  assert distances.cosine([0, 0], [0, 3]) == 0


def test_means_leave_out_what_is_no_number():
  rows = [{'a': 1.0, 'b': float('nan')}, {'a': 2.0, 'b': 4.0}, {'c': 1.0}]
  found = distances.means([*rows, {'d': float('nan')}])
  assert found['a'] == 1.5 and found['b'] == 4.0 and found['c'] == 1.0
  assert np.isnan(found['d'])
