"""Training of the speaker encoder: which of the known speakers is it?

    loss = −log softmax(s · [cos θ_y → cos(θ_y + m)])_y

additive angular margin (Deng et al., arXiv 1801.07698), with which CAM++ was
published. Step-Audio took a trained network; crops, schedule and sizes here are
this project's choice. Axes: B rows, N speakers.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from step_audio_jax import errors
from step_audio_jax.decoder.speaker import encoder
from step_audio_jax.models.speaker import campplus
from step_audio_jax.training.transfer import heads

KIND = 'speaker'


def with_margin(
  cosines_BN: jax.Array, labels_B: jax.Array, margin: jax.Array | float
) -> jax.Array:
  """Cosines, those of the true speakers at an angle larger by `margin`.

  Beyond θ = π − margin, where cos(θ + m) would rise again, a line goes on.
  """
  cos = jnp.clip(cosines_BN, -1.0 + 1e-6, 1.0 - 1e-6)
  sin = jnp.sqrt(1.0 - jnp.square(cos))
  turned = cos * jnp.cos(margin) - sin * jnp.sin(margin)
  beyond = cos - margin * jnp.sin(margin)
  turned = jnp.where(cos > -jnp.cos(margin), turned, beyond)
  true = jax.nn.one_hot(labels_B, cos.shape[1], dtype=bool)
  return jnp.where(true, turned, cosines_BN)


@dataclasses.dataclass(frozen=True)
class SpeakerAAM:
  """Speaker classification with an additive angular margin.

  Batches come from `decoder.speaker.feed.SpeakerFeed`.

  Attributes:
    config: Of the network.
    speakers: Names of the classes.
    margin: m, radians.
    scale: s.
    margin_steps: The margin grows from 0 over as many steps; from the start
      it would keep a fresh network from learning.
    noise: Standard deviation of the noise on the features.
  """

  config: campplus.CampplusConfig
  speakers: tuple[str, ...]
  margin: float = 0.2
  scale: float = 32.0
  margin_steps: int = 0
  noise: float = 0.0

  def __post_init__(self):
    object.__setattr__(self, 'speakers', tuple(self.speakers))
    if len(self.speakers) < 2:
      raise errors.UserError(
        f'speaker: {len(self.speakers)} speakers, expected at least 2.'
      )
    if not 0 <= self.margin < math.pi / 2:
      raise errors.UserError(
        f'speaker: margin is {self.margin}, expected 0 to below π / 2.'
      )
    if self.scale <= 0:
      raise errors.UserError(
        f'speaker: scale is {self.scale}, expected a positive number.'
      )

  @property
  def model(self) -> campplus.SpeakerClassifier:
    return campplus.SpeakerClassifier(self.config, len(self.speakers))

  def _features(self, batch):
    return encoder.features(batch['wave'], batch['samples'], self.config.bands)

  def init(self, rng, batch):
    return self.model.init(rng, *self._features(batch))

  def loss(self, variables, batch, rng):
    x_BTM, counts_B = self._features(batch)
    if self.noise:
      x_BTM += self.noise * jax.random.normal(rng, x_BTM.shape)
    weights_B, labels_B = batch['weights'], batch['speakers']
    cosines_BN, updates = self.model.apply(
      variables,
      x_BTM,
      jnp.where(weights_B > 0, counts_B, 0),
      mutable=['batch_stats'],
    )
    ramp = jnp.minimum(1.0, (batch['step'] + 1) / max(self.margin_steps, 1))
    logits_BN = self.scale * with_margin(
      cosines_BN, labels_B, self.margin * ramp
    )
    losses_B = optax.softmax_cross_entropy_with_integer_labels(
      logits_BN, labels_B
    )
    total, weight = (losses_B * weights_B).sum(), weights_B.sum()
    right_B = (cosines_BN.argmax(axis=-1) == labels_B).astype(jnp.float32)
    metrics = {
      'loss': (total, weight),
      'accuracy': ((right_B * weights_B).sum(), weight),
    }
    return total, weight, metrics, dict(updates)

  def heads(self) -> tuple[heads.Head, ...]:
    """What has an entry for each speaker."""
    return (heads.Head('params/directions', self.speakers, 'speakers', axis=0),)

  def describe(self) -> dict[str, Any]:
    return {
      'decoder': KIND,
      'model': dataclasses.asdict(self.config),
      'speakers': list(self.speakers),
    }
