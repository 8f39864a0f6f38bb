"""Attention of a few new tokens over a key/value cache.

The maths is that of `reference.py`. Here the values of a layer lie as NSD and
the keys in blocks, NJDs, rows and groups as one axis, so that both products are
plain batched matrix products of the cache as it lies in memory: a decoding step
reads it once and copies nothing. On a CPU a block holds 64 keys, the width at
which XLA's library does not pack the right side anew (2.6 times as fast as 384
at once), as tiles of weights have it (`projections.py`); elsewhere, and on a
mesh, there is one block.

Axes: B batch, T new tokens, S cached tokens, H heads, G key/value groups,
N = B x G, R heads a group, M = R x T, D head width, J blocks of s = S / J keys.
"""

from typing import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_MASKED = -1e30
_BLOCK = 64


def shapes(
  rows: tuple[int, ...], length: int, head_dim: int
) -> tuple[int, dict[str, tuple[int, ...]]]:
  """(places S of a cache for `length` tokens, shapes of 'key' and 'value').

  Args:
    rows: (N,), or (B, G) where each may be split over a mesh.
    length: Tokens.
    head_dim: D.
  """
  # On a mesh the keys are read as values lie: blocks would be in the way.
  blocks = jax.default_backend() == 'cpu' and len(rows) == 1
  block = _BLOCK if blocks else length
  blocks = -(-length // block)
  length = blocks * block
  return length, {
    'key': (*rows, blocks, head_dim, block),
    'value': (*rows, length, head_dim),
  }


def flat_keys(k_NJDs: jax.Array) -> jax.Array:
  """Keys as values lie, NSD; leading axes as they are."""
  k_NJsD = k_NJDs.swapaxes(-1, -2)
  return k_NJsD.reshape(*k_NJsD.shape[:-3], -1, k_NJsD.shape[-1])


def moved(
  layer: dict[str, jax.Array],
  rows_B: jax.Array,
  batch: int,
  shift: jax.Array,
  like: dict[str, tuple[int, ...]],
) -> dict[str, jax.Array]:
  """Some rows of a layer's cache, all places moved on, at another length.

  Args:
    layer: The cache of a layer.
    rows_B: Which rows.
    batch: How many it has.
    shift: How far places move, modulo the longer of both lengths.
    like: Shapes of what is made, of `shapes`.
  """
  length, block = like['value'][-2], like['key'][-1]

  def taken(x_NSD):
    places, D = x_NSD.shape[-2:]
    x_BGSD = x_NSD.reshape(batch, -1, places, D)[rows_B]
    more = max(length - places, 0)
    x_BGSD = jnp.pad(x_BGSD, ((0, 0), (0, 0), (0, more), (0, 0)))
    x_BGSD = jnp.roll(x_BGSD, shift, axis=2)[:, :, :length]
    return x_BGSD.reshape(*like['value'][:-2], length, D)

  k_NSD = taken(flat_keys(layer['key']))
  k_NJsD = k_NSD.reshape(*k_NSD.shape[:-2], -1, block, k_NSD.shape[-1])
  return {'key': k_NJsD.swapaxes(-1, -2), 'value': taken(layer['value'])}


def put(
  layer: dict[str, jax.Array],
  some: dict[str, jax.Array],
  rows: Sequence[jax.Array],
) -> dict[str, jax.Array]:
  """A layer's cache with some rows in the place of `rows`, one after another.

  Args:
    layer: The cache of a layer.
    some: Of `moved`, as long.
    rows: Where each of them goes.
  """

  def one(x, new):
    each = len(new) // len(rows)  # rows and groups may be one axis
    for n, row in enumerate(rows):
      x = jax.lax.dynamic_update_slice_in_dim(
        x, new[n * each : (n + 1) * each], row * each, axis=0
      )
    return x

  return {name: one(layer[name], some[name]) for name in layer}


def written(
  cache: dict[str, jax.Array], k_BTGD, v_BTGD, index: jax.Array
) -> dict[str, jax.Array]:
  """A layer's cache with the keys and values of T tokens from `index` on."""
  keys, values = cache['key'], cache['value']
  T, D = k_BTGD.shape[1], k_BTGD.shape[3]
  rows = values.shape[:-2]

  def lying(x_BTGD, like):
    return x_BTGD.swapaxes(1, 2).reshape(*rows, T, D).astype(like.dtype)

  k_NTD, v_NTD = lying(k_BTGD, keys), lying(v_BTGD, values)
  axis = values.ndim - 2
  values = jax.lax.dynamic_update_slice_in_dim(values, v_NTD, index, axis)
  if T == 1:
    block = keys.shape[-1]
    start = (0,) * len(rows) + (index // block, 0, index % block)
    new = k_NTD.swapaxes(-1, -2)[..., None, :, :]
    keys = jax.lax.dynamic_update_slice(keys, new, start)
  else:
    k_NSD = jax.lax.dynamic_update_slice_in_dim(
      flat_keys(keys), k_NTD, index, axis
    )
    k_NJsD = k_NSD.reshape(*rows, *keys.shape[-3:-2], -1, D)
    keys = k_NJsD.swapaxes(-1, -2)
  # The barrier keeps XLA from fusing the write into its readers, which would
  # copy the whole cache for each of them.
  return jax.lax.optimization_barrier({'key': keys, 'value': values})


def attention(
  q_BTHD: jax.Array,
  k_NJDs: jax.Array,
  v_NSD: jax.Array,
  *,
  q_positions_BT: jax.Array,
  kv_positions_BS: jax.Array,
  q_segment_ids_BT: jax.Array,
  kv_segment_ids_BS: jax.Array,
  slopes_H: jax.Array | np.ndarray | None = None,
) -> jax.Array:
  """As `kernels.attention.attention`, keys and values in the cache's layout.

  Every query must see at least one key, as a token that was just written sees
  itself.
  """
  B, T, H, D = q_BTHD.shape
  G = k_NJDs.shape[0] // B
  R = H // G
  q_BGRTD = q_BTHD.reshape(B, T, G, R, D).transpose(0, 2, 3, 1, 4)
  # The barrier: XLA would compute what made q anew for every block.
  q_NMD = jax.lax.optimization_barrier(q_BGRTD.reshape(B * G, R * T, D))
  blocks = (B * G, k_NJDs.shape[1], R * T, D)
  q_NJMD = jnp.broadcast_to(q_NMD[:, None], blocks)
  scores_NJMs = jax.lax.dot_general(
    q_NJMD,
    k_NJDs,
    (((3,), (2,)), ((0, 1), (0, 1))),
    preferred_element_type=jnp.float32,
  )
  scores_NMS = scores_NJMs.swapaxes(1, 2)
  scores_BGRTS = scores_NMS.reshape(B, G, R, T, -1) * D**-0.5
  distance_BTS = q_positions_BT[:, :, None] - kv_positions_BS[:, None, :]
  visible_BTS = (distance_BTS >= 0) & (
    q_segment_ids_BT[:, :, None] == kv_segment_ids_BS[:, None, :]
  )
  if slopes_H is not None:
    root_BTS = jnp.sqrt(jnp.maximum(distance_BTS, 0).astype(jnp.float32))
    slopes_GR = jnp.asarray(slopes_H, jnp.float32).reshape(G, R)
    scores_BGRTS -= slopes_GR[None, :, :, None, None] * root_BTS[:, None, None]
  scores_BGRTS = jnp.where(visible_BTS[:, None, None], scores_BGRTS, _MASKED)
  weights_BGRTS = jax.nn.softmax(scores_BGRTS, axis=-1).astype(v_NSD.dtype)
  out_NMD = jax.lax.dot_general(
    weights_BGRTS.reshape(B * G, R * T, -1),
    v_NSD,
    (((2,), (1,)), ((0,), (0,))),
  )
  out_BGRTD = out_NMD.reshape(B, G, R, T, D)
  return out_BGRTD.transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)
