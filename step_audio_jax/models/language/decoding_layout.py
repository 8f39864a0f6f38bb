"""Parameters laid out for decoding.

Each block's parameters lie apart: a decoding loop reads them in place, instead
of cutting every layer out of the stack again for every token. For a few rows on
a CPU (`kernels.decoding.few`) the kernels also lie in tiles, and those that
read the same input are one: q, k and v are `qkv`, gate and up `gate_up`.
"""

import math
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from step_audio_jax.kernels import decoding
from step_audio_jax.models import blocks as blocks_lib


def of(
  params: Mapping[str, Any], layers: int, *, tied_head: bool, tiles: bool
) -> dict[str, Any]:
  """Parameters of a transformer as a decoding loop reads them.

  Args:
    params: Its parameters, unboxed, blocks stacked.
    layers: How many blocks.
    tied_head: Whether the head is the embedding.
    tiles: Also lay the kernels out in tiles.
  """
  params = {
    **params,
    'blocks': blocks_lib.unstack(params['blocks'], layers),
  }
  if not tiles:
    return params

  def merged(params, names, axis):
    return jax.tree.map(
      lambda *leaves: jnp.concatenate(leaves, axis), *map(params.get, names)
    )

  def tiled(params, contract=1):
    rest = dict(params)
    kernel = rest.pop('kernel')
    kernel_EF = kernel.reshape(math.prod(kernel.shape[:contract]), -1)
    return {**rest, 'tiles': decoding.in_tiles(kernel_EF)}

  def laid(block):
    attention, mlp = dict(block['attention']), block['mlp']
    qkv = merged(attention, 'qkv', -2)
    attention = {k: v for k, v in attention.items() if k not in 'qkv'}
    return {
      **block,
      'attention': {
        **attention,
        'qkv': tiled(qkv),
        'out': tiled(attention['out'], 2),
      },
      'mlp': {
        'gate_up': tiled(merged(mlp, ('gate', 'up'), -1)),
        'down': tiled(mlp['down']),
      },
    }

  table_VE = params['embedding' if tied_head else 'head']
  return {
    **params,
    'blocks': tuple(map(laid, params['blocks'])),
    'head_tiles': decoding.in_tiles(table_VE.T),
  }
