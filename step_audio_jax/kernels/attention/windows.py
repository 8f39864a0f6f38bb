"""Attention in many small windows: a few queries, a few keys each.

    out_w = Σ_s softmax_s(s_ws) v_s            s_ws = q_w · k_s / √K

Keys and values come in pieces that lie one behind the other, so that windows
that look back on each other share them. Few values are added up one by one: a
batched product of 9 by 25 by 128 spends most of its time on what is around it,
and wants the values copied out for each window.

Axes: B rows, C windows, W queries, S keys, H heads, K head width.
"""

from typing import Sequence

import jax
import jax.numpy as jnp

_FEW = 64  # keys up to which values are added up


def attention(
  q_BCWHK: jax.Array,
  keys: Sequence[jax.Array],
  values: Sequence[jax.Array],
  mask_BCWS: jax.Array,
) -> jax.Array:
  """Attention in windows.

  Args:
    q_BCWHK: Queries, not scaled.
    keys: Pieces (B, C, S_i, H, K).
    values: Pieces of the same shapes.
    mask_BCWS: Which keys a query sees, bool; any axis may be 1 wide but the
      last. A query that sees none gets zeros.

  Returns:
    (B, C, W, H, K).
  """
  # Heads before time, so that the product takes its operands as they lie.
  q_BCHWK = q_BCWHK.swapaxes(2, 3) * q_BCWHK.shape[-1] ** -0.5
  k_BCHKS = jnp.concatenate(keys, axis=2).transpose(0, 1, 3, 4, 2)
  scores = jnp.einsum('BCHWK,BCHKS->BCHWS', q_BCHWK, k_BCHKS)
  mask = mask_BCWS[:, :, None]
  scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  weights_BCHWS = jnp.where(mask, jax.nn.softmax(scores, axis=-1), 0.0)
  weigh = _added_up if weights_BCHWS.shape[-1] <= _FEW else _product
  return weigh(weights_BCHWS, tuple(values))


def pad_left_windows(x: jax.Array, look_back: int) -> jax.Array:
  """Windows (B, C, …) behind empty ones that the first of them look back on."""
  before = ((0, 0), (look_back, 0)) + ((0, 0),) * (x.ndim - 2)
  return jnp.pad(x, before)


def pieces(
  line: jax.Array, look_back: int, kept: int, window: int
) -> list[jax.Array]:
  """What each window sees: frames of those before it, then its own.

  Args:
    line: (B, look_back + C, W', …), the windows in order.
    look_back: Windows before it that a window looks back on.
    kept: Frames of these that it sees, from their begin.
    window: Frames of its own.

  Returns:
    `look_back` times (B, C, kept, …), then (B, C, window, …).
  """
  count = line.shape[1] - look_back
  past = [line[:, i : i + count, :kept] for i in range(look_back)]
  return [*past, line[:, look_back:, :window]]


def _product(weights_BCHWS, values):
  v_BCSHK = jnp.concatenate(values, axis=2)
  return jnp.einsum('BCHWS,BCSHK->BCWHK', weights_BCHWS, v_BCSHK)


@jax.custom_vjp
def _added_up(weights_BCHWS, values):
  weights_BCWHS = weights_BCHWS.swapaxes(2, 3)
  frames = (
    piece[:, :, frame, None]
    for piece in values
    for frame in range(piece.shape[2])
  )
  return sum(
    weights_BCWHS[..., place, None] * frame_BC1HK
    for place, frame_BC1HK in enumerate(frames)
  )


def _forward(weights_BCHWS, values):
  return _added_up(weights_BCHWS, values), (weights_BCHWS, values)


def _backward(saved, cotangent):
  # Of the sum it would be as many reductions.
  return jax.vjp(_product, *saved)[1](cotangent)


_added_up.defvjp(_forward, _backward)
