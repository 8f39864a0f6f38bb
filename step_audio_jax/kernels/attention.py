"""Attention that is causal inside segments, with the sqrt-ALiBi bias.

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

_MASKED = -1e30


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
  slopes_H: np.ndarray | None = None,
) -> jax.Array:
  """Dense attention, the reference for every kernel.

  Args:
    q_BTHD: Queries, any float dtype.
    k_BSGD: Keys; H must be a multiple of G, head h uses group h // (H / G).
    v_BSGD: Values.
    q_positions_BT: Position of each query in its segment, int32.
    kv_positions_BS: Position of each key in its segment, int32.
    q_segment_ids_BT: Segment of each query, int32.
    kv_segment_ids_BS: Segment of each key, int32.
    slopes_H: sqrt-ALiBi slopes, or None for no bias.

  Returns:
    BTHD in the dtype of the values. A query that sees no key gets the mean of
    the values, never NaN.
  """
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
  scores_BGRTS = jnp.where(visible_BTS[:, None, None], scores_BGRTS, _MASKED)
  weights_BGRTS = jax.nn.softmax(scores_BGRTS, axis=-1).astype(v_BSGD.dtype)
  out_BTGRD = jnp.einsum('BGRTS,BSGD->BTGRD', weights_BGRTS, v_BSGD)
  return out_BTGRD.reshape(B, T, H, D)


def rope(x_BTHD: jax.Array, positions_BT: jax.Array, theta: float) -> jax.Array:
  """Rotary positions (arXiv 2104.09864), halves paired as Llama does."""
  half = x_BTHD.shape[-1] // 2
  frequency_F = theta ** (-np.arange(half, dtype=np.float32) / half)
  angle_BT1F = (
    positions_BT[:, :, None, None].astype(jnp.float32)
    * frequency_F[None, None, None]
  )
  sin_BT1F, cos_BT1F = jnp.sin(angle_BT1F), jnp.cos(angle_BT1F)
  first, second = x_BTHD[..., :half], x_BTHD[..., half:]
  return jnp.concatenate(
    [
      first * cos_BT1F - second * sin_BT1F,
      second * cos_BT1F + first * sin_BT1F,
    ],
    axis=-1,
  ).astype(x_BTHD.dtype)
