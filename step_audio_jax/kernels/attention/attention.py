"""Attention that is causal inside segments, with the sqrt-ALiBi bias.

The maths is in `reference.py`. One custom_vjp holds every fast path; which of
them runs is decided where the program is lowered, so that a program for TPUs
can be compiled on a machine without one:

    TPU: mosaic.py    GPU: triton.py    elsewhere: blockwise.py

Forward keeps the output and one number per query and head, the log-sum-exp of
its scores; nothing of size T x S is ever stored. Both carry names, so that a
remat policy can keep them: 'attention_out', 'attention_lse'.

Axes: B batch, T queries, S keys, H heads, G key/value groups, D head width.
"""

import dataclasses
import functools

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from step_audio_jax.kernels.attention import blockwise
from step_audio_jax.kernels.attention import layout
from step_audio_jax.kernels.attention import reference

alibi_slopes = reference.alibi_slopes

IMPLEMENTATIONS = ('auto', 'dense', 'blockwise', 'pallas', 'interpret')
# Up to this many queries (decoding) all scores at once are small and fastest.
DECODING = 16


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Block sizes in tokens; 0 is the path's own choice.

  Attributes:
    queries: Queries a block.
    keys: Keys a block.
  """

  queries: int = 0
  keys: int = 0

  def __post_init__(self):
    for name in ('queries', 'keys'):
      size = getattr(self, name)
      if size and (size < 64 or size & (size - 1)):
        raise ValueError(
          f'attention: blocks.{name} is {size}, expected 0 or a power of two '
          'of at least 64.'
        )


def attention(
  q_BTHD: jax.Array,
  k_BSGD: jax.Array,
  v_BSGD: jax.Array,
  *,
  q_positions_BT: jax.Array,
  kv_positions_BS: jax.Array,
  q_segment_ids_BT: jax.Array,
  kv_segment_ids_BS: jax.Array,
  slopes_H: jax.Array | np.ndarray | None = None,
  implementation: str = 'auto',
  blocks: Blocks = Blocks(),
) -> jax.Array:
  """Causal attention inside segments.

  Args:
    q_BTHD: Queries, any float dtype.
    k_BSGD: Keys; H must be a multiple of G, head h uses group h // (H / G).
    v_BSGD: Values.
    q_positions_BT: Position of each query in its segment, int32.
    kv_positions_BS: Position of each key in its segment, int32.
    q_segment_ids_BT: Segment of each query, int32, 0 for padding. Ids that
      ascend along a row let whole blocks be skipped; any order is correct.
    kv_segment_ids_BS: Segment of each key, int32.
    slopes_H: sqrt-ALiBi slopes, or None for no bias. No gradient flows to
      them.
    implementation: 'auto' (by platform), 'dense' (the oracle, T x S scores),
      'blockwise' (XLA), 'pallas' (the TPU or GPU kernel, or fail), 'interpret'
      (the TPU kernel, interpreted on any platform: for tests).
    blocks: Block sizes.

  Returns:
    BTHD in the dtype of the values. A query that sees no key gets zeros.

  Raises:
    ValueError: Unknown implementation, or H no multiple of G.
  """
  H, G = q_BTHD.shape[2], k_BSGD.shape[2]
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'attention: implementation is {implementation!r}, expected one of '
      f'{", ".join(IMPLEMENTATIONS)}.'
    )
  if H % G:
    raise ValueError(
      f'attention: {H} query heads and {G} key/value groups; the groups must '
      'divide the heads.'
    )
  if implementation == 'auto' and q_BTHD.shape[1] <= DECODING:
    implementation = 'dense'
  if implementation == 'dense':
    return reference.attention(
      q_BTHD,
      k_BSGD,
      v_BSGD,
      q_positions_BT=q_positions_BT,
      kv_positions_BS=kv_positions_BS,
      q_segment_ids_BT=q_segment_ids_BT,
      kv_segment_ids_BS=kv_segment_ids_BS,
      slopes_H=slopes_H,
    )
  ids = layout.Ids(
    q_positions_BT, kv_positions_BS, q_segment_ids_BT, kv_segment_ids_BS
  )
  slopes_H = None if slopes_H is None else jnp.asarray(slopes_H, jnp.float32)
  return _attention(
    implementation, blocks, q_BTHD, k_BSGD, v_BSGD, ids, slopes_H
  )


def _dispatch(direction, implementation, blocks, *args):
  """Runs 'forward' or 'backward' of the path that the platform takes."""
  sizes = {'block_q': blocks.queries, 'block_kv': blocks.keys}
  sizes = {name: size for name, size in sizes.items() if size}

  def path(module, **options):
    # jit remembers the trace: layers and programs of one shape share it.
    function = jax.jit(
      getattr(module, direction),
      static_argnames=(*sizes, *options),
      inline=True,
    )
    return functools.partial(function, **sizes, **options)

  if implementation == 'blockwise':
    return path(blockwise)(*args)
  # Pallas takes a second to import: not a price for programs without kernels.
  from step_audio_jax.kernels.attention import mosaic  # noqa: PLC0415
  from step_audio_jax.kernels.attention import triton  # noqa: PLC0415

  if implementation == 'interpret':
    return path(mosaic, interpret=True)(*args)
  platforms = {'tpu': path(mosaic), 'cuda': path(triton)}
  if implementation == 'auto':
    platforms['default'] = path(blockwise)
  return jax.lax.platform_dependent(*args, **platforms)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attention(implementation, blocks, q_BTHD, k_BSGD, v_BSGD, ids, slopes_H):
  return _dispatch(
    'forward', implementation, blocks, q_BTHD, k_BSGD, v_BSGD, ids, slopes_H
  )[0]


def _forward(implementation, blocks, q_BTHD, k_BSGD, v_BSGD, ids, slopes_H):
  args = (q_BTHD, k_BSGD, v_BSGD, ids, slopes_H)
  out_BTHD, lse_BHT = _dispatch('forward', implementation, blocks, *args)
  out_BTHD = checkpoint_name(out_BTHD, 'attention_out')
  lse_BHT = checkpoint_name(lse_BHT, 'attention_lse')
  return out_BTHD, (*args, out_BTHD, lse_BHT)


def _backward(implementation, blocks, residuals, dout_BTHD):
  dq, dk, dv = _dispatch(
    'backward', implementation, blocks, *residuals, dout_BTHD
  )
  return dq, dk, dv, None, None


_attention.defvjp(_forward, _backward)
