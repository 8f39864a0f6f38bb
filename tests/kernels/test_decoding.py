"""Attention over a cache against the dense oracle, caches half full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels import decoding
from step_audio_jax.kernels.attention import reference

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


def lying(k_BSGD, v_BSGD, block=7):
  """As the cache has them: (B x G, J, D, s) and (B x G, S, D)."""
  k_NSD, v_NSD = (x.swapaxes(1, 2).reshape(-1, S, D) for x in (k_BSGD, v_BSGD))
  k_NJsD = k_NSD.reshape(len(k_NSD), S // block, block, D)
  return k_NJsD.swapaxes(2, 3), v_NSD


@pytest.mark.parametrize('T', [1, 4])
@pytest.mark.parametrize('G', [1, 2, 6])
@pytest.mark.parametrize('slopes', [False, True])
def test_equals_the_dense_oracle(T, G, slopes):
  q, k, v, ids = case(T, G)
  slopes_H = reference.alibi_slopes(H) if slopes else None
  expected = reference.attention(q, k, v, slopes_H=slopes_H, **ids)
  found = jax.jit(decoding.attention)(q, *lying(k, v), slopes_H=slopes_H, **ids)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_places_that_hold_nothing_do_not_matter():
  q, k, v, ids = case(1, 2)
  empty = (ids['kv_segment_ids_BS'] == 0)[:, :, None, None]
  cache = lying(k, v)
  other = lying(*(np.where(empty, 1e3, x) for x in (k, v)))
  np.testing.assert_array_equal(
    decoding.attention(q, *cache, **ids), decoding.attention(q, *other, **ids)
  )


def test_out_is_in_the_dtype_of_the_values():
  q, k, v, ids = case(2, 2)
  half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
  found = decoding.attention(half[0], *lying(*half[1:]), **ids)
  assert found.dtype == jnp.bfloat16
  expected = reference.attention(q, k, v, **ids)
  np.testing.assert_allclose(
    found.astype(jnp.float32), expected, atol=0.05, rtol=0.05
  )


@pytest.mark.parametrize('rows', [(6,), (3, 2)])
def test_writing_token_by_token_is_writing_at_once(rows):
  """From places inside a block and across its end, in both layouts."""
  k, v = np.random.default_rng(1).normal(size=(2, 3, 90, 2, D))
  length, shapes = decoding.shapes(rows, 90, D)
  assert length == (128 if len(rows) == 1 else 90)  # whole blocks, or one
  empty = {name: jnp.zeros(shape) for name, shape in shapes.items()}
  write = jax.jit(decoding.written)
  once = write(empty, k, v, 0)
  parts = write(empty, k[:, :61], v[:, :61], 0)
  for place in range(61, 90):
    one = slice(place, place + 1)
    parts = write(parts, k[:, one], v[:, one], place)
  for name in shapes:
    np.testing.assert_array_equal(parts[name], once[name])
  flat = decoding.flat_keys(once['key']).reshape(3, 2, length, D)
  np.testing.assert_array_equal(
    flat[:, :, :90].swapaxes(1, 2), k.astype(np.float32)
  )
