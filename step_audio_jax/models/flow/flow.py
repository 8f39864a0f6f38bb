"""Speech tokens → mel by flow matching: the network of CosyVoice-300M-25Hz.

    tokens → embedding → Conformer → projection → stretched to mel frames = mu
    dx/dt = U-Net(x, t, mu, speaker, prompt mel)          x(0) noise, x(1) mel

as Step-Audio-TTS-3B ships it: one embedding over the 5120 mixed ids in their
interleaved order (arXiv 2407.05407, 2502.11946). The solver and the loss are in
`decoder.flow.matching`.

Axes: B rows, N tokens, T frames, M mel bands, D encoder width, P parts.
"""

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.models import layers
from step_audio_jax.models.flow import encoder as flow_encoder
from step_audio_jax.models.flow import estimator as flow_estimator

EncoderConfig = flow_encoder.EncoderConfig
EstimatorConfig = flow_estimator.EstimatorConfig
STARTS = ('noise', 'prior')


@dataclasses.dataclass(frozen=True)
class FlowConfig:
  """Shape of the flow; the defaults are the released one's.

  Attributes:
    vocabulary: Ids of the embedding: 1024 linguistic, then 4096 semantic.
    input_width: Of the embedding.
    token_rate: Ids a second, from which the length of the mel follows: 5 in
      120 ms. The released `cosyvoice.yaml` says it; its text is not public.
    speaker_size: Of the speaker embedding that comes in.
    encoder: The Conformer.
    estimator: The U-Net; its `bands` are the mel's.
    regulator_layers: Convolutions behind the stretching, without the last.
    guidance: Of classifier-free guidance.
    sigma: Noise that is left at the end of the path.
    temperature: Of the noise that a mel begins from; below 1 a small flow
      speaks more plainly.
    start: Where the path to the mel begins: 'noise' as released, or 'prior',
      mu plus the noise, as in Grad-TTS (arXiv 2105.06337) and PriorGrad (arXiv
      2106.06406): an estimator of few steps then adds to what the encoder
      already knows instead of making it from nothing.
  """

  vocabulary: int = 5120
  input_width: int = 512
  token_rate: float = 125 / 3
  speaker_size: int = 192
  encoder: EncoderConfig = EncoderConfig()
  estimator: EstimatorConfig = EstimatorConfig()
  regulator_layers: int = 4
  guidance: float = 0.7
  sigma: float = 1e-6
  temperature: float = 1.0
  start: str = 'noise'

  def __post_init__(self):
    for name, kind in (
      ('encoder', EncoderConfig),
      ('estimator', EstimatorConfig),
    ):
      value = getattr(self, name)
      if isinstance(value, dict):  # as a `config.json` holds it
        object.__setattr__(self, name, kind(**value))
    errors.at_least_one(
      'flow', self, ('vocabulary', 'input_width', 'speaker_size')
    )
    if self.token_rate <= 0:
      raise errors.UserError(
        f'flow: token_rate is {self.token_rate}, expected ids a second.'
      )
    if self.temperature < 0:
      raise errors.UserError(
        f'flow: temperature is {self.temperature}, expected at least 0.'
      )
    if self.start not in STARTS:
      raise errors.UserError(
        f"flow: start is {self.start!r}, expected 'noise' or 'prior'."
      )

  def frames(self, tokens, frame_rate: float):
    """Mel frames of `tokens`, rounded down; ints or numpy integers."""
    # In doubles and in this order, as the original truncates it.
    return int(tokens / self.token_rate * frame_rate)


def interpolate_parts(
  h_BNM: jax.Array,
  tokens_BP: jax.Array,
  frames_BP: jax.Array,
  total: int,
) -> jax.Array:
  """Interpolates parts of a sequence, each to its own number of frames.

  Linear, with centres on half places, as torch's `interpolate`. Parts follow
  each other on both sides.

  Args:
    h_BNM: Sequences.
    tokens_BP: Places of each part, int32.
    frames_BP: Frames of each part, int32; 0 for a part that is not there.
    total: Frames T of the result; what is behind all parts is 0.
  """
  frame_1T = jnp.arange(total)[None]
  out = jnp.zeros((h_BNM.shape[0], total, h_BNM.shape[2]), h_BNM.dtype)
  token, frame = jnp.zeros((2, h_BNM.shape[0], 1), jnp.int32)
  for part in range(tokens_BP.shape[1]):
    tokens, frames = tokens_BP[:, part, None], frames_BP[:, part, None]
    # Place (f + 1/2) tokens / frames − 1/2 in whole numbers: as floats the
    # compiler may round it one way for the index and another for the share.
    whole = 2 * jnp.maximum(frames, 1)
    place = (2 * (frame_1T - frame) + 1) * tokens - frames
    place = jnp.clip(place, 0, whole * jnp.maximum(tokens - 1, 0))
    low = place // whole
    high = jnp.minimum(low + 1, jnp.maximum(tokens - 1, 0))
    share = (place % whole / whole).astype(h_BNM.dtype)[:, :, None]
    below, above = (
      jnp.take_along_axis(h_BNM, (token + index)[:, :, None], axis=1)
      for index in (low, high)
    )
    inside = (frame_1T >= frame) & (frame_1T < frame + frames)
    mixed = below * (1.0 - share) + above * share
    out = jnp.where(inside[:, :, None], mixed, out)
    token, frame = token + tokens, frame + frames
  return out


class LengthRegulator(nn.Module):
  """What smooths the stretched sequence: convolutions, norms over all, Mish."""

  layers: int
  padded: str

  @nn.compact
  def __call__(self, h_BTM, mask_BT):
    mask = mask_BT.astype(h_BTM.dtype)[:, :, None]
    out = self.padded == 'out'
    bands = h_BTM.shape[-1]
    for n in range(self.layers):
      h_BTM = h_BTM * mask if out else h_BTM
      h_BTM = flow_estimator.Conv(bands, name=f'conv{n}')(h_BTM)
      h_BTM = flow_estimator.GroupNorm(1, name=f'norm{n}')(
        h_BTM, mask if out else None
      )
      h_BTM = flow_estimator.mish(h_BTM)
    return flow_estimator.Conv(bands, kernel=1, name='out')(h_BTM) * mask


class Flow(nn.Module):
  """The parts of the flow.

  Attributes:
    config: Shape.
    train: Whether the encoder drops out.
  """

  config: FlowConfig
  train: bool = False

  def setup(self):
    c, bands = self.config, self.config.estimator.bands
    self.embedding = nn.Embed(
      c.vocabulary,
      c.input_width,
      embedding_init=nn.with_logical_partitioning(
        nn.initializers.normal(1.0), ('vocab', 'embed')
      ),
    )
    self.speaker = layers.dense(bands, ('embed', 'mlp'), None)
    self.encoder = flow_encoder.Encoder(c.encoder, self.train)
    self.project = layers.dense(bands, ('embed', 'mlp'), None)
    self.regulator = LengthRegulator(c.regulator_layers, c.estimator.padded)
    self.estimator = flow_estimator.Estimator(c.estimator)

  def encode(self, tokens_BN: jax.Array, counts_B: jax.Array) -> jax.Array:
    """Ids and their counts → projected vectors (B, N, M), not stretched yet.

    Negative ids count as id 0.
    """
    valid = jnp.arange(tokens_BN.shape[1])[None] < counts_B[:, None]
    x_BND = self.embedding(jnp.maximum(tokens_BN, 0))
    hidden = self.encoder(x_BND * valid[:, :, None], valid)
    return self.project(hidden)

  def voice(self, speaker_BS: jax.Array) -> jax.Array:
    """Speaker embeddings of any length → (B, M)."""
    norm = jnp.linalg.norm(speaker_BS, axis=-1, keepdims=True)
    return self.speaker(speaker_BS / jnp.maximum(norm, 1e-12))

  def regulate(self, h_BNM, tokens_BP, frames_BP, mask_BT) -> jax.Array:
    """Encoded parts, their tokens and frames → mu (B, T, M)."""
    total = mask_BT.shape[1]
    return self.regulator(
      interpolate_parts(h_BNM, tokens_BP, frames_BP, total), mask_BT
    )

  def prior(self, tokens_BN, counts_B, frames_B, total: int) -> jax.Array:
    """Ids, their counts and frames of whole utterances → mu (B, total, M)."""
    mask_BT = jnp.arange(total)[None] < frames_B[:, None]
    h_BNM = self.encode(tokens_BN, counts_B)
    return self.regulate(h_BNM, counts_B[:, None], frames_B[:, None], mask_BT)

  def velocity(
    self, x_BTM, t_B, mu_BTM, speaker_BM, condition_BTM, mask_BT
  ) -> jax.Array:
    """See `models.flow.estimator.Estimator`."""
    return self.estimator(
      x_BTM, t_B, mu_BTM, speaker_BM, condition_BTM, mask_BT
    )

  def __call__(
    self, tokens_BN, counts_B, speaker_BS, frames_B, condition_BTM, x_BTM, t_B
  ):
    """One velocity of whole utterances; what `init` traces."""
    mask_BT = jnp.arange(x_BTM.shape[1])[None] < frames_B[:, None]
    mu_BTM = self.prior(tokens_BN, counts_B, frames_B, x_BTM.shape[1])
    return self.velocity(
      x_BTM, t_B, mu_BTM, self.voice(speaker_BS), condition_BTM, mask_BT
    )


def shapes(config: FlowConfig) -> dict[str, Any]:
  """The parameters of `Flow`, as shapes."""
  counts = jax.ShapeDtypeStruct((1,), jnp.int32)
  mel = jax.ShapeDtypeStruct((1, 4, config.estimator.bands), jnp.float32)
  boxed = jax.eval_shape(
    Flow(config).init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 4), jnp.int32),
    counts,
    jax.ShapeDtypeStruct((1, config.speaker_size), jnp.float32),
    counts,
    mel,
    mel,
    jax.ShapeDtypeStruct((1,), jnp.float32),
  )
  return nn.unbox(boxed)['params']
