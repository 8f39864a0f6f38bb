"""What the offline flow minimises, for the training loop.

    loss = masked |v(y_t, t, mu, speaker, prompt) − (x₁ − (1 − σ) z)|²
           + prior · masked |mu − x₁|²

Conditions of a row are dropped together (probability 0.2), so that guidance has
an unconditional branch; half of the rows get up to 0.3 of their frames as a
prompt. As CosyVoice trains it, which Step-Audio's decoder is a variant of; the
second term is not theirs (Grad-TTS and Matcha-TTS have one like it): it shows
the encoder at once what it is for, and makes a run of minutes possible.

Batches come from `decoder.flow.feed.FlowFeed`: `wave` (B, S) at the mel's rate,
`samples` (B,), `tokens` (B, N), `token_counts` (B,), `speaker` (B, D),
`weights` (B,). The mel is computed inside the step.
"""

import dataclasses
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.flow import matching
from step_audio_jax.models.flow import flow as flow_lib


def flow_loss(
  model: flow_lib.Flow,
  variables: Mapping[str, Any],
  tokens_BN: jax.Array,
  token_counts_B: jax.Array,
  mel_BTM: jax.Array,
  frames_B: jax.Array,
  speaker_BD: jax.Array,
  noise_BTM: jax.Array,
  draw: matching.Draw,
  rngs: Mapping[str, jax.Array] | None = None,
) -> tuple[tuple[jax.Array, jax.Array], dict[str, jax.Array]]:
  """Sum and weight of the loss, and what it was made from.

  With `padded='in'` the whole padded batch is stretched to the longest mel, as
  the original does: shorter rows are then not aligned to their own length.

  Args:
    model: The flow.
    variables: Its variables.
    tokens_BN: Mixed ids.
    token_counts_B: How many of them are real.
    mel_BTM: Log-mel.
    frames_B: Frames that are real.
    speaker_BD: Speaker embeddings.
    noise_BTM: Standard normal.
    draw: What chance decided.
    rngs: Key for 'dropout', if the model trains with it.
  """
  total = mel_BTM.shape[1]
  places_1T = jnp.arange(total)[None]
  mask_BT = places_1T < frames_B[:, None]
  counts_B1, wanted_B1 = token_counts_B[:, None], frames_B[:, None]
  if model.config.estimator.padded == 'in':
    counts_B1 = jnp.full_like(counts_B1, tokens_BN.shape[1])
    wanted_B1 = jnp.full_like(wanted_B1, total)
  h_BNM = model.apply(
    variables, tokens_BN, token_counts_B, method='encode', rngs=rngs
  )
  mu_BTM = model.apply(
    variables, h_BNM, counts_B1, wanted_B1, mask_BT, method='regulate'
  )
  speaker_BM = model.apply(variables, speaker_BD, method='voice')
  given = places_1T < draw.prefix_B[:, None]
  prompt_BTM = jnp.where(given[:, :, None], mel_BTM, 0.0)
  y_BTM, target_BTM = matching.interpolant(
    mel_BTM, noise_BTM, draw.t_B, model.config.sigma
  )
  keep = draw.keep_B.astype(jnp.float32)
  pred_BTM = model.apply(
    variables,
    y_BTM,
    draw.t_B,
    mu_BTM * keep[:, None, None],
    speaker_BM * keep[:, None],
    prompt_BTM * keep[:, None, None],
    mask_BT,
    method='velocity',
  )
  loss = matching.masked_loss(pred_BTM, target_BTM, mask_BT)
  return loss, {
    'y': y_BTM,
    'mu': mu_BTM,
    'speaker': speaker_BM,
    'prompt': prompt_BTM,
    'pred': pred_BTM,
    'target': target_BTM,
    'mask': mask_BT,
  }


@dataclasses.dataclass(frozen=True)
class FlowMatching:
  """Trains `models.flow.flow.Flow` on waveforms and their codes.

  Attributes:
    config: Shape of the flow.
    mel: What its frames are.
    dropout: Share of rows that lose all conditions.
    prefix_probability: Share of rows with a prompt.
    prefix_share: Longest prompt, of a row's frames.
    prior: Weight of the encoder's own distance to the mel; 0 as the original.
  """

  config: flow_lib.FlowConfig
  mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel()
  dropout: float = 0.2
  prefix_probability: float = 0.5
  prefix_share: float = 0.3
  prior: float = 0.0

  def __post_init__(self):
    if self.mel.bands != self.config.estimator.bands:
      raise errors.UserError(
        f'flow: the mel has {self.mel.bands} bands, expected '
        f'{self.config.estimator.bands}, those of the flow.'
      )
    for name in ('dropout', 'prefix_probability', 'prefix_share'):
      if not 0 <= getattr(self, name) <= 1:
        raise errors.UserError(
          f'flow: {name} is {getattr(self, name)}, expected 0 to 1.'
        )
    if self.prior < 0:
      raise errors.UserError(
        f'flow: prior is {self.prior}, expected at least 0.'
      )

  def init(self, rng, batch):
    mel_BTM, frames_B = vocoder_mel.vocoder_mel(
      batch['wave'], batch['samples'], self.mel
    )
    return flow_lib.Flow(self.config).init(
      rng,
      batch['tokens'],
      batch['token_counts'],
      batch['speaker'],
      frames_B,
      mel_BTM,
      mel_BTM,
      jnp.zeros(len(mel_BTM)),
    )

  def loss(self, variables, batch, rng):
    mel_BTM, frames_B = vocoder_mel.vocoder_mel(
      batch['wave'], batch['samples'], self.mel
    )
    mel_BTM = jax.lax.stop_gradient(mel_BTM)
    frames_B = frames_B * (batch['weights'] > 0)
    draw_key, noise_key, dropout_key = jax.random.split(rng, 3)
    draw = matching.draw(
      draw_key,
      frames_B,
      dropout=self.dropout,
      prefix_probability=self.prefix_probability,
      prefix_share=self.prefix_share,
    )
    (total, weight), parts = flow_loss(
      flow_lib.Flow(self.config, train=True),
      variables,
      batch['tokens'],
      batch['token_counts'],
      mel_BTM,
      frames_B,
      batch['speaker'],
      jax.random.normal(noise_key, mel_BTM.shape),
      draw,
      {'dropout': dropout_key},
    )
    metrics = {
      'loss': (total, weight),
      **_by_time(parts, draw, weight / jnp.maximum(frames_B.sum(), 1)),
    }
    if self.prior:
      away, _ = matching.masked_loss(parts['mu'], mel_BTM, parts['mask'])
      metrics['loss/prior'] = away, weight
      total += self.prior * away
    return total, weight, metrics, {}

  def describe(self) -> dict[str, Any]:
    return {
      'decoder': 'flow',
      'model': dataclasses.asdict(self.config),
      'mel': dataclasses.asdict(self.mel),
    }


def _by_time(parts, draw, bands):
  """The loss of rows near the noise and near the mel, apart."""
  squares = jnp.square(parts['pred'] - parts['target']).sum(-1)
  squares_B = (squares * parts['mask']).sum(1)
  counts_B = parts['mask'].sum(1) * bands
  early_B = draw.t_B < 0.5
  return {
    f'loss/{name}': ((squares_B * chosen).sum(), (counts_B * chosen).sum())
    for name, chosen in (('noisy', early_B), ('clean', ~early_B))
  }
