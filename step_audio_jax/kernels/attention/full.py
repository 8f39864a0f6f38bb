"""Full attention: every query sees every valid key of its row.

    out_q = Σ_k softmax_k(s_qk) v_k        s_qk = q · k / √d, −∞ if k is padding

On CPUs long rows go one head at a time: the scores of one head stay in the
cache, and XLA's plain products are faster than its batched ones (10 s of mel:
a fifth of a transformer block).

Axes: B rows, Q queries, N keys, H heads, K head width.
"""

import jax
import jax.numpy as jnp
import numpy as np

_LONG = 256  # keys from which single heads pay


def attention(
  q_BQHK: jax.Array,
  k_BNHK: jax.Array,
  v_BNHK: jax.Array,
  valid_BN: jax.Array | None = None,
) -> jax.Array:
  """Full attention.

  Args:
    q_BQHK: Queries, not scaled.
    k_BNHK: Keys.
    v_BNHK: Values.
    valid_BN: Which keys are real, bool; None means all. A row without any
      gets the mean of its values.

  Returns:
    (B, Q, H, K).
  """
  if valid_BN is None:
    bias_BN = jnp.zeros(k_BNHK.shape[:2], q_BQHK.dtype)
  else:
    bias_BN = jnp.where(valid_BN, 0.0, -1e30).astype(q_BQHK.dtype)
  q_BQHK = q_BQHK * np.float32(q_BQHK.shape[-1] ** -0.5)
  if k_BNHK.shape[1] < _LONG:
    return _together(q_BQHK, k_BNHK, v_BNHK, bias_BN)
  return jax.lax.platform_dependent(
    q_BQHK, k_BNHK, v_BNHK, bias_BN, cpu=_one_by_one, default=_together
  )


def _together(q_BQHK, k_BNHK, v_BNHK, bias_BN):
  # Heads before time: otherwise XLA turns the weights Q x N, not the values.
  q_BHQK, k_BHNK, v_BHNK = (x.swapaxes(1, 2) for x in (q_BQHK, k_BNHK, v_BNHK))
  scores = jnp.einsum('bhqk,bhnk->bhqn', q_BHQK, k_BHNK)
  weights = jax.nn.softmax(scores + bias_BN[:, None, None])
  return jnp.einsum('bhqn,bhnk->bhqk', weights, v_BHNK).swapaxes(1, 2)


def _one_by_one(q_BQHK, k_BNHK, v_BNHK, bias_BN):
  B, Q, H, K = q_BQHK.shape

  def heads(x_BTHK):
    return x_BTHK.transpose(0, 2, 1, 3).reshape(B * H, -1, K)

  def one(inputs):
    q_QK, k_NK, v_NK, bias_N = inputs
    scores = q_QK @ k_NK.T + bias_N[None]
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    # Divided behind the product: one pass less over Q x N.
    return (weights @ v_NK) / weights.sum(axis=-1, keepdims=True)

  bias = jnp.repeat(bias_BN, H, axis=0)
  out = jax.lax.map(one, (heads(q_BQHK), heads(k_BNHK), heads(v_BNHK), bias))
  return out.reshape(B, H, Q, K).transpose(0, 2, 1, 3)
