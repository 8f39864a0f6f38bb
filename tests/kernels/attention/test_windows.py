"""Attention in windows against a float64 loop: few keys, many, and none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels.attention import windows


def drawn(pieces, queries=3, rows=2, count=4, heads=2, width=5):
  rng = np.random.default_rng(sum(pieces))

  def normal(frames):
    shape = (rows, count, frames, heads, width)
    return rng.normal(size=shape).astype(np.float32)

  keys, values = ([normal(n) for n in pieces] for _ in range(2))
  mask = rng.random((rows, count, queries, sum(pieces))) < 0.6
  mask[0, 1, 2] = False  # a query that sees nothing
  return normal(queries), keys, values, mask


def oracle(q, keys, values, mask):
  k, v = (np.concatenate(x, axis=2).astype(np.float64) for x in (keys, values))
  out = np.zeros(q.shape)
  for b, c, w in np.ndindex(mask.shape[:3]):
    seen = mask[b, c, w]
    for h in range(q.shape[3]):
      scores = k[b, c, seen, h] @ q[b, c, w, h] / np.sqrt(q.shape[-1])
      weights = np.exp(scores - scores.max(initial=-np.inf))
      if seen.any():
        out[b, c, w, h] = weights @ v[b, c, seen, h] / weights.sum()
  return out


# Added up, and by a product.
@pytest.mark.parametrize('pieces', [(4, 4, 1), (9,), (40, 33)])
def test_equals_the_oracle_and_none_seen_is_zero(pieces):
  q, keys, values, mask = drawn(pieces)
  got = jax.jit(windows.attention)(q, keys, values, mask)
  np.testing.assert_allclose(got, oracle(q, keys, values, mask), atol=1e-5)
  assert not np.any(got[0, 1, 2])


def test_gradients_are_those_of_the_product(monkeypatch):
  q, keys, values, mask = drawn((4, 4, 3))
  rng = np.random.default_rng(9)
  wanted = rng.normal(size=q.shape).astype(np.float32)

  def loss(q, keys, values):
    return jnp.sum(windows.attention(q, keys, values, mask) * wanted)

  added = jax.grad(loss, argnums=(0, 1, 2))(q, keys, values)
  monkeypatch.setattr(windows, '_FEW', 0)
  product = jax.grad(loss, argnums=(0, 1, 2))(q, keys, values)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), added, product
  )
  assert all(np.abs(g).max() > 1e-3 for g in jax.tree.leaves(added))
