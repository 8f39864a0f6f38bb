"""The encoder of the flow: a Conformer without convolution and macaron parts.

    score_ij = ((q_i + u) · k_j + (q_i + v) · W p_{i−j}) / √d

with sinusoidal p (Transformer-XL, arXiv 1901.02860), pre-LN blocks, SiLU, as
ESPnet's `rel_selfattn` that CosyVoice (arXiv 2407.05407) uses.

Axes: B rows, N tokens, D width, H heads, K head width, L layers.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.models import layers


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Shape of the encoder; the defaults are the released one's.

  Attributes:
    width: Model width D.
    heads: Attention heads; divides width.
    mlp_width: Of the feed-forward part.
    layers: Blocks.
    dropout: On embeddings and block outputs, in training.
  """

  width: int = 512
  heads: int = 8
  mlp_width: int = 2048
  layers: int = 6
  dropout: float = 0.1

  def __post_init__(self):
    errors.at_least_one(
      'flow encoder', self, ('width', 'heads', 'mlp_width', 'layers')
    )
    if self.width % (2 * self.heads):
      raise errors.UserError(
        f'flow encoder: width is {self.width} and heads {self.heads}; expected '
        'heads of an even width that fill the model.'
      )
    if not 0 <= self.dropout < 1:
      raise errors.UserError(
        f'flow encoder: dropout is {self.dropout}, expected 0 to below 1.'
      )


def relative_positions(count: int, width: int) -> np.ndarray:
  """Codes of the distances count − 1 … −(count − 1), float32 (2N − 1, D).

  Sines in even channels, cosines in odd ones.
  """
  rates = np.exp(np.arange(0, width, 2) * -(np.log(10000.0) / width))
  distance = np.arange(count - 1, -count, -1.0)
  angle = distance[:, None] * rates[None]
  table = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
  return table.reshape(len(distance), width).astype(np.float32)


def relative_shift(scores_BHNR: jax.Array) -> jax.Array:
  """Scores by distance (N, 2N − 1) → by key (N, N): Transformer-XL's shift."""
  B, H, N, R = scores_BHNR.shape
  padded = jnp.pad(scores_BHNR, ((0, 0), (0, 0), (0, 0), (1, 0)))
  padded = padded.reshape(B, H, R + 1, N)[:, :, 1:]
  return padded.reshape(B, H, N, R)[..., :N]


class RelativeAttention(nn.Module):
  """Self-attention with relative positions."""

  config: EncoderConfig

  @nn.compact
  def __call__(self, x_BND, place_RD, valid_BN):
    c = self.config
    K = c.width // c.heads
    heads = (*x_BND.shape[:2], c.heads, K)
    query, key, value = (
      layers.dense(c.width, ('embed', 'heads'), name)(x_BND).reshape(heads)
      for name in ('query', 'key', 'value')
    )
    place_RHK = layers.dense(
      c.width, ('embed', 'heads'), 'place', use_bias=False
    )(place_RD).reshape(-1, c.heads, K)
    init = nn.with_logical_partitioning(
      nn.initializers.xavier_uniform(), ('heads', 'head_dim')
    )
    content_HK = self.param('content_bias', init, (c.heads, K))
    place_bias_HK = self.param('place_bias', init, (c.heads, K))
    by_content = jnp.einsum(
      'bqhk,bnhk->bhqn', query + content_HK[None, None], key
    )
    by_place = jnp.einsum(
      'bqhk,rhk->bhqr', query + place_bias_HK[None, None], place_RHK
    )
    scores = (by_content + relative_shift(by_place)) * K**-0.5
    valid = valid_BN[:, None, None, :]
    weights = jax.nn.softmax(jnp.where(valid, scores, -1e30), axis=-1)
    mixed = jnp.einsum('bhqn,bnhk->bqhk', jnp.where(valid, weights, 0.0), value)
    return layers.dense(c.width, ('heads', 'embed'), 'out')(
      mixed.reshape(*x_BND.shape[:2], c.width)
    )


class Block(nn.Module):
  """Pre-LN attention and feed-forward; a body of `nn.scan`."""

  config: EncoderConfig
  train: bool = False

  @nn.compact
  def __call__(self, x_BND, place_RD, valid_BN):
    c = self.config
    drop = nn.Dropout(c.dropout, deterministic=not self.train)
    # The blocks' own ε is not the 1e-5 of the norms around them.
    inner = layers.layer_norm('attention_norm', 1e-12)(x_BND)
    x_BND += drop(
      RelativeAttention(c, name='attention')(inner, place_RD, valid_BN)
    )
    inner = layers.layer_norm('mlp_norm', 1e-12)(x_BND)
    inner = nn.silu(layers.dense(c.mlp_width, ('embed', 'mlp'), 'up')(inner))
    x_BND += drop(layers.dense(c.width, ('mlp', 'embed'), 'down')(drop(inner)))
    return x_BND, x_BND


class Encoder(nn.Module):
  """Embedded tokens → hidden vectors.

  Attributes:
    config: Shape.
    train: Whether dropout is on.
  """

  config: EncoderConfig
  train: bool = False

  @nn.compact
  def __call__(self, x_BND: jax.Array, valid_BN: jax.Array) -> jax.Array:
    """(B, N, any) and which places hold a token → (B, N, D)."""
    c = self.config
    drop = nn.Dropout(c.dropout, deterministic=not self.train)
    x_BND = layers.dense(c.width, ('embed_in', 'embed'), 'embed')(x_BND)
    x_BND = layers.layer_norm('embed_norm')(x_BND) * np.float32(
      np.sqrt(c.width)
    )
    x_BND = drop(x_BND)
    self.sow('intermediates', 'embedded', x_BND)
    place_RD = jnp.asarray(relative_positions(x_BND.shape[1], c.width))
    blocks = nn.scan(
      Block,
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(nn.broadcast, nn.broadcast),
      length=c.layers,
      metadata_params={nn.meta.PARTITION_NAME: 'layers'},
    )(c, self.train, name='blocks')
    x_BND, each = blocks(x_BND, drop(place_RD), valid_BN)
    self.sow('intermediates', 'layers', each)
    return layers.layer_norm('final_norm')(x_BND)
