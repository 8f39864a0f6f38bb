"""Contrastive pretraining of the image encoder, on rows of images and captions.

The pairwise sigmoid loss of SigLIP (arXiv 2303.15343): every image of a batch
is asked of every caption whether they belong together. Captions that are equal
letter by letter count as belonging.

Axes: B rows, T tokens, N images a row, M = B * N.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import vocabulary as vocabulary_lib


def captions(batch) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Images of packed rows with the text of their segments.

  Returns:
    images (M, H, W, C) uint8, tokens (M, T) int32, and mask (M, T) float32
    that is one on the caption of each image, all zero where there is no image.
  """
  B, N = batch['image_slots'].shape
  T = batch['tokens'].shape[1]
  slots_BN = batch['image_slots']
  segment_BN = jnp.take_along_axis(
    batch['segment_ids'], jnp.maximum(slots_BN, 0), axis=1
  )
  words_BT = batch['tokens'] >= vocabulary_lib.CONTROL_SIZE
  mask_BNT = (
    (batch['segment_ids'][:, None, :] == segment_BN[:, :, None])
    & words_BT[:, None, :]
    & (slots_BN >= 0)[:, :, None]
  )
  tokens_BNT = jnp.broadcast_to(batch['tokens'][:, None, :], (B, N, T))
  images = batch['images'].reshape(B * N, *batch['images'].shape[2:])
  return (
    images,
    tokens_BNT.reshape(B * N, T),
    mask_BNT.reshape(B * N, T).astype(jnp.float32),
  )


@dataclasses.dataclass(frozen=True)
class ImageCaption:
  """Which caption goes with which image.

  Attributes:
    model: Maps (images, caption tokens, mask) to pair logits MM.
    vocabulary: Of the captions' ids; None if it is not known.
  """

  model: nn.Module
  vocabulary: vocabulary_lib.Vocabulary | None = None

  def init(self, rng, batch):
    return self.model.init(rng, *captions(batch))

  def loss(self, variables, batch, rng):
    del rng
    images, tokens, mask = captions(batch)
    logits_MM = self.model.apply(variables, images, tokens, mask)
    bags = jnp.zeros((len(mask), self.model.vocab_size))
    rows = jnp.broadcast_to(jnp.arange(len(mask))[:, None], mask.shape)
    bags = bags.at[rows, tokens].add(mask)
    here = mask.any(1)
    pair_MM = (here[:, None] & here[None, :]).astype(jnp.float32)
    same_MM = jnp.all(bags[:, None] == bags[None, :], axis=-1)
    losses = -jax.nn.log_sigmoid(jnp.where(same_MM, logits_MM, -logits_MM))
    images_seen = here.sum().astype(jnp.float32)
    best = jnp.where(pair_MM > 0, logits_MM, -jnp.inf).argmax(1)
    right = jnp.take_along_axis(same_MM, best[:, None], axis=1)[:, 0] & here
    total = (losses * pair_MM).sum() / jnp.maximum(images_seen, 1.0)
    metrics = {
      'loss': (total, jnp.ones(())),
      'caption_accuracy': (right.sum().astype(jnp.float32), images_seen),
    }
    return total, jnp.ones(()), metrics, {}

  def describe(self):
    told = {'vision': dataclasses.asdict(self.model.config)}
    if self.vocabulary is not None:
      told['vocabulary'] = self.vocabulary.describe()
    return told
