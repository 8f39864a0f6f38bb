"""Attention of a few new tokens over a key/value cache.

The maths is that of `reference.py`. Here the cache lies as BGSD, so that both
products are batched matrix products of the cache as it lies in memory: a
decoding step reads it once and copies nothing.

Axes: B batch, T new tokens, S cached tokens, H heads, G key/value groups,
R heads a group, D head width.
"""

import jax
import jax.numpy as jnp
import numpy as np

_MASKED = -1e30


def attention(
  q_BTHD: jax.Array,
  k_BGSD: jax.Array,
  v_BGSD: jax.Array,
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
  G = k_BGSD.shape[1]
  R = H // G
  q_BGND = (q_BTHD.reshape(B, T, G, R, D).transpose(0, 2, 3, 1, 4)).reshape(
    B, G, R * T, D
  )
  batch = ((0, 1), (0, 1))
  scores_BGNS = jax.lax.dot_general(
    q_BGND,
    k_BGSD,
    (((3,), (3,)), batch),
    preferred_element_type=jnp.float32,
  )
  scores_BGRTS = scores_BGNS.reshape(B, G, R, T, -1) * D**-0.5
  distance_BTS = q_positions_BT[:, :, None] - kv_positions_BS[:, None, :]
  visible_BTS = (distance_BTS >= 0) & (
    q_segment_ids_BT[:, :, None] == kv_segment_ids_BS[:, None, :]
  )
  if slopes_H is not None:
    root_BTS = jnp.sqrt(jnp.maximum(distance_BTS, 0).astype(jnp.float32))
    slopes_GR = jnp.asarray(slopes_H, jnp.float32).reshape(G, R)
    scores_BGRTS -= slopes_GR[None, :, :, None, None] * root_BTS[:, None, None]
  scores_BGRTS = jnp.where(visible_BTS[:, None, None], scores_BGRTS, _MASKED)
  weights_BGRTS = jax.nn.softmax(scores_BGRTS, axis=-1).astype(v_BGSD.dtype)
  out_BGND = jax.lax.dot_general(
    weights_BGRTS.reshape(B, G, R * T, -1), v_BGSD, (((3,), (2,)), batch)
  )
  out_BGRTD = out_BGND.reshape(B, G, R, T, D)
  return out_BGRTD.transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)
