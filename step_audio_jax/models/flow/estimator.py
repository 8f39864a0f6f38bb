"""The velocity network of the flow: a 1-D U-Net with transformer blocks.

    [x, mu, speaker, condition] → level 0 (halves time) → level 1
      → middle blocks → level 1 (doubles time) → level 0 → velocity

Each stage is a ResNet block (conv 3, GroupNorm, Mish, time added between its
halves) and some pre-LN transformer blocks, as Matcha-TTS (arXiv 2309.03199)
and CosyVoice have them. Skips are taken before the halving.

The original lets padding in: only convolutions are masked, attention and norms
see the zeroed frames, so a padded batch gives other values than single rows.
With `padded='out'` padding has no influence at all, which on a row without
padding is the same thing.

Axes: B rows, T frames, C channels, M mel bands, E time embedding, H heads, K
head width.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.kernels import gelu
from step_audio_jax.kernels.attention import full
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models import layers

_GROUPS = 8


@dataclasses.dataclass(frozen=True)
class EstimatorConfig:
  """Shape of the U-Net; the defaults are the released one's.

  Attributes:
    bands: Mel bands M of each of the four inputs and of the output.
    channels: Channels C of both levels; a multiple of 8.
    heads: Attention heads.
    head_width: Width of a head; heads · head_width need not be C.
    blocks: Transformer blocks of a stage.
    middle: Stages between the levels, at half rate.
    mlp_factor: Width of the feed-forward parts over C.
    padded: 'in' as the original, whose norms and attention see padded frames,
      or 'out'.
  """

  bands: int = 80
  channels: int = 256
  heads: int = 8
  head_width: int = 64
  blocks: int = 4
  middle: int = 12
  mlp_factor: int = 4
  padded: str = 'out'

  def __post_init__(self):
    errors.at_least_one(
      'flow estimator',
      self,
      (
        *('bands', 'channels', 'heads', 'head_width', 'blocks', 'middle'),
        'mlp_factor',
      ),
    )
    if self.channels % _GROUPS:
      raise errors.UserError(
        f'flow estimator: channels is {self.channels}, expected a multiple of '
        f'{_GROUPS}.'
      )
    if self.padded not in ('in', 'out'):
      raise errors.UserError(
        f"flow estimator: padded is {self.padded!r}, expected 'in' or 'out'."
      )


def mish(x: jax.Array) -> jax.Array:
  """x · tanh(softplus(x)), from one exponential.

  tanh(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2); beyond 20 it is 1 in float32.
  """
  e = jnp.exp(jnp.minimum(x, 20.0))
  n = e * (e + 2.0)
  return x * (n / (n + 2.0))


def time_embedding(t_B: jax.Array, width: int) -> jax.Array:
  """Sines, then cosines, of 1000 t (B, E)."""
  half = width // 2
  rates = np.exp(np.arange(half) * -(np.log(10000.0) / (half - 1)))
  angle = 1000.0 * t_B[:, None] * rates.astype(np.float32)[None]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Conv(nn.Module):
  """A convolution over time, 'SAME' for odd kernels.

  As a sum of shifted products: on CPUs faster than XLA's convolution, on TPUs
  the same.

  Attributes:
    features: Channels out.
    kernel: Taps, odd.
    stride: 1 or 2.
  """

  features: int
  kernel: int = 3
  stride: int = 1

  @nn.compact
  def __call__(self, x_BTC: jax.Array) -> jax.Array:
    """(B, T, C) → (B, ⌈T / stride⌉, features)."""
    init = nn.initializers.variance_scaling(
      1 / 3, 'fan_in', 'uniform', in_axis=(0, 1), out_axis=2
    )
    kernel_KCF = self.param(
      'kernel',
      nn.with_logical_partitioning(init, (None, 'embed', 'mlp')),
      (self.kernel, x_BTC.shape[-1], self.features),
    )
    bias_F = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, ('mlp',)),
      (self.features,),
    )
    half, T = self.kernel // 2, x_BTC.shape[1]
    count = -(-T // self.stride)
    padded = jnp.pad(x_BTC, ((0, 0), (half, half), (0, 0)))
    stop = (count - 1) * self.stride + 1
    total = bias_F[None, None]
    for tap in range(self.kernel):
      rows = padded[:, tap : tap + stop : self.stride]
      total = total + rows @ kernel_KCF[tap]
    return total


class Upsample(nn.Module):
  """Twice the frames: a transposed convolution, 4 taps, stride 2, cut 1.

  y[2i] = x[i] W₁ + x[i − 1] W₃      y[2i + 1] = x[i + 1] W₀ + x[i] W₂
  """

  features: int

  @nn.compact
  def __call__(self, x_BTC: jax.Array) -> jax.Array:
    """(B, T, C) → (B, 2 T, features)."""
    B, T, C = x_BTC.shape
    init = nn.initializers.variance_scaling(
      1 / 3, 'fan_in', 'uniform', in_axis=(0, 1), out_axis=2
    )
    kernel_KCF = self.param(
      'kernel',
      nn.with_logical_partitioning(init, (None, 'embed', 'mlp')),
      (4, C, self.features),
    )
    bias_F = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, ('mlp',)),
      (self.features,),
    )
    padded = jnp.pad(x_BTC, ((0, 0), (1, 1), (0, 0)))
    before, here, behind = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    even = here @ kernel_KCF[1] + before @ kernel_KCF[3]
    odd = behind @ kernel_KCF[0] + here @ kernel_KCF[2]
    both = jnp.stack([even, odd], axis=2).reshape(B, 2 * T, self.features)
    return both + bias_F[None, None]


class GroupNorm(nn.Module):
  """Over time and the channels of a group; `weights_BT1` says which frames."""

  groups: int

  @nn.compact
  def __call__(self, x_BTC: jax.Array, weights_BT1=None) -> jax.Array:
    B, T, C = x_BTC.shape
    scale, bias = (
      self.param(name, nn.with_logical_partitioning(init, ('norm',)), (C,))
      for name, init in (
        ('scale', nn.initializers.ones),
        ('bias', nn.initializers.zeros),
      )
    )
    # Per channel first, then per group: no frame is ever laid out again.
    if weights_BT1 is None:
      count = jnp.full((B, 1), float(T))
    else:
      count = jnp.maximum(weights_BT1.sum(axis=1), 1.0)

    def mean(y_BTC):
      """Over the counted frames and each group's channels, per channel."""
      if weights_BT1 is not None:
        y_BTC = y_BTC * weights_BT1
      y_BG = (y_BTC.sum(axis=1) / count).reshape(B, self.groups, -1).mean(-1)
      return jnp.repeat(y_BG, C // self.groups, axis=1)[:, None]

    centred = x_BTC - mean(x_BTC)
    inverse = jax.lax.rsqrt(mean(jnp.square(centred)) + 1e-5)
    return centred * (inverse * scale[None, None]) + bias[None, None]


class ConvBlock(nn.Module):
  """Convolution, norm, Mish; the mask goes in and out."""

  features: int

  @nn.compact
  def __call__(self, x_BTC, mask_BT1, weights_BT1):
    x_BTC = Conv(self.features, name='conv')(x_BTC * mask_BT1)
    x_BTC = GroupNorm(_GROUPS, name='norm')(x_BTC, weights_BT1)
    return mish(x_BTC) * mask_BT1


class ResNetBlock(nn.Module):
  """Two blocks with the time added between, and a 1x1 path around them."""

  features: int

  @nn.compact
  def __call__(self, x_BTC, time_BE, mask_BT1, weights_BT1):
    h = ConvBlock(self.features, name='first')(x_BTC, mask_BT1, weights_BT1)
    dense = layers.dense
    h += dense(self.features, ('embed', 'mlp'), 'time')(mish(time_BE))[:, None]
    h = ConvBlock(self.features, name='second')(h, mask_BT1, weights_BT1)
    around = dense(self.features, ('embed', 'mlp'), 'around')
    return h + around(x_BTC * mask_BT1)


class TransformerBlock(nn.Module):
  """Full attention and a GELU feed-forward part, both behind their norms."""

  config: EstimatorConfig

  @nn.compact
  def __call__(self, x_BTC, valid_BT):
    c, dense = self.config, layers.dense
    norm = layers.layer_norm
    inner, C = norm('attention_norm')(x_BTC), x_BTC.shape[-1]
    heads = (*x_BTC.shape[:2], c.heads, c.head_width)
    query, key, value = (
      dense(c.heads * c.head_width, ('embed', 'heads'), name, use_bias=False)(
        inner
      ).reshape(heads)
      for name in ('query', 'key', 'value')
    )
    mixed = full.attention(query, key, value, valid_BT)
    x_BTC += dense(C, ('heads', 'embed'), 'out')(
      mixed.reshape(*x_BTC.shape[:2], -1)
    )
    inner = norm('mlp_norm')(x_BTC)
    inner = dense(c.mlp_factor * C, ('embed', 'mlp'), 'up')(inner)
    inner = gelu.gelu(inner)
    return x_BTC + dense(C, ('mlp', 'embed'), 'down')(inner)


class Stage(nn.Module):
  """A ResNet block and its transformer blocks; a body of `nn.scan`."""

  config: EstimatorConfig

  @nn.compact
  def __call__(self, x_BTC, time_BE, mask_BT1, seen):
    c = self.config
    weights_BT1, valid_BT = seen
    x_BTC = ResNetBlock(c.channels, name='resnet')(
      x_BTC, time_BE, mask_BT1, weights_BT1
    )
    resnet = x_BTC
    for n in range(c.blocks):
      x_BTC = TransformerBlock(c, name=f'block{n}')(x_BTC, valid_BT)
      self.sow('intermediates', 'blocks', x_BTC)
    return x_BTC, resnet


def _middle(config):
  return nn.scan(
    Stage,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    in_axes=nn.broadcast,
    length=config.middle,
    metadata_params={nn.meta.PARTITION_NAME: 'layers'},
  )(config, name='middle')


class Estimator(nn.Module):
  """Velocity at a point of the path."""

  config: EstimatorConfig

  @nn.compact
  def __call__(
    self,
    x_BTM: jax.Array,
    t_B: jax.Array,
    mu_BTM: jax.Array,
    speaker_BM: jax.Array,
    condition_BTM: jax.Array,
    mask_BT: jax.Array,
  ) -> jax.Array:
    """Point, time, encoded tokens, speaker, prompt, mask → (B, T, M).

    Parameters of the middle stages may be those of `blocks.unstack`.
    """
    c, T = self.config, x_BTM.shape[1]
    dense = layers.dense
    whole = mask_BT.astype(x_BTM.dtype)[:, :, None]
    half = whole[:, ::2]

    def seen(mask_BT1):
      """What norms count and what attention sees; None is everything."""
      if c.padded == 'in':
        return None, None
      return mask_BT1, mask_BT1[:, :, 0] > 0

    time_BE = time_embedding(t_B, 4 * c.bands)
    time_BE = dense(4 * c.channels, ('embed', 'mlp'), 'time_in')(time_BE)
    time_BE = dense(4 * c.channels, ('embed', 'mlp'), 'time_out')(
      nn.silu(time_BE)
    )
    self.sow('intermediates', 'time', time_BE)
    speaker = jnp.broadcast_to(speaker_BM[:, None], x_BTM.shape)
    h = jnp.concatenate([x_BTM, mu_BTM, speaker, condition_BTM], axis=-1)

    def stage(name, h, mask_BT1):
      h, resnet = Stage(c, name=name)(h, time_BE, mask_BT1, seen(mask_BT1))
      self.sow('intermediates', f'{name}_resnet', resnet)
      return h

    h = skip0 = stage('down0', h, whole)
    h = Conv(c.channels, stride=2, name='halve')(h * whole)
    self.sow('intermediates', 'halved', h)
    h = skip1 = stage('down1', h, half)
    h = Conv(c.channels, name='down_conv')(h * half)
    h, resnets = blocks_lib.run(
      _middle(c), Stage(c, parent=None), h, time_BE, half, seen(half)
    )
    self.sow('intermediates', 'middle_resnets', resnets)
    h = stage('up0', jnp.concatenate([h, skip1], axis=-1), half)
    h = Upsample(c.channels, name='double')(h * half)
    self.sow('intermediates', 'doubled', h)
    h = stage('up1', jnp.concatenate([h[:, :T], skip0], axis=-1), whole)
    h = Conv(c.channels, name='up_conv')(h * whole)
    h = ConvBlock(c.channels, name='final')(h, whole, seen(whole)[0])
    self.sow('intermediates', 'final_block', h)
    return dense(c.bands, ('mlp', 'embed'), 'project')(h * whole) * whole
