"""Attention of rows that end in branches, on the mesh in force.

Several continuations of one beginning are one row: the trunk, and behind it
the branches, all of one length. A branch sees the trunk and itself, not its
neighbours. Whatever looks at one token at a time computes the trunk once.

Axes as in `partition`; a row of T = S + G N tokens has a trunk of S and G
branches of N.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax.parallel import partition


class Ids(NamedTuple):
  """Of branches, (B G, N), and of the keys that they see, (B G, S + N).

  Attributes:
    q_positions: Position of each query.
    kv_positions: Of each key.
    q_segment_ids: Segment of each query.
    kv_segment_ids: Of each key.
  """

  q_positions: jax.Array
  kv_positions: jax.Array
  q_segment_ids: jax.Array
  kv_segment_ids: jax.Array


def ids(
  positions_BT: jax.Array, segment_ids_BT: jax.Array, count: int, length: int
) -> Ids:
  """What all layers share.

  Args:
    positions_BT: Positions of the tokens of a row; those of a branch go on
      from the trunk's.
    segment_ids_BT: 1 for a token, 0 for padding.
    count: G.
    length: N.
  """
  arrays = positions_BT, segment_ids_BT
  own = [_branches(x, count, length) for x in arrays]
  keys = [_seen(x, count, length) for x in arrays]
  return Ids(own[0], keys[0], own[1], keys[1])


def attention(
  q_BTHD: jax.Array,
  k_BTGD: jax.Array,
  v_BTGD: jax.Array,
  branches: Ids,
  *,
  q_positions_BT: jax.Array,
  q_segment_ids_BT: jax.Array,
  **keywords: Any,
) -> jax.Array:
  """Attention of a trunk to itself, of branches to it and to themselves.

  Args:
    q_BTHD: Queries.
    k_BTGD: Keys.
    v_BTGD: Values.
    branches: Of `ids`.
    q_positions_BT: Positions of all tokens.
    q_segment_ids_BT: Their segments.
    **keywords: As for `partition.attention`.

  Returns:
    BTHD.
  """
  rows, length = branches.q_positions.shape
  B, T = q_positions_BT.shape
  count = rows // B
  trunk = slice(0, T - count * length)
  here = {
    'positions': q_positions_BT[:, trunk],
    'segment_ids': q_segment_ids_BT[:, trunk],
  }
  first = partition.attention(
    q_BTHD[:, trunk],
    k_BTGD[:, trunk],
    v_BTGD[:, trunk],
    q_positions_BT=here['positions'],
    kv_positions_BS=here['positions'],
    q_segment_ids_BT=here['segment_ids'],
    kv_segment_ids_BS=here['segment_ids'],
    **keywords,
  )
  rest = partition.attention(
    _branches(q_BTHD, count, length),
    _seen(k_BTGD, count, length),
    _seen(v_BTGD, count, length),
    q_positions_BT=branches.q_positions,
    kv_positions_BS=branches.kv_positions,
    q_segment_ids_BT=branches.q_segment_ids,
    kv_segment_ids_BS=branches.kv_segment_ids,
    **keywords,
  )
  rest = rest.reshape(B, count * length, *rest.shape[2:])
  return jnp.concatenate([first, rest], axis=1)


def _branches(x, count, length):
  """(B, T, …) → (B G, N, …)."""
  own = x[:, x.shape[1] - count * length :]
  return own.reshape(len(x) * count, length, *x.shape[2:])


def _seen(x, count, length):
  """(B, T, …) → (B G, S + N, …): what each branch sees."""
  trunk = x[:, : x.shape[1] - count * length]
  shape = (len(x), count, *trunk.shape[1:])
  trunk = jnp.broadcast_to(trunk[:, None], shape)
  trunk = trunk.reshape(-1, *trunk.shape[2:])
  return jnp.concatenate([trunk, _branches(x, count, length)], axis=1)
