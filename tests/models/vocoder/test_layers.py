"""Layers of HiFT against the formulas they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.models.vocoder import layers


def test_sine_squared_is_that_of_double_precision():
  rng = np.random.default_rng(0)
  near = rng.uniform(-4, 4, 20000)
  far = rng.uniform(-300, 300, 20000)
  for z, most in ((near, 4e-7), (far, 6e-7)):
    z = z.astype(np.float32)
    got = np.asarray(jax.jit(layers.snake)(z))
    assert np.abs(got - np.sin(z.astype(np.float64)) ** 2).max() < most
  edges = np.array([0, np.pi / 2, np.pi, -np.pi / 2, 1e-20], np.float32)
  want = np.sin(edges.astype(np.float64)) ** 2
  np.testing.assert_allclose(layers.snake(edges), want, atol=2e-7)


def test_snake_and_its_derivatives():
  x = np.random.default_rng(1).standard_normal((2, 9, 3)).astype(np.float32)
  alpha = np.array([0.3, 1.0, 2.5], np.float32)

  def snake(alpha, x):
    return layers.Snake().apply({'params': {'alpha': alpha}}, x)

  def plain(alpha, x):
    return x + jnp.sin(alpha[None, None] * x) ** 2 / (alpha[None, None] + 1e-9)

  np.testing.assert_allclose(snake(alpha, x), plain(alpha, x), atol=2e-6)
  for place in (0, 1):
    got, want = (
      jax.grad(lambda a, b, f=f: jnp.sum(f(a, b) ** 2), place)(alpha, x)
      for f in (snake, plain)
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kernel, rate', [(16, 8), (11, 5), (7, 3), (4, 4)])
def test_upsampling_is_the_scattered_sum(kernel, rate):
  rng = np.random.default_rng(kernel)
  x = rng.standard_normal((2, 6, 3)).astype(np.float32)
  w = rng.standard_normal((kernel, 3, 2)).astype(np.float32)
  bias = rng.standard_normal(2).astype(np.float32)
  cut = (kernel - rate) // 2
  out = np.zeros((2, 6 * rate + kernel, 2))
  for t in range(6):
    for j in range(kernel):
      out[:, t * rate + j] += x[:, t] @ w[j]
  layer = layers.Upsample(2, kernel, rate, cut)
  got = layer.apply({'params': {'kernel': w, 'bias': bias}}, x)
  np.testing.assert_allclose(
    got, out[:, cut : cut + 6 * rate] + bias, atol=1e-5
  )


def test_inside_ends_rows():
  x = np.ones((2, 4, 1), np.float32)
  got = layers.mask_padding(x, np.array([4, 2]))
  np.testing.assert_array_equal(got[..., 0], [[1, 1, 1, 1], [1, 1, 0, 0]])
  assert layers.mask_padding(x, None) is x
