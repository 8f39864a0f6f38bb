"""Speech tokens → mel by causal flow matching, for streaming.

    ids, re-laid in time   [a b][x y z] → (a, x) (b, y) (PAD, z)        25 Hz
      → embeddings side by side → look-ahead → blocks → twice the frames
      → blocks → mu                                                     50 Hz
    dx/dt = blocks([x, mu, speaker, prompt mel], t)

The layout in time, the look-ahead of three steps, 6 + 4 encoder blocks, the
transformer of depth 16 in place of a U-Net and its causal convolutions are
those that later StepFun systems publish (Step-Audio-EditX, arXiv 2511.03601).
The blocks themselves (`models.causal_flow.blocks`: chunks, window, prompt,
adaLN) are this project's choice, as are sizes that are not published: weights
of those systems do not fit.

Axes: B rows, S steps of 40 ms, T = 2 S frames, M mel bands, D width, L blocks,
N times.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.models import layers
from step_audio_jax.models.causal_flow import attention_masks
from step_audio_jax.models.causal_flow import blocks
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.models.flow import estimator

_FRAMES = causal_config.FRAMES_PER_STEP
_TIME_WIDTH = 256


class ZeroLinear(nn.Module):
  """A projection that starts at zero: blocks begin as the identity.

  Attributes:
    features: Axes of what comes out.
  """

  features: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(…, D) → (…, *features)."""
    axes = (*(None,) * (len(self.features) - 1), 'mlp')
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(nn.initializers.zeros, ('embed', *axes)),
      (x.shape[-1], *self.features),
    )
    bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, axes),
      self.features,
    )
    out = jnp.tensordot(x, kernel, axes=1)
    return out + jnp.broadcast_to(bias, out.shape)


class CausalFlow(nn.Module):
  """Encoder, speaker projection and velocity network.

  Attributes:
    config: Shape.
  """

  config: causal_config.CausalFlowConfig

  def setup(self):
    c = self.config
    self.embedding = nn.Embed(
      c.vocabulary + 1,
      c.width // 2,
      embedding_init=nn.with_logical_partitioning(
        nn.initializers.normal(1.0), ('vocab', 'embed')
      ),
    )
    self.look = _dense(c.width, ('embed', 'mlp'))
    self.look_mix = _dense(c.width, ('mlp', 'embed'))
    self.step_blocks = self._stack(c.step_layers)
    self.double = _dense(
      causal_config.FRAMES_PER_STEP * c.width, ('embed', 'mlp')
    )
    self.frame_blocks = self._stack(c.frame_layers)
    self.mu_norm = layers.layer_norm(None)
    self.mu = _dense(c.bands, ('embed', 'mlp'))
    self.speaker = _dense(c.bands, ('embed', 'mlp'))
    self.join = _dense(c.width, ('embed_in', 'embed'))
    self.time = (
      _dense(c.width, ('embed_in', 'embed')),
      _dense(c.width, ('embed', 'mlp')),
    )
    self.modulation = ZeroLinear((c.estimator_layers, 9, c.width))
    self.estimator_blocks = self._stack(c.estimator_layers)
    self.last_modulation = ZeroLinear((2, c.width))
    self.last_norm = nn.LayerNorm(use_bias=False, use_scale=False)
    self.last = ZeroLinear((c.bands,))

  def _stack(self, layers):
    c = self.config
    return blocks.Stack(layers, c.width, c.heads, c.mlp_width, c.remat)

  def encode(
    self,
    ids_BS2: jax.Array,
    segment_BS: jax.Array,
    step_sight: attention_masks.AttentionMask,
    frame_sight: attention_masks.AttentionMask,
    past: Any = (None, None),
    prompt: Any = (None, None),
    keep: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Steps → mu (B, T, M), and what both stacks of blocks keep.

    Args:
      ids_BS2: Of `causal_config.steps_of`, and `look_ahead` steps more than the
        masks have.
      segment_BS: 0 where there is no step, 1 in the prompt, 2 behind it: no
        step looks from one segment into the other.
      step_sight: At 25 Hz.
      frame_sight: At 50 Hz.
      past: Of `step_blocks` and `frame_blocks`; see
        `models.causal_flow.blocks.Stack`.
      prompt: Likewise.
      keep: Likewise.
    """
    ahead = self.config.look_ahead
    x = self.embedding(ids_BS2).reshape(*ids_BS2.shape[:2], -1)
    x_BSD = x[:, : x.shape[1] - ahead]
    S = x_BSD.shape[1]
    taps = [
      jnp.where(
        (segment_BS[:, tap : tap + S] == segment_BS[:, :S])[:, :, None],
        x[:, tap : tap + S],
        0.0,
      )
      for tap in range(ahead + 1)
    ]
    seen = self.look(jnp.concatenate(taps, axis=-1))
    x_BSD += self.look_mix(jax.nn.gelu(seen))
    x_BSD, steps = self.step_blocks(
      x_BSD, step_sight, None, past[0], prompt[0], keep
    )
    x_BTD = self.double(x_BSD).reshape(
      len(x), causal_config.FRAMES_PER_STEP * S, -1
    )
    x_BTD, frames = self.frame_blocks(
      x_BTD, frame_sight, None, past[1], prompt[1], keep
    )
    return self.mu(self.mu_norm(x_BTD)), (steps, frames)

  def voice(self, speaker_BE: jax.Array) -> jax.Array:
    """Speaker embeddings of any length → (B, M)."""
    norm = jnp.linalg.norm(speaker_BE, axis=-1, keepdims=True)
    return self.speaker(speaker_BE / jnp.maximum(norm, 1e-12))

  def modulations(self, t_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What times do: to the blocks (N, L, 9, D), and at the end (N, 2, D)."""
    time = estimator.time_embedding(t_N, _TIME_WIDTH)
    time = nn.silu(self.time[1](nn.silu(self.time[0](time))))
    return self.modulation(time), self.last_modulation(time)

  def velocity(
    self,
    x_BTM: jax.Array,
    modulation: tuple[jax.Array, jax.Array],
    mu_BTM: jax.Array,
    speaker_BM: jax.Array,
    condition_BTM: jax.Array,
    mask: attention_masks.AttentionMask,
    past: Any = None,
    prompt: Any = None,
    keep: bool = False,
  ) -> tuple[jax.Array, Any]:
    """The velocity at x, and what the blocks keep.

    Args:
      x_BTM: Frames on the way from noise to mel.
      modulation: Of `modulations`, for each row, or one for all.
      mu_BTM: Of `encode`.
      speaker_BM: Of `voice`.
      condition_BTM: The prompt's mel, 0 behind it.
      mask: At 50 Hz.
      past: See `models.causal_flow.blocks.Stack`.
      prompt: Likewise.
      keep: Likewise.
    """
    voice_BTM = jnp.broadcast_to(speaker_BM[:, None], mu_BTM.shape)
    x = self.join(
      jnp.concatenate([x_BTM, mu_BTM, voice_BTM, condition_BTM], axis=-1)
    )
    blocks_BL9D, last_B2D = modulation
    x, kept = self.estimator_blocks(
      x, mask, blocks_BL9D.swapaxes(0, 1), past, prompt, keep
    )
    x = self.last_norm(x)
    shift, scale = last_B2D[:, 0, None], last_B2D[:, 1, None]
    return self.last((x * (1.0 + scale) + shift).astype(x.dtype)), kept

  def __call__(
    self,
    ids_BS2: jax.Array,
    segment_BS: jax.Array,
    masks: tuple[attention_masks.AttentionMask, attention_masks.AttentionMask],
    speaker_BE: jax.Array,
    condition_BTM: jax.Array,
    x_BTM: jax.Array,
    t_B: jax.Array,
    keep_B: jax.Array,
  ) -> jax.Array:
    """Velocities of whole sequences, as they are trained.

    Args:
      ids_BS2: See `encode`, without steps ahead.
      segment_BS: See `encode`, without steps ahead.
      masks: At 25 Hz and at 50 Hz.
      speaker_BE: Speaker embeddings.
      condition_BTM: See `velocity`.
      x_BTM: See `velocity`.
      t_B: Times.
      keep_B: Rows that keep mu, speaker and condition; others get zeros.
    """
    ahead = ((0, 0), (0, self.config.look_ahead))
    mu_BTM, _ = self.encode(
      jnp.pad(ids_BS2, (*ahead, (0, 0))), jnp.pad(segment_BS, ahead), *masks
    )
    kept = keep_B[:, None]
    velocity, _ = self.velocity(
      x_BTM,
      self.modulations(t_B),
      jnp.where(kept[:, :, None], mu_BTM, 0.0),
      jnp.where(kept, self.voice(speaker_BE), 0.0),
      jnp.where(kept[:, :, None], condition_BTM, 0.0),
      masks[1],
    )
    return velocity


def full_masks(
  config: causal_config.CausalFlowConfig,
  position_BS: jax.Array,
  segment_BS: jax.Array,
  first_BS: jax.Array,
  end_BS: jax.Array,
) -> tuple[attention_masks.AttentionMask, attention_masks.AttentionMask]:
  """Sights at 25 Hz and at 50 Hz; the arguments are at 25 Hz.

  See `models.causal_flow.attention_masks.full_mask`.
  """
  within = jnp.arange(_FRAMES * position_BS.shape[1])[None] % _FRAMES

  def frames(array):
    return jnp.repeat(array, _FRAMES, axis=1)

  return attention_masks.full_mask(
    position_BS,
    segment_BS,
    first_BS,
    end_BS,
    config.step_window,
    config.head_dim,
  ), attention_masks.full_mask(
    _FRAMES * frames(position_BS) + within,
    frames(segment_BS),
    _FRAMES * frames(first_BS),
    _FRAMES * frames(end_BS),
    config.window,
    config.head_dim,
  )


def chunk_masks(
  config: causal_config.CausalFlowConfig,
  start_B: jax.Array,
  counts_B: jax.Array,
  size: int,
  prompt_B: jax.Array,
  places: int,
) -> tuple[attention_masks.AttentionMask, attention_masks.AttentionMask]:
  """Sights at 25 Hz and at 50 Hz; the arguments are at 25 Hz.

  See `models.causal_flow.attention_masks.chunk_mask`.
  """
  return tuple(
    attention_masks.chunk_mask(
      scale * start_B,
      scale * counts_B,
      scale * size,
      scale * config.step_window,
      scale * prompt_B,
      scale * places,
      config.head_dim,
    )
    for scale in (1, _FRAMES)
  )


def init(config: causal_config.CausalFlowConfig, rng: jax.Array):
  """Fresh variables, with logical axis names."""
  S, T = 1, _FRAMES
  place = jnp.zeros((1, S), jnp.int32)
  mel = jnp.zeros((1, T, config.bands))
  return CausalFlow(config).init(
    rng,
    jnp.zeros((1, S, 2), jnp.int32),
    place + 2,
    full_masks(config, place, place + 2, place, place + 1),
    jnp.zeros((1, config.speaker_size)),
    mel,
    mel,
    jnp.zeros(1),
    jnp.ones(1, bool),
  )


def _dense(features, axes):
  return layers.dense(features, axes, None)
