"""CAM++: who speaks, as one vector of a recording.

    filter banks 100 Hz → residual 3 x 3 convolutions, bands / 8 → flattened
      → conv k5 s2, 50 Hz
      → blocks of dense layers x ← [x, local(h) · σ(gate(layers.context(h)))]
        with context = mean over the utterance + mean over its 2 s segment
      → [mean, deviation] over time → linear → batch norm

h = relu(norm(W relu(norm(x)))); behind each block a 1 x 1 convolution halves
the channels. After Wang et al. (arXiv 2303.00332) as CosyVoice's
`campplus.onnx` holds it. The original knows no lengths, so padding changes its
result; here a batch with `lengths` gives each row what it gives alone. The
deviation is the unbiased one, without ε.

Axes: B rows, T frames, M mel bands, F bands in the head, C channels, D output.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.models.speaker import layers


@dataclasses.dataclass(frozen=True)
class CampplusConfig:
  """Shape of the network; the defaults are the released model's.

  Attributes:
    bands: Mel bands M, a multiple of 8.
    embedding: Width D of the vector.
    growth: Channels that a dense layer adds.
    bottleneck: Width inside a dense layer, in units of `growth`.
    initial: Channels at the first block.
    head_width: Channels of the head.
    head_blocks: Residual blocks of each of the head's two levels.
    layers: Dense layers of each block.
    kernels: Of the local convolution, by block; odd.
    dilations: Of the local convolution, by block.
  """

  bands: int = 80
  embedding: int = 192
  growth: int = 32
  bottleneck: int = 4
  initial: int = 128
  head_width: int = 32
  head_blocks: tuple[int, ...] = (2, 2)
  layers: tuple[int, ...] = (12, 24, 16)
  kernels: tuple[int, ...] = (3, 3, 3)
  dilations: tuple[int, ...] = (1, 2, 2)

  def __post_init__(self):
    errors.at_least_one(
      'campplus',
      self,
      ('bands', 'embedding', 'growth', 'bottleneck', 'initial', 'head_width'),
    )
    for name in ('head_blocks', 'layers', 'kernels', 'dilations'):
      values = tuple(getattr(self, name))
      object.__setattr__(self, name, values)
      if not values or min(values) < 1:
        raise errors.UserError(
          f'campplus: {name} is {values}, expected numbers of at least 1.'
        )
    if self.bands % 8:
      raise errors.UserError(
        f'campplus: bands is {self.bands}, expected a multiple of 8.'
      )
    if len(self.head_blocks) != 2:
      raise errors.UserError(
        f'campplus: head_blocks is {self.head_blocks}, expected two numbers.'
      )
    counts = [len(self.layers), len(self.kernels), len(self.dilations)]
    if len(set(counts)) > 1:
      raise errors.UserError(
        f'campplus: {counts[0]} layers, {counts[1]} kernels and {counts[2]} '
        'dilations; expected one of each for every block.'
      )
    if not all(kernel % 2 for kernel in self.kernels):
      raise errors.UserError(
        f'campplus: kernels is {self.kernels}, expected odd numbers.'
      )
    if self.growth * self.bottleneck % 2:
      raise errors.UserError(
        f'campplus: growth {self.growth} times bottleneck {self.bottleneck} '
        'is odd; the gate halves it.'
      )
    for block, width in enumerate(self.widths, 1):
      if width % 2:
        raise errors.UserError(
          f'campplus: block {block} ends with {width} channels, expected an '
          'even number, which is halved.'
        )

  @property
  def widths(self) -> tuple[int, ...]:
    """Channels at the end of each block, before they are halved."""
    width, found = self.initial, []
    for count in self.layers:
      found.append(width + count * self.growth)
      width = found[-1] // 2
    return tuple(found)


def frame_count(frames):
  """Frames of the dense layers: one for every two of the features."""
  return (frames + 1) // 2


class ResidualBlock(nn.Module):
  """Two 3 x 3 convolutions; the first may halve the bands.

  Attributes:
    width: Channels.
    stride: Of the bands; above 1 the shortcut is a convolution too.
    train: See `models.speaker.layers.Norm`.
  """

  width: int
  stride: int
  train: bool

  @nn.compact
  def __call__(self, x_BTFC, valid):
    strides = (1, self.stride)
    h = layers.conv(self.width, (3, 3), 'conv1', strides=strides)(x_BTFC)
    h = layers.relu(layers.Norm(self.train, name='norm1'), h, valid)
    h = layers.conv(self.width, (3, 3), 'conv2')(h)
    h = layers.Norm(self.train, name='norm2')(h, valid)
    if self.stride > 1:
      short = layers.conv(self.width, (1, 1), 'shortcut', strides=strides)
      x_BTFC = layers.Norm(self.train, name='shortcut_norm')(
        short(x_BTFC), valid
      )
    return layers.mask_padding(nn.relu(h + x_BTFC), valid)


class ConvFrontEnd(nn.Module):
  """Features as an image of one channel → (B, T, head_width x bands / 8)."""

  config: CampplusConfig
  train: bool

  @nn.compact
  def __call__(self, x_BTM, valid_BT1):
    c = self.config
    valid = None if valid_BT1 is None else valid_BT1[:, :, :, None]
    x = layers.mask_padding(x_BTM, valid_BT1)[..., None]
    x = layers.conv(c.head_width, (3, 3), 'conv1')(x)
    x = layers.relu(layers.Norm(self.train, name='norm1'), x, valid)
    for level, count in enumerate(c.head_blocks, 1):
      for place in range(count):
        name, stride = f'layer{level}_{place}', 1 if place else 2
        block = ResidualBlock(c.head_width, stride, self.train, name=name)
        x = block(x, valid)
    x = layers.conv(c.head_width, (3, 3), 'conv2', strides=(1, 2))(x)
    x = layers.relu(layers.Norm(self.train, name='norm2'), x, valid)
    # Channel by channel, as the original flattens its (C, F).
    return x.swapaxes(2, 3).reshape(*x.shape[:2], -1)


class StridedConv(nn.Module):
  """Kernel 5, stride 2, then norm and ReLU."""

  config: CampplusConfig
  train: bool

  @nn.compact
  def __call__(self, x_BTC, valid_BT1):
    x = layers.conv(self.config.initial, (5,), 'linear', strides=(2,))(x_BTC)
    return layers.relu(layers.Norm(self.train, name='norm'), x, valid_BT1)


class DenseLayer(nn.Module):
  """What one layer adds to the channels: a gated local convolution.

  Attributes:
    config: Of the network.
    block: Which block it is in, from 0.
    train: See `models.speaker.layers.Norm`.
  """

  config: CampplusConfig
  block: int
  train: bool

  @nn.compact
  def __call__(self, x_BTC, valid_BT1):
    c = self.config
    width = c.growth * c.bottleneck
    h = layers.relu(layers.Norm(self.train, name='norm1'), x_BTC, valid_BT1)
    h = layers.conv(width, (1,), 'linear1')(h)
    h = layers.relu(layers.Norm(self.train, name='norm2'), h, valid_BT1)
    kernel, dilation = (c.kernels[self.block],), c.dilations[self.block]
    local = layers.conv(c.growth, kernel, 'local', kernel_dilation=dilation)
    y_BTC = local(h)
    # Constant inside a segment, so the gate is computed once for each.
    gate = layers.context(h, valid_BT1)
    gate = nn.relu(layers.conv(width // 2, (1,), 'gate1', True)(gate))
    gate_BSC = nn.sigmoid(layers.conv(c.growth, (1,), 'gate2', True)(gate))
    gate_BTC = jnp.repeat(gate_BSC, layers.SEGMENT, axis=1)[:, : y_BTC.shape[1]]
    return y_BTC * gate_BTC


class DenseBlock(nn.Module):
  """Layers that each append their channels; see `DenseLayer`."""

  config: CampplusConfig
  block: int
  train: bool

  @nn.compact
  def __call__(self, x_BTC, valid_BT1):
    for place in range(self.config.layers[self.block]):
      layer = DenseLayer(
        self.config, self.block, self.train, name=f'layer{place + 1}'
      )
      x_BTC = jnp.concatenate([x_BTC, layer(x_BTC, valid_BT1)], axis=-1)
    return x_BTC


class TransitLayer(nn.Module):
  """Norm, ReLU and a 1 x 1 convolution to half the channels."""

  train: bool

  @nn.compact
  def __call__(self, x_BTC, valid_BT1):
    x = layers.relu(layers.Norm(self.train, name='norm'), x_BTC, valid_BT1)
    return layers.conv(x_BTC.shape[-1] // 2, (1,), 'linear')(x)


class Campplus(nn.Module):
  """Filter banks less their mean over the utterance → a speaker's vector.

  Variables: 'params' and the running statistics, 'batch_stats'. Training
  mode needs `mutable=['batch_stats']`.

  Attributes:
    config: Shape.
    train: Whether norms go by the batch.
  """

  config: CampplusConfig
  train: bool = False

  @nn.compact
  def __call__(
    self, x_BTM: jax.Array, lengths_B: jax.Array | None = None
  ) -> jax.Array:
    """Returns the vectors (B, D), of any length: cosines compare them.

    Args:
      x_BTM: Features.
      lengths_B: Frames of each row; None: all rows are whole. What is behind
        a row's length does not matter.
    """
    c, train = self.config, self.train

    def valid(total, counts_B):
      if lengths_B is None:
        return None
      return (jnp.arange(total)[None, :] < counts_B[:, None])[:, :, None]

    x = ConvFrontEnd(c, train, name='head')(
      x_BTM, valid(x_BTM.shape[1], lengths_B)
    )
    counts_B = None if lengths_B is None else frame_count(lengths_B)
    valid_BT1 = valid(frame_count(x_BTM.shape[1]), counts_B)
    x = StridedConv(c, train, name='tdnn')(x, valid_BT1)
    for block in range(len(c.layers)):
      name = f'block{block + 1}'
      x = DenseBlock(c, block, train, name=name)(x, valid_BT1)
      x = TransitLayer(train, name=f'transit{block + 1}')(x, valid_BT1)
    x = layers.relu(layers.Norm(train, name='out_norm'), x, valid_BT1)
    x_BC = layers.statistics_pooling(x, valid_BT1)
    self.sow('intermediates', 'statistics', x_BC)
    dense = nn.Dense(
      c.embedding,
      use_bias=False,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), ('mlp', 'embed')
      ),
      name='dense',
    )
    return layers.Norm(train, affine=False, name='dense_norm')(
      dense(x_BC), None if lengths_B is None else (lengths_B > 0)[:, None]
    )


class SpeakerClassifier(nn.Module):
  """The network and one direction for each speaker: how it is trained.

  Attributes:
    config: Of the network.
    speakers: How many.
    train: See `Campplus`.
  """

  config: CampplusConfig
  speakers: int
  train: bool = True

  def setup(self):
    self.encoder = Campplus(self.config, self.train)
    self.directions = self.param(
      'directions',
      nn.with_logical_partitioning(
        nn.initializers.normal(1.0), ('vocab', 'embed')
      ),
      (self.speakers, self.config.embedding),
    )

  def __call__(self, x_BTM: jax.Array, lengths_B: jax.Array) -> jax.Array:
    """Cosines of each row and each speaker, (B, speakers)."""
    vectors_BD = self.encoder(x_BTM, lengths_B)
    return (
      layers.l2_normalise(vectors_BD) @ layers.l2_normalise(self.directions).T
    )
