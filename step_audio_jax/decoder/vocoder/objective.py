"""What the HiFT vocoder minimises, for the training loop: two losses at once.

    generator       a Σ (1 − D(G))² + m · mel + f · features + t · relativistic
                      + p |f0 − tracked|
    discriminators  Σ (1 − D(x))² + D(G)² + t · relativistic

Least squares (LSGAN, arXiv 1611.04076), feature matching and mel distance as
in HiFi-GAN (arXiv 2010.05646); the truncated pointwise relativistic term as in
StyleTTS 2 (arXiv 2306.07691); weights 1, 45, 2, 1, 1 and τ = 0.04 as CosyVoice
trains this vocoder. Both losses are one sum of one forward pass: discriminators
are constant where the generator is judged, and the generator's wave is constant
where they are, so that the gradient of the sum is the gradient of each for its
own parameters. `training.optimizers.OptimizerGroups` steps them apart.

Batches come from `decoder.vocoder.feed.WaveFeed`: `wave` (B, S) with S = T ·
hop, `f0` (B, T), `weights` (B,), and the loop's `step`. The mel is computed in
the step.

Axes: B rows, S samples, T frames, M mel bands, N judged places.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.models.vocoder import discriminators as judges_lib
from step_audio_jax.models.vocoder import hift

_NAMES = ('adversarial', 'features', 'relativistic', 'discriminator')


def row_mean(x: jax.Array) -> jax.Array:
  """Mean over all but the rows, (B,)."""
  return x.mean(axis=tuple(range(1, x.ndim)))


def relativistic(
  above_BN: jax.Array, below_BN: jax.Array, limit: float
) -> jax.Array:
  """The truncated pointwise relativistic loss of each row, (B,).

    d = above − below,  m = median d;   min(limit, mean over d < m of (d − m)²)

  It pulls up the places where `above` is least above `below`. The median, over
  the places of a row, counts as a constant.
  """
  d_BN = above_BN - below_BN
  d_BN -= jax.lax.stop_gradient(jnp.median(d_BN, axis=1, keepdims=True))
  under = (d_BN < 0).astype(jnp.float32)
  squares_B = (jnp.square(d_BN) * under).sum(1)
  return jnp.minimum(squares_B / jnp.maximum(under.sum(1), 1.0), limit)


def for_generator(
  real: Sequence[judges_lib.DiscriminatorOutput],
  fake: Sequence[judges_lib.DiscriminatorOutput],
  limit: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Adversarial loss, feature distance and relativistic loss, (B,) each."""
  adversarial = features = relative = 0.0
  for true, made in zip(real, fake):
    adversarial += row_mean(jnp.square(1.0 - made.score))
    features += sum(
      row_mean(jnp.abs(a - b)) for a, b in zip(true.features, made.features)
    )
    relative += relativistic(made.score, true.score, limit)
  return adversarial, features, relative


def for_discriminators(
  real: Sequence[judges_lib.DiscriminatorOutput],
  fake: Sequence[judges_lib.DiscriminatorOutput],
  limit: float,
  weight: float,
) -> jax.Array:
  """What the judges minimise, (B,)."""
  total = 0.0
  for true, made in zip(real, fake):
    total += row_mean(jnp.square(1.0 - true.score))
    total += row_mean(jnp.square(made.score))
    if weight:
      total += weight * relativistic(true.score, made.score, limit)
  return total


@dataclasses.dataclass(frozen=True)
class VocoderGAN:
  """Trains `models.vocoder.hift.Hift` on waveforms.

  Attributes:
    config: Of the vocoder.
    mel: What the vocoder reads.
    discriminators: The judges; None trains without them, which is much faster
      and blurs what the mel does not tell.
    mels: Spectrograms whose distances are averaged; () is that of `mel`
      alone.
    adversarial_start: Steps before the judges are asked and learn.
    given_f0_steps: Steps in which the harmonic source gets the tracked F0;
      later, as in use, the predicted one. The source has no gradient for it.
    adversarial: Weight of the adversarial loss.
    feature_matching: Weight of the distance of the judges' features.
    mel_distance: Weight of the mean |log-mel difference|.
    relativistic: Weight of the relativistic loss, of both sides.
    relativistic_limit: τ, where it is cut off.
    f0: Weight of the mean |F0 difference| in Hz.
  """

  config: hift.HiftConfig
  mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel()
  discriminators: judges_lib.DiscriminatorConfig | None = (
    judges_lib.DiscriminatorConfig()
  )
  mels: tuple[vocoder_mel.VocoderMel, ...] = ()
  adversarial_start: int = 0
  given_f0_steps: int = 0
  adversarial: float = 1.0
  feature_matching: float = 2.0
  mel_distance: float = 45.0
  relativistic: float = 1.0
  relativistic_limit: float = 0.04
  f0: float = 1.0

  def __post_init__(self):
    object.__setattr__(self, 'mels', tuple(self.mels))
    for name in ('bands', 'hop', 'sample_rate'):
      found, wanted = getattr(self.mel, name), getattr(self.config, name)
      if found != wanted:
        raise errors.UserError(
          f"vocoder: the mel's {name} is {found}, expected {wanted}, the "
          "vocoder's."
        )
    for mel in self.mels:
      if mel.sample_rate != self.config.sample_rate:
        raise errors.UserError(
          f'vocoder: one of mels is of {mel.sample_rate} Hz, expected '
          f'{self.config.sample_rate}, the rate of the vocoder.'
        )
    for name in (
      *('adversarial_start', 'given_f0_steps', 'adversarial'),
      *('feature_matching', 'mel_distance', 'relativistic'),
      *('relativistic_limit', 'f0'),
    ):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f'vocoder: {name} is {getattr(self, name)}, expected at least 0.'
        )

  @property
  def model(self) -> hift.Hift:
    return hift.Hift(self.config)

  def init(self, rng, batch):
    generator_key, judges_key, noise_key = jax.random.split(rng, 3)
    wave_BS = batch['wave']
    mel_BTM, _ = vocoder_mel.vocoder_mel(wave_BS, None, self.mel)
    draws = self._draws(noise_key, mel_BTM.shape[:2])
    params = {
      'generator': self.model.init(generator_key, mel_BTM, *draws)['params']
    }
    if self.discriminators:
      judges = judges_lib.Discriminators(self.discriminators)
      params['discriminators'] = judges.init(judges_key, wave_BS)['params']
    return {'params': params}

  def loss(self, variables, batch, rng):
    params, wave_BS = variables['params'], batch['wave']
    fake_BS, f0_BT = self.generated(params['generator'], batch, rng)
    values = {
      'mel': self.mel_distances(wave_BS, fake_BS),
      'f0': row_mean(jnp.abs(f0_BT - batch['f0'])),
    }
    losses_B = self.mel_distance * values['mel'] + self.f0 * values['f0']
    judged = jnp.ones(())
    if self.discriminators:
      judged = batch['step'] >= self.adversarial_start
      values |= self._judged(params['discriminators'], wave_BS, fake_BS, judged)
      judged = judged.astype(jnp.float32)
      losses_B += (
        self.adversarial * values['adversarial']
        + self.feature_matching * values['features']
        + self.relativistic * values['relativistic']
      )
    total_B = losses_B + values.get('discriminator', 0.0)
    weights_B = batch['weights']
    weight = weights_B.sum()
    metrics = {'loss': ((losses_B * weights_B).sum(), weight)}
    for name, value_B in values.items():
      counts = weight * judged if name in _NAMES else weight
      metrics[f'loss/{name}'] = (value_B * weights_B).sum(), counts
    return (total_B * weights_B).sum(), weight, metrics, {}

  def generated(
    self, generator: Mapping[str, Any], batch: Mapping[str, Any], rng: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """What the vocoder makes of a batch's mels: wave (B, S) and F0 (B, T)."""
    mel_BTM, _ = vocoder_mel.vocoder_mel(batch['wave'], None, self.mel)
    mel_BTM = jax.lax.stop_gradient(mel_BTM)
    apply = self.model.apply
    variables = {'params': generator}
    f0_BT = apply(variables, mel_BTM, method='f0')
    used_BT = jax.lax.stop_gradient(f0_BT)
    if self.given_f0_steps:
      given = batch['step'] < self.given_f0_steps
      used_BT = jnp.where(given, batch['f0'], used_BT)
    source_BS = apply(
      variables, used_BT, *self._draws(rng, used_BT.shape), method='source'
    )
    return apply(variables, mel_BTM, source_BS, method='wave'), f0_BT

  def mel_distances(self, wave_BS: jax.Array, fake_BS: jax.Array) -> jax.Array:
    """Mean |log-mel difference| over bands, frames and `mels`, (B,)."""
    mels = self.mels or (self.mel,)
    total = 0.0
    for mel in mels:
      true, _ = vocoder_mel.vocoder_mel(wave_BS, None, mel)
      made, _ = vocoder_mel.vocoder_mel(fake_BS, None, mel)
      total += row_mean(jnp.abs(jax.lax.stop_gradient(true) - made))
    return total / len(mels)

  def _draws(self, key, shape):
    """Phases and noise of the source for F0 of a shape (B, T)."""
    phase_key, noise_key = jax.random.split(key)
    rows, frames = shape
    sines = self.config.harmonics + 1
    phase = jax.random.uniform(
      phase_key, (rows, sines), jnp.float32, -jnp.pi, jnp.pi
    )
    noise = jax.random.normal(
      noise_key, (rows, frames * self.config.hop, sines)
    )
    return phase, noise

  def _judged(self, params, wave_BS, fake_BS, judged):
    """What the judges say of both waves: {name: (B,)}; zeros before the start.

    The made wave is judged twice, by learning and by constant judges: the same
    numbers, which the compiler computes once, with different gradients.
    """
    judges = judges_lib.Discriminators(self.discriminators)
    stop = jax.lax.stop_gradient

    def run(params, wave_BS, fake_BS):
      def ask(params, wave):
        return judges.apply({'params': params}, wave)

      limit = self.relativistic_limit
      true = ask(params, wave_BS)
      learning = for_discriminators(
        true, ask(params, stop(fake_BS)), limit, self.relativistic
      )
      playing = for_generator(stop(true), ask(stop(params), fake_BS), limit)
      return dict(zip(_NAMES, (*playing, learning)))

    def none(params, wave_BS, fake_BS):
      del params, fake_BS
      return {name: jnp.zeros(len(wave_BS)) for name in _NAMES}

    if not self.adversarial_start:
      return run(params, wave_BS, fake_BS)
    return jax.lax.cond(judged, run, none, params, wave_BS, fake_BS)

  def describe(self):
    return {
      'decoder': 'vocoder',
      'model': dataclasses.asdict(self.config),
      'mel': dataclasses.asdict(self.mel),
    }
