"""Layers that several networks share, with logical axis names."""

from flax import linen as nn


def dense(
  features: int,
  axes: tuple[str | None, ...],
  name: str | None = None,
  use_bias: bool = True,
) -> nn.Dense:
  """A projection; `axes` are those of its kernel."""
  return nn.Dense(
    features,
    use_bias=use_bias,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.xavier_uniform(), axes
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[-1:]),
    name=name,
  )


def layer_norm(name: str | None = None, epsilon: float = 1e-5) -> nn.LayerNorm:
  """A LayerNorm whose variance is that of centred values."""
  return nn.LayerNorm(
    epsilon=epsilon,
    use_fast_variance=False,
    scale_init=nn.with_logical_partitioning(nn.initializers.ones, ('norm',)),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('norm',)),
    name=name,
  )
