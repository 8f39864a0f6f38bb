"""Bodies of the TPU kernels: what one grid step of `mosaic.py` computes.

A step holds R heads' blocks of queries and one block of keys and values. All
scores are transposed, (s, t), and in base 2: exp2 is what the hardware has.
References arrive in this order: first and last useful block and the slopes
(scalars), ids of queries (2, t) and of keys (s, 2) as (segment, position), q
(R, t, D), k and v (s, D), then what the kernel adds, outputs, accumulators.

Axes: R heads a group, D head width, t queries and s keys of a block.
"""

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from step_audio_jax.kernels.attention import tiles

# The running maximum starts at _LOWEST, below every real score. The cost of a
# hidden pair is far beyond it even times the smallest slope: its weight is 0.
_HIDDEN = 1e30
_LOWEST = -1e20
SMALLEST_SLOPE = 1e-9


def _cost(q_ids_ref, kv_ids_ref, biased):
  """Root of the distance of each pair (s, t), _HIDDEN where it is masked."""
  distance_st = q_ids_ref[1:2, :] - kv_ids_ref[:, 1:2]
  visible_st = (distance_st >= 0) & (q_ids_ref[0:1, :] == kv_ids_ref[:, 0:1])
  root_st = 0.0
  if biased:
    root_st = jnp.sqrt(jnp.maximum(distance_st, 0).astype(jnp.float32))
  return jnp.where(visible_st, root_st, _HIDDEN)


def _scores(q_tD, k_sD, cost_st, slope):
  """Biased and masked scores in base 2, (s, t)."""
  scale = q_tD.shape[-1] ** -0.5 * tiles.LOG2_E
  return tiles.dot(k_sD, q_tD, 1, 1) * scale - slope * cost_st


def _each_head(body, heads):
  """Runs body(r) for the R heads; a loop keeps the program small."""
  if heads == 1:
    body(0)
  else:
    jax.lax.fori_loop(0, heads, lambda r, _: body(r), None)


def _useful(first_ref, last_ref):
  """True while the step is within the blocks that the outer block needs."""
  b, outer, step = pl.program_id(0), pl.program_id(2), pl.program_id(3)
  return first_ref[b, outer] + step <= last_ref[b, outer]


def forward(
  first_ref,
  last_ref,
  slopes_ref,
  q_ids_ref,
  kv_ids_ref,
  q_ref,
  k_ref,
  v_ref,
  out_ref,
  lse_ref,
  m_ref,
  l_ref,
  acc_ref,
  *,
  biased,
):
  """Outputs (R, t, D) and their log-sum-exp (R, t)."""
  heads = q_ref.shape[0]
  first_head = pl.program_id(1) * heads

  @pl.when(pl.program_id(3) == 0)
  def _():
    m_ref[...] = jnp.full(m_ref.shape, _LOWEST, jnp.float32)
    l_ref[...] = jnp.zeros(l_ref.shape, jnp.float32)
    acc_ref[...] = jnp.zeros(acc_ref.shape, jnp.float32)

  @pl.when(_useful(first_ref, last_ref))
  def _():
    cost_st = _cost(q_ids_ref, kv_ids_ref, biased)

    def head(r):
      row = pl.ds(r, 1)
      slope = slopes_ref[first_head + r]
      scores_st = _scores(q_ref[r], k_ref[...], cost_st, slope)
      old_1t = m_ref[row, :]
      new_1t = jnp.maximum(old_1t, scores_st.max(axis=0, keepdims=True))
      weights_st = jnp.exp2(scores_st - new_1t)
      shrink_1t = jnp.exp2(old_1t - new_1t)
      m_ref[row, :] = new_1t
      l_ref[row, :] = l_ref[row, :] * shrink_1t + weights_st.sum(
        axis=0, keepdims=True
      )
      acc_ref[r] = acc_ref[r] * shrink_1t + tiles.dot(
        v_ref[...], weights_st.astype(v_ref.dtype), 0, 0
      )

    _each_head(head, heads)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def _():
    seen_Rt = l_ref[...] > 0
    sum_Rt = jnp.where(seen_Rt, l_ref[...], 1.0)
    lse_Rt = m_ref[...] / tiles.LOG2_E + jnp.log(sum_Rt)
    lse_ref[...] = jnp.where(seen_Rt, lse_Rt, 0.0)
    l_ref[...] = sum_Rt

    def head(r):
      out_Dt = acc_ref[r] / l_ref[pl.ds(r, 1), :]
      out_ref[r] = out_Dt.T.astype(out_ref.dtype)

    _each_head(head, heads)


def _weights_and_gradients(
  q_ref, k_ref, v_ref, dout_ref, lse_ref, delta_ref, r, cost_st, slope
):
  """Weights p and score gradients ds / scale of head r, both (s, t)."""
  row = pl.ds(r, 1)
  scores_st = _scores(q_ref[r], k_ref[...], cost_st, slope)
  weights_st = jnp.exp2(scores_st - lse_ref[row, :] * tiles.LOG2_E)
  dweights_st = tiles.dot(v_ref[...], dout_ref[r], 1, 1)
  dscores_st = weights_st * (dweights_st - delta_ref[row, :])
  return weights_st, dscores_st.astype(q_ref.dtype)


def dq(
  first_ref,
  last_ref,
  slopes_ref,
  q_ids_ref,
  kv_ids_ref,
  q_ref,
  k_ref,
  v_ref,
  dout_ref,
  lse_ref,
  delta_ref,
  dq_ref,
  acc_ref,
  *,
  biased,
):
  """Gradient of the queries (R, t, D), given dout, lse and delta."""
  heads, _, D = q_ref.shape
  first_head = pl.program_id(1) * heads

  @pl.when(pl.program_id(3) == 0)
  def _():
    acc_ref[...] = jnp.zeros(acc_ref.shape, jnp.float32)

  @pl.when(_useful(first_ref, last_ref))
  def _():
    cost_st = _cost(q_ids_ref, kv_ids_ref, biased)

    def head(r):
      _, dscores_st = _weights_and_gradients(
        *(q_ref, k_ref, v_ref, dout_ref, lse_ref, delta_ref),
        *(r, cost_st, slopes_ref[first_head + r]),
      )
      acc_ref[r] += tiles.dot(k_ref[...], dscores_st, 0, 0)

    _each_head(head, heads)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def _():
    def head(r):
      dq_ref[r] = (acc_ref[r] * D**-0.5).T.astype(dq_ref.dtype)

    _each_head(head, heads)


def dkv(
  first_ref,
  last_ref,
  slopes_ref,
  q_ids_ref,
  kv_ids_ref,
  q_ref,
  k_ref,
  v_ref,
  dout_ref,
  lse_ref,
  delta_ref,
  dk_ref,
  dv_ref,
  dk_acc_ref,
  dv_acc_ref,
  *,
  biased,
):
  """Gradients of keys and values (s, D), summed over the R heads."""
  heads, _, D = q_ref.shape
  first_head = pl.program_id(1) * heads

  @pl.when(pl.program_id(3) == 0)
  def _():
    dk_acc_ref[...] = jnp.zeros(dk_acc_ref.shape, jnp.float32)
    dv_acc_ref[...] = jnp.zeros(dv_acc_ref.shape, jnp.float32)

  @pl.when(_useful(first_ref, last_ref))
  def _():
    cost_st = _cost(q_ids_ref, kv_ids_ref, biased)

    def head(r):
      weights_st, dscores_st = _weights_and_gradients(
        *(q_ref, k_ref, v_ref, dout_ref, lse_ref, delta_ref),
        *(r, cost_st, slopes_ref[first_head + r]),
      )
      dv_acc_ref[...] += tiles.dot(
        weights_st.astype(dout_ref.dtype), dout_ref[r], 1, 0
      )
      dk_acc_ref[...] += tiles.dot(dscores_st, q_ref[r], 1, 0)

    _each_head(head, heads)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def _():
    dk_ref[...] = (dk_acc_ref[...] * D**-0.5).astype(dk_ref.dtype)
    dv_ref[...] = dv_acc_ref[...].astype(dv_ref.dtype)
