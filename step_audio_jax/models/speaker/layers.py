"""Parts of CAM++: batch norm and pooling that know where a row ends.

What is behind a row's length counts nowhere, neither in batch statistics nor
in means over time. Axes: B rows, T frames, S segments, C channels.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

SEGMENT = 100  # frames of the dense layers that share one context
EPSILON = 1e-5
_MOMENTUM = 0.9


def conv(features, kernel, name, use_bias=False, **settings):
  """A convolution that keeps the length, up to its stride."""
  dilation = settings.get('kernel_dilation', 1)
  axes = (None,) * len(kernel) + (None, 'mlp')
  return nn.Conv(
    features,
    kernel,
    padding=[((k - 1) // 2 * dilation,) * 2 for k in kernel],
    use_bias=use_bias,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.variance_scaling(2.0, 'fan_in', 'truncated_normal'), axes
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('mlp',)),
    name=name,
    **settings,
  )


class Norm(nn.Module):
  """Batch norm over the valid places of a batch.

  Attributes:
    train: Normalise by the batch and move the running statistics.
    affine: Whether a scale and an offset follow.
  """

  train: bool
  affine: bool = True

  @nn.compact
  def __call__(self, x, valid=None):
    shape, axes = x.shape[-1:], tuple(range(x.ndim - 1))
    kept_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    kept_var = self.variable('batch_stats', 'var', jnp.ones, shape)
    mean, var = kept_mean.value, kept_var.value
    if self.train:
      where = jnp.ones_like(x[..., :1]) if valid is None else valid
      where = jnp.broadcast_to(where, (*x.shape[:-1], 1)).astype(x.dtype)
      count = where.sum()
      mean = (x * where).sum(axes) / jnp.maximum(count, 1.0)
      away = jnp.square(x - _wide(mean, x)) * where
      var = away.sum(axes) / jnp.maximum(count, 1.0)
      if not self.is_initializing():
        # A batch of unreadable files only must not move them.
        step = jnp.where(count > 1, 1.0 - _MOMENTUM, 0.0)
        unbiased = var * count / jnp.maximum(count - 1.0, 1.0)
        kept_mean.value += step * (mean - kept_mean.value)
        kept_var.value += step * (unbiased - kept_var.value)
    factor = jax.lax.rsqrt(var + EPSILON)
    part = nn.with_logical_partitioning
    if self.affine:
      scale = part(nn.initializers.ones, ('norm',))
      factor *= self.param('scale', scale, shape)
    y = (x - _wide(mean, x)) * _wide(factor, x)
    if self.affine:
      bias = part(nn.initializers.zeros, ('norm',))
      y += _wide(self.param('bias', bias, shape), x)
    return y


def _wide(vector, x):
  return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def mask_padding(x, valid):
  """Zero where a row has ended, as behind a recording."""
  return x if valid is None else jnp.where(valid, x, 0.0)


def relu(norm, x, valid):
  """Norm, then ReLU, then zero where a row has ended."""
  return mask_padding(nn.relu(norm(x, valid)), valid)


def context(x_BTC: jax.Array, valid_BT1: jax.Array | None) -> jax.Array:
  """Mean over the utterance + mean over each segment, (B, segments, C).

  The last segment of a row averages what the row has of it.
  """
  rows, total, width = x_BTC.shape
  count = -(-total // SEGMENT)
  if valid_BT1 is None:
    valid_BT1 = jnp.ones((rows, total, 1), bool)
  x_BTC = jnp.where(valid_BT1, x_BTC, 0.0)

  def sums(x):
    x = jnp.pad(x, ((0, 0), (0, count * SEGMENT - total), (0, 0)))
    return x.reshape(rows, count, SEGMENT, -1).sum(axis=2)

  sums_BSC = sums(x_BTC)
  counts_BS1 = sums(valid_BT1.astype(x_BTC.dtype))
  whole_B1C = sums_BSC.sum(axis=1, keepdims=True)
  whole_B1C /= jnp.maximum(counts_BS1.sum(axis=1, keepdims=True), 1.0)
  return sums_BSC / jnp.maximum(counts_BS1, 1.0) + whole_B1C


def statistics_pooling(
  x_BTC: jax.Array, valid_BT1: jax.Array | None
) -> jax.Array:
  """Mean and unbiased deviation over time, (B, 2 C)."""
  if valid_BT1 is None:
    valid_BT1 = jnp.ones((*x_BTC.shape[:2], 1), bool)
  count_B1C = valid_BT1.astype(x_BTC.dtype).sum(axis=1, keepdims=True)
  total = jnp.where(valid_BT1, x_BTC, 0.0).sum(axis=1, keepdims=True)
  mean_B1C = total / jnp.maximum(count_B1C, 1.0)
  away = jnp.where(valid_BT1, jnp.square(x_BTC - mean_B1C), 0.0)
  var_BC = (away.sum(1, keepdims=True) / jnp.maximum(count_B1C - 1.0, 1.0))[
    :, 0
  ]
  # A channel that is silent throughout has no gradient, not an infinite one.
  moves = var_BC > 0
  deviation_BC = jnp.where(moves, jnp.sqrt(jnp.where(moves, var_BC, 1.0)), 0.0)
  return jnp.concatenate([mean_B1C[:, 0], deviation_BC], axis=-1)


def l2_normalise(x: jax.Array) -> jax.Array:
  """Rows of length 1; a row of zeros stays one and has no gradient."""
  square = jnp.square(x).sum(axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
