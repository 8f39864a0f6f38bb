"""Dense attention: the oracle of every kernel, and the path of decoding.

For query i and key j of the same segment with position_j <= position_i:

    score = q_i . k_j / sqrt(D) - slope_h * sqrt(position_i - position_j)

Every other pair is masked. Bias and softmax are float32 whatever the inputs
are (Step-Audio report; its released code drifts in bfloat16). Slopes follow
Press et al. (arXiv 2108.12409), with the second batch of slopes that Step-1
uses for head counts that are no power of two.

Axes: B batch, T queries, S keys, H heads, G key/value groups, R heads a group,
D head width.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

MASKED = -1e30


def alibi_slopes(heads: int) -> np.ndarray:
  """Slopes m_h, float32 (heads,).

  With n = 2^floor(log2 heads): the first n heads have 2^(-8k/n), k = 1..n; the
  others 2^(-4(2k-1)/n), k = 1..heads-n.
  """
  n = 2 ** int(math.log2(heads))
  first = 2.0 ** (-8.0 * np.arange(1, n + 1) / n)
  rest = 2.0 ** (-4.0 * (2 * np.arange(1, heads - n + 1) - 1) / n)
  return np.concatenate([first, rest]).astype(np.float32)


def attention(
  q_BTHD: jax.Array,
  k_BSGD: jax.Array,
  v_BSGD: jax.Array,
  *,
  q_positions_BT: jax.Array,
  kv_positions_BS: jax.Array,
  q_segment_ids_BT: jax.Array,
  kv_segment_ids_BS: jax.Array,
  slopes_H: jax.Array | None = None,
) -> jax.Array:
  """Attention with all T x S scores at once; see `attention.attention`."""
  B, T, H, D = q_BTHD.shape
  G = k_BSGD.shape[2]
  q_BTGRD = q_BTHD.reshape(B, T, G, H // G, D)
  scores_BGRTS = jnp.einsum(
    'BTGRD,BSGD->BGRTS',
    q_BTGRD,
    k_BSGD,
    preferred_element_type=jnp.float32,
  ) * (D**-0.5)
  distance_BTS = q_positions_BT[:, :, None] - kv_positions_BS[:, None, :]
  visible_BTS = (distance_BTS >= 0) & (
    q_segment_ids_BT[:, :, None] == kv_segment_ids_BS[:, None, :]
  )
  if slopes_H is not None:
    root_BTS = jnp.sqrt(jnp.maximum(distance_BTS, 0).astype(jnp.float32))
    slopes_GR = jnp.asarray(slopes_H, jnp.float32).reshape(G, H // G)
    scores_BGRTS -= slopes_GR[None, :, :, None, None] * root_BTS[:, None, None]
  scores_BGRTS = jnp.where(visible_BTS[:, None, None], scores_BGRTS, MASKED)
  weights_BGRTS = jax.nn.softmax(scores_BGRTS, axis=-1)
  # A query that sees nothing gets zeros, as from the blocked kernels.
  seen_BT = visible_BTS.any(axis=-1)
  weights_BGRTS *= seen_BT[:, None, None, :, None].astype(jnp.float32)
  out_BTGRD = jnp.einsum(
    'BGRTS,BSGD->BTGRD',
    weights_BGRTS.astype(v_BSGD.dtype),
    v_BSGD,
    preferred_element_type=jnp.float32,
  )
  return out_BTGRD.reshape(B, T, H, D).astype(v_BSGD.dtype)
