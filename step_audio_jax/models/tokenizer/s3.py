"""The S3 tokenizer (v1): a Whisper-like encoder and one vector quantiser.

    log-mel 100 Hz → conv k3 s2, GELU → conv k3 s2, GELU → + positions
      → pre-LN blocks → h (25 Hz)
    code = argmin_k ‖h/‖h‖ − e_k‖²

as CosyVoice's `speech_tokenizer_v1` computes it (arXiv 2407.05407): no key
bias, no final LayerNorm; the hidden vector is normalised, the codebook rows are
not. How the original was trained is known in outline only (an ASR encoder with
a quantiser in its middle); blocks behind the quantiser with a CTC head are this
project's choice.

Axes: B rows, T frames, M mel bands, D width, H heads, K head width, N codes.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.kernels import gelu
from step_audio_jax.kernels.attention import full
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models import layers


@dataclasses.dataclass(frozen=True)
class S3Config:
  """Shape of the tokenizer; the defaults are the released model's.

  Attributes:
    bands: Mel bands.
    width: Model width D.
    heads: Attention heads; divides width.
    layers: Blocks before the quantiser.
    positions: Rows of the positional table: the longest input in 40 ms frames.
    codes: Codebook rows.
    first_stride: Stride of the first convolution: 2, or 1 for 50 Hz.
    activation: 'gelu' (exact, as released) or 'relu' (half the time on a CPU).
    head_layers: Blocks behind the quantiser, for training only.
    scan_unroll: Blocks unrolled per step of the scan over layers.
  """

  bands: int = 128
  width: int = 1280
  heads: int = 20
  layers: int = 6
  positions: int = 1500
  codes: int = 4096
  first_stride: int = 2
  activation: str = 'gelu'
  head_layers: int = 2
  scan_unroll: int = settings.free(1)

  def __post_init__(self):
    errors.at_least_one(
      's3',
      self,
      (
        *('bands', 'width', 'heads', 'layers', 'head_layers', 'codes'),
        'positions',
      ),
    )
    if self.width % self.heads:
      raise errors.UserError(
        f's3: width is {self.width} and heads {self.heads}; heads must divide '
        'width.'
      )
    if self.first_stride not in (1, 2):
      raise errors.UserError(
        f's3: first_stride is {self.first_stride}, expected 1 or 2.'
      )
    if self.activation not in ('gelu', 'relu'):
      raise errors.UserError(
        f"s3: activation is {self.activation!r}, expected 'gelu' or 'relu'."
      )

  def activate(self, x: jax.Array) -> jax.Array:
    """The configured activation."""
    if self.activation == 'relu':
      return nn.relu(x)
    return gelu.gelu(x)


def code_count(mel_frames, first_stride: int = 2):
  """Codes of a log-mel of `mel_frames`: both strides, each rounded up."""
  return (-(-mel_frames // first_stride) + 1) // 2


def _sinusoids(key, shape, dtype=jnp.float32):
  """Whisper's table: sines then cosines, positions from 0."""
  del key
  count, width = shape
  rates = np.exp(-np.log(10000.0) / (width // 2 - 1) * np.arange(width // 2))
  angle = np.arange(count)[:, None] * rates[None, :]
  return jnp.asarray(np.concatenate([np.sin(angle), np.cos(angle)], 1), dtype)


def _mask(x_BTD, lengths_B):
  valid = jnp.arange(x_BTD.shape[1])[None, :] < lengths_B[:, None]
  return jnp.where(valid[:, :, None], x_BTD, 0.0)


class StridedConv(nn.Module):
  """Conv1d, kernel 3, padding 1, as one matmul of three slices."""

  features: int
  stride: int = 2

  @nn.compact
  def __call__(self, x_BTD):
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(in_axis=(0, 1)), (None, None, 'embed')
      ),
      (3, x_BTD.shape[-1], self.features),
    )
    bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      (self.features,),
    )
    rows, total, width = x_BTD.shape
    step = self.stride
    count, parts = -(-total // step), -(-3 // step)
    right = (count + parts - 1) * step - 1 - total
    x = jnp.pad(x_BTD, ((0, 0), (1, right), (0, 0)))
    groups = x.reshape(rows, count + parts - 1, step * width)
    taps = jnp.concatenate(
      [groups[:, i : i + count] for i in range(parts)], axis=-1
    )[..., : 3 * width]
    return taps @ kernel.reshape(-1, self.features) + bias[None, None]


class Block(nn.Module):
  """Pre-LN self-attention over unpadded keys and an MLP."""

  config: S3Config

  @nn.compact
  def __call__(self, x_BTD, valid_BT):
    c = self.config
    heads, width = c.heads, c.width // c.heads

    def split(x):
      return x.reshape(*x.shape[:2], heads, width)

    h = layers.layer_norm('attention_norm')(x_BTD)
    q_BTHK = split(layers.dense(c.width, ('embed', 'heads'), 'query')(h))
    k_BTHK = split(layers.dense(c.width, ('embed', 'heads'), 'key', False)(h))
    v_BTHK = split(layers.dense(c.width, ('embed', 'heads'), 'value')(h))
    out = full.attention(q_BTHK, k_BTHK, v_BTHK, valid_BT)
    out = out.reshape(x_BTD.shape)
    x_BTD += layers.dense(c.width, ('heads', 'embed'), 'out')(out)
    h = layers.layer_norm('mlp_norm')(x_BTD)
    h = c.activate(layers.dense(4 * c.width, ('embed', 'mlp'), 'up')(h))
    return x_BTD + layers.dense(c.width, ('mlp', 'embed'), 'down')(h), None


def _blocks(config, length, name):
  return nn.scan(
    Block,
    variable_axes={'params': 0, 'intermediates': 0},
    split_rngs={'params': True},
    in_axes=nn.broadcast,
    length=length,
    unroll=config.scan_unroll,
    metadata_params={nn.PARTITION_NAME: 'layers'},
  )(config, name=name)


class S3Encoder(nn.Module):
  """Log-mel → hidden frames at 25 Hz, before the quantiser."""

  config: S3Config

  @nn.compact
  def __call__(
    self,
    mel_BTM: jax.Array,
    lengths_B: jax.Array,
    first_B: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns hidden (B, T', D) and `code_count` of each row.

    `first_B` are the positions of the rows' first codes, by default 0.
    What is behind a row's length does not matter. T' must not exceed
    `positions`. Parameters of the blocks may be those of `blocks.unstack`.
    """
    c = self.config
    x = _mask(mel_BTM, lengths_B)
    x = c.activate(StridedConv(c.width, c.first_stride, name='conv1')(x))
    x = _mask(x, -(-lengths_B // c.first_stride))
    x = c.activate(StridedConv(c.width, name='conv2')(x))
    counts_B = code_count(lengths_B, c.first_stride)
    if x.shape[1] > c.positions:
      raise ValueError(
        f's3: {x.shape[1]} frames, but only {c.positions} positions.'
      )
    table = self.param(
      'positions',
      nn.with_logical_partitioning(_sinusoids, (None, 'embed')),
      (c.positions, c.width),
    )
    if first_B is None:
      x += table[None, : x.shape[1]]
    else:
      place_BT = first_B[:, None] + jnp.arange(x.shape[1])[None, :]
      x += jnp.take(table, place_BT, axis=0, mode='clip')
    valid_BT = jnp.arange(x.shape[1])[None, :] < counts_B[:, None]
    x, _ = blocks_lib.run(
      _blocks(c, c.layers, 'blocks'), Block(c, parent=None), x, valid_BT
    )
    return x, counts_B


def l2_normalise(x_BTD: jax.Array) -> jax.Array:
  """L2-normalises the last axis."""
  norm = jnp.linalg.norm(x_BTD, axis=-1, keepdims=True)
  return x_BTD / jnp.maximum(norm, 1e-12)


def nearest_code(x: jax.Array, codebook_ND: jax.Array) -> jax.Array:
  """Index of the Euclidean-nearest row, int32; the lowest one on ties."""
  cross = jnp.einsum('...D,ND->...N', x, codebook_ND)
  square_N = jnp.sum(jnp.square(codebook_ND), axis=-1)
  shape = (1,) * (cross.ndim - 1) + (-1,)
  return jnp.argmin(square_N.reshape(shape) - 2.0 * cross, axis=-1).astype(
    jnp.int32
  )


class S3CTC(nn.Module):
  """Encoder, quantiser and a supervised head: how the tokenizer is trained.

  The codebook comes from outside (an EMA, not a parameter):

    q = e[code],  z = n + stop_gradient(q − n),  n = h / ‖h‖

  and z · √D goes into the blocks of the head.

  Attributes:
    config: Of encoder and head.
    labels: Size of the label set, the blank (id 0) included.
  """

  config: S3Config
  labels: int

  def setup(self):
    c = self.config
    self.encoder = S3Encoder(c)
    self.head_blocks = _blocks(c, c.head_layers, None)
    self.head_norm = layers.layer_norm(None)
    self.head = layers.dense(self.labels, ('embed', 'vocab'), None)

  def __call__(
    self,
    mel_BTM: jax.Array,
    lengths_B: jax.Array,
    codebook_ND: jax.Array,
    quantise: jax.Array | bool = True,
  ) -> dict[str, jax.Array]:
    """Runs encoder, quantiser and head.

    Args:
      mel_BTM: Log-mel features.
      lengths_B: Frames of each row.
      codebook_ND: Codebook rows.
      quantise: Whether the head reads quantised vectors; may be traced.

    Returns:
      `unit` n (B, T', D), `codes` (B, T'), `quantised` q, `logits`
      (B, T', labels) and `counts` (B,).
    """
    hidden_BTD, counts_B = self.encoder(mel_BTM, lengths_B)
    unit_BTD = l2_normalise(hidden_BTD)
    codes_BT = nearest_code(jax.lax.stop_gradient(unit_BTD), codebook_ND)
    quantised_BTD = jnp.take(codebook_ND, codes_BT, axis=0)
    through = unit_BTD + jax.lax.stop_gradient(quantised_BTD - unit_BTD)
    z_BTD = jnp.where(quantise, through, unit_BTD)
    x_BTD = z_BTD * np.float32(self.config.width**0.5)
    valid_BT = jnp.arange(x_BTD.shape[1])[None, :] < counts_B[:, None]
    x_BTD, _ = self.head_blocks(x_BTD, valid_BT)
    return {
      'unit': unit_BTD,
      'codes': codes_BT,
      'quantised': quantised_BTD,
      'logits': self.head(self.head_norm(x_BTD)),
      'counts': counts_B,
    }
