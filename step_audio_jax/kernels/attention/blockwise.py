"""Blockwise attention in plain XLA: the path of CPUs and unknown platforms.

Forward is the online softmax over blocks of keys (Rabe and Staats, arXiv
2112.05682; FlashAttention, arXiv 2205.14135): a running maximum m, a running
sum l, and an output rescaled whenever m grows. Backward recomputes each
block's weights from the saved log-sum-exp:

    p = exp(s - lse)    ds = p * (dout v^T - rowsum(dout * out))
    dv += p^T dout      dq += ds k      dk += ds^T q

Only blocks that `layout.ranges` calls useful to some row are visited. A row
that fits one block takes no loop at all.

Axes: B batch, T queries, S keys, H heads, G key/value groups, R heads a group,
D head width; lower-case t and s are one block's queries and keys.
"""

import jax
import jax.numpy as jnp

from step_audio_jax.kernels.attention import layout

# Queries and keys a block: on CPUs the fastest, as a pair fits the L2 cache.
_BLOCK = 128
# Below every real score and far above MASKED, so that exp(MASKED - m) is 0
# even for a query that has seen nothing yet.
_LOWEST = -1e20
_MASKED = -1e30


def _matmul(subscripts, a, b):
  return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


def _scores(q_BGRtD, k_BGsD, ids: layout.Ids, slopes_GR):
  """Biased and masked scores of one block pair, float32."""
  scores_BGRts = _matmul('BGRtD,BGsD->BGRts', q_BGRtD, k_BGsD)
  scores_BGRts *= q_BGRtD.shape[-1] ** -0.5
  distance_Bts = (
    ids.q_positions_BT[:, :, None] - (ids.kv_positions_BS[:, None, :])
  )
  visible_Bts = (distance_Bts >= 0) & (
    ids.q_segments_BT[:, :, None] == ids.kv_segments_BS[:, None, :]
  )
  if slopes_GR is not None:
    root_Bts = jnp.sqrt(jnp.maximum(distance_Bts, 0).astype(jnp.float32))
    scores_BGRts -= slopes_GR[None, :, :, None, None] * root_Bts[:, None, None]
  return jnp.where(visible_Bts[:, None, None], scores_BGRts, _MASKED)


def _block(x, index, size, axis):
  if size == x.shape[axis]:
    return x
  return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)


def _block_ids(ids, i, j, block_q, block_kv):
  return layout.Ids(
    _block(ids.q_positions_BT, i, block_q, 1),
    _block(ids.kv_positions_BS, j, block_kv, 1),
    _block(ids.q_segments_BT, i, block_q, 1),
    _block(ids.kv_segments_BS, j, block_kv, 1),
  )


def _group_slopes(slopes_H, groups):
  if slopes_H is None:
    return None
  return slopes_H.astype(jnp.float32).reshape(groups, -1)


def _stack(x_NBGRtD, axis):
  """Blocks stacked by a scan → blocks joined along `axis` of the rest."""
  x = jnp.moveaxis(x_NBGRtD, 0, axis)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def forward(
  q_BTHD, k_BSGD, v_BSGD, ids, slopes_H, *, block_q=_BLOCK, block_kv=_BLOCK
):
  """Returns (out BTHD in v's dtype, log-sum-exp BHT float32)."""
  B, T, H, D = q_BTHD.shape
  S, G = k_BSGD.shape[1:3]
  block_q = layout.block_size(block_q, T, 1)
  block_kv = layout.block_size(block_kv, S, 1)
  ids = layout.pad_ids(ids, block_q, block_kv)
  slopes_GR = _group_slopes(slopes_H, G)
  q_BGRTD = layout.group_queries(q_BTHD, G, block_q)
  k_BGSD = layout.group_keys(k_BSGD, block_kv)
  v_BGSD = layout.group_keys(v_BSGD, block_kv)

  def visit(i, q_BGRtD, j, carry):
    m_BGRt, l_BGRt, acc_BGRtD = carry
    k_BGsD = _block(k_BGSD, j, block_kv, 2)
    v_BGsD = _block(v_BGSD, j, block_kv, 2)
    scores_BGRts = _scores(
      q_BGRtD, k_BGsD, _block_ids(ids, i, j, block_q, block_kv), slopes_GR
    )
    new_BGRt = jnp.maximum(m_BGRt, scores_BGRts.max(axis=-1))
    weights_BGRts = jnp.exp(scores_BGRts - new_BGRt[..., None])
    shrink_BGRt = jnp.exp(m_BGRt - new_BGRt)
    l_BGRt = l_BGRt * shrink_BGRt + weights_BGRts.sum(axis=-1)
    acc_BGRtD = acc_BGRtD * shrink_BGRt[..., None] + _matmul(
      'BGRts,BGsD->BGRtD', weights_BGRts.astype(v_BGSD.dtype), v_BGsD
    )
    return new_BGRt, l_BGRt, acc_BGRtD

  def finish(carry):
    m_BGRt, l_BGRt, acc_BGRtD = carry
    seen_BGRt = l_BGRt > 0
    sum_BGRt = jnp.where(seen_BGRt, l_BGRt, 1.0)
    out_BGRtD = (acc_BGRtD / sum_BGRt[..., None]).astype(v_BSGD.dtype)
    # 0, not -inf: backward then gives a query that sees nothing weights of 0.
    return out_BGRtD, jnp.where(seen_BGRt, m_BGRt + jnp.log(sum_BGRt), 0.0)

  shape = (B, G, H // G, block_q)
  start = (
    jnp.full(shape, _LOWEST, jnp.float32),
    jnp.zeros(shape, jnp.float32),
    jnp.zeros((*shape, D), jnp.float32),
  )
  if T <= block_q and S <= block_kv:
    out_BGRTD, lse_BGRT = finish(visit(0, q_BGRTD, 0, start))
  else:
    useful = layout.ranges(ids, block_q, block_kv)

    def query_block(_, i):
      q_BGRtD = _block(q_BGRTD, i, block_q, 3)
      carry = jax.lax.fori_loop(
        useful.kv_first_BM[:, i].min(),
        useful.kv_last_BM[:, i].max() + 1,
        lambda j, carry: visit(i, q_BGRtD, j, carry),
        start,
      )
      return None, finish(carry)

    blocks = jnp.arange(q_BGRTD.shape[3] // block_q)
    _, (out, lse) = jax.lax.scan(query_block, None, blocks)
    out_BGRTD, lse_BGRT = _stack(out, 3), _stack(lse, 3)
  return (
    layout.ungroup_queries(out_BGRTD, T),
    lse_BGRT[..., :T].reshape(B, H, T),
  )


def backward(
  q_BTHD,
  k_BSGD,
  v_BSGD,
  ids,
  slopes_H,
  out,
  lse,
  dout,
  *,
  block_q=_BLOCK,
  block_kv=_BLOCK,
):
  """Gradients (dq, dk, dv) in the dtypes of q, k and v."""
  B, T, H, D = q_BTHD.shape
  S, G = k_BSGD.shape[1:3]
  block_q = layout.block_size(block_q, T, 1)
  block_kv = layout.block_size(block_kv, S, 1)
  ids = layout.pad_ids(ids, block_q, block_kv)
  slopes_GR = _group_slopes(slopes_H, G)
  q_BGRTD = layout.group_queries(q_BTHD, G, block_q)
  dout_BGRTD = layout.group_queries(dout, G, block_q)
  delta_BGRT = (
    dout_BGRTD.astype(jnp.float32)
    * layout.group_queries(out, G, block_q).astype(jnp.float32)
  ).sum(axis=-1)
  lse_BGRT = layout.group_rows(lse, G, block_q)
  k_BGSD = layout.group_keys(k_BSGD, block_kv)
  v_BGSD = layout.group_keys(v_BSGD, block_kv)

  def gradients(i, j):
    """Contributions of one block pair to dq, dk and dv."""
    q_BGRtD = _block(q_BGRTD, i, block_q, 3)
    dout_BGRtD = _block(dout_BGRTD, i, block_q, 3)
    k_BGsD = _block(k_BGSD, j, block_kv, 2)
    v_BGsD = _block(v_BGSD, j, block_kv, 2)
    scores_BGRts = _scores(
      q_BGRtD, k_BGsD, _block_ids(ids, i, j, block_q, block_kv), slopes_GR
    )
    lse_BGRt = _block(lse_BGRT, i, block_q, 3)
    delta_BGRt = _block(delta_BGRT, i, block_q, 3)
    weights_BGRts = jnp.exp(scores_BGRts - lse_BGRt[..., None])
    dv_BGsD = _matmul(
      'BGRts,BGRtD->BGsD', weights_BGRts.astype(dout.dtype), dout_BGRtD
    )
    dweights_BGRts = _matmul('BGRtD,BGsD->BGRts', dout_BGRtD, v_BGsD)
    dscores_BGRts = (
      weights_BGRts * (dweights_BGRts - delta_BGRt[..., None]) * (D**-0.5)
    ).astype(q_BTHD.dtype)
    dq_BGRtD = _matmul('BGRts,BGsD->BGRtD', dscores_BGRts, k_BGsD)
    dk_BGsD = _matmul('BGRts,BGRtD->BGsD', dscores_BGRts, q_BGRtD)
    return dq_BGRtD, dk_BGsD, dv_BGsD

  if T <= block_q and S <= block_kv:
    dq_BGRTD, dk_BGSD, dv_BGSD = gradients(0, 0)
  else:
    useful = layout.ranges(ids, block_q, block_kv)

    def query_block(carry, i):
      def visit(j, carry):
        dq_BGRtD, dk_BGSD, dv_BGSD = carry
        dq, dk, dv = gradients(i, j)
        return dq_BGRtD + dq, _add(dk_BGSD, dk, j), _add(dv_BGSD, dv, j)

      dq_BGRtD = jnp.zeros((B, G, H // G, block_q, D), jnp.float32)
      dq_BGRtD, *carry = jax.lax.fori_loop(
        useful.kv_first_BM[:, i].min(),
        useful.kv_last_BM[:, i].max() + 1,
        visit,
        (dq_BGRtD, *carry),
      )
      return tuple(carry), dq_BGRtD

    zeros_BGSD = jnp.zeros(k_BGSD.shape, jnp.float32)
    blocks = jnp.arange(q_BGRTD.shape[3] // block_q)
    (dk_BGSD, dv_BGSD), dq = jax.lax.scan(
      query_block, (zeros_BGSD, zeros_BGSD), blocks
    )
    dq_BGRTD = _stack(dq, 3)
  return (
    layout.ungroup_queries(dq_BGRTD, T).astype(q_BTHD.dtype),
    layout.ungroup_keys(dk_BGSD, S).astype(k_BSGD.dtype),
    layout.ungroup_keys(dv_BGSD, S).astype(v_BSGD.dtype),
  )


def _add(total_BGSD, block_BGsD, j):
  """Adds one block in place."""
  size = block_BGsD.shape[2]
  old = jax.lax.dynamic_slice_in_dim(total_BGSD, j * size, size, 2)
  return jax.lax.dynamic_update_slice_in_dim(
    total_BGSD, old + block_BGsD, j * size, 2
  )
