"""What the offline flow minimises, for the training loop.

    loss = masked |v(y_t, t, mu, speaker, prompt) − (x₁ − (1 − σ) x₀)|²
           + prior · masked |mu − x₁|²

x₀ is where the path begins: z, standard normal, or with `FlowConfig.start`
'prior' mu + temperature · z.

Conditions of a row are dropped together (probability 0.2), so that guidance has
an unconditional branch; half of the rows get up to 0.3 of their frames as a
prompt. As CosyVoice trains it, which Step-Audio's decoder is a variant of; the
second term is not theirs (Grad-TTS and Matcha-TTS have one like it): it shows
the encoder at once what it is for, and makes a run of minutes possible. For
the same reason biases begin at the mean of a recording's mel, and `Prior`
trains the encoder alone, at a third of a step's price.

Whether the estimator helps is seen in every step: from a point of the path it
says where the path ends, y_t + (1 − t) v, and where that is further from the
mel (`loss/estimate`, of the noisier half of the paths) than mu is
(`loss/prior`), sampling makes worse what the encoder knows.

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
  *,
  freeze_encoder: bool = False,
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
    freeze_encoder: Whether mu is taken as it is: no gradient, no dropout.
  """
  total = mel_BTM.shape[1]
  places_1T = jnp.arange(total)[None]
  mask_BT = places_1T < frames_B[:, None]
  counts_B1, wanted_B1 = token_counts_B[:, None], frames_B[:, None]
  if model.config.estimator.padded == 'in':
    counts_B1 = jnp.full_like(counts_B1, tokens_BN.shape[1])
    wanted_B1 = jnp.full_like(wanted_B1, total)
  encoder = model.clone(train=False) if freeze_encoder else model
  h_BNM = encoder.apply(
    variables, tokens_BN, token_counts_B, method='encode', rngs=rngs
  )
  mu_BTM = encoder.apply(
    variables, h_BNM, counts_B1, wanted_B1, mask_BT, method='regulate'
  )
  if freeze_encoder:
    mu_BTM = jax.lax.stop_gradient(mu_BTM)
  speaker_BM = model.apply(variables, speaker_BD, method='voice')
  given = places_1T < draw.prefix_B[:, None]
  prompt_BTM = jnp.where(given[:, :, None], mel_BTM, 0.0)
  start_BTM = noise_BTM
  if model.config.start == 'prior':
    # Where the path begins is given: the encoder does not move it.
    start_BTM = model.config.temperature * noise_BTM
    start_BTM += jax.lax.stop_gradient(mu_BTM)
  y_BTM, target_BTM = matching.interpolant(
    mel_BTM, start_BTM, draw.t_B, model.config.sigma
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
    freeze_encoder: Whether the encoder stays what `Prior` made of it. Its
      parameters need the multiplier 0 then, for they would decay.
  """

  config: flow_lib.FlowConfig
  mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel()
  dropout: float = 0.2
  prefix_probability: float = 0.5
  prefix_share: float = 0.3
  prior: float = 0.0
  freeze_encoder: bool = False

  def __post_init__(self):
    _check_bands(self.config, self.mel)
    for name in ('dropout', 'prefix_probability', 'prefix_share'):
      if not 0 <= getattr(self, name) <= 1:
        raise errors.UserError(
          f'flow: {name} is {getattr(self, name)}, expected 0 to 1.'
        )
    if self.prior < 0:
      raise errors.UserError(
        f'flow: prior is {self.prior}, expected at least 0.'
      )
    if self.prior and self.freeze_encoder:
      raise errors.UserError(
        f'flow: prior is {self.prior} and freeze_encoder True, expected one '
        'of them: an encoder that is frozen learns nothing.'
      )

  def init(self, rng, batch):
    mel_BTM, frames_B = _mel(batch, self.mel)
    variables = flow_lib.Flow(self.config).init(
      rng,
      batch['tokens'],
      batch['token_counts'],
      batch['speaker'],
      frames_B,
      mel_BTM,
      mel_BTM,
      jnp.zeros(len(mel_BTM)),
    )
    mean_M = _mean(mel_BTM, frames_B)
    params = _with_bias(variables['params'], ('regulator', 'out'), mean_M)
    if self.config.start == 'noise':
      # The mean velocity; from the prior it is 0.
      params = _with_bias(params, ('estimator', 'project'), mean_M)
    return {**variables, 'params': params}

  def loss(self, variables, batch, rng):
    mel_BTM, frames_B = _mel(batch, self.mel)
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
      freeze_encoder=self.freeze_encoder,
    )
    away, _ = matching.masked_loss(parts['mu'], mel_BTM, parts['mask'])
    metrics = {
      'loss': (total, weight),
      'loss/prior': (away, weight),
      **_by_time(parts, draw, weight / jnp.maximum(frames_B.sum(), 1)),
    }
    if self.prior:
      total += self.prior * away
    return total, weight, metrics, {}

  def warnings(self, metrics: Mapping[str, Any]) -> list[str]:
    """What is to be told of a run that ended with these metrics."""
    estimate, prior = (metrics.get(f'loss/{n}') for n in ('estimate', 'prior'))
    if estimate is None or prior is None or estimate <= prior:
      return []
    return [
      f'flow: what the estimator makes of noisy points is {estimate:.2f} from '
      f'the mel, what the encoder says alone {prior:.2f} (mean squares of '
      'log-mel): sampling makes worse what the encoder knows; train longer, '
      "or start from the prior (FlowConfig.start = 'prior')."
    ]

  def describe(self) -> dict[str, Any]:
    return {
      'decoder': 'flow',
      'model': dataclasses.asdict(self.config),
      'mel': dataclasses.asdict(self.mel),
    }


@dataclasses.dataclass(frozen=True)
class Prior:
  """Trains the encoder of a flow alone: masked |mu − x₁|².

  A flow starts from such a run by `init_from`, and draws its estimator anew.

  Attributes:
    config: Shape of the flow.
    mel: What its frames are.
  """

  config: flow_lib.FlowConfig
  mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel()

  def __post_init__(self):
    _check_bands(self.config, self.mel)

  def init(self, rng, batch):
    mel_BTM, frames_B = _mel(batch, self.mel)
    variables = flow_lib.Flow(self.config).init(
      rng,
      batch['tokens'],
      batch['token_counts'],
      frames_B,
      mel_BTM.shape[1],
      method='prior',
    )
    mean_M = _mean(mel_BTM, frames_B)
    params = _with_bias(variables['params'], ('regulator', 'out'), mean_M)
    return {**variables, 'params': params}

  def loss(self, variables, batch, rng):
    mel_BTM, frames_B = _mel(batch, self.mel)
    mu_BTM = flow_lib.Flow(self.config, train=True).apply(
      variables,
      batch['tokens'],
      batch['token_counts'],
      frames_B,
      mel_BTM.shape[1],
      method='prior',
      rngs={'dropout': rng},
    )
    mask_BT = jnp.arange(mel_BTM.shape[1])[None] < frames_B[:, None]
    total, weight = matching.masked_loss(mu_BTM, mel_BTM, mask_BT)
    return total, weight, {'loss': (total, weight)}, {}

  def describe(self) -> dict[str, Any]:
    return {
      'decoder': 'flow prior',
      'model': dataclasses.asdict(self.config),
      'mel': dataclasses.asdict(self.mel),
    }


def _check_bands(config, mel):
  if mel.bands != config.estimator.bands:
    raise errors.UserError(
      f'flow: the mel has {mel.bands} bands, expected '
      f'{config.estimator.bands}, those of the flow.'
    )


def _mel(batch, config):
  """Log-mel of a batch, and how many frames of each row count."""
  mel_BTM, frames_B = vocoder_mel.vocoder_mel(
    batch['wave'], batch['samples'], config
  )
  return jax.lax.stop_gradient(mel_BTM), frames_B * (batch['weights'] > 0)


def _mean(mel_BTM, frames_B):
  """The mean frame (M,)."""
  mask_BT = jnp.arange(mel_BTM.shape[1])[None] < frames_B[:, None]
  total_M = (mel_BTM * mask_BT[:, :, None]).sum((0, 1))
  return total_M / jnp.maximum(mask_BT.sum(), 1)


def _with_bias(params, path, value_M):
  """Boxed parameters with another bias in one layer."""
  outer, inner = path
  layer = params[outer][inner]
  layer = {**layer, 'bias': layer['bias'].replace_boxed(value_M)}
  return {**params, outer: {**params[outer], inner: layer}}


def _by_time(parts, draw, bands):
  """The loss of rows near the noise and near the mel, apart.

  And how far from the mel the noisier rows that see their conditions would
  end.
  """
  squares = jnp.square(parts['pred'] - parts['target']).sum(-1)
  squares_B = (squares * parts['mask']).sum(1)
  counts_B = parts['mask'].sum(1) * bands
  early_B = draw.t_B < 0.5
  seen_B = early_B & draw.keep_B
  left_B = jnp.square(1.0 - draw.t_B)
  return {
    f'loss/{name}': ((squares_B * chosen).sum(), (counts_B * counted).sum())
    for name, chosen, counted in (
      ('noisy', early_B, early_B),
      ('clean', ~early_B, ~early_B),
      ('estimate', seen_B * left_B, seen_B),
    )
  }
