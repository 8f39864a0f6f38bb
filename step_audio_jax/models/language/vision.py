"""A vision transformer and the projector into the language model's slots.

Pre-LayerNorm ViT (arXiv 2010.11929), by default as SigLIP has it (arXiv
2303.15343: no class token, tanh GELU); by configuration as CLIP has it (arXiv
2103.00020: class token, a norm in front, x * sigmoid(1.702 x), other pixel
statistics). The projector is a two-layer MLP. The encoder is frozen in every
stage of training (Step-Audio report), so its output carries no gradient.

Axes: B batch, N images a row, P patches an image, C channels, W encoder width,
E language model width.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.kernels import gelu
from step_audio_jax.models import layers

ACTIVATIONS = {
  'gelu': nn.gelu,
  'exact_gelu': gelu.gelu,
  'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),
}


@dataclasses.dataclass(frozen=True)
class VisionConfig:
  """Shape of the encoder.

  Attributes:
    image_size: Side of the square image, pixels.
    patch_size: Side of a patch, pixels; divides image_size.
    width: Encoder width W.
    layers: Encoder blocks.
    heads: Attention heads.
    mlp_width: Feed-forward width.
    activation: Of the feed-forward: 'gelu' (tanh), 'exact_gelu' or
      'quick_gelu'.
    norm_eps: Epsilon of the LayerNorms.
    class_token: Whether a learned token attends beside the patches; its own
      output is dropped.
    pre_norm: Whether a LayerNorm stands in front of the blocks.
    final_norm: Whether one stands behind them.
    patch_bias: Whether the patch embedding has a bias.
    crop: Leave out the right and lower pixels that fill no patch, instead of
      refusing such sizes (SigLIP so400m: 384 pixels, patches of 14).
    pixel_mean: Of each colour, of pixels between 0 and 1.
    pixel_std: Of each colour; the encoder sees (pixel - mean) / std.
  """

  image_size: int = 32
  patch_size: int = 8
  width: int = 64
  layers: int = 2
  heads: int = 4
  mlp_width: int = 128
  activation: str = 'gelu'
  norm_eps: float = 1e-6
  class_token: bool = False
  pre_norm: bool = False
  final_norm: bool = True
  patch_bias: bool = True
  crop: bool = False
  pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
  pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

  def __post_init__(self):
    for name in ('pixel_mean', 'pixel_std'):  # lists, if read from JSON
      object.__setattr__(self, name, tuple(getattr(self, name)))
    errors.at_least_one(
      'vision', self, ('patch_size', 'width', 'layers', 'heads', 'mlp_width')
    )
    if self.width % self.heads:
      raise errors.UserError(
        f'vision: width is {self.width} and heads {self.heads}; heads must '
        'divide width.'
      )
    if self.activation not in ACTIVATIONS:
      raise errors.UserError(
        f'vision: activation is {self.activation!r}, expected one of '
        f'{tuple(ACTIVATIONS)}.'
      )
    if min(self.pixel_std) <= 0:
      raise errors.UserError(
        f'vision: pixel_std is {self.pixel_std}, expected positive numbers.'
      )
    if self.image_size < self.patch_size or (
      self.image_size % self.patch_size and not self.crop
    ):
      raise errors.UserError(
        f'vision: image_size {self.image_size} is no multiple of patch_size '
        f'{self.patch_size}.'
      )

  @property
  def patches(self) -> int:
    """Places an image takes in a row of tokens."""
    return (self.image_size // self.patch_size) ** 2


class VisionBlock(nn.Module):
  """Full attention and a GELU MLP, both behind a LayerNorm."""

  config: VisionConfig

  @nn.compact
  def __call__(self, x_BPW):
    c = self.config
    h = nn.LayerNorm(c.norm_eps, name='attention_norm')(x_BPW)
    qkv = layers.dense(3 * c.width, ('embed', 'heads'), 'qkv')(h)
    q, k, v = jnp.split(
      qkv.reshape(*qkv.shape[:-1], c.heads, 3 * c.width // c.heads), 3, -1
    )
    out = nn.dot_product_attention(q, k, v)
    out = out.reshape(*out.shape[:-2], c.width)
    x_BPW += layers.dense(c.width, ('heads', 'embed'), 'out')(out)
    h = nn.LayerNorm(c.norm_eps, name='mlp_norm')(x_BPW)
    h = ACTIVATIONS[c.activation](
      layers.dense(c.mlp_width, ('embed', 'mlp'), 'up')(h)
    )
    return x_BPW + layers.dense(c.width, ('mlp', 'embed'), 'down')(h)


class VisionEncoder(nn.Module):
  """Images → patch features."""

  config: VisionConfig

  @nn.compact
  def __call__(self, images_BHWC: jax.Array) -> jax.Array:
    """uint8 (B, image_size, image_size, 3) → float32 (B, P, W)."""
    c = self.config
    side = c.image_size // c.patch_size
    edge = side * c.patch_size
    x = _normalised(images_BHWC[:, :edge, :edge], c)
    x = x.reshape(-1, side, c.patch_size, side, c.patch_size, 3)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], c.patches, -1)
    x_BPW = layers.dense(c.width, ('pixels', 'embed'), 'patch', c.patch_bias)(x)
    table = nn.with_logical_partitioning(
      nn.initializers.normal(0.02), ('patches', 'embed')
    )
    places = c.patches + c.class_token
    positions_PW = self.param('positions', table, (places, c.width))
    if c.class_token:
      token_1W = self.param('class_token', table, (1, c.width))
      token_B1W = jnp.broadcast_to(token_1W, (len(x_BPW), 1, c.width))
      x_BPW = jnp.concatenate([token_B1W, x_BPW], axis=1)
    x_BPW += positions_PW[None]
    if c.pre_norm:
      x_BPW = nn.LayerNorm(c.norm_eps, name='pre_norm')(x_BPW)
    for i in range(c.layers):
      x_BPW = VisionBlock(c, name=f'block_{i}')(x_BPW)
    x_BPW = x_BPW[:, places - c.patches :]
    if c.final_norm:
      x_BPW = nn.LayerNorm(c.norm_eps, name='final_norm')(x_BPW)
    return x_BPW


def _normalised(pixels_BHWC, config):
  """uint8 → float32 as the encoder was trained to see it."""
  x = pixels_BHWC.astype(jnp.float32)
  if {*config.pixel_mean, *config.pixel_std} == {0.5}:
    return x / 127.5 - 1.0
  mean, std = np.asarray([config.pixel_mean, config.pixel_std], np.float32)
  return (x / 255.0 - mean.reshape(1, 1, 1, 3)) / std.reshape(1, 1, 1, 3)


class Projector(nn.Module):
  """Patch features → embeddings of the language model."""

  width: int

  @nn.compact
  def __call__(self, x_BPW: jax.Array) -> jax.Array:
    h = nn.gelu(layers.dense(self.width, ('embed', 'mlp'), 'up')(x_BPW))
    return layers.dense(self.width, ('mlp', 'embed'), 'down')(h)


class VisionText(nn.Module):
  """The encoder beside a small text tower, for contrastive pretraining.

  The text tower is the mean of the caption's token embeddings through an MLP:
  enough for captions, and thrown away afterwards. The encoder has the name
  `vision`, as in the language model that takes it over.
  """

  config: VisionConfig
  vocab_size: int
  width: int = 64

  @nn.compact
  def __call__(self, images_MHWC: jax.Array, tokens_MT, mask_MT):
    """M images and captions → logits that image i goes with caption j."""
    features_MPW = VisionEncoder(self.config, name='vision')(images_MHWC)
    flat = features_MPW.reshape(len(features_MPW), -1)
    image_MD = layers.dense(self.width, ('embed', 'mlp'), 'image_out')(flat)
    table = self.param(
      'text_embedding',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.5), ('vocab', 'embed')
      ),
      (self.vocab_size, self.width),
    )
    embedded = jnp.take(table, tokens_MT, axis=0) * mask_MT[..., None]
    count = jnp.maximum(mask_MT.sum(1, keepdims=True), 1.0)
    mean_MD = embedded.sum(1) / count
    h = nn.gelu(layers.dense(self.width, ('embed', 'mlp'), 'text_up')(mean_MD))
    text_MD = layers.dense(self.width, ('mlp', 'embed'), 'text_out')(h)
    scale = self.param(
      'scale',
      nn.with_logical_partitioning(nn.initializers.constant(2.3), ()),
      (),
    )
    bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.constant(-3.0), ()),
      (),
    )
    return jnp.exp(scale) * _unit(image_MD) @ _unit(text_MD).T + bias


def _unit(x):
  return x / jnp.linalg.norm(x + 1e-6, axis=-1, keepdims=True)
