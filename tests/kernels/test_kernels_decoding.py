"""Attention over a cache against the dense oracle, caches half full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels import decoding
from step_audio_jax.kernels import reference

B, S, H, D = 3, 21, 6, 8
FILLED = (5, 21, 13)


def case(T, G, seed=0):
  """T new tokens at the end of what each row's cache holds."""
  rng = np.random.default_rng(seed)
  q = rng.normal(size=(B, T, H, D)).astype(np.float32)
  k, v = rng.normal(size=(2, B, S, G, D)).astype(np.float32)
  positions = np.tile(np.arange(S, dtype=np.int32), (B, 1))
  segments = (positions < np.asarray(FILLED)[:, None]).astype(np.int32)
  places = np.asarray(FILLED)[:, None] - T + np.arange(T)[None]
  ids = dict(
    q_positions_BT=places.astype(np.int32),
    kv_positions_BS=positions,
    q_segment_ids_BT=np.ones((B, T), np.int32),
    kv_segment_ids_BS=segments,
  )
  return q, k, v, ids


def lying(x_BSGD):
  """As the cache has it: (B x G, S, D)."""
  return x_BSGD.swapaxes(1, 2).reshape(-1, S, D)


@pytest.mark.parametrize('T', [1, 4])
@pytest.mark.parametrize('G', [1, 2, 6])
@pytest.mark.parametrize('slopes', [False, True])
def test_equals_the_dense_oracle(T, G, slopes):
  q, k, v, ids = case(T, G)
  slopes_H = reference.alibi_slopes(H) if slopes else None
  expected = reference.attention(q, k, v, slopes_H=slopes_H, **ids)
  found = jax.jit(decoding.attention)(
    q, lying(k), lying(v), slopes_H=slopes_H, **ids
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_places_that_hold_nothing_do_not_matter():
  q, k, v, ids = case(1, 2)
  empty = (ids['kv_segment_ids_BS'] == 0)[:, :, None, None]
  cache = [lying(x) for x in (k, v)]
  other = [lying(np.where(empty, 1e3, x)) for x in (k, v)]
  np.testing.assert_array_equal(
    decoding.attention(q, *cache, **ids), decoding.attention(q, *other, **ids)
  )


def test_out_is_in_the_dtype_of_the_values():
  q, k, v, ids = case(2, 2)
  half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
  found = decoding.attention(half[0], lying(half[1]), lying(half[2]), **ids)
  assert found.dtype == jnp.bfloat16
  expected = reference.attention(q, k, v, **ids)
  np.testing.assert_allclose(
    found.astype(jnp.float32), expected, atol=0.05, rtol=0.05
  )
