"""Prompts that are read piece by piece, and what is kept of them.

A prompt is read into a cache of one row, in pieces of a few sizes that are
compiled for, so that rows that decode meanwhile wait for one piece at most.
What was read is kept for the next prompt that begins with the same ids, as
every turn of a conversation does; the least recently used goes first.

Letters: T ids of a piece, W places.
"""

import collections
import functools
from typing import Any, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Sizes of pieces.
PIECES = (256, 128, 64, 16)
_WORTH = 16  # ids below which nothing is taken over or kept


@functools.partial(jax.jit, static_argnames=('model', 'W'))
def blank(model, *, W):
  """An empty cache of one row."""
  cache = model.init_cache(1, W)
  return {**cache, 'index': jnp.int32(0)}


@jax.jit
def begun(cache, count):
  """A copy of a cache that holds only its first `count` ids, to be gone on."""
  holds = (cache['segment_ids'] > 0) & (cache['positions'] < count)
  # Copies: what goes on is written in place.
  return {
    **jax.tree.map(jnp.copy, cache),
    'segment_ids': holds.astype(jnp.int32),
    'index': count,
  }


@functools.partial(
  jax.jit, static_argnames=('model',), donate_argnames=('cache',)
)
def extend(model, variables, cache, tokens_1T, count):
  """Reads a piece behind what a cache holds.

  Places are positions: what pads a piece on the right is seen by nobody, and
  overwritten by the next one.

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    variables: Its variables.
    cache: Of one row, with room for T more ids; consumed.
    tokens_1T: Ids, and padding behind them.
    count: How many are ids.
  """
  begin = cache['index']
  places_1T = jnp.arange(tokens_1T.shape[1])[None]
  _, cache = model.apply(
    variables,
    tokens_1T,
    segment_ids_BT=(places_1T < count).astype(jnp.int32),
    positions_BT=begin + places_1T,
    cache=cache,
  )
  return {**cache, 'index': begin + count}


def piece(count: int, room: int) -> int:
  """Size of the next piece of so many ids, in so many places."""
  fits = [size for size in PIECES if size <= room]
  # One call that is padded is faster than several small ones.
  return next((s for s in reversed(fits) if s >= count), fits[0])


class Kept(NamedTuple):
  """A prompt that was read.

  Attributes:
    ids: All of it that is in the cache, int32.
    cache: Of one row.
  """

  ids: np.ndarray
  cache: Any


class Store:
  """Prompts that were read, within so many bytes.

  Attributes:
    bytes: What is held now.
  """

  def __init__(self, most: int):
    """Holds none yet.

    Args:
      most: Bytes at most; 0 keeps nothing.
    """
    self._most, self.bytes = most, 0
    self._kept: collections.OrderedDict[bytes, Kept] = collections.OrderedDict()

  def find(self, ids: Sequence[int]) -> tuple[Any, int] | None:
    """(a cache, how many ids of it) with the longest beginning of a prompt."""
    ids = np.asarray(ids, np.int32)
    best, key = 0, None
    for name, kept in self._kept.items():
      length = min(len(ids), len(kept.ids))
      differ = np.flatnonzero(ids[:length] != kept.ids[:length])
      same = int(differ[0]) if len(differ) else length
      if same > best:
        best, key = same, name
    if key is None or best < _WORTH:
      return None
    self._kept.move_to_end(key)
    return self._kept[key].cache, best

  def keep(self, ids: Sequence[int], cache: Any) -> None:
    """Holds a prompt that was read."""
    size = _size(cache)
    if size > self._most or len(ids) < _WORTH:
      return
    ids = np.asarray(ids, np.int32)
    key = ids.tobytes()
    if key in self._kept:
      self._kept.move_to_end(key)
      return
    self._kept[key] = Kept(ids, cache)
    self.bytes += size
    while self.bytes > self._most:
      _, gone = self._kept.popitem(last=False)
      self.bytes -= _size(gone.cache)

  def clear(self) -> None:
    """Holds none any more."""
    self._kept.clear()
    self.bytes = 0


def _size(cache: Any) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(cache))
