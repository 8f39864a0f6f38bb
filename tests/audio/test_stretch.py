"""Speed without pitch, on tones whose pitch is known."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import stretch

RATE = 22050


def voice(seconds, hertz=140.0):
  """Eight harmonics under a slow swell, as a vowel has them."""
  t = np.arange(int(seconds * RATE)) / RATE
  tone = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 9))
  return (0.2 * tone * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))).astype('f')


def strongest(wave):
  """Frequency of the largest peak of the spectrum, Hz."""
  size = 1 << 18
  spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size))
  return spectrum.argmax() * RATE / size


@pytest.mark.parametrize('speed', [0.5, 0.77, 1.2, 2.0])
@pytest.mark.parametrize('hertz', [90.0, 231.0])
def test_length_changes_and_pitch_does_not(speed, hertz):
  wave = voice(1.3, hertz)
  found = stretch.stretch(wave, speed, RATE)
  assert len(found) == round(len(wave) / speed)
  assert found.dtype == np.float32
  assert strongest(found) == pytest.approx(hertz, rel=0.01)


@pytest.mark.parametrize('speed', [0.6, 1.7])
def test_no_piece_cancels_another(speed):
  # A steady tone stays as loud as it was, everywhere.
  t = np.arange(RATE) / RATE
  wave = np.sin(2 * np.pi * 123 * t).astype('f')
  found = stretch.stretch(wave, speed, RATE)
  frames = found[: len(found) // 441 * 441].reshape(-1, 441)
  loudness = np.sqrt(np.mean(frames**2, axis=1))[3:-3]
  np.testing.assert_allclose(loudness, 0.5**0.5, atol=0.1)


def test_events_come_at_their_new_times():
  rng = np.random.default_rng(0)
  wave = np.zeros(RATE, np.float32)
  for at in (0.2, 0.8):
    wave[int(at * RATE) :][:600] = rng.normal(size=600) * 0.3
  found = np.abs(stretch.stretch(wave, 1.25, RATE))
  loud = np.flatnonzero(found > 0.15) / RATE
  assert loud.min() == pytest.approx(0.16, abs=0.03)
  assert loud[loud > 0.4].min() == pytest.approx(0.64, abs=0.03)


def test_speed_one_changes_nothing_and_short_pieces_pass():
  wave = voice(0.2)
  np.testing.assert_array_equal(stretch.stretch(wave, 1.0, RATE), wave)
  for samples in (0, 1, 7, 500):
    found = stretch.stretch(wave[:samples], 1.5, RATE)
    assert len(found) == round(samples / 1.5)
    assert np.isfinite(found).all()


@pytest.mark.parametrize('speed', [0.49, 2.01, 0.0, -1.0, float('nan')])
def test_a_speed_outside_the_range_is_named(speed):
  with pytest.raises(errors.UserError, match=r'expected a number from 0\.5 to'):
    stretch.stretch(voice(0.1), speed, RATE)
