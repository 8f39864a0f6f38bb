"""The F0 tracker against sounds whose F0 is known in closed form."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import pitch

RATE, HOP = 22050, 256


def frames_of(values_S):
  """What a track of the samples should say: values at the frames' middles."""
  count = len(values_S) // HOP
  return values_S[HOP // 2 :: HOP][:count]


def buzz(f0_S, harmonics=12, rate=RATE):
  """Harmonics with falling amplitudes of a moving fundamental."""
  phase_S = 2 * np.pi * np.cumsum(f0_S) / rate
  return sum(
    np.sin(h * phase_S + h * h) / h
    for h in range(1, harmonics + 1)
    if h * f0_S.max() < rate / 2
  )


@pytest.mark.parametrize(
  'low, high', [(80, 140), (180, 330), (420, 560), (300, 90)], ids=str
)
def test_a_gliding_buzz(low, high):
  f0_S = np.linspace(low, high, 17777)
  got = pitch.track(0.2 * buzz(f0_S), RATE, HOP)
  want = frames_of(f0_S)
  assert got.shape == want.shape and got.dtype == np.float32
  # The ends, where half of a window is empty, glide more coarsely.
  cents = 1200 * np.abs(np.log2(got[4:-4] / want[4:-4]))
  assert cents.max() < 10


def test_a_missing_fundamental_and_noise():
  f0_S = np.full(16000, 130.0)
  rng = np.random.default_rng(0)
  wave = buzz(f0_S) - np.sin(2 * np.pi * np.cumsum(f0_S) / RATE)
  wave += 0.1 * rng.normal(size=len(wave))
  got = pitch.track(wave, RATE, HOP)
  np.testing.assert_allclose(got[3:-3], 130.0, rtol=0.01)


def test_noise_and_silence_are_unvoiced():
  rng = np.random.default_rng(1)
  parts = [
    np.zeros(8192),
    buzz(np.full(8192, 200.0)),
    rng.normal(size=8192) * 0.3,
    1e-3 * buzz(np.full(8192, 200.0)),  # too quiet beside the rest
  ]
  got = pitch.track(np.concatenate(parts), RATE, HOP).reshape(4, -1)
  assert not got[0, :-2].any()
  np.testing.assert_allclose(got[1, 2:-2], 200.0, rtol=0.005)
  assert not got[2, 2:-2].any()
  assert not got[3, 2:].any()


def test_the_scale_and_an_offset_do_not_matter():
  f0_S = np.linspace(150, 170, 9000)
  wave = buzz(f0_S)
  base = pitch.track(wave, RATE, HOP)
  assert (base[3:-3] > 0).all()
  np.testing.assert_allclose(
    pitch.track(1e-4 * wave, RATE, HOP), base, rtol=1e-4
  )
  # An offset ends where the recording does: only the middle is free of it.
  shifted = pitch.track(wave + 0.5, RATE, HOP)
  np.testing.assert_allclose(shifted[4:-4], base[4:-4], rtol=1e-2)


@pytest.mark.parametrize('rate, hop', [(16000, 160), (24000, 480)])
def test_other_rates_and_hops(rate, hop):
  wave = buzz(np.full(rate, 110.0), rate=rate)
  got = pitch.track(wave, rate, hop)
  assert len(got) == rate // hop
  np.testing.assert_allclose(got[4:-4], 110.0, rtol=2e-3)


@pytest.mark.parametrize('samples', [0, 100, 256, 700])
def test_short_and_constant_recordings(samples):
  for wave in (np.zeros(samples), np.full(samples, 0.3)):
    assert pitch.track(wave, RATE, HOP).tolist() == [0] * (samples // HOP)
  rng = np.random.default_rng(2)
  got = pitch.track(rng.normal(size=samples), RATE, HOP)
  assert len(got) == samples // HOP and np.isfinite(got).all()


def test_bad_settings_say_what_is_wrong():
  with pytest.raises(errors.UserError, match='expected a positive range'):
    pitch.PitchConfig(low_hz=400.0, high_hz=300.0)
  with pytest.raises(errors.UserError, match='candidates is 0'):
    pitch.PitchConfig(candidates=0)
