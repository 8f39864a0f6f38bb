"""Flash attention for TPUs in Pallas: forward, and backward in two kernels.

FlashAttention-2 (arXiv 2307.08691) with three turns of its own:

* One grid step takes a block pair for all R heads of a group, so keys and
  values are read once a group, never repeated, and the mask and the root of
  the distance, the same for every head, are computed once for all of them.
* Scores are kept transposed, keys down the sublanes and queries along the
  lanes: running maximum, sum, log-sum-exp and delta are then plain rows, and
  reductions over keys run down the sublanes, without crossing lanes.
* Scalars fetched ahead say which blocks of the other side a block needs; index
  maps stop at the last of them, so steps beyond it move no data, and compute
  nothing.

What a step computes is in `mosaic_kernels.py`. The blocks are sized for chips
with 64 MiB of VMEM and more (v5e, v5p, v6e); v4 needs blocks of 256 keys.

Axes: B batch, T queries, S keys, H heads, G key/value groups, R heads a group,
D head width, M blocks of queries, N blocks of keys.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from step_audio_jax.kernels.attention import layout
from step_audio_jax.kernels.attention import mosaic_kernels
from step_audio_jax.kernels.attention import tiles

_BLOCK = 512
_LANES = 128
# Rows of queries of 128 numbers, over the heads of a group, that one step may
# hold: with it every kernel stays under _VMEM_BYTES.
_MAX_ROWS = 6144
_VMEM_BYTES = 48 * 2**20


class _Call:
  """Shapes, padded operands and block specs that the three kernels share."""

  def __init__(self, q_BTHD, k_BSGD, v_BSGD, ids, slopes_H, block_q, block_kv):
    self.B, self.T, self.H, self.D = q_BTHD.shape
    self.S, self.G = k_BSGD.shape[1:3]
    self.R = self.H // self.G
    self.biased = slopes_H is not None
    block_q, block_kv = max(block_q, _LANES), max(block_kv, _LANES)
    while block_q > _LANES and self.R * block_q * self.D > _MAX_ROWS * _LANES:
      block_q //= 2
    self.block_q = layout.block_size(block_q, self.T, _LANES)
    self.block_kv = layout.block_size(block_kv, self.S, _LANES)
    ids = layout.pad_ids(ids, self.block_q, self.block_kv)
    self.useful = layout.ranges(ids, self.block_q, self.block_kv)
    if slopes_H is None:
      slopes_H = jnp.ones(self.H, jnp.float32)
    self.slopes_H = (
      jnp.maximum(slopes_H, mosaic_kernels.SMALLEST_SLOPE) * tiles.LOG2_E
    )
    q_ids_B2T = jnp.stack([ids.q_segments_BT, ids.q_positions_BT], axis=1)
    kv_ids_BS2 = jnp.stack([ids.kv_segments_BS, ids.kv_positions_BS], axis=2)
    self.operands = (
      q_ids_B2T,
      kv_ids_BS2,
      layout.group_queries(q_BTHD, self.G, self.block_q),
      layout.group_keys(k_BSGD, self.block_kv),
      layout.group_keys(v_BSGD, self.block_kv),
    )

  def _cost(self, matmuls, operands, out_shape):
    """For XLA's scheduler, which cannot look inside: one causal segment."""
    pairs = self.B * self.H * self.T * self.S // 2
    return pl.CostEstimate(
      flops=2 * matmuls * pairs * self.D,
      transcendentals=pairs,
      bytes_accessed=sum(
        x.size * x.dtype.itemsize for x in (*operands, *out_shape)
      ),
    )

  def __call__(
    self, kernel, extra, outputs, scratch, matmuls, queries_outside, **kwargs
  ):
    """Runs `kernel` over (B, G, outer blocks, inner blocks).

    Args:
      kernel: One of the kernels above.
      extra: Operands of the shape of the queries, or of a row for each head.
      outputs: Of each output, 'queries', 'rows' or 'keys', and its dtype.
      scratch: Shapes of the float32 accumulators.
      matmuls: Products of (s, t) with D numbers each, in a block pair.
      queries_outside: Whether the outer blocks are of queries.
      **kwargs: For `pl.pallas_call`.
    """
    blocks_q = self.operands[2].shape[3] // self.block_q
    blocks_kv = self.operands[3].shape[2] // self.block_kv
    if queries_outside:
      grid = (self.B, self.G, blocks_q, blocks_kv)
      first, last = self.useful.kv_first_BM, self.useful.kv_last_BM
    else:
      grid = (self.B, self.G, blocks_kv, blocks_q)
      first, last = self.useful.q_first_BN, self.useful.q_last_BN

    def at(queries, place):
      """Index map: `place` puts the block number into a full index."""

      def index(b, g, outer, step, first_ref, last_ref, slopes_ref):
        del slopes_ref
        if queries == queries_outside:
          return place(b, g, outer)
        # Beyond the last useful block the index stays: nothing is fetched.
        inner = jnp.minimum(first_ref[b, outer] + step, last_ref[b, outer])
        return place(b, g, jnp.maximum(inner, 0))

      return index

    specs = {
      'queries': pl.BlockSpec(
        (None, None, self.R, self.block_q, self.D),
        at(True, lambda b, g, i: (b, g, 0, i, 0)),
      ),
      'rows': pl.BlockSpec(
        (None, None, self.R, self.block_q),
        at(True, lambda b, g, i: (b, g, 0, i)),
      ),
      'keys': pl.BlockSpec(
        (None, None, self.block_kv, self.D),
        at(False, lambda b, g, j: (b, g, j, 0)),
      ),
    }
    q_ids = pl.BlockSpec(
      (None, 2, self.block_q), at(True, lambda b, g, i: (b, 0, i))
    )
    kv_ids = pl.BlockSpec(
      (None, self.block_kv, 2), at(False, lambda b, g, j: (b, j, 0))
    )
    shapes = {
      'queries': self.operands[2].shape,
      'rows': self.operands[2].shape[:4],
      'keys': self.operands[3].shape,
    }
    operands = (*self.operands, *extra)
    out_shape = [
      jax.ShapeDtypeStruct(shapes[kind], dtype) for kind, dtype in outputs
    ]
    return pl.pallas_call(
      functools.partial(kernel, biased=self.biased),
      grid_spec=pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=3,
        grid=grid,
        in_specs=[
          q_ids,
          kv_ids,
          *(specs[kind] for kind in ('queries', 'keys', 'keys')),
          *(specs['queries' if x.ndim == 5 else 'rows'] for x in extra),
        ],
        out_specs=[specs[kind] for kind, _ in outputs],
        scratch_shapes=[pltpu.VMEM(s, jnp.float32) for s in scratch],
      ),
      out_shape=out_shape,
      compiler_params=pltpu.CompilerParams(
        dimension_semantics=('parallel', 'parallel', 'parallel', 'arbitrary'),
        vmem_limit_bytes=_VMEM_BYTES,
      ),
      cost_estimate=self._cost(matmuls, operands, out_shape),
      **kwargs,
    )(first, last, self.slopes_H, *operands)


def forward(
  q, k, v, ids, slopes_H, *, block_q=_BLOCK, block_kv=_BLOCK, interpret=False
):
  """Returns (out BTHD in v's dtype, log-sum-exp BHT float32)."""
  call = _Call(q, k, v, ids, slopes_H, block_q, block_kv)
  rows = (call.R, call.block_q)
  out_BGRTD, lse_BGRT = call(
    mosaic_kernels.forward,
    (),
    [('queries', v.dtype), ('rows', jnp.float32)],
    [rows, rows, (call.R, call.D, call.block_q)],
    matmuls=2,
    queries_outside=True,
    interpret=interpret,
    name='attention_forward',
  )
  return (
    layout.ungroup_queries(out_BGRTD, call.T),
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
  block_q=_BLOCK,
  block_kv=_BLOCK,
  interpret=False,
):
  """Gradients (dq, dk, dv) in the dtypes of q, k and v."""
  call = _Call(q, k, v, ids, slopes_H, block_q, block_kv)
  extra = (
    layout.group_queries(dout, call.G, call.block_q),
    layout.group_rows(lse, call.G, call.block_q),
    layout.group_rows(layout.delta(out, dout), call.G, call.block_q),
  )
  (dq_BGRTD,) = call(
    mosaic_kernels.dq,
    extra,
    [('queries', q.dtype)],
    [(call.R, call.D, call.block_q)],
    matmuls=3,
    queries_outside=True,
    interpret=interpret,
    name='attention_dq',
  )
  dk_BGSD, dv_BGSD = call(
    mosaic_kernels.dkv,
    extra,
    [('keys', k.dtype), ('keys', v.dtype)],
    [(call.block_kv, call.D)] * 2,
    matmuls=4,
    queries_outside=False,
    interpret=interpret,
    name='attention_dkv',
  )
  return (
    layout.ungroup_queries(dq_BGRTD, call.T),
    layout.ungroup_keys(dk_BGSD, call.S),
    layout.ungroup_keys(dv_BGSD, call.S),
  )
