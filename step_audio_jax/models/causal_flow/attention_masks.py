"""Who sees whom in causal blocks, and from how far.

Frames come in chunks. A frame sees its whole chunk, `window` frames before the
chunk, and all of the prompt. Rotary positions count from the first frame behind
the prompt. What lies between a frame and the prompt is forgotten beyond the
window, so there the frame acts as if it stood `window` frames behind the
prompt: no distance grows with the length of the speech.

A sequence is either whole, or a chunk behind cached frames; what is seen is the
same. Axes: B rows, T frames, S keys, W cached frames, P places of the prompt,
K head width, F = K / 2 frequencies.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax.models import rope

_THETA = 10000.0


class AttentionMask(NamedTuple):
  """Who sees whom, and from how far; shared by the blocks of a stack.

  Attributes:
    valid_BT: Frames that exist.
    query: Sines and cosines (B, T, F) of the frames.
    clamped: The same, no further than the window behind the prompt.
    key: The same of the keys S, which are cached frames, then the frames.
    visible_BTS: Keys that a frame sees.
    prompt_BTS: Of a whole sequence: keys of the prompt, for frames behind it.
    prompt_BP: Of a chunk: places of the cached prompt that are filled.
  """

  valid_BT: jax.Array
  query: tuple[jax.Array, jax.Array]
  clamped: tuple[jax.Array, jax.Array]
  key: tuple[jax.Array, jax.Array]
  visible_BTS: jax.Array
  prompt_BTS: jax.Array | None = None
  prompt_BP: jax.Array | None = None


def full_mask(
  position_BT: jax.Array,
  segment_BT: jax.Array,
  first_BT: jax.Array,
  end_BT: jax.Array,
  window: int,
  head_dim: int,
) -> AttentionMask:
  """Of sequences that are there from begin to end.

  Args:
    position_BT: int32; 0 is the first frame behind the prompt.
    segment_BT: 0 for padding, 1 for the prompt, 2 for what follows.
    first_BT: Position of the first frame, apart from the prompt, that a frame
      sees; `end_BT` is one past the last.
    end_BT: See `first_BT`. The prompt sees itself, whatever they are.
    window: Frames behind the prompt where positions stop to grow.
    head_dim: K.
  """
  behind_BT = segment_BT == 2
  before_B1T = (segment_BT == 1)[:, None, :]
  place_B1T = position_BT[:, None, :]
  near_BTT = (place_B1T >= first_BT[:, :, None]) & (
    place_B1T < end_BT[:, :, None]
  )
  near_BTT &= behind_BT[:, :, None] & behind_BT[:, None, :]
  turns = rope.tables(position_BT, head_dim, _THETA)
  return AttentionMask(
    segment_BT > 0,
    turns,
    rope.tables(jnp.minimum(position_BT, window), head_dim, _THETA),
    turns,
    near_BTT | before_B1T,
    behind_BT[:, :, None] & before_B1T,
  )


def chunk_mask(
  start_B: jax.Array,
  count_B: jax.Array,
  size: int,
  window: int,
  prompt_B: jax.Array,
  places: int,
  head_dim: int,
) -> AttentionMask:
  """Of one chunk behind cached frames.

  Args:
    start_B: Position of the chunk's first frame.
    count_B: Frames of the chunk that exist.
    size: Frames T that it has room for.
    window: Cached frames W; the last ones before the chunk, at the right.
    prompt_B: Frames of the prompt, at the right of its places.
    places: P.
    head_dim: K.
  """

  def turns(position):
    return rope.tables(position, head_dim, _THETA)

  slot_1S = jnp.arange(-window, size)[None]
  own_1T = jnp.arange(size)[None]
  visible_BS = (slot_1S >= -start_B[:, None]) & (slot_1S < count_B[:, None])
  place_BT = start_B[:, None] + own_1T
  return AttentionMask(
    own_1T < count_B[:, None],
    turns(own_1T),
    turns(jnp.minimum(place_BT, window)),
    turns(slot_1S),
    jnp.broadcast_to(visible_BS[:, None], (len(start_B), size, window + size)),
    None,
    jnp.arange(-places, 0)[None] >= -prompt_B[:, None],
  )
