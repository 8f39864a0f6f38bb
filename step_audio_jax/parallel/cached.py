"""Attention with a key/value cache, on the mesh in force.

A layer's cache holds the keys and values of all tokens so far, laid out as
`kernels.decoding` reads them. Rows and groups are one axis of it, so that the
products of a decoding step take the cache as it lies; on a mesh each may be
split, so there they stay apart.

Axes as in `partition`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.kernels import decoding
from step_audio_jax.kernels import placement
from step_audio_jax.kernels.attention import attention as attention_lib
from step_audio_jax.parallel import partition

Layer = dict[str, jax.Array]


def init_layers(
  layers: int, batch: int, groups: int, length: int, head_dim: int, dtype: Any
) -> tuple[int, tuple[Layer, ...]]:
  """(places, at least `length`, and the cache of each layer)."""
  rows = (batch, groups)
  if placement.one_device():
    rows = (batch * groups,)
  places, shapes = decoding.shapes(rows, length, head_dim)
  # One array a layer: each is then written in place.
  return places, tuple(
    {name: jnp.zeros(shape, dtype) for name, shape in shapes.items()}
    for _ in range(layers)
  )


def attention(
  q_BTHD: jax.Array,
  k_BTGD: jax.Array,
  v_BTGD: jax.Array,
  cache: Layer,
  index: jax.Array | np.ndarray,
  *,
  implementation: str = 'auto',
  **keywords: Any,
) -> tuple[jax.Array, Layer]:
  """Attention of T new tokens to all that came before, and to themselves.

  Args:
    q_BTHD: Queries of the new tokens.
    k_BTGD: Their keys.
    v_BTGD: Their values.
    cache: Of `init_layers` or of an earlier call.
    index: Where in it the new tokens are written.
    implementation: As for `partition.attention`, as are all others.
    **keywords: Positions and segments, those of keys for every place.

  Returns:
    BTHD and the updated cache.
  """
  B, T, G, D = k_BTGD.shape
  cache = decoding.written(cache, k_BTGD, v_BTGD, index)
  if cache['value'].ndim == 3 and T <= attention_lib.DECODING:
    out_BTHD = decoding.attention(
      q_BTHD, cache['key'], cache['value'], **keywords
    )
    return out_BTHD, cache
  if _is_new(index):
    for name in ('positions', 'segment_ids'):
      keywords[f'kv_{name}_BS'] = keywords[f'q_{name}_BT']
  else:
    k_BTGD = decoding.flat_keys(cache['key']).reshape(B, G, -1, D)
    k_BTGD = k_BTGD.swapaxes(1, 2)
    v_BTGD = cache['value'].reshape(B, G, -1, D).swapaxes(1, 2)
  out_BTHD = partition.attention(
    q_BTHD, k_BTGD, v_BTGD, implementation=implementation, **keywords
  )
  return out_BTHD, cache


def _is_new(index) -> bool:
  """Whether a cache is known to be empty: made where it is used first."""
  return isinstance(index, np.ndarray) and not index
