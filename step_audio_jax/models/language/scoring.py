"""A speech-text model with a number in place of words: rewards and values.

The backbone is that of the language model, under the same names, so that a
checkpoint of one starts the other; the output table goes, and a projection onto
one number comes (Stiennon et al., arXiv 2009.01325).

Axes as in `speech_text`.
"""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.models.language import speech_text


class ScoringModel(speech_text.SpeechTextModel):
  """Tokens and images in, one score a place out."""

  def setup(self):
    c = self.config
    # Nothing is predicted, so there is no second table.
    backbone = dataclasses.replace(c.transformer, tied_head=True)
    self.transformer = speech_text.transformer.Transformer(backbone)
    if c.vision is not None:
      self.vision = speech_text.vision.VisionEncoder(c.vision)
      self.projector = speech_text.vision.Projector(c.transformer.width)
    self.score = nn.Dense(
      1,
      dtype=jnp.float32,
      # A tenth of the deviation of arXiv 2009.01325, E^-1/2: features are
      # normed, so scores begin near 0 and pairs nearly undecided.
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.variance_scaling(0.01, 'fan_in', 'normal'),
        ('embed', None),
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
    )

  def __call__(self, tokens_BT: jax.Array, **rows: jax.Array) -> jax.Array:
    """Scores of all places, float32 (B, T).

    Args:
      tokens_BT: Ids, int32.
      **rows: segment_ids_BT, positions_BT and images, as `SpeechTextModel`.
    """
    x_BTE, _ = self.features(tokens_BT, **rows)
    return self.score(x_BTE.astype(jnp.float32))[..., 0]
