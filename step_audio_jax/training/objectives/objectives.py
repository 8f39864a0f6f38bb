"""What a run minimises: small objects between a model and the loop.

The loop knows only the `Objective` protocol. Losses come as a sum and a
weight, so that gradient accumulation and sharding average exactly.

Axes: B rows, T tokens, V vocabulary.
"""

import dataclasses
from typing import Any, Mapping, NamedTuple, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.parallel import partition

# Places whose logits exist at a time: of all, and where few are learnt.
_PLACES, ANSWERS = 1024, 128
# Collection of parameters as a run started, for objectives that compare with
# them: filled from the `params` that it starts from, and never trained.
REFERENCE = 'reference'
PENDING = 'pending'  # what a step leaves for the next one; of no model
Batch = Mapping[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]


class Objective(Protocol):
  """What the loop needs to know of a model and its loss.

  One may have more: `flops`; `keeps_start`, whether `REFERENCE` is among its
  variables; `check_feed`, which refuses rows that it cannot learn of and says
  what it would pass over in others; and `arrange` with `survey`, what its loss
  asks of a whole batch before that is cut into microbatches
  (`step.accumulate_gradients`).
  """

  def init(self, rng: jax.Array, batch: Batch) -> dict[str, Any]:
    """Variables: 'params', boxed with logical axis names, and others."""

  def loss(
    self, variables: Mapping[str, Any], batch: Batch, rng: jax.Array
  ) -> tuple[jax.Array, jax.Array, Metrics, dict[str, Any]]:
    """(loss sum, weight, {metric: (sum, weight)}, changed collections)."""

  def describe(self) -> dict[str, Any]:
    """What a reader of the run needs to rebuild the model; JSON-able."""


class NextTokenLosses(NamedTuple):
  """Of each place of a batch of rows, all (B, T).

  Attributes:
    losses: Nats, float32.
    weights: Of each loss, float32.
    log_z: Log normaliser, float32.
    targets: The predicted ids, int32.
  """

  losses: jax.Array
  weights: jax.Array
  log_z: jax.Array
  targets: jax.Array


def compute_copy(params: Any, dtype: str) -> Any:
  """Matrices of the transformer in the dtype of its matmuls.

  Made before anything is gathered, so that half the bytes travel; norms,
  biases and the image encoder keep theirs.
  """

  def cast(path, leaf):
    names = [key.key for key in path]
    matrix = names[-1] in ('kernel', 'embedding', 'head')
    return leaf.astype(dtype) if matrix and 'transformer' in names else leaf

  return jax.tree_util.tree_map_with_path(cast, params)


class Predicted(NamedTuple):
  """What the places of a batch of rows predict.

  Attributes:
    hidden: Final hidden states (B, T, E).
    head: Rows (V, E) of the head.
    targets: The predicted ids, int32 (B, T).
    segments: Their segments, int32 (B, T); 0 where nothing is predicted.
    weights: Of their losses, float32 (B, T).
  """

  hidden: jax.Array
  head: jax.Array
  targets: jax.Array
  segments: jax.Array
  weights: jax.Array


def rows_of(batch: Batch) -> dict[str, jax.Array]:
  """Packed rows as the arguments of a model: segments, positions, images."""
  rows = {
    'segment_ids_BT': batch['segment_ids'],
    'positions_BT': batch['positions'],
  }
  if 'images' in batch:
    rows['images_BNHWC'] = batch['images']
    rows['image_slots_BN'] = batch['image_slots']
  return rows


def predicted(
  model: nn.Module, variables: Mapping[str, Any], batch: Batch
) -> Predicted:
  """Runs a model over packed rows, up to its head.

  Place t predicts place t + 1 of the same segment; the weight is that of the
  predicted place.

  Args:
    model: `models.language.speech_text.SpeechTextModel`, or one with its
      `features_and_head`.
    variables: Of the model.
    batch: tokens, segment_ids, positions int32 (B, T), loss_weights float32
      (B, T); with images, images uint8 (B, N, H, W, 3) and image_slots int32
      (B, N).
  """
  hidden_BTE, head_VE = model.apply(
    variables,
    batch['tokens'],
    method='features_and_head',
    **rows_of(batch),
  )
  # The last place predicts nothing, but keeps rows whole: T splits over a
  # mesh, T - 1 does not.
  targets, segments, weights = (
    jnp.roll(batch[name], -1, axis=1)
    for name in ('tokens', 'segment_ids', 'loss_weights')
  )
  last_1T = jnp.arange(targets.shape[1])[None] == targets.shape[1] - 1
  inside = (segments == batch['segment_ids']) & (segments > 0) & ~last_1T
  return Predicted(
    hidden_BTE,
    head_VE,
    targets,
    jnp.where(inside, segments, 0),
    weights * inside,
  )


def next_token_losses(
  model: nn.Module,
  variables: Mapping[str, Any],
  batch: Batch,
  *,
  z_loss: float = 0.0,
  answers: bool = False,
) -> tuple[jax.Array, NextTokenLosses]:
  """Negative log-likelihoods of packed rows, the logits never all at once.

  Args:
    model: As `predicted`, with `variables` and `batch`.
    variables: Of the model.
    batch: Packed rows.
    z_loss: Weight of log(normaliser)^2 in the sum.
    answers: Whether few places weigh anything: others get no logits, and
      losses of 0.

  Returns:
    (weighted sum, the losses of each place). Only the sum has a gradient.
  """
  found = predicted(model, variables, batch)
  total, losses, log_z = partition.cross_entropy(
    found.hidden,
    found.head,
    found.targets,
    found.weights,
    z_loss=z_loss,
    chunk=ANSWERS if answers else _PLACES,
    sparse=answers,
  )
  return total, NextTokenLosses(losses, found.weights, log_z, found.targets)


def check_table(
  model: nn.Module, vocabulary: vocabulary_lib.Vocabulary
) -> None:
  """Refuses a model whose table is not that of its vocabulary.

  Raises:
    UserError: They differ in rows.
  """
  rows = model.config.transformer.vocab_size
  if rows != vocabulary.table_size:
    raise errors.UserError(
      f'model: vocab_size is {rows}, expected {vocabulary.table_size}, '
      'the table size of the vocabulary.'
    )


@dataclasses.dataclass(frozen=True)
class NextToken:
  """Next-token prediction over text, speech and image rows.

  Attributes:
    model: Maps tokens, segment_ids_BT, positions_BT and optional images to
      logits.
    vocabulary: Says which ids are text, linguistic and semantic.
    z_loss: Weight of log(normaliser)^2, which keeps logits near zero.
    answers: Whether few places of a row weigh anything, as in task SFT: then
      only these get logits.
  """

  model: nn.Module
  vocabulary: vocabulary_lib.Vocabulary
  z_loss: float = 0.0
  answers: bool = settings.free(False)

  def __post_init__(self):
    check_table(self.model, self.vocabulary)

  def init(self, rng, batch):
    return self.model.init(rng, batch['tokens'][:1, :8])

  def loss(self, variables, batch, rng):
    del rng
    dtype = self.model.config.transformer.dtype
    variables = {
      **variables,
      'params': compute_copy(variables['params'], dtype),
    }
    total, place = next_token_losses(
      self.model,
      variables,
      batch,
      z_loss=self.z_loss,
      answers=self.answers,
    )
    weight = place.weights.sum()
    weighted = place.losses * place.weights
    metrics = {'loss': (weighted.sum(), weight)}
    for name, mask in modalities(self.vocabulary, place.targets).items():
      share = (weighted * mask).sum(), (place.weights * mask).sum()
      metrics[f'loss/{name}'] = share
    if self.z_loss:
      squares = jnp.square(place.log_z) * place.weights
      metrics['z_loss'] = (squares.sum(), weight)
    return total, weight, metrics, {}

  def flops(self, batch) -> float:
    """Model FLOPs of one training step on a batch of this shape."""
    rows, length = batch['tokens'].shape
    config = self.model.config.transformer
    return rows * length * config.flops_per_token(length)

  def describe(self):
    return described(self.model, self.vocabulary)


def described(
  model: nn.Module, vocabulary: vocabulary_lib.Vocabulary
) -> dict[str, Any]:
  """What rebuilds a language model and its ids; JSON-able."""
  return {
    'model': dataclasses.asdict(model.config),
    'vocabulary': vocabulary.describe(),
  }


def modalities(vocabulary, ids) -> dict[str, jax.Array]:
  """Masks of text, linguistic and semantic ids; those that can occur."""
  masks = {'text': vocabulary.is_text(ids)}
  if vocabulary.linguistic_size:
    masks['linguistic'] = vocabulary.is_linguistic(ids)
  if vocabulary.semantic_size:
    masks['semantic'] = vocabulary.is_semantic(ids)
  return masks
