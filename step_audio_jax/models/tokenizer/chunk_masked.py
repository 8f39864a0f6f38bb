"""Overlapping training chunks with a mask, as Paraformer was trained.

An utterance is cut into chunks of `size` frames, one every `stride` frames, so
that neighbours share frames. Within its chunk every frame sees every other;
the first `stride` frames of a chunk also see the first `stride` frames of the
`look_back` chunks before. What a chunk adds to the result are the `stride`
frames behind its `pad_left`. (FunASR's `overlap_chunk`, of SAN-M, arXiv
2006.01713.) Two things are as in the original, though one might not expect
them: a chunk that is not the last of its row is complete, with zeros in the
place of frames that the utterance does not have, and these are attended to;
and the last frames of a chunk see no look-back.

Axes as in `models.tokenizer.paraformer`: B rows, T frames, C chunks, W frames
of a chunk, S keys (look-back, then chunk), D width.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.kernels.attention import windows


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ChunkSpec:
  """One way to cut; the released model was trained with two of them.

  Attributes:
    size: Frames of a chunk.
    stride: Frames from one chunk to the next; what a chunk contributes.
    pad_left: Frames of a chunk before those that it contributes.
    look_back: Chunks before it whose keys are seen.
  """

  size: int = 12
  stride: int = 8
  pad_left: int = 0
  look_back: int = 4

  def __post_init__(self):
    errors.at_least_one('chunks', self, ('size', 'stride'))
    for name in ('pad_left', 'look_back'):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f'chunks: {name} is {getattr(self, name)}, expected at least 0.'
        )
    if self.size < self.pad_left + self.stride:
      raise errors.UserError(
        f'chunks: size is {self.size}, expected at least pad_left + stride = '
        f'{self.pad_left + self.stride}.'
      )

  def chunks(self, total: int) -> int:
    """Chunks of `total` frames."""
    return -(-total // self.stride)

  def padded(self, x_BTD: jax.Array, lengths_B: jax.Array) -> jax.Array:
    """Frames with zeros around them, exactly as many as the chunks cover."""
    total = x_BTD.shape[1]
    inside_BT = jnp.arange(total)[None, :] < lengths_B[:, None]
    x = jnp.where(inside_BT[:, :, None], x_BTD, 0.0)
    covered = (self.chunks(total) - 1) * self.stride + self.size
    right = covered - self.pad_left - total
    return jnp.pad(x, ((0, 0), (self.pad_left, right), (0, 0)))

  def valid(self, lengths_B: jax.Array, total: int) -> jax.Array:
    """Which frames of which chunks exist, (B, C, W)."""
    place_C = np.arange(self.chunks(total)) * self.stride
    left_BC = lengths_B[:, None] - place_C[None, :]
    inside = self.pad_left + left_BC
    last = (left_BC > 0) & (left_BC <= self.stride)
    count_BC = jnp.where(last, inside, jnp.where(left_BC > 0, self.size, 0))
    return np.arange(self.size)[None, None, :] < count_BC[:, :, None]

  def keys_valid(self, valid_BCW: jax.Array) -> jax.Array:
    """Which keys exist, (B, C, S)."""
    line = windows.pad_left_windows(valid_BCW, self.look_back)
    seen = windows.pieces(line, self.look_back, self.stride, self.size)
    return jnp.concatenate(seen, axis=2)

  def visible(self) -> np.ndarray:
    """Which keys a frame of a chunk may see, (W, S)."""
    early = np.arange(self.size) < self.stride
    past = np.repeat(early[:, None], self.look_back * self.stride, axis=1)
    return np.concatenate([past, np.ones((self.size,) * 2, bool)], axis=1)

  def joined(self, x_BCWD: jax.Array, lengths_B: jax.Array, total: int):
    """What each chunk contributes, (B, T, D); zeros behind a row's length."""
    x = x_BCWD[:, :, self.pad_left : self.pad_left + self.stride]
    x = x.reshape(x.shape[0], -1, x.shape[-1])[:, :total]
    inside_BT = jnp.arange(total)[None, :] < lengths_B[:, None]
    return jnp.where(inside_BT[:, :, None], x, 0.0)


# Of the released model; every batch takes one of them at random.
RELEASED = (ChunkSpec(12, 8), ChunkSpec(15, 10))
