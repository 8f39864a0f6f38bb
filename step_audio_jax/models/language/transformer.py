"""The decoder-only transformer, one family for every backbone.

Pre-RMSNorm, grouped-query attention, SwiGLU. By configuration it is Step-1
(sqrt-ALiBi, untied head; arXiv 2502.11946 and its released weights) or a
RoPE model (Llama, Qwen2, Qwen3: optional qkv bias and qk-norm, tied head).

Axes: B batch, T tokens, S cached tokens, E width, H heads, G key/value groups,
D head width, F feed-forward width, V vocabulary.
"""

import dataclasses
import math
from typing import Any

from flax import linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.kernels import decoding
from step_audio_jax.kernels.attention import attention as attention_lib
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models import rope
from step_audio_jax.parallel import partition

Cache = dict[str, Any]

# What `remat` may keep; everything else is computed again.
TENSORS = (
  *('query', 'key', 'value', 'attention_out', 'attention_lse'),
  *('attention_projected', 'mlp_gate', 'mlp_up', 'mlp_projected'),
)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Shape of a backbone.

  Attributes:
    vocab_size: Rows of the embedding table.
    width: Residual width E.
    layers: Number of blocks.
    heads: Query heads H.
    kv_heads: Key/value groups G; divides `heads`.
    head_dim: D; 0 means width / heads.
    mlp_width: F.
    position: 'sqrt_alibi' or 'rope'.
    rope_theta: Base of the rotary frequencies.
    rope_scaling: How they are stretched; None for not at all.
    qkv_bias: Bias on q, k and v (Qwen2).
    qk_norm: RMSNorm on each head's q and k (Qwen3).
    tied_head: The head is the embedding table.
    norm_eps: Epsilon of RMSNorm.
    dtype: Of the matmuls; parameters are float32.
    remat: 'none' keeps every activation for the backward pass, 'full' only
      the input of each block, a tuple of `TENSORS` those as well.
    attention: Kernel: 'auto', 'dense', 'blockwise', 'pallas' or 'interpret'.
    scan_unroll: Blocks unrolled per step of the scan over layers.
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  mlp_width: int
  head_dim: int = 0
  position: str = 'sqrt_alibi'
  rope_theta: float = 10_000.0
  rope_scaling: rope.RopeScaling | None = None
  qkv_bias: bool = False
  qk_norm: bool = False
  tied_head: bool = False
  norm_eps: float = 1e-5
  dtype: str = 'float32'
  remat: str | tuple[str, ...] = settings.free('none')
  attention: str = settings.free('auto')
  scan_unroll: int = settings.free(1)

  def __post_init__(self):
    errors.at_least_one(
      'transformer',
      self,
      ('vocab_size', 'width', 'layers', 'heads', 'kv_heads', 'mlp_width'),
    )
    if self.heads % self.kv_heads:
      raise errors.UserError(
        f'transformer: heads is {self.heads} and kv_heads {self.kv_heads}; '
        'kv_heads must divide heads.'
      )
    if not self.head_dim:
      if self.width % self.heads:
        raise errors.UserError(
          f'transformer: width {self.width} is no multiple of heads '
          f'{self.heads}; give head_dim.'
        )
      object.__setattr__(self, 'head_dim', self.width // self.heads)
    if self.position not in ('sqrt_alibi', 'rope'):
      raise errors.UserError(
        f"transformer: position is {self.position!r}, expected 'sqrt_alibi' "
        "or 'rope'."
      )
    if self.position == 'rope' and self.head_dim % 2:
      raise errors.UserError(
        f'transformer: head_dim is {self.head_dim}, expected an even number: '
        'rotary positions turn pairs.'
      )
    if isinstance(self.rope_scaling, dict):  # read from a run's JSON
      scaling = rope.RopeScaling(**self.rope_scaling)
      object.__setattr__(self, 'rope_scaling', scaling)
    if not isinstance(self.remat, str):
      object.__setattr__(self, 'remat', tuple(self.remat))
    wrong = (
      self.remat not in ('none', 'full')
      if isinstance(self.remat, str)
      else set(self.remat) - set(TENSORS)
    )
    if wrong:
      raise errors.UserError(
        f"transformer: remat is {self.remat!r}, expected 'none', 'full' or "
        f'names of {TENSORS}.'
      )

  @property
  def parameters(self) -> int:
    """Number of parameters, in closed form."""
    E, D = self.width, self.head_dim
    attention = 2 * E * D * (self.heads + self.kv_heads)
    if self.qkv_bias:
      attention += D * (self.heads + 2 * self.kv_heads)
    if self.qk_norm:
      attention += 2 * D
    block = attention + 3 * E * self.mlp_width + 2 * E
    tables = self.vocab_size * E * (1 if self.tied_head else 2)
    return self.layers * block + tables + E

  def flops_per_token(self, length: int) -> float:
    """Model FLOPs of one training token, forward and backward.

    2 FLOPs a multiply-add, backward twice the forward, embedding look-up free,
    attention counted row-causal (half of length x length).
    """
    D = self.head_dim
    matmuls = self.layers * (
      2 * self.width * D * (self.heads + self.kv_heads)
      + 3 * self.width * self.mlp_width
    )
    matmuls += self.vocab_size * self.width
    scores = self.layers * self.heads * D * length  # QK and AV, halved
    return 6.0 * (matmuls + scores)


class RMSNorm(nn.Module):
  """x / rms(x) * scale, computed in float32."""

  eps: float
  axis_name: str = 'norm'

  @nn.compact
  def __call__(self, x):
    scale = self.param(
      'scale',
      nn.with_logical_partitioning(nn.initializers.ones, (self.axis_name,)),
      (x.shape[-1],),
    )
    x32 = x.astype(jnp.float32)
    variance = jnp.mean(x32 * x32, axis=-1, keepdims=True)
    shape = (1,) * (x.ndim - 1) + (-1,)
    normed = x32 * jax.lax.rsqrt(variance + self.eps) * scale.reshape(shape)
    return normed.astype(x.dtype)


class Projection(nn.Module):
  """An einsum with a named kernel, `contract` input axes, optional bias."""

  features: tuple[int, ...]
  axes: tuple[str, ...]
  dtype: Any
  contract: int = 1
  use_bias: bool = False
  scale: float = 1.0

  @nn.compact
  def __call__(self, x):
    lead = x.shape[: x.ndim - self.contract]
    inputs = x.shape[len(lead) :]
    if self.has_variable('params', 'tiles'):  # of `decoding_layout`
      out = decoding.product(
        x.reshape(*lead, -1).astype(self.dtype),
        self.get_variable('params', 'tiles').astype(self.dtype),
        math.prod(self.features),
      )
      out = out.astype(self.dtype).reshape(*lead, *self.features)
    else:
      init = nn.initializers.variance_scaling(
        self.scale,
        'fan_in',
        'normal',
        in_axis=tuple(range(self.contract)),
        out_axis=tuple(
          range(self.contract, self.contract + len(self.features))
        ),
      )
      kernel = self.param(
        'kernel',
        nn.with_logical_partitioning(init, self.axes),
        inputs + self.features,
      )
      out = _contract(
        x.astype(self.dtype), kernel.astype(self.dtype), self.contract
      )
    if self.use_bias:
      bias = self.param(
        'bias',
        nn.with_logical_partitioning(
          nn.initializers.zeros, self.axes[self.contract :]
        ),
        self.features,
      )
      shape = (1,) * len(lead) + self.features
      out += bias.astype(self.dtype).reshape(shape)
    return out


def _contract(x, kernel, axes: int):
  """Sums over the last `axes` axes of x and the first ones of the kernel."""
  lead, rest = x.shape[: x.ndim - axes], kernel.shape[axes:]
  if partition.one_device():
    # Plain matrices: with several axes of tokens XLA transposes both sides of
    # the kernel's gradient first (a fifth of a feed-forward on CPUs). On a mesh
    # the token axes stay apart, for each may be split.
    x = x.reshape(math.prod(lead), -1)
    kernel = kernel.reshape(x.shape[1], -1)
    axes = 1
  out = jax.lax.dot_general(
    x,
    kernel,
    (
      (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))),
      ((), ()),
    ),
  )
  return out.reshape(*lead, *rest)


class Attention(nn.Module):
  """Grouped-query self-attention over a row of packed segments."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE, where, cache: Cache | None):
    """Returns BTE and the layer's updated cache (None without one)."""
    c = self.config
    dtype = jnp.dtype(c.dtype)

    def project(name, heads, axis):
      return Projection(
        (heads, c.head_dim),
        ('embed', axis, 'head_dim'),
        dtype,
        use_bias=c.qkv_bias,
        name=name,
      )(x_BTE)

    if self.has_variable('params', 'qkv'):  # of `decoding_layout`
      H, G = c.heads, c.kv_heads
      merged = project('qkv', H + 2 * G, 'heads')
      q_BTHD, k_BTGD, v_BTGD = jnp.split(merged, (H, H + G), axis=2)
    else:
      q_BTHD = project('q', c.heads, 'heads')
      k_BTGD = project('k', c.kv_heads, 'kv_heads')
      v_BTGD = project('v', c.kv_heads, 'kv_heads')
    if c.qk_norm:
      q_BTHD = RMSNorm(c.norm_eps, 'head_dim', name='q_norm')(q_BTHD)
      k_BTGD = RMSNorm(c.norm_eps, 'head_dim', name='k_norm')(k_BTGD)
    slopes_H = None
    if c.position == 'rope':
      q_BTHD = rope.rotate(q_BTHD, where['sin'], where['cos'])
      k_BTGD = rope.rotate(k_BTGD, where['sin'], where['cos'])
    else:
      slopes_H = attention_lib.alibi_slopes(c.heads)
    q_BTHD = _named('query', q_BTHD, 'heads')
    k_BTGD = _named('key', k_BTGD, 'kv_heads')
    v_BTGD = _named('value', v_BTGD, 'kv_heads')
    out_BTHD, cache = self._attend(
      q_BTHD, k_BTGD, v_BTGD, where, cache, slopes_H
    )
    out_BTE = Projection(
      (c.width,),
      ('heads', 'head_dim', 'embed'),
      dtype,
      contract=2,
      scale=1.0 / (2 * c.layers),
      name='out',
    )(out_BTHD)
    return out_BTE, cache

  def _attend(self, q_BTHD, k_BTGD, v_BTGD, where, cache, slopes_H):
    """Returns BTHD and the updated cache."""
    keywords = dict(
      q_positions_BT=where['q_positions'],
      kv_positions_BS=where['kv_positions'],
      q_segment_ids_BT=where['q_segment_ids'],
      kv_segment_ids_BS=where['kv_segment_ids'],
      slopes_H=slopes_H,
    )
    if cache is not None:
      B, T, G, D = k_BTGD.shape
      cache = decoding.written(cache, k_BTGD, v_BTGD, where['index'])
      if cache['value'].ndim == 3 and T <= attention_lib.DECODING:
        out_BTHD = decoding.attention(
          q_BTHD, cache['key'], cache['value'], **keywords
        )
        return out_BTHD, cache
      if _is_new(where['index']):
        for name in ('positions', 'segment_ids'):
          keywords[f'kv_{name}_BS'] = where[f'q_{name}']
      else:
        k_BTGD = decoding.flat_keys(cache['key']).reshape(B, G, -1, D)
        k_BTGD = k_BTGD.swapaxes(1, 2)
        v_BTGD = cache['value'].reshape(B, G, -1, D).swapaxes(1, 2)
    out_BTHD = partition.attention(
      q_BTHD,
      k_BTGD,
      v_BTGD,
      implementation=self.config.attention,
      **keywords,
    )
    return out_BTHD, cache


class Mlp(nn.Module):
  """SwiGLU: down(silu(gate(x)) * up(x))."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    axes = ('embed', 'mlp')

    def project(name, width):
      return Projection((width,), axes, dtype, name=name)(x_BTE)

    if self.has_variable('params', 'gate_up'):  # of `decoding_layout`
      gate_BTF, up_BTF = jnp.split(
        project('gate_up', 2 * c.mlp_width), 2, axis=-1
      )
    else:
      gate_BTF = project('gate', c.mlp_width)
      up_BTF = project('up', c.mlp_width)
    gate_BTF = _named('mlp_gate', gate_BTF, 'mlp')
    up_BTF = _named('mlp_up', up_BTF, 'mlp')
    return Projection(
      (c.width,),
      ('mlp', 'embed'),
      dtype,
      scale=1.0 / (2 * c.layers),
      name='down',
    )(nn.silu(gate_BTF) * up_BTF)


def _named(name, x, axis):
  """`x`, split over tokens and one of its own axes, known to remat."""
  names = ('batch', 'length', axis) + (None,) * (x.ndim - 3)
  return checkpoint_name(partition.constrain(x, names), name)


class Block(nn.Module):
  """One pre-norm block; the body of the scan over layers."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE, where, cache):
    c = self.config
    split, whole = ('batch', 'residual_length', None), ('batch', 'length', None)

    def normed(name):
      # Gathered once for all projections; its gradient is scattered once.
      y_BTE = RMSNorm(c.norm_eps, name=name)(x_BTE)
      return partition.regather(y_BTE, split, whole)

    x_BTE = partition.constrain(x_BTE, split)
    out_BTE, cache = Attention(c, name='attention')(
      normed('attention_norm'), where, cache
    )
    out_BTE = partition.constrain(out_BTE, split)
    x_BTE += checkpoint_name(out_BTE, 'attention_projected')
    out_BTE = partition.constrain(Mlp(c, name='mlp')(normed('mlp_norm')), split)
    x_BTE += checkpoint_name(out_BTE, 'mlp_projected')
    return partition.constrain(x_BTE, split), cache


class Transformer(nn.Module):
  """Embedding, blocks, final norm and head."""

  config: TransformerConfig

  def setup(self):
    c = self.config
    table = nn.with_logical_partitioning(
      nn.initializers.normal(0.02), ('vocab', 'embed')
    )
    self.embedding = self.param('embedding', table, (c.vocab_size, c.width))
    if not c.tied_head:
      self.head = self.param('head', table, (c.vocab_size, c.width))
    block = Block
    if c.remat != 'none':
      kept = () if c.remat == 'full' else c.remat
      block = nn.remat(
        Block,
        prevent_cse=False,
        policy=jax.checkpoint_policies.save_only_these_names(*kept),
      )
    self.blocks = nn.scan(
      block,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast, 0),
      out_axes=0,
      length=c.layers,
      unroll=c.scan_unroll,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )(c)
    self.final_norm = RMSNorm(c.norm_eps)

  def embed(self, tokens_BT: jax.Array) -> jax.Array:
    """Token ids → BTE in the compute dtype."""
    table = self.embedding.astype(jnp.dtype(self.config.dtype))
    return jnp.take(table, tokens_BT, axis=0)

  def __call__(
    self,
    x_BTE: jax.Array,
    *,
    segment_ids_BT: jax.Array,
    positions_BT: jax.Array,
    cache: Cache | None = None,
  ) -> tuple[jax.Array, Cache | None]:
    """Embedded tokens → (normed BTE before the head, updated cache)."""
    c = self.config
    where = {
      'q_positions': positions_BT,
      'q_segment_ids': segment_ids_BT,
      'kv_positions': positions_BT,
      'kv_segment_ids': segment_ids_BT,
    }
    if c.position == 'rope':
      if cache is None or not cache['rotary']:
        tables = _rotary(c, positions_BT)
      else:
        # A token's place is below the cache's length. Sines that are computed
        # here would be fused into their readers and computed again by each.
        tables = (
          jnp.take(table_1SF[0], positions_BT, axis=0, mode='fill')
          for table_1SF in cache['rotary']
        )
      where['sin'], where['cos'] = tables
    if cache is not None:
      where['index'] = cache['index']
      for name, new in (
        ('positions', positions_BT),
        ('segment_ids', segment_ids_BT),
      ):
        where[f'kv_{name}'] = jax.lax.dynamic_update_slice_in_dim(
          cache[name], new, cache['index'], axis=1
        )
      x_BTE, layer_caches = self._blocks_one_by_one(
        x_BTE, where, cache['layers']
      )
    else:
      x_BTE, _ = self.blocks(x_BTE, where, None)
    x_BTE = self.final_norm(x_BTE)
    if cache is not None:
      cache = {
        'layers': layer_caches,
        'positions': where['kv_positions'],
        'segment_ids': where['kv_segment_ids'],
        'rotary': cache['rotary'],
        'index': cache['index'] + x_BTE.shape[1],
      }
    return x_BTE, cache

  def _blocks_one_by_one(self, x_BTE, where, caches):
    """The blocks without a scan, which would copy all caches every time."""
    blocks = self.variables['params']['blocks']
    if not isinstance(blocks, tuple):
      blocks = blocks_lib.unstack(blocks, self.config.layers)
    out = []
    for params, cache in zip(blocks, caches, strict=True):
      x_BTE, cache = Block(self.config, parent=None).apply(
        {'params': params}, x_BTE, where, cache
      )
      out.append(cache)
    return x_BTE, tuple(out)

  def head_table(self) -> jax.Array:
    """Rows VE of the output projection, in the compute dtype."""
    table = self.embedding if self.config.tied_head else self.head
    return table.astype(jnp.dtype(self.config.dtype))

  def logits(self, x_BTE: jax.Array) -> jax.Array:
    """BTE of `__call__` → logits BTV, float32."""
    if self.has_variable('params', 'head_tiles'):  # of `decoding_layout`
      tiles = self.get_variable('params', 'head_tiles').astype(x_BTE.dtype)
      return decoding.product(x_BTE, tiles, self.config.vocab_size)
    logits_BTV = jnp.einsum(
      'BTE,VE->BTV',
      x_BTE,
      self.head_table(),
      preferred_element_type=jnp.float32,
    )
    return partition.constrain(logits_BTV, ('batch', 'length', 'vocab'))


def init_cache(config: TransformerConfig, batch: int, length: int) -> Cache:
  """An empty key/value cache for at least `length` tokens.

  Segment 0 marks a place that holds nothing, so no token with a segment id of
  one or more ever attends to it.
  """
  # Rows and groups as one axis, so that the products of a decoding step take
  # the cache as it lies; on a mesh each may be split, so they stay apart.
  rows = (batch, config.kv_heads)
  if partition.one_device():
    rows = (batch * config.kv_heads,)
  length, shapes = decoding.shapes(rows, length, config.head_dim)
  dtype = jnp.dtype(config.dtype)
  # Unless the angles depend on how far all rows have come.
  scaling = config.rope_scaling
  fixed = config.position == 'rope' and (
    not scaling or scaling.kind != 'dynamic'
  )
  return {
    # One array a layer: each is then written in place.
    'layers': tuple(
      {name: jnp.zeros(shape, dtype) for name, shape in shapes.items()}
      for _ in range(config.layers)
    ),
    'positions': jnp.zeros((batch, length), jnp.int32),
    'segment_ids': jnp.zeros((batch, length), jnp.int32),
    'rotary': _rotary(config, jnp.arange(length)[None]) if fixed else (),
    'index': np.zeros((), np.int32),
  }


def _is_new(index) -> bool:
  """Whether a cache is known to be empty: made where it is used first."""
  return isinstance(index, np.ndarray) and not index


def _rotary(config: TransformerConfig, positions_BT: jax.Array):
  """(sines, cosines) of RoPE at every position."""
  return rope.tables(
    positions_BT, config.head_dim, config.rope_theta, config.rope_scaling
  )
