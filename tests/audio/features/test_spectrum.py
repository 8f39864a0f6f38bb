"""Magnitude spectrograms against numpy, frame by frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.audio.features import framing
from step_audio_jax.audio.features import spectrum


@pytest.mark.parametrize(
  'fft, window, hop, edge', [(64, 64, 16, 24), (64, 40, 10, 32)]
)
def test_every_frame_is_numpys(fft, window, hop, edge):
  rng = np.random.default_rng(0)
  wave = rng.normal(size=(2, 333)).astype(np.float32)
  got = spectrum.magnitude(
    jnp.asarray(wave), fft=fft, window=window, hop=hop, edge=edge
  )
  count = spectrum.frame_count(333, fft=fft, hop=hop, edge=edge)
  assert got.shape == (2, count, fft // 2 + 1)
  left = (fft - window) // 2
  shape = np.zeros(fft)
  # The periodic Hann window, from its formula.
  turns = np.arange(window) / window
  shape[left : left + window] = 0.5 - 0.5 * np.cos(2 * np.pi * turns)
  padded = np.pad(wave, ((0, 0), (edge, edge)), mode='reflect')
  for t in range(count):
    part = padded[:, t * hop : t * hop + fft] * shape
    want = np.sqrt(np.abs(np.fft.rfft(part)) ** 2 + 1e-9)
    np.testing.assert_allclose(got[:, t], want, atol=1e-4)


def test_without_lengths_rows_fill_the_array():
  wave = jax.random.normal(jax.random.key(0), (3, 200))
  full = jnp.full(3, 200)
  for left, right in ((24, 230), (30, 190), (0, 200)):
    np.testing.assert_array_equal(
      framing.reflect_pad(wave, None, left, right),
      framing.reflect_pad(wave, full, left, right),
    )


def test_silence_has_a_gradient():
  def total(wave):
    return spectrum.magnitude(wave, fft=64, window=64, hop=16, edge=32).sum()

  assert jnp.isfinite(jax.grad(total)(jnp.zeros((1, 200)))).all()
