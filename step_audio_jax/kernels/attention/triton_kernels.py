"""Bodies of the GPU kernels: what one program of `triton.py` computes.

References arrive in this order: first and last useful block of each block and
the slopes; segments and positions of queries, then of keys; q, k, v; what the
kernel adds; outputs. Where a program holds one block, its reference is that
block, and the other side's is the whole row. Scores are in base 2.

Axes: R heads a group, D head width, t queries and s keys of a block.
"""

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from step_audio_jax.kernels.attention import tiles

# As in `blockwise`: a masked score is far below where the maximum starts.
_LOWEST = -1e20
_MASKED = -1e30


def _scores(q_tD, k_sD, q_ids, kv_ids, slope, scale):
  """Biased and masked scores in base 2, (t, s)."""
  q_segments_t, q_positions_t = q_ids
  kv_segments_s, kv_positions_s = kv_ids
  scores_ts = tiles.dot(q_tD, k_sD, 1, 1) * (scale * tiles.LOG2_E)
  distance_ts = q_positions_t[:, None] - kv_positions_s[None, :]
  if slope is not None:
    root_ts = jnp.sqrt(jnp.maximum(distance_ts, 0).astype(jnp.float32))
    scores_ts -= slope * root_ts
  visible_ts = (distance_ts >= 0) & (
    q_segments_t[:, None] == kv_segments_s[None, :]
  )
  return jnp.where(visible_ts, scores_ts, _MASKED)


def forward(
  first_ref,
  last_ref,
  slopes_ref,
  q_segments_ref,
  q_positions_ref,
  kv_segments_ref,
  kv_positions_ref,
  q_ref,
  k_ref,
  v_ref,
  out_ref,
  lse_ref,
  *,
  block_kv,
  scale,
  biased,
):
  """One head: outputs (t, D) and their log-sum-exp (t,)."""
  i, h = pl.program_id(0), pl.program_id(1)
  q_tD = q_ref[...]
  q_ids = q_segments_ref[...], q_positions_ref[...]
  slope = slopes_ref[h] if biased else None

  def visit(j, carry):
    m_t, l_t, acc_tD = carry
    span = pl.ds(j * block_kv, block_kv)
    kv_ids = kv_segments_ref[span], kv_positions_ref[span]
    scores_ts = _scores(q_tD, k_ref[span, :], q_ids, kv_ids, slope, scale)
    new_t = jnp.maximum(m_t, scores_ts.max(axis=1))
    weights_ts = jnp.exp2(scores_ts - new_t[:, None])
    shrink_t = jnp.exp2(m_t - new_t)
    l_t = l_t * shrink_t + weights_ts.sum(axis=1)
    acc_tD = acc_tD * shrink_t[:, None] + tiles.dot(
      weights_ts.astype(v_ref.dtype), v_ref[span, :], 1, 0
    )
    return new_t, l_t, acc_tD

  rows = q_ref.shape[0]
  m_t, l_t, acc_tD = jax.lax.fori_loop(
    first_ref[i],
    last_ref[i] + 1,
    visit,
    (
      jnp.full((rows,), _LOWEST, jnp.float32),
      jnp.zeros((rows,), jnp.float32),
      jnp.zeros(q_ref.shape, jnp.float32),
    ),
  )
  seen_t = l_t > 0
  sum_t = jnp.where(seen_t, l_t, 1.0)
  out_ref[...] = (acc_tD / sum_t[:, None]).astype(out_ref.dtype)
  lse_ref[...] = jnp.where(seen_t, m_t / tiles.LOG2_E + jnp.log(sum_t), 0.0)


def _weights_and_gradients(
  q_tD, k_sD, v_sD, dout_tD, lse_t, delta_t, q_ids, kv_ids, slope, scale
):
  """Weights p and score gradients ds / scale of one head, both (t, s)."""
  scores_ts = _scores(q_tD, k_sD, q_ids, kv_ids, slope, scale)
  weights_ts = jnp.exp2(scores_ts - (lse_t * tiles.LOG2_E)[:, None])
  dscores_ts = weights_ts * (tiles.dot(dout_tD, v_sD, 1, 1) - delta_t[:, None])
  return weights_ts.astype(q_tD.dtype), dscores_ts.astype(q_tD.dtype)


def dq(
  first_ref,
  last_ref,
  slopes_ref,
  q_segments_ref,
  q_positions_ref,
  kv_segments_ref,
  kv_positions_ref,
  q_ref,
  k_ref,
  v_ref,
  dout_ref,
  lse_ref,
  delta_ref,
  dq_ref,
  *,
  block_kv,
  scale,
  biased,
):
  """One head: gradient of the queries (t, D)."""
  i, h = pl.program_id(0), pl.program_id(1)
  q_tD, dout_tD = q_ref[...], dout_ref[...]
  lse_t, delta_t = lse_ref[...], delta_ref[...]
  q_ids = q_segments_ref[...], q_positions_ref[...]
  slope = slopes_ref[h] if biased else None

  def visit(j, dq_tD):
    span = pl.ds(j * block_kv, block_kv)
    k_sD = k_ref[span, :]
    kv_ids = kv_segments_ref[span], kv_positions_ref[span]
    _, dscores_ts = _weights_and_gradients(
      *(q_tD, k_sD, v_ref[span, :], dout_tD, lse_t, delta_t),
      *(q_ids, kv_ids, slope, scale),
    )
    return dq_tD + tiles.dot(dscores_ts, k_sD, 1, 0)

  dq_tD = jax.lax.fori_loop(
    first_ref[i], last_ref[i] + 1, visit, jnp.zeros(q_ref.shape, jnp.float32)
  )
  dq_ref[...] = (dq_tD * scale).astype(dq_ref.dtype)


def dkv(
  first_ref,
  last_ref,
  slopes_ref,
  q_segments_ref,
  q_positions_ref,
  kv_segments_ref,
  kv_positions_ref,
  q_ref,
  k_ref,
  v_ref,
  dout_ref,
  lse_ref,
  delta_ref,
  dk_ref,
  dv_ref,
  *,
  block_q,
  scale,
  biased,
):
  """One group: gradients of keys and values (s, D) over its R heads."""
  j, g = pl.program_id(0), pl.program_id(1)
  heads = q_ref.shape[0]
  k_sD, v_sD = k_ref[...], v_ref[...]
  kv_ids = kv_segments_ref[...], kv_positions_ref[...]
  first, last = first_ref[j], last_ref[j]

  def head(r, carry):
    slope = slopes_ref[g * heads + r] if biased else None

    def visit(i, carry):
      dk_sD, dv_sD = carry
      span = pl.ds(i * block_q, block_q)
      q_tD, dout_tD = q_ref[r, span, :], dout_ref[r, span, :]
      q_ids = q_segments_ref[span], q_positions_ref[span]
      weights_ts, dscores_ts = _weights_and_gradients(
        *(q_tD, k_sD, v_sD, dout_tD, lse_ref[r, span], delta_ref[r, span]),
        *(q_ids, kv_ids, slope, scale),
      )
      dv_sD += tiles.dot(weights_ts, dout_tD, 0, 0)
      dk_sD += tiles.dot(dscores_ts, q_tD, 0, 0)
      return dk_sD, dv_sD

    return jax.lax.fori_loop(first, last + 1, visit, carry)

  zeros_sD = jnp.zeros(k_ref.shape, jnp.float32)
  dk_sD, dv_sD = jax.lax.fori_loop(0, heads, head, (zeros_sD, zeros_sD))
  dk_ref[...] = (dk_sD * scale).astype(dk_ref.dtype)
  dv_ref[...] = dv_sD.astype(dv_ref.dtype)
