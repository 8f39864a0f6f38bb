"""Flash attention for GPUs in Pallas, Triton backend: forward and backward.

FlashAttention-2 (arXiv 2307.08691). A program of the forward and of the dq
kernel holds one block of queries of one head and loops over the blocks of keys
that `layout.ranges` calls useful to it; key and value of head h are group
h // R's, never repeated. A program of the dk/dv kernel holds one block of keys
of a group and loops over its R heads and their useful blocks of queries, so
that the sum over the heads of a group stays in registers.

Axes: B batch, T queries, S keys, H heads, G key/value groups, R heads a group,
D head width, M blocks of queries, N blocks of keys; lower-case t and s are one
block's queries and keys.
"""

import functools
import math

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pallas_triton
import jax.numpy as jnp

from step_audio_jax.kernels import layout

_BLOCK_Q = 128
_BLOCK_KV = 64
# Backward holds two more tiles of scores, dk/dv two accumulators.
_BACKWARD_BLOCK = 64
_LOG2_E = math.log2(math.e)
# As in `blockwise`: a masked score is far below where the maximum starts.
_LOWEST = -1e20
_MASKED = -1e30
# Triton multiplies tiles of at least 16, and only powers of two.
_SMALLEST_WIDTH = 16


def _dot(a, b, a_axis, b_axis):
  exact = a.dtype == jnp.float32
  return jax.lax.dot_general(
    a,
    b,
    (((a_axis,), (b_axis,)), ((), ())),
    precision=jax.lax.Precision.HIGHEST if exact else None,
    preferred_element_type=jnp.float32,
  )


def _scores(q_tD, k_sD, q_ids, kv_ids, slope, scale):
  """Biased and masked scores in base 2, (t, s)."""
  q_segments_t, q_positions_t = q_ids
  kv_segments_s, kv_positions_s = kv_ids
  scores_ts = _dot(q_tD, k_sD, 1, 1) * (scale * _LOG2_E)
  distance_ts = q_positions_t[:, None] - kv_positions_s[None, :]
  if slope is not None:
    root_ts = jnp.sqrt(jnp.maximum(distance_ts, 0).astype(jnp.float32))
    scores_ts -= slope * root_ts
  visible_ts = (distance_ts >= 0) & (
    q_segments_t[:, None] == kv_segments_s[None, :]
  )
  return jnp.where(visible_ts, scores_ts, _MASKED)


def _forward_kernel(
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
    acc_tD = acc_tD * shrink_t[:, None] + _dot(
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
  lse_ref[...] = jnp.where(seen_t, m_t / _LOG2_E + jnp.log(sum_t), 0.0)


def _weights_and_gradients(
  q_tD, k_sD, v_sD, dout_tD, lse_t, delta_t, q_ids, kv_ids, slope, scale
):
  """Weights p and score gradients ds / scale of one head, both (t, s)."""
  scores_ts = _scores(q_tD, k_sD, q_ids, kv_ids, slope, scale)
  weights_ts = jnp.exp2(scores_ts - (lse_t * _LOG2_E)[:, None])
  dscores_ts = weights_ts * (_dot(dout_tD, v_sD, 1, 1) - delta_t[:, None])
  return weights_ts.astype(q_tD.dtype), dscores_ts.astype(q_tD.dtype)


def _dq_kernel(
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
    return dq_tD + _dot(dscores_ts, k_sD, 1, 0)

  dq_tD = jax.lax.fori_loop(
    first_ref[i], last_ref[i] + 1, visit, jnp.zeros(q_ref.shape, jnp.float32)
  )
  dq_ref[...] = (dq_tD * scale).astype(dq_ref.dtype)


def _dkv_kernel(
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
      dv_sD += _dot(weights_ts, dout_tD, 0, 0)
      dk_sD += _dot(dscores_ts, q_tD, 0, 0)
      return dk_sD, dv_sD

    return jax.lax.fori_loop(first, last + 1, visit, carry)

  zeros_sD = jnp.zeros(k_ref.shape, jnp.float32)
  dk_sD, dv_sD = jax.lax.fori_loop(0, heads, head, (zeros_sD, zeros_sD))
  dk_ref[...] = (dk_sD * scale).astype(dk_ref.dtype)
  dv_ref[...] = dv_sD.astype(dv_ref.dtype)


class _Call:
  """Shapes, padded operands and block specs that the three kernels share."""

  def __init__(self, q_BTHD, k_BSGD, v_BSGD, ids, slopes_H, block_q, block_kv):
    self.B, self.T, self.H, self.D = q_BTHD.shape
    self.S, self.G = k_BSGD.shape[1:3]
    self.R = self.H // self.G
    self.width = max(_SMALLEST_WIDTH, pl.next_power_of_2(self.D))
    self.block_q, self.block_kv = block_q, block_kv
    self.ids = layout.pad_ids(ids, block_q, block_kv)
    self.useful = layout.ranges(self.ids, block_q, block_kv)
    self.biased = slopes_H is not None
    if slopes_H is None:
      slopes_H = jnp.zeros(self.H, jnp.float32)
    self.slopes_H = slopes_H * _LOG2_E
    self.operands = (
      self.queries(q_BTHD),
      self.keys(k_BSGD),
      self.keys(v_BSGD),
    )

  def queries(self, x_BTHD):
    """(B, T, H, D) → (B, G, R, T padded, D padded)."""
    x = layout.group_queries(x_BTHD, self.G, self.block_q)
    return layout.pad_to(x, 4, self.width)

  def keys(self, x_BSGD):
    """(B, S, G, D) → (B, G, S padded, D padded)."""
    x = layout.group_keys(x_BSGD, self.block_kv)
    return layout.pad_to(x, 3, self.width)

  def rows(self, x_BHT):
    """(B, H, T) → (B, G, R, T padded)."""
    x_BGRT = x_BHT.reshape(self.B, self.G, self.R, self.T)
    return layout.pad_to(x_BGRT, 3, self.block_q)

  def __call__(self, kernel, extra, outputs, queries_outside, **kwargs):
    """Runs `kernel` with one program a block of queries, or of keys.

    Args:
      kernel: One of the kernels above.
      extra: Operands of the shape of the queries, or of a row for each head.
      outputs: Of each output, 'queries', 'rows' or 'keys', and its dtype.
      queries_outside: A program holds a block of queries of one head and sees
        all keys; else a block of keys of one group, and sees all queries.
      **kwargs: For `pl.pallas_call`.
    """
    B, G, R, T, D = self.operands[0].shape
    S = self.operands[1].shape[2]
    static = {'scale': self.D**-0.5, 'biased': self.biased}
    if queries_outside:
      blocks, columns = T // self.block_q, self.H
      useful = self.useful.kv_first_BM, self.useful.kv_last_BM
      static['block_kv'] = self.block_kv
      specs = {
        'queries': pl.BlockSpec(
          (None, None, None, self.block_q, D),
          lambda i, h, b: (b, h // R, h % R, i, 0),
        ),
        'rows': pl.BlockSpec(
          (None, None, None, self.block_q),
          lambda i, h, b: (b, h // R, h % R, i),
        ),
        'keys': pl.BlockSpec(
          (None, None, S, D), lambda i, h, b: (b, h // R, 0, 0)
        ),
        'q_ids': pl.BlockSpec((None, self.block_q), lambda i, h, b: (b, i)),
        'kv_ids': pl.BlockSpec((None, S), lambda i, h, b: (b, 0)),
      }
    else:
      blocks, columns = S // self.block_kv, G
      useful = self.useful.q_first_BN, self.useful.q_last_BN
      static['block_q'] = self.block_q
      specs = {
        'queries': pl.BlockSpec(
          (None, None, R, T, D), lambda j, g, b: (b, g, 0, 0, 0)
        ),
        'rows': pl.BlockSpec((None, None, R, T), lambda j, g, b: (b, g, 0, 0)),
        'keys': pl.BlockSpec(
          (None, None, self.block_kv, D), lambda j, g, b: (b, g, j, 0)
        ),
        'q_ids': pl.BlockSpec((None, T), lambda j, g, b: (b, 0)),
        'kv_ids': pl.BlockSpec((None, self.block_kv), lambda j, g, b: (b, j)),
      }
    shapes = {
      'queries': (B, G, R, T, D),
      'rows': (B, G, R, T),
      'keys': (B, G, S, D),
    }
    scalars = pl.BlockSpec((None, blocks), lambda i, h, b: (b, 0))
    return pl.pallas_call(
      functools.partial(kernel, **static),
      grid=(blocks, columns, B),
      in_specs=[
        *(scalars, scalars),
        pl.BlockSpec((self.H,), lambda i, h, b: (0,)),
        *(specs[kind] for kind in ('q_ids', 'q_ids', 'kv_ids', 'kv_ids')),
        *(specs[kind] for kind in ('queries', 'keys', 'keys')),
        *(specs['queries' if x.ndim == 5 else 'rows'] for x in extra),
      ],
      out_specs=[specs[kind] for kind, _ in outputs],
      out_shape=[
        jax.ShapeDtypeStruct(shapes[kind], dtype) for kind, dtype in outputs
      ],
      compiler_params=pallas_triton.CompilerParams(
        num_warps=4 if D <= 64 else 8, num_stages=2
      ),
      **kwargs,
    )(
      *useful,
      self.slopes_H,
      *(self.ids.q_segments_BT, self.ids.q_positions_BT),
      *(self.ids.kv_segments_BS, self.ids.kv_positions_BS),
      *self.operands,
      *extra,
    )


def forward(
  q,
  k,
  v,
  ids,
  slopes_H,
  *,
  block_q=_BLOCK_Q,
  block_kv=_BLOCK_KV,
  interpret=False,
):
  """Returns (out BTHD in v's dtype, log-sum-exp BHT float32)."""
  call = _Call(q, k, v, ids, slopes_H, block_q, block_kv)
  out, lse_BGRT = call(
    _forward_kernel,
    (),
    [('queries', v.dtype), ('rows', jnp.float32)],
    queries_outside=True,
    interpret=interpret,
    name='attention_forward',
  )
  lse_BHT = lse_BGRT[..., : call.T].reshape(call.B, call.H, call.T)
  return layout.ungroup_queries(out, call.T)[..., : call.D], lse_BHT


def backward(
  q,
  k,
  v,
  ids,
  slopes_H,
  out,
  lse,
  dout,
  *,
  block_q=_BACKWARD_BLOCK,
  block_kv=_BACKWARD_BLOCK,
  interpret=False,
):
  """Gradients (dq, dk, dv) in the dtypes of q, k and v."""
  call = _Call(q, k, v, ids, slopes_H, block_q, block_kv)
  delta_BTH = (out.astype(jnp.float32) * dout.astype(jnp.float32)).sum(axis=-1)
  extra = (
    call.queries(dout),
    call.rows(lse),
    call.rows(delta_BTH.transpose(0, 2, 1)),
  )
  (dq,) = call(
    _dq_kernel,
    extra,
    [('queries', q.dtype)],
    queries_outside=True,
    interpret=interpret,
    name='attention_dq',
  )
  dk, dv = call(
    _dkv_kernel,
    extra,
    [('keys', k.dtype), ('keys', v.dtype)],
    queries_outside=False,
    interpret=interpret,
    name='attention_dkv',
  )
  return (
    layout.ungroup_queries(dq, call.T)[..., : call.D],
    layout.ungroup_keys(dk, call.S)[..., : call.D],
    layout.ungroup_keys(dv, call.S)[..., : call.D],
  )
