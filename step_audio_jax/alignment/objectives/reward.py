"""A reward model: a score for each answer, learnt from pairs.

The score of a segment is what the model says at its last place, where all of
prompt and answer was seen (Ouyang et al., arXiv 2203.02155). It is trained as
Step-Audio's (arXiv 2502.11946, 5.2.3): from the SFT model, first on questions
in writing, then on spoken ones.
"""

import dataclasses

from flax import linen as nn
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment import losses
from step_audio_jax.alignment.objectives import pairs as pairs_lib
from step_audio_jax.generation import restore
from step_audio_jax.training.objectives import objectives


@dataclasses.dataclass(frozen=True)
class RewardModel:
  """Bradley-Terry over the pairs of packed rows.

  Attributes:
    model: `models.language.scoring.ScoringModel`, or one that maps the same
      rows to a score a place.
    vocabulary: Of the ids.
    margins: Whether a pair's `margins` say by how much the preferred answer
      has to be better.
    centring: Weight of the squared sum of a pair's scores, which holds their
      level near 0.
  """

  model: nn.Module
  vocabulary: vocabulary_lib.Vocabulary
  margins: bool = False
  centring: float = 0.0

  def __post_init__(self):
    objectives.check_table(self.model, self.vocabulary)
    if not self.centring >= 0:
      raise errors.UserError(
        f'reward: centring is {self.centring}, expected 0 or more.'
      )

  def check_feed(self, feed):
    return pairs_lib.check_whole(feed)

  def init(self, rng, batch):
    pairs_lib.check(batch)
    return self.model.init(rng, batch['tokens'][:1, :8])

  def scores(self, variables, batch):
    """Scores of both sides of all pairs, float32 (B, K, 2); 0 of none."""
    dtype = self.model.config.transformer.dtype
    params = objectives.compute_copy(variables['params'], dtype)
    scores_BT = self.model.apply(
      {**variables, 'params': params},
      batch['tokens'],
      **objectives.rows_of(batch),
    )
    segments_BT = batch['segment_ids']
    return pairs_lib.sums(
      jnp.where(pairs_lib.ends(segments_BT), scores_BT, 0.0),
      segments_BT,
      batch[pairs_lib.KEY],
    )

  def loss(self, variables, batch, rng):
    del rng
    pairs_BK2 = batch[pairs_lib.KEY]
    scores_BK2 = self.scores(variables, batch)
    losses_BK = losses.bradley_terry(
      scores_BK2[..., 0],
      scores_BK2[..., 1],
      batch[pairs_lib.MARGINS] if self.margins else 0.0,
      centring=self.centring,
    )
    both_BK = (pairs_BK2 > 0).all(-1).astype(jnp.float32)
    total, weight = (losses_BK * both_BK).sum(), both_BK.sum()
    metrics = pairs_lib.metrics('score', scores_BK2, pairs_BK2)
    return total, weight, {'loss': (total, weight), **metrics}, {}

  def flops(self, batch) -> float:
    """Model FLOPs of one training step on a batch of this shape."""
    rows, length = batch['tokens'].shape
    # The head has one row.
    config = dataclasses.replace(self.model.config.transformer, vocab_size=1)
    return rows * length * config.flops_per_token(length)

  def describe(self):
    return {
      **objectives.described(self.model, self.vocabulary),
      restore.SCORES: {'margins': self.margins, 'centring': self.centring},
    }
