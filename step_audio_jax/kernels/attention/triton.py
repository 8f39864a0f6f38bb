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

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pallas_triton
import jax.numpy as jnp

from step_audio_jax.kernels.attention import layout
from step_audio_jax.kernels.attention import tiles
from step_audio_jax.kernels.attention import triton_kernels

_BLOCK_Q = 128
_BLOCK_KV = 64
# Backward holds two more tiles of scores, dk/dv two accumulators.
_BACKWARD_BLOCK = 64
# Triton multiplies tiles of at least 16, and only powers of two.
_SMALLEST_WIDTH = 16


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
    self.slopes_H = slopes_H * tiles.LOG2_E
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
    triton_kernels.forward,
    (),
    [('queries', v.dtype), ('rows', jnp.float32)],
    queries_outside=True,
    interpret=interpret,
    name='attention_forward',
  )
  return (
    layout.ungroup_queries(out, call.T)[..., : call.D],
    layout.ungroup_rows(lse_BGRT, call.T),
  )


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
  extra = (
    call.queries(dout),
    layout.group_rows(lse, call.G, call.block_q),
    layout.group_rows(layout.delta(out, dout), call.G, call.block_q),
  )
  (dq,) = call(
    triton_kernels.dq,
    extra,
    [('queries', q.dtype)],
    queries_outside=True,
    interpret=interpret,
    name='attention_dq',
  )
  dk, dv = call(
    triton_kernels.dkv,
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
