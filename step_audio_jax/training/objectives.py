"""What a run minimises: small objects between a model and the loop.

The loop knows only the `Objective` protocol. Losses come as a sum and a
weight, so that gradient accumulation and sharding average exactly.

Axes: B rows, T tokens, V vocabulary.
"""

import dataclasses
from typing import Any, Mapping, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib

Batch = Mapping[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]


class Objective(Protocol):
  """What the loop needs to know of a model and its loss."""

  def init(self, rng: jax.Array, batch: Batch) -> dict[str, Any]:
    """Variables: 'params', boxed with logical axis names, and others."""

  def loss(
    self, variables: Mapping[str, Any], batch: Batch, rng: jax.Array
  ) -> tuple[jax.Array, jax.Array, Metrics, dict[str, Any]]:
    """(loss sum, weight, {metric: (sum, weight)}, changed collections)."""

  def describe(self) -> dict[str, Any]:
    """What a reader of the run needs to rebuild the model; JSON-able."""


def next_token_losses(
  logits_BTV: jax.Array, batch: Batch
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Per-token negative log-likelihoods of packed rows.

  Place t predicts place t + 1 of the same segment; the weight is that of the
  predicted place.

  Returns:
    (loss, weight, log normaliser), each float32 (B, T - 1), in nats.
  """
  segments_BT = batch['segment_ids']
  targets = batch['tokens'][:, 1:]
  weights = batch['loss_weights'][:, 1:] * (
    (segments_BT[:, 1:] == segments_BT[:, :-1]) & (segments_BT[:, 1:] > 0)
  )
  logits = logits_BTV[:, :-1].astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return log_z - chosen, weights, log_z


@dataclasses.dataclass(frozen=True)
class NextToken:
  """Next-token prediction over text, speech and image rows.

  Attributes:
    model: Maps tokens, segment_ids_BT, positions_BT and optional images to
      logits.
    vocabulary: Says which ids are text, linguistic and semantic.
    z_loss: Weight of log(normaliser)^2, which keeps logits near zero.
  """

  model: nn.Module
  vocabulary: vocabulary_lib.Vocabulary
  z_loss: float = 0.0

  def __post_init__(self):
    rows = self.model.config.transformer.vocab_size
    if rows != self.vocabulary.table_size:
      raise errors.UserError(
        f'model: vocab_size is {rows}, expected {self.vocabulary.table_size}, '
        'the table size of the vocabulary.'
      )

  def init(self, rng, batch):
    return self.model.init(rng, batch['tokens'][:1, :8])

  def logits(self, variables, batch) -> jax.Array:
    """Logits BTV of a batch of rows."""
    images = {}
    if 'images' in batch:
      images = {
        'images_BNHWC': batch['images'],
        'image_slots_BN': batch['image_slots'],
      }
    return self.model.apply(
      variables,
      batch['tokens'],
      segment_ids_BT=batch['segment_ids'],
      positions_BT=batch['positions'],
      **images,
    )

  def loss(self, variables, batch, rng):
    del rng
    losses, weights, log_z = next_token_losses(
      self.logits(variables, batch), batch
    )
    weight = weights.sum()
    total = (losses * weights).sum()
    metrics = {'loss': (total, weight)}
    targets = batch['tokens'][:, 1:]
    for name, mask in modalities(self.vocabulary, targets).items():
      share = weights * mask
      metrics[f'loss/{name}'] = ((losses * share).sum(), share.sum())
    if self.z_loss:
      penalty = (jnp.square(log_z) * weights).sum()
      metrics['z_loss'] = (penalty, weight)
      total += self.z_loss * penalty
    return total, weight, metrics, {}

  def flops(self, batch) -> float:
    """Model FLOPs of one training step on a batch of this shape."""
    rows, length = batch['tokens'].shape
    config = self.model.config.transformer
    return rows * length * config.flops_per_token(length)

  def describe(self):
    return {
      'model': dataclasses.asdict(self.model.config),
      'vocabulary': {
        'text_model': getattr(self.vocabulary.text, 'path', None),
        'text_size': self.vocabulary.text_size,
        'table_size': self.vocabulary.table_size,
        'linguistic_size': self.vocabulary.linguistic_size,
        'semantic_size': self.vocabulary.semantic_size,
      },
    }


def modalities(vocabulary, ids) -> dict[str, jax.Array]:
  """Masks of text, linguistic and semantic ids; those that can occur."""
  masks = {'text': vocabulary.is_text(ids)}
  if vocabulary.linguistic_size:
    masks['linguistic'] = vocabulary.is_linguistic(ids)
  if vocabulary.semantic_size:
    masks['semantic'] = vocabulary.is_semantic(ids)
  return masks
