"""Parameters laid out for decoding.

Each block's parameters lie apart: a decoding loop reads them in place, instead
of cutting every layer out of the stack again for every token. For a few rows on
a CPU its projections also lie as `kernels.projections` reads them fastest.
"""

from typing import Any, Mapping

from step_audio_jax.kernels import projections
from step_audio_jax.models import blocks as blocks_lib


def for_decoding(
  params: Mapping[str, Any], layers: int, *, tied_head: bool, tiles: bool
) -> dict[str, Any]:
  """Parameters of a transformer as a decoding loop reads them.

  Args:
    params: Its parameters, unboxed, blocks stacked.
    layers: How many blocks.
    tied_head: Whether the head is the embedding.
    tiles: Also lay the kernels out in tiles.
  """
  blocks = blocks_lib.unstack(params['blocks'], layers)
  if not tiles:
    return {**params, 'blocks': blocks}
  table_VE = params['embedding' if tied_head else 'head']
  return {
    **params,
    'blocks': tuple(map(_in_tiles, blocks)),
    **projections.tile_table('head', table_VE),
  }


def _in_tiles(block):
  return {
    **block,
    'attention': projections.tile(
      block['attention'], together=[('q', 'k', 'v')], contract={'out': 2}
    ),
    'mlp': projections.tile(block['mlp'], together=[('gate', 'up')]),
  }
