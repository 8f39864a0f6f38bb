"""Attention against a loop over pairs in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels import attention


def oracle(q, k, v, q_pos, kv_pos, q_seg, kv_seg, slopes):
  """The definition, one query at a time."""
  B, T, H, D = q.shape
  repeat = H // k.shape[2]
  out = np.zeros((B, T, H, D))
  for b in range(B):
    for t in range(T):
      seen = [
        s
        for s in range(k.shape[1])
        if kv_seg[b, s] == q_seg[b, t] and kv_pos[b, s] <= q_pos[b, t]
      ]
      for h in range(H):
        scores = np.array(
          [
            q[b, t, h].astype(np.float64) @ k[b, s, h // repeat] / np.sqrt(D)
            - (slopes[h] if slopes is not None else 0)
            * np.sqrt(q_pos[b, t] - kv_pos[b, s])
            for s in seen
          ]
        )
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        out[b, t, h] = sum(
          w * v[b, s, h // repeat] for w, s in zip(weights, seen)
        )
  return out


@pytest.mark.parametrize('alibi', [True, False])
def test_matches_the_definition_on_ragged_packed_rows(alibi):
  rng = np.random.default_rng(0)
  segments = np.array(
    [
      [1, 1, 1, 2, 2, 2, 2, 2, 3, 0, 0],
      [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2],
    ]
  )
  positions = np.array(
    [
      [0, 1, 2, 0, 1, 2, 3, 4, 0, 0, 1],
      [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]
  )
  q = rng.standard_normal((2, 11, 6, 8), np.float32)
  k, v = rng.standard_normal((2, 2, 11, 2, 8), np.float32)
  slopes = attention.alibi_slopes(6) if alibi else None
  got = attention.attention(
    q,
    k,
    v,
    q_positions_BT=jnp.asarray(positions),
    kv_positions_BS=jnp.asarray(positions),
    q_segment_ids_BT=jnp.asarray(segments),
    kv_segment_ids_BS=jnp.asarray(segments),
    slopes_H=slopes,
  )
  want = oracle(q, k, v, positions, positions, segments, segments, slopes)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_query_that_sees_nothing_is_finite():
  ones = jnp.ones((1, 1, 1, 4))
  got = attention.attention(
    ones,
    ones,
    ones,
    q_positions_BT=jnp.zeros((1, 1), jnp.int32),
    kv_positions_BS=jnp.zeros((1, 1), jnp.int32),
    q_segment_ids_BT=jnp.ones((1, 1), jnp.int32),
    kv_segment_ids_BS=jnp.zeros((1, 1), jnp.int32),
    slopes_H=attention.alibi_slopes(1),
  )
  assert np.isfinite(got).all()


def test_published_slopes_of_48_and_96_heads():
  slopes = attention.alibi_slopes(48)
  np.testing.assert_allclose(slopes[:32], 2.0 ** (-np.arange(1, 33) / 4))
  np.testing.assert_allclose(
    slopes[32:], 2.0 ** (-(2 * np.arange(1, 17) - 1) / 8)
  )
  slopes = attention.alibi_slopes(96)
  assert slopes[63] == 2.0**-8 and np.isclose(slopes[95], 2.0**-3.9375)
