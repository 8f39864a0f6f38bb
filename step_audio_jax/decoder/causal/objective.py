"""What the causal flow minimises, for the training loop.

    loss = masked |v(y_t, t, mu, speaker, prompt) − (x₁ − (1 − σ) z)|²

as the offline flow (`decoder.flow.objective`), with what it sees made small:
the length of the chunks is drawn for every row, uniformly from the shortest of
the model's chunks to the longest, and some rows are one whole chunk, so one
network serves every chunk size and whole utterances. The prompt's steps do not
look ahead into what follows them, since in use they come from another
recording.

Batches come from `decoder.flow.feed.FlowFeed`, with the mel computed inside the
step.

Axes: B rows, N ids, S steps of 40 ms, T = 2 S frames, M mel bands, E speaker
embedding.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.causal import flow as decoder
from step_audio_jax.decoder.flow import matching
from step_audio_jax.models.causal_flow import attention_masks
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.models.causal_flow import causal_flow

_FRAMES = causal_config.FRAMES_PER_STEP


class Rows(NamedTuple):
  """A batch as the network reads it.

  Attributes:
    ids_BS2: Of `causal_config.steps_of`.
    steps_B: Steps that have ids and mel, int32.
    mel_BTM: Their mel.
  """

  ids_BS2: jax.Array
  steps_B: jax.Array
  mel_BTM: jax.Array


def rows(
  config: causal_config.CausalFlowConfig,
  tokens_BN: jax.Array,
  token_counts_B: jax.Array,
  mel_BTM: jax.Array,
  frames_B: jax.Array,
) -> Rows:
  """Ids and mel, cut to the whole groups and the time that both have."""
  group = causal_config.GROUP
  more = -tokens_BN.shape[1] % group
  ids_BS2 = causal_config.steps_of(
    jnp.pad(tokens_BN, ((0, 0), (0, more))), config.linguistic
  )
  T = _FRAMES * ids_BS2.shape[1]
  missing = max(0, T - mel_BTM.shape[1])
  return Rows(
    ids_BS2,
    jnp.minimum(
      token_counts_B // group * causal_config.SEMANTIC_PER_GROUP,
      frames_B // _FRAMES,
    ),
    jnp.pad(mel_BTM[:, :T], ((0, 0), (0, missing), (0, 0))),
  )


def chunk_masks(
  config: causal_config.CausalFlowConfig,
  total: int,
  steps_B: jax.Array,
  prefix_B: jax.Array,
  chunk_B: jax.Array,
) -> tuple[
  jax.Array,
  tuple[attention_masks.AttentionMask, attention_masks.AttentionMask],
  jax.Array,
]:
  """Segments (B, S), chunk masks, the frames that exist.

  Args:
    config: Of the model.
    total: S.
    steps_B: Steps of each row.
    prefix_B: Those of them that are its prompt.
    chunk_B: Steps of a chunk; 0 for rows that are one.

  Returns:
    Segments, masks and the frames (B, T) that exist.
  """
  place_1S = jnp.arange(total)[None]
  position_BS = place_1S - prefix_B[:, None]
  segment_BS = jnp.where(place_1S < steps_B[:, None], 2, 0)
  segment_BS = jnp.where((segment_BS > 0) & (position_BS < 0), 1, segment_BS)
  size_B1 = jnp.maximum(chunk_B, 1)[:, None]
  begin_BS = position_BS // size_B1 * size_B1
  one_B1 = (chunk_B == 0)[:, None]
  both = causal_flow.full_masks(
    config,
    position_BS,
    segment_BS,
    jnp.where(one_B1, -decoder.ALL, begin_BS - config.step_window),
    jnp.where(one_B1, decoder.ALL, begin_BS + size_B1),
  )
  return segment_BS, both, both[1].valid_BT


@dataclasses.dataclass(frozen=True)
class CausalFlowMatching:
  """Trains `models.causal_flow.causal_flow.CausalFlow` on waves and codes.

  Attributes:
    config: Shape of the flow.
    mel: What its frames are.
    dropout: Share of rows that lose all conditions.
    prefix_probability: Share of rows with a prompt.
    prefix_share: Longest prompt, of a row's frames.
    whole: Share of rows that are one chunk.
  """

  config: causal_config.CausalFlowConfig
  mel: vocoder_mel.VocoderMel = decoder.MEL
  dropout: float = 0.2
  prefix_probability: float = 0.5
  prefix_share: float = 0.3
  whole: float = 0.25

  def __post_init__(self):
    decoder.check_mel(self.config, self.mel)
    for name in ('dropout', 'prefix_probability', 'prefix_share', 'whole'):
      if not 0 <= getattr(self, name) <= 1:
        raise errors.UserError(
          f'causal flow: {name} is {getattr(self, name)}, expected 0 to 1.'
        )

  def init(self, rng, batch):
    found = batch['speaker'].shape[-1]
    if found != self.config.speaker_size:
      raise errors.UserError(
        f'causal flow: the corpus has speaker embeddings of {found} numbers, '
        f'expected speaker_size, {self.config.speaker_size}.'
      )
    return causal_flow.init(self.config, rng)

  def chunks(self, rng: jax.Array, count: int) -> jax.Array:
    """Steps of a chunk for each row, int32; 0 for rows that are one chunk."""
    size_key, whole_key = jax.random.split(rng)
    sizes_B = jax.random.randint(
      size_key, (count,), min(self.config.chunks), max(self.config.chunks) + 1
    )
    return jnp.where(
      jax.random.uniform(whole_key, (count,)) < self.whole, 0, sizes_B
    )

  def loss(self, variables, batch, rng):
    mel_BTM, frames_B = vocoder_mel.vocoder_mel(
      batch['wave'], batch['samples'], self.mel
    )
    r = rows(
      self.config,
      batch['tokens'],
      batch['token_counts'],
      jax.lax.stop_gradient(mel_BTM),
      frames_B * (batch['weights'] > 0),
    )
    draw_key, noise_key, chunk_key = jax.random.split(rng, 3)
    draw = matching.draw(
      draw_key,
      _FRAMES * r.steps_B,
      dropout=self.dropout,
      prefix_probability=self.prefix_probability,
      prefix_share=self.prefix_share,
    )
    chunk_B = self.chunks(chunk_key, len(frames_B))
    squares_B, counts_B = self.squares(
      variables,
      r,
      batch['speaker'],
      jax.random.normal(noise_key, r.mel_BTM.shape),
      draw,
      chunk_B,
    )
    total, weight = squares_B.sum(), counts_B.sum()
    metrics = {'loss': (total, weight)}
    for name, some_B in (('whole', chunk_B == 0), ('chunks', chunk_B > 0)):
      metrics[f'loss/{name}'] = (
        (squares_B * some_B).sum(),
        (counts_B * some_B).sum(),
      )
    return total, weight, metrics, {}

  def squares(
    self,
    variables: Any,
    batch: Rows,
    speaker_BE: jax.Array,
    noise_BTM: jax.Array,
    draw: matching.Draw,
    chunk_B: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Squared errors of each row, and how many numbers they are; both (B,).

    Args:
      variables: Of the model.
      batch: Ids and mel.
      speaker_BE: Speaker embeddings.
      noise_BTM: Standard normal.
      draw: What chance decided; prompts are rounded down to steps.
      chunk_B: Of `chunks`.
    """
    prefix_B = draw.prefix_B // _FRAMES
    segment_BS, both, mask_BT = chunk_masks(
      self.config,
      batch.ids_BS2.shape[1],
      batch.steps_B,
      prefix_B,
      chunk_B,
    )
    given_BT = jnp.arange(mask_BT.shape[1])[None] < _FRAMES * prefix_B[:, None]
    y_BTM, target_BTM = matching.interpolant(
      batch.mel_BTM, noise_BTM, draw.t_B, self.config.sigma
    )
    pred_BTM = causal_flow.CausalFlow(self.config).apply(
      variables,
      batch.ids_BS2,
      segment_BS,
      both,
      speaker_BE,
      jnp.where(given_BT[:, :, None], batch.mel_BTM, 0.0),
      y_BTM,
      draw.t_B,
      draw.keep_B,
    )
    return jax.vmap(matching.masked_loss)(
      pred_BTM[:, None], target_BTM[:, None], mask_BT[:, None]
    )

  def describe(self) -> dict[str, Any]:
    return {
      'decoder': 'causal-flow',
      'model': dataclasses.asdict(self.config),
      'mel': dataclasses.asdict(self.mel),
    }
