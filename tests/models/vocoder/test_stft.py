"""The transform of a few points against numpy's FFT."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.models.vocoder import stft as short_fourier

stft = jax.jit(short_fourier.stft, static_argnums=(1, 2, 4))
inverse_stft = jax.jit(short_fourier.inverse_stft, static_argnums=(2, 4))
SIZES = [(16, 4), (8, 2), (12, 3), (16, 8)]


def waves(rows, samples, seed=0):
  rng = np.random.default_rng(seed)
  return rng.standard_normal((rows, samples)).astype(np.float32)


def frames(wave, fft, hop, left, right):
  """Windowed spectra of a padded wave, by numpy."""
  padded = np.pad(wave, (left, right), mode='reflect' if right else 'constant')
  count = (len(padded) - fft) // hop + 1
  parts = [padded[i * hop : i * hop + fft] for i in range(count)]
  window = np.hanning(fft + 1)[:-1]
  return np.fft.rfft(np.stack(parts) * window, axis=1)


@pytest.mark.parametrize('fft, hop', SIZES)
def test_spectra_are_numpys(fft, hop):
  wave = waves(1, 10 * fft)
  for causal in (False, True):
    sides = (fft - hop, 0) if causal else (fft // 2, fft // 2)
    want = frames(wave[0], fft, hop, *sides)
    got = np.asarray(stft(wave, fft, hop, None, causal))[0]
    assert len(got) == wave.shape[1] // hop + (not causal)
    np.testing.assert_allclose(got[:, : fft // 2 + 1], want.real, atol=2e-5)
    np.testing.assert_allclose(got[:, fft // 2 + 1 :], want.imag, atol=2e-5)


@pytest.mark.parametrize('fft, hop', SIZES[:3])
def test_the_inverse_gives_the_signal_back(fft, hop):
  wave = waves(2, 9 * fft)
  x = np.asarray(short_fourier.stft(wave, fft, hop))
  bins = fft // 2 + 1
  z = x[..., :bins] + 1j * x[..., bins:]
  back = inverse_stft(np.abs(z), np.angle(z).astype(np.float32), hop)
  np.testing.assert_allclose(back, wave, atol=2e-6)


def test_the_causal_inverse_is_the_signal_later_and_waits_for_nothing():
  fft, hop = 16, 4
  wave = waves(1, 160)
  x = np.asarray(stft(wave, fft, hop, None, True))
  z = x[..., :9] + 1j * x[..., 9:]

  def inverse(z):
    magnitude, phase = np.abs(z), np.angle(z).astype(np.float32)
    return np.asarray(inverse_stft(magnitude, phase, hop, None, True))[0]

  back = inverse(z)
  assert len(back) == 160
  late = fft - hop
  np.testing.assert_allclose(back[late:], wave[0, :-late], atol=2e-6)
  # A frame reaches no sample before it.
  z[:, 20, 2] += 7
  changed = np.flatnonzero(np.abs(inverse(z) - back) > 1e-6)
  assert changed.min() >= 20 * hop and changed.max() < 20 * hop + fft


def test_rows_that_end_early_are_as_they_are_alone():
  fft, hop = 16, 4
  wave, counts = waves(3, 80), np.array([80, 36, 16], np.int32)
  for row, count in enumerate(counts):
    wave[row, count:] = 9.0
  x = stft(wave, fft, hop, jnp.asarray(counts))
  magnitude, phase = np.abs(x[..., :9]) + 0.1, np.asarray(x[..., 9:])
  both = inverse_stft(magnitude, phase, hop, jnp.asarray(counts // hop + 1))
  for row, count in enumerate(counts):
    n = count // hop + 1
    alone = stft(wave[row : row + 1, :count], fft, hop)
    np.testing.assert_allclose(x[row, :n], alone[0], atol=1e-6)
    back = inverse_stft(
      magnitude[row : row + 1, :n], phase[row : row + 1, :n], hop
    )
    np.testing.assert_allclose(both[row, :count], back[0], atol=1e-5)


@pytest.mark.parametrize(
  'size, step, left, count',
  [
    (16, 4, 8, 40),
    (11, 5, 3, 35),
    (7, 3, 2, 21),
    (4, 4, 0, 28),
    (5, 2, 1, 30),
  ],
)
def test_overlap_add_is_the_loop(size, step, left, count):
  parts = np.random.default_rng(0).standard_normal((2, 7, size, 3), np.float32)
  want = np.zeros((2, 200, 3))
  for i in range(7):
    want[:, i * step : i * step + size] += parts[:, i]
  got = short_fourier.overlap_add(jnp.asarray(parts), step, left, count)
  np.testing.assert_allclose(got, want[:, left : left + count], atol=1e-6)
