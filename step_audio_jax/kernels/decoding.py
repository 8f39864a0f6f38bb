"""Attention of a few new tokens over a key/value cache.

The maths is that of `reference.py`. Here the cache lies as NSD, rows and
groups as one axis, so that both products are batched matrix products of the
cache as it lies in memory: a decoding step reads it once and copies nothing.

Axes: B batch, T new tokens, S cached tokens, H heads, G key/value groups,
N = B x G, R heads a group, M = R x T, D head width.
"""

import jax
import jax.numpy as jnp
import numpy as np

_MASKED = -1e30


def attention(
  q_BTHD: jax.Array,
  k_NSD: jax.Array,
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
  G = k_NSD.shape[0] // B
  R = H // G
  q_BGRTD = q_BTHD.reshape(B, T, G, R, D).transpose(0, 2, 3, 1, 4)
  scores_NMS = jax.lax.dot_general(
    q_BGRTD.reshape(B * G, R * T, D),
    k_NSD,
    (((2,), (2,)), ((0,), (0,))),
    preferred_element_type=jnp.float32,
  )
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
