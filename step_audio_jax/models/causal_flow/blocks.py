"""Blocks that see what was, a little of what comes, and nothing else.

    x += g₁ attention(n₁(x))       keys: prompt, a window of the past, the chunk
    x += g₂ convolution(n₂(x))     causal, 3 taps, GELU, projection
    x += g₃ mlp(n₃(x))             GELU

with n a LayerNorm of single frames, shifted and scaled, and gates g, by time
(adaLN, as DiT has it, arXiv 2212.09748) or, in the encoder, by nothing. Who
sees whom is in `models.causal_flow.attention_masks`.

Either a sequence is whole, with a mask (training, the prompt itself), or a
chunk comes with what the blocks kept of the frames before (`KeyValueCache`).
Both compute the same numbers.

Axes: B rows, T frames, S keys, W cached frames, P places of the prompt, D
width, H heads, K head width, L blocks.
"""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models import layers
from step_audio_jax.models import rope
from step_audio_jax.models.causal_flow import attention_masks

TAPS = 3
_FAR = -1e30


class KeyValueCache(NamedTuple):
  """What a block keeps of earlier frames.

  Attributes:
    key: (B, W, H, K); a prompt's are turned to their positions already.
    value: (B, W, H, K).
    tail: The convolution's last inputs (B, TAPS − 1, D).
  """

  key: jax.Array
  value: jax.Array
  tail: jax.Array


class Attention(nn.Module):
  """Attention over what an `AttentionMask` lets through.

  Attributes:
    width: D.
    heads: H.
  """

  width: int
  heads: int

  @nn.compact
  def __call__(self, x_BTD, mask, past=None, prompt=None):
    """(B, T, D) → (B, T, D), and the keys (plain, turned) and values."""
    shape = (*x_BTD.shape[:2], self.heads, self.width // self.heads)
    q, k, v = (
      layers.dense(self.width, ('embed', 'heads'), name)(x_BTD).reshape(shape)
      for name in ('query', 'key', 'value')
    )
    q *= shape[-1] ** -0.5
    keys, values = k, v
    if past is not None:
      keys = jnp.concatenate([past.key, k], axis=1)
      values = jnp.concatenate([past.value, v], axis=1)
    turned = rope.rotate(keys, *mask.key)
    scores = _scores(rope.rotate(q, *mask.query), turned)
    clamped = rope.rotate(q, *mask.clamped)
    if mask.prompt_BTS is not None:
      scores = jnp.where(
        mask.prompt_BTS[:, None], _scores(clamped, turned), scores
      )
    scores = jnp.where(mask.visible_BTS[:, None], scores, _FAR)
    places = 0
    if prompt is not None:
      places = prompt.key.shape[1]
      far = _scores(clamped, prompt.key)
      far = jnp.where(mask.prompt_BP[:, None, None], far, _FAR)
      scores = jnp.concatenate([far, scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(x_BTD.dtype)
    out = _mixed(weights[..., places:], values)
    if places:
      out += _mixed(weights[..., :places], prompt.value)
    out = layers.dense(self.width, ('heads', 'embed'), 'out')(
      out.reshape(x_BTD.shape)
    )
    return out, (keys, turned, values)


def _scores(q_BTHK, k_BSHK):
  return jnp.einsum(
    'bthk,bshk->bhts', q_BTHK, k_BSHK, preferred_element_type=jnp.float32
  )


def _mixed(weights_BHTS, v_BSHK):
  return jnp.einsum('bhts,bshk->bthk', weights_BHTS, v_BSHK)


class Block(nn.Module):
  """Attention, causal convolution and MLP, each on normed frames.

  Attributes:
    width: D.
    heads: H.
    mlp_width: Of the MLP.
    keep: Whether a whole sequence is kept as a prompt.
  """

  width: int
  heads: int
  mlp_width: int
  keep: bool = False

  @nn.compact
  def __call__(self, x_BTD, mask, modulation_B9D=None, past=None, prompt=None):
    """Runs the block.

    Args:
      x_BTD: Frames.
      mask: Of the stack.
      modulation_B9D: Shift, scale and gate of the three parts; None in the
        encoder.
      past: `KeyValueCache` of the frames before a chunk.
      prompt: `KeyValueCache` of the prompt before them.

    Returns:
      Frames (B, T, D), and the `KeyValueCache` behind them (None for a whole
      sequence that is not kept).
    """
    valid_BT1 = mask.valid_BT[:, :, None]

    def inner(part, x):
      if modulation_B9D is None:
        return layers.layer_norm(f'norm{part}')(x)
      x = nn.LayerNorm(use_bias=False, use_scale=False)(x)
      shift, scale = (modulation_B9D[:, 3 * part + i, None] for i in range(2))
      return (x * (1.0 + scale) + shift).astype(x.dtype)

    def gated(part, y):
      if modulation_B9D is None:
        return y
      return (y * modulation_B9D[:, 3 * part + 2, None]).astype(y.dtype)

    y, (keys, turned, values) = Attention(
      self.width, self.heads, name='attention'
    )(inner(0, x_BTD), mask, past, prompt)
    x_BTD += gated(0, y)
    h = jnp.where(valid_BT1, inner(1, x_BTD), 0.0)
    if past is None:
      h = jnp.pad(h, ((0, 0), (TAPS - 1, 0), (0, 0)))
    else:
      h = jnp.concatenate([past.tail, h], axis=1)
    y = layers.dense(self.width, ('embed', 'mlp'), 'taps')(
      side_by_side(h, TAPS)
    )
    y = layers.dense(self.width, ('mlp', 'embed'), 'mix')(jax.nn.gelu(y))
    x_BTD += gated(1, y)
    y = layers.dense(self.mlp_width, ('embed', 'mlp'), 'up')(inner(2, x_BTD))
    y = layers.dense(self.width, ('mlp', 'embed'), 'down')(jax.nn.gelu(y))
    x_BTD += gated(2, y)
    tail = h[:, -(TAPS - 1) :]
    if past is not None:
      W = past.key.shape[1]
      return x_BTD, KeyValueCache(keys[:, -W:], values[:, -W:], tail)
    return x_BTD, KeyValueCache(turned, values, tail) if self.keep else None


def side_by_side(x_BTD: jax.Array, taps: int) -> jax.Array:
  """Neighbouring frames in one vector: (B, T − taps + 1, taps · D)."""
  count = x_BTD.shape[1] - taps + 1
  return jnp.concatenate(
    [x_BTD[:, tap : tap + count] for tap in range(taps)], axis=-1
  )


class Stack(nn.Module):
  """Blocks one after the other; parameters stacked, or of `blocks.unstack`.

  Attributes:
    layers: L.
    width: D.
    heads: H.
    mlp_width: Of the MLPs.
    remat: Whether training computes a block's inside twice to save memory.
  """

  layers: int
  width: int
  heads: int
  mlp_width: int
  remat: bool = False

  @nn.compact
  def __call__(
    self,
    x_BTD: jax.Array,
    mask: attention_masks.AttentionMask,
    modulation_LB9D: jax.Array | None = None,
    past: Any = None,
    prompt: Any = None,
    keep: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Frames, and a tuple of each block's `KeyValueCache` (see `Block`).

    `past` and `prompt` are such tuples and need parameters that lie apart, as
    `keep` does.
    """
    shape = (self.width, self.heads, self.mlp_width)
    params = blocks_lib.unstacked(self, 'blocks')
    if params is None:
      if keep or past is not None:
        raise ValueError('blocks keep nothing while their parameters are one.')
      block = nn.remat(Block) if self.remat else Block
      x_BTD, _ = nn.scan(
        block,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=(nn.broadcast, 0),
        length=self.layers,
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )(*shape, name='blocks')(x_BTD, mask, modulation_LB9D)
      return x_BTD, None
    kept = []
    for number, one in enumerate(params):
      x_BTD, last = Block(*shape, keep, parent=None).apply(
        {'params': one},
        x_BTD,
        mask,
        None if modulation_LB9D is None else modulation_LB9D[number],
        None if past is None else past[number],
        None if prompt is None else prompt[number],
      )
      kept.append(last)
    return x_BTD, tuple(kept)
