"""Full attention on both paths against a float64 loop, ragged rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels.attention import full


def oracle(q, k, v, lengths):
  """In float64, row by row and head by head, over the real keys alone."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  out = np.zeros(q.shape)
  for b, length in enumerate(lengths):
    for h in range(q.shape[2]):
      scores = q[b, :, h] @ k[b, :length, h].T / np.sqrt(q.shape[-1])
      weights = np.exp(scores - scores.max(axis=1, keepdims=True))
      weights /= weights.sum(axis=1, keepdims=True)
      out[b, :, h] = weights @ v[b, :length, h]
  return out


def drawn(keys, queries=7, rows=3, heads=2, width=5):
  rng = np.random.default_rng(keys)
  shapes = [(rows, n, heads, width) for n in (queries, keys, keys)]
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


# Below and above the length from which heads go one by one.
@pytest.mark.parametrize('keys', [33, 300])
def test_equals_the_oracle_on_ragged_rows(keys):
  q, k, v = drawn(keys)
  lengths = np.array([keys, keys // 3, 1])
  valid = np.arange(keys)[None] < lengths[:, None]
  # What padding holds must not matter.
  k, v = (np.where(valid[:, :, None, None], x, 50.0) for x in (k, v))
  got = jax.jit(full.attention)(q, k, v, valid)
  np.testing.assert_allclose(got, oracle(q, k, v, lengths), atol=1e-5)


@pytest.mark.parametrize('keys', [33, 300])
def test_without_a_mask_all_keys_are_seen(keys):
  q, k, v = drawn(keys)
  got = full.attention(*map(jnp.asarray, (q, k, v)))
  np.testing.assert_allclose(got, oracle(q, k, v, [keys] * 3), atol=1e-5)


def test_large_scores_do_not_overflow():
  q, k, v = drawn(300)
  got = full.attention(*map(jnp.asarray, (200 * q, 200 * k, v)))
  assert np.isfinite(got).all()
  np.testing.assert_allclose(
    got, oracle(200 * q, 200 * k, v, [300] * 3), atol=2e-2
  )


def test_both_paths_have_the_same_gradients():
  q, k, v = (jnp.asarray(x) for x in drawn(300))
  bias = jnp.where(jnp.arange(300) < 211, 0.0, -1e30)[None] * jnp.ones((3, 1))

  def total(function):
    return jax.grad(
      lambda q, k, v: jnp.square(function(q, k, v, bias)).sum(), (0, 1, 2)
    )(q, k, v)

  for one, other in zip(total(full._one_by_one), total(full._together)):
    np.testing.assert_allclose(one, other, atol=2e-5)
