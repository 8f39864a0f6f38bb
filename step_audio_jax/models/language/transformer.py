"""The decoder-only transformer, one family for every backbone.

Pre-RMSNorm, grouped-query attention, SwiGLU. By configuration it is Step-1
(sqrt-ALiBi, untied head; arXiv 2502.11946 and its released weights) or a
RoPE model (Llama, Qwen2, Qwen3: optional qkv bias and qk-norm, tied head).

Axes: B batch, T tokens, S cached tokens, E width, H heads, G key/value groups,
D head width, F feed-forward width, V vocabulary.
"""

from typing import Any, Sequence

from flax import linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from step_audio_jax.kernels import decoding
from step_audio_jax.kernels import projections
from step_audio_jax.kernels.attention import attention as attention_lib
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models import rope
from step_audio_jax.models.language import transformer_config
from step_audio_jax.parallel import branched
from step_audio_jax.parallel import cached
from step_audio_jax.parallel import partition

TENSORS = transformer_config.TENSORS
TransformerConfig = transformer_config.TransformerConfig
Cache = dict[str, Any]


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


class Attention(nn.Module):
  """Grouped-query self-attention over a row of packed segments."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE, where, cache: Cache | None):
    """Returns BTE and the layer's updated cache (None without one)."""
    c = self.config
    dtype = jnp.dtype(c.dtype)

    def heads(name, count, axis):
      return projections.Projection(
        (count, c.head_dim),
        ('embed', axis, 'head_dim'),
        dtype,
        use_bias=c.qkv_bias,
        name=name,
      )

    q_BTHD, k_BTGD, v_BTGD = projections.project_together(
      x_BTE,
      heads('q', c.heads, 'heads'),
      heads('k', c.kv_heads, 'kv_heads'),
      heads('v', c.kv_heads, 'kv_heads'),
    )
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
    out_BTE = projections.Projection(
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
    if 'branches' in where:
      out_BTHD = branched.attention(
        q_BTHD,
        k_BTGD,
        v_BTGD,
        where['branches'],
        q_positions_BT=where['q_positions'],
        q_segment_ids_BT=where['q_segment_ids'],
        slopes_H=slopes_H,
        implementation=self.config.attention,
      )
      return out_BTHD, None
    keywords = dict(
      q_positions_BT=where['q_positions'],
      kv_positions_BS=where['kv_positions'],
      q_segment_ids_BT=where['q_segment_ids'],
      kv_segment_ids_BS=where['kv_segment_ids'],
      slopes_H=slopes_H,
      implementation=self.config.attention,
    )
    if cache is None:
      return partition.attention(q_BTHD, k_BTGD, v_BTGD, **keywords), None
    return cached.attention(
      q_BTHD, k_BTGD, v_BTGD, cache, where['index'], **keywords
    )


class Mlp(nn.Module):
  """SwiGLU: down(silu(gate(x)) * up(x))."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x_BTE):
    c = self.config
    dtype = jnp.dtype(c.dtype)

    def wide(name):
      return projections.Projection(
        (c.mlp_width,), ('embed', 'mlp'), dtype, name=name
      )

    gate_BTF, up_BTF = projections.project_together(
      x_BTE, wide('gate'), wide('up')
    )
    gate_BTF = _named('mlp_gate', gate_BTF, 'mlp')
    up_BTF = _named('mlp_up', up_BTF, 'mlp')
    return projections.Projection(
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
    branches: tuple[int, int] | None = None,
  ) -> tuple[jax.Array, Cache | None]:
    """Embedded tokens → (normed BTE before the head, updated cache).

    Args:
      x_BTE: The tokens.
      segment_ids_BT: Document of each, 0 for padding.
      positions_BT: Place of each in its document.
      cache: What came before them.
      branches: (count, length) of what each row ends in, as `branched`.
    """
    c = self.config
    where = {
      'q_positions': positions_BT,
      'q_segment_ids': segment_ids_BT,
      'kv_positions': positions_BT,
      'kv_segment_ids': segment_ids_BT,
    }
    if branches is not None:
      where['branches'] = branched.ids(positions_BT, segment_ids_BT, *branches)
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
    blocks = blocks_lib.unstacked(self, 'blocks') or blocks_lib.unstack(
      self.variables['params']['blocks'], self.config.layers
    )
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
    logits_BTV = projections.project_onto_rows(
      self, 'head', x_BTE, self.head_table()
    )
    return partition.constrain(logits_BTV, ('batch', 'length', 'vocab'))


def init_cache(config: TransformerConfig, batch: int, length: int) -> Cache:
  """An empty key/value cache for at least `length` tokens.

  Segment 0 marks a place that holds nothing, so no token with a segment id of
  one or more ever attends to it.
  """
  c = config
  length, layers = cached.init_layers(
    c.layers, batch, c.kv_heads, length, c.head_dim, jnp.dtype(c.dtype)
  )
  # Unless the angles depend on how far all rows have come.
  scaling = c.rope_scaling
  fixed = c.position == 'rope' and (not scaling or scaling.kind != 'dynamic')
  return {
    'layers': layers,
    'positions': jnp.zeros((batch, length), jnp.int32),
    'segment_ids': jnp.zeros((batch, length), jnp.int32),
    'rotary': _rotary(c, jnp.arange(length)[None]) if fixed else (),
    'index': np.zeros((), np.int32),
  }


def repeat_cache(cache: Cache, count: int) -> Cache:
  """A cache in which each row stands `count` times, side by side."""
  rows = len(cache['positions'])

  def repeated(x):
    # Rows and groups of heads may be one axis.
    parts = x.reshape(rows, 1, -1, *x.shape[1:])
    shape = (rows, count, *parts.shape[2:])
    return jnp.broadcast_to(parts, shape).reshape(count * len(x), *x.shape[1:])

  names = ('layers', 'positions', 'segment_ids')
  return {**cache, **jax.tree.map(repeated, {n: cache[n] for n in names})}


def move_cache(
  config: TransformerConfig,
  cache: Cache,
  rows_B: jax.Array,
  shift: jax.Array,
  length: int,
) -> Cache:
  """Some rows of a cache, all places moved on, in a cache of another length.

  Where a token stands says nothing, its position is kept beside it; so places
  may be a ring, and `index` is for the caller to set.

  Args:
    config: Of the model.
    cache: Its cache.
    rows_B: Which rows.
    shift: How far places move, modulo the longer of both lengths.
    length: Tokens that the new one has room for, at least.
  """
  rows = len(cache['positions'])
  made = init_cache(config, rows_B.shape[0], length)
  length = made['positions'].shape[1]

  def taken(x_BS):
    x_BS = jnp.pad(x_BS[rows_B], ((0, 0), (0, max(length - x_BS.shape[1], 0))))
    return jnp.roll(x_BS, shift, axis=1)[:, :length]

  layers = tuple(
    decoding.moved(
      layer, rows_B, rows, shift, {name: x.shape for name, x in like.items()}
    )
    for layer, like in zip(cache['layers'], made['layers'], strict=True)
  )
  held = {name: taken(cache[name]) for name in ('positions', 'segment_ids')}
  return {**made, **held, 'layers': layers, 'index': cache['index']}


def put_cache(cache: Cache, some: Cache, rows: Sequence[jax.Array]) -> Cache:
  """A cache with rows of another, as long, in the place of some of its own."""

  def put_rows(x_BS, new_BS):
    for n, row in enumerate(rows):
      x_BS = jax.lax.dynamic_update_slice_in_dim(
        x_BS, new_BS[n : n + 1], row, axis=0
      )
    return x_BS

  layers = tuple(
    decoding.put(layer, new, rows)
    for layer, new in zip(cache['layers'], some['layers'], strict=True)
  )
  held = {
    name: put_rows(cache[name], some[name])
    for name in ('positions', 'segment_ids')
  }
  return {**cache, **held, 'layers': layers}


def _rotary(config: TransformerConfig, positions_BT: jax.Array):
  """(sines, cosines) of RoPE at every position."""
  return rope.tables(
    positions_BT, config.head_dim, config.rope_theta, config.rope_scaling
  )
