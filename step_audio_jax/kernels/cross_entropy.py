"""Cross-entropy of a large vocabulary, in chunks of tokens, with z-loss.

For hidden states h, head W, target t and weight w of each token:

    logits = W h    log_z = logsumexp(logits)
    total = sum of w * (log_z - logits_t + z_loss * log_z^2)

with the z-loss of PaLM (arXiv 2204.02311). All logits at once would be the
largest array of a training step. Here a chunk's logits become the chunk's
gradients at once, while they are there: with a scalar loss, the gradient with
respect to the logits is known up to one factor, the cotangent of `total`, and
the backward pass only multiplies by it. Nothing is computed twice and no logit
outlives its chunk.

Where few tokens weigh anything, as the answers of a task SFT, they can be put
together first (`sparse`); chunks of the others are then passed over.

Axes: N tokens, C tokens of a chunk, E width, V vocabulary, or the part of it
that this device holds.
"""

import functools
from typing import NamedTuple, Sequence

import jax
import jax.numpy as jnp

AxisName = str | Sequence[str] | None


class _Static(NamedTuple):
  z_loss: float
  chunk: int
  axis_name: AxisName
  sparse: bool = False


def cross_entropy(
  hidden_NE: jax.Array,
  head_VE: jax.Array,
  targets_N: jax.Array,
  weights_N: jax.Array,
  *,
  z_loss: float = 0.0,
  chunk: int = 1024,
  axis_name: AxisName = None,
  sparse: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Weighted sum of token losses, and each token's loss for metrics.

  Args:
    hidden_NE: Final hidden states; matmuls run in their dtype and accumulate
      in float32.
    head_VE: Output table. Under `shard_map`, this device's rows of it.
    targets_N: Ids in the whole vocabulary, int32. Any id where the weight is
      0.
    weights_N: Loss weights, float32.
    z_loss: Weight of log_z^2.
    chunk: Tokens whose logits exist at the same time; needs not divide N.
    axis_name: Mesh axis (or axes) over which V is split, inside a `shard_map`
      with `check_vma=False`. Shard i holds rows i * V to (i + 1) * V.
    sparse: Only the chunks of tokens with a weight are computed; what it tells
      of the others is 0 or right. Means nothing where V is split.

  Returns:
    (total (), losses N without z-loss and weight, log normalisers N), all
    float32 and equal on all shards of V. The gradient flows through `total`
    alone, to hidden_NE and head_VE.

  Raises:
    ValueError: Shapes that do not fit each other, or a chunk below 1.
  """
  N, E = hidden_NE.shape
  if head_VE.shape[1] != E or {targets_N.shape, weights_N.shape} != {(N,)}:
    raise ValueError(
      f'cross_entropy: hidden {hidden_NE.shape}, head {head_VE.shape}, targets '
      f'{targets_N.shape}, weights {weights_N.shape}; expected (N, E), (V, E), '
      '(N,), (N,).'
    )
  if chunk < 1:
    raise ValueError(f'cross_entropy: chunk is {chunk}, expected at least 1.')
  if axis_name is not None and not isinstance(axis_name, str):
    axis_name = tuple(axis_name) or None
  return _cross_entropy(
    _Static(z_loss, chunk, axis_name, sparse and not axis_name),
    hidden_NE,
    head_VE,
    targets_N,
    weights_N.astype(jnp.float32),
  )


def with_gradients(
  hidden_NE: jax.Array,
  head_VE: jax.Array,
  targets_N: jax.Array,
  weights_N: jax.Array,
  *,
  z_loss: float = 0.0,
  chunk: int = 1024,
  axis_name: AxisName = None,
  sparse: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
  """As `cross_entropy`, and the gradients of `total`, in the same pass.

  For callers that write the collectives of the gradients themselves.

  Returns:
    (total, losses N, log normalisers N, d hidden NE, d head VE). Where V is
    split, d hidden is this shard's summand of the gradient.
  """
  static = _Static(z_loss, chunk, axis_name, sparse and not axis_name)
  outs, gradients = _forward(
    static, hidden_NE, head_VE, targets_N, weights_N.astype(jnp.float32)
  )
  return *outs, *gradients


def _logits(static, hidden_CE, head_VE, targets_C):
  """Returns (logits CV, log_z C, target's logit C, one-hot target CV)."""
  logits_CV = jnp.einsum(
    'CE,VE->CV', hidden_CE, head_VE, preferred_element_type=jnp.float32
  )
  C, V = logits_CV.shape
  ids_CV = jax.lax.broadcasted_iota(jnp.int32, (C, V), 1)
  top_C = logits_CV.max(axis=-1)
  if static.axis_name:
    ids_CV += jax.lax.axis_index(static.axis_name) * V
    top_C = jax.lax.pmax(top_C, static.axis_name)
  hit_CV = ids_CV == targets_C[:, None]
  sums_C2 = jnp.stack(
    [
      jnp.exp(logits_CV - top_C[:, None]).sum(axis=-1),
      jnp.where(hit_CV, logits_CV, 0.0).sum(axis=-1),
    ],
    axis=-1,
  )
  if static.axis_name:
    sums_C2 = jax.lax.psum(sums_C2, static.axis_name)
  log_z_C = top_C + jnp.log(sums_C2[:, 0])
  return logits_CV, log_z_C, sums_C2[:, 1], hit_CV


def _chunk_losses(static, head_VE, carry, tokens):
  hidden_CE, targets_C, _ = tokens
  _, log_z_C, chosen_C, _ = _logits(static, hidden_CE, head_VE, targets_C)
  return carry, (log_z_C - chosen_C, log_z_C)


def _chunk_gradients(static, head_VE, dhead_VE, tokens):
  """As `_chunk_losses`, with gradients for a cotangent of `total` of 1."""
  hidden_CE, targets_C, weights_C = tokens
  logits_CV, log_z_C, chosen_C, hit_CV = _logits(
    static, hidden_CE, head_VE, targets_C
  )
  # d log_z = softmax, so d log_z^2 = 2 log_z softmax.
  factor_C = weights_C * (1.0 + 2.0 * static.z_loss * log_z_C)
  softmax_CV = jnp.exp(logits_CV - log_z_C[:, None])
  dlogits_CV = factor_C[:, None] * softmax_CV - jnp.where(
    hit_CV, weights_C[:, None], 0.0
  )
  dlogits_CV = dlogits_CV.astype(hidden_CE.dtype)
  dhead_VE += jnp.einsum(
    'CV,CE->VE', dlogits_CV, hidden_CE, preferred_element_type=jnp.float32
  )
  dhidden_CE = jnp.einsum(
    'CV,VE->CE', dlogits_CV, head_VE, preferred_element_type=jnp.float32
  ).astype(hidden_CE.dtype)
  return dhead_VE, (log_z_C - chosen_C, log_z_C, dhidden_CE)


def _over_chunks(body, chunk, carry, tokens):
  """Scans `body` over chunks of tokens; the last one is filled up."""
  N = tokens[0].shape[0]
  if N <= chunk:
    return body(carry, tokens)
  chunks = -(-N // chunk)

  def split(x):
    fill = chunks * chunk - N
    if fill:
      x = jnp.pad(x, [(0, fill)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(chunks, chunk, *x.shape[1:])

  carry, outs = jax.lax.scan(body, carry, tuple(map(split, tokens)))
  return carry, tuple(x.reshape(-1, *x.shape[2:])[:N] for x in outs)


def _unless_weightless(body, carry, tokens):
  """`body` of a chunk, or zeros where no token of it weighs anything."""

  def zeros(carry, tokens):
    _, shapes = jax.eval_shape(body, carry, tokens)
    return carry, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  return jax.lax.cond((tokens[2] != 0).any(), body, zeros, carry, tokens)


def _over_chosen(static, body, carry, tokens):
  """As `_over_chunks`; with `sparse`, over those that weigh something."""
  if not static.sparse:
    return _over_chunks(body, static.chunk, carry, tokens)
  order_N = jnp.argsort(tokens[2] == 0, stable=True)
  carry, places = _over_chunks(
    functools.partial(_unless_weightless, body),
    static.chunk,
    carry,
    tuple(x[order_N] for x in tokens),
  )
  return carry, tuple(jnp.zeros_like(x).at[order_N].set(x) for x in places)


def _total(static, weights_N, losses_N, log_z_N):
  return (weights_N * (losses_N + static.z_loss * log_z_N**2)).sum()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(static, hidden_NE, head_VE, targets_N, weights_N):
  body = functools.partial(
    _chunk_losses, static, head_VE.astype(hidden_NE.dtype)
  )
  tokens = (hidden_NE, targets_N, weights_N)
  _, (losses_N, log_z_N) = _over_chosen(static, body, None, tokens)
  return _total(static, weights_N, losses_N, log_z_N), losses_N, log_z_N


def _forward(static, hidden_NE, head_VE, targets_N, weights_N):
  body = functools.partial(
    _chunk_gradients, static, head_VE.astype(hidden_NE.dtype)
  )
  tokens = (hidden_NE, targets_N, weights_N)
  dhead_VE, (losses_N, log_z_N, dhidden_NE) = _over_chosen(
    static, body, jnp.zeros(head_VE.shape, jnp.float32), tokens
  )
  total = _total(static, weights_N, losses_N, log_z_N)
  residuals = dhidden_NE, dhead_VE.astype(head_VE.dtype)
  return (total, losses_N, log_z_N), residuals


def _backward(static, residuals, cotangents):
  dhidden_NE, dhead_VE = residuals
  dtotal = cotangents[0]
  if static.axis_name:
    # `total` is one value on all shards: each holds a part of its cotangent.
    dtotal = jax.lax.psum(dtotal, static.axis_name)
  return (
    (dhidden_NE * dtotal).astype(dhidden_NE.dtype),
    (dhead_VE * dtotal).astype(dhead_VE.dtype),
    None,
    None,
  )


_cross_entropy.defvjp(_forward, _backward)
