"""What every blocked attention does first: pad, regroup, find useful blocks.

Which keys a query sees is decided by two integers a token, its segment and its
position. For blocks of tokens, the smallest and the largest (segment,
position), compared as pairs, decide which block pairs can be skipped: a block
of keys holds nothing for a block of queries if its smallest pair is above the
queries' largest one (causality), or if its segments all lie below theirs. The
test is exact enough to skip what packed rows hide, whose segments ascend, and
sound for ids in any order.

Axes: B batch, T queries, S keys, H heads, G key/value groups, R heads a group,
D head width, M blocks of queries, N blocks of keys.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Segment 0 is padding and stands at the end of a row: renamed, so that ids
# ascend to the very end. What blocks are filled up with sees, and is seen by,
# nothing at all.
_PADDING = 2**30
_QUERY_FILL = _PADDING + 1
_KEY_FILL = _PADDING + 2


class Ids(NamedTuple):
  """Positions and segments, int32, padded to whole blocks."""

  q_positions_BT: jax.Array
  kv_positions_BS: jax.Array
  q_segments_BT: jax.Array
  kv_segments_BS: jax.Array


class Ranges(NamedTuple):
  """First and last useful block of the other side, int32.

  Where there is none, first is 0 and last is -1.
  """

  kv_first_BM: jax.Array
  kv_last_BM: jax.Array
  q_first_BN: jax.Array
  q_last_BN: jax.Array


def pad_to(x: jax.Array, axis: int, multiple: int, value=0) -> jax.Array:
  """Fills `axis` up with `value` to a multiple of `multiple`."""
  missing = -x.shape[axis] % multiple
  if not missing:
    return x
  widths = [(0, missing if a == axis else 0) for a in range(x.ndim)]
  return jnp.pad(x, widths, constant_values=value)


def pad_ids(ids: Ids, block_q: int, block_kv: int) -> Ids:
  """Ids of whole blocks, padding last."""

  def segments(x, block, fill):
    x = jnp.where(x == 0, _PADDING, x.astype(jnp.int32))
    return pad_to(x, 1, block, fill)

  def positions(x, block):
    return pad_to(x.astype(jnp.int32), 1, block)

  return Ids(
    positions(ids.q_positions_BT, block_q),
    positions(ids.kv_positions_BS, block_kv),
    segments(ids.q_segments_BT, block_q, _QUERY_FILL),
    segments(ids.kv_segments_BS, block_kv, _KEY_FILL),
  )


def _extremes(segments, positions, block):
  """Smallest and largest (segment, position) of each block, all (B, N)."""
  B = segments.shape[0]
  segments = segments.reshape(B, -1, block)
  positions = positions.reshape(B, -1, block)
  low = segments.min(axis=-1)
  high = segments.max(axis=-1)
  limits = jnp.iinfo(jnp.int32)
  low_position = jnp.where(
    segments == low[..., None], positions, limits.max
  ).min(axis=-1)
  high_position = jnp.where(
    segments == high[..., None], positions, limits.min
  ).max(axis=-1)
  return low, low_position, high, high_position


def ranges(ids: Ids, block_q: int, block_kv: int) -> Ranges:
  """Which blocks of keys each block of queries needs, and the reverse."""
  q_low, _, q_high, q_high_position = _extremes(
    ids.q_segments_BT, ids.q_positions_BT, block_q
  )
  kv_low, kv_low_position, kv_high, _ = _extremes(
    ids.kv_segments_BS, ids.kv_positions_BS, block_kv
  )
  causal_BMN = (kv_low[:, None] < q_high[:, :, None]) | (
    (kv_low[:, None] == q_high[:, :, None])
    & (kv_low_position[:, None] <= q_high_position[:, :, None])
  )
  needed_BMN = causal_BMN & (kv_high[:, None] >= q_low[:, :, None])

  def ends(needed):
    size = needed.shape[-1]
    index = jnp.arange(size, dtype=jnp.int32)[None, None]
    last = jnp.where(needed, index, -1).max(axis=-1)
    first = jnp.where(needed, index, size).min(axis=-1)
    return jnp.where(last < 0, 0, first), last

  return Ranges(*ends(needed_BMN), *ends(needed_BMN.swapaxes(1, 2)))


def group_queries(x_BTHD: jax.Array, groups: int, block: int) -> jax.Array:
  """(B, T, H, D) → (B, G, R, T padded, D)."""
  B, T, H, D = x_BTHD.shape
  x_BTGRD = x_BTHD.reshape(B, T, groups, H // groups, D)
  return pad_to(x_BTGRD.transpose(0, 2, 3, 1, 4), 3, block)


def ungroup_queries(x_BGRTD: jax.Array, length: int) -> jax.Array:
  """The inverse of `group_queries`, without the padding."""
  B, G, R, _, D = x_BGRTD.shape
  x_BTGRD = x_BGRTD[:, :, :, :length].transpose(0, 3, 1, 2, 4)
  return x_BTGRD.reshape(B, length, G * R, D)


def group_keys(x_BSGD: jax.Array, block: int) -> jax.Array:
  """(B, S, G, D) → (B, G, S padded, D)."""
  return pad_to(x_BSGD.transpose(0, 2, 1, 3), 2, block)


def ungroup_keys(x_BGSD: jax.Array, length: int) -> jax.Array:
  """The inverse of `group_keys`, without the padding."""
  return x_BGSD[:, :, :length].transpose(0, 2, 1, 3)


def group_rows(x_BHT: jax.Array, groups: int, block: int) -> jax.Array:
  """(B, H, T) → (B, G, R, T padded)."""
  B, H, T = x_BHT.shape
  return pad_to(x_BHT.reshape(B, groups, H // groups, T), 3, block)


def ungroup_rows(x_BGRT: jax.Array, length: int) -> jax.Array:
  """The inverse of `group_rows`, without the padding."""
  B, G, R, _ = x_BGRT.shape
  return x_BGRT[..., :length].reshape(B, G * R, length)


def delta(out_BTHD: jax.Array, dout_BTHD: jax.Array) -> jax.Array:
  """What every backward pass subtracts: out . dout, float32 (B, H, T)."""
  products = out_BTHD.astype(jnp.float32) * dout_BTHD.astype(jnp.float32)
  return products.sum(axis=-1).transpose(0, 2, 1)


def block_size(wanted: int, length: int, multiple: int) -> int:
  """`wanted`, or the whole of a shorter row, in multiples of `multiple`."""
  return min(wanted, length + -length % multiple)
