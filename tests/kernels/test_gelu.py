"""The exact GELU against Python's own error function."""

import math

import jax
import numpy as np

from step_audio_jax.kernels import gelu


def test_values_and_slopes_are_those_of_the_closed_form():
  x = np.concatenate([np.linspace(-9.0, 9.0, 361), [-40.0, 40.0, 0.0]]).astype(
    np.float32
  )
  cumulative = [0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()]
  density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
  np.testing.assert_allclose(gelu.gelu(x), x * cumulative, atol=1e-6, rtol=1e-6)
  slopes = jax.vmap(jax.grad(gelu.gelu))(x)
  np.testing.assert_allclose(slopes, cumulative + x * density, atol=2e-6)
