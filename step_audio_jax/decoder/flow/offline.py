"""The offline flow: mixed ids, a prompt and a voice in, log-mel out.

Tokens and frames are padded into buckets, so that few shapes are compiled;
padding changes nothing (`EstimatorConfig.padded`). The conditional and the
unconditional branch are one batch.

Axes: B rows, N tokens, T frames, M mel bands, S speaker embedding.
"""

import functools
import math
from typing import Any, Mapping, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.flow import matching
from step_audio_jax.models import blocks
from step_audio_jax.models.flow import flow as flow_lib


class Conditions(NamedTuple):
  """What the velocity depends on besides the point and the time.

  Attributes:
    mu_BTM: Encoded and stretched tokens.
    speaker_BM: Projected speaker.
    prompt_BTM: Mel of the prompt in its frames, else 0.
    mask_BT: Frames of the rows, bool.
  """

  mu_BTM: jax.Array
  speaker_BM: jax.Array
  prompt_BTM: jax.Array
  mask_BT: jax.Array


def conditions(
  model: flow_lib.Flow,
  variables: Mapping[str, Any],
  tokens_BN: jax.Array,
  tokens_B2: jax.Array,
  frames_B2: jax.Array,
  prompt_BTM: jax.Array,
  speaker_BS: jax.Array,
) -> Conditions:
  """Everything that is computed once for a sentence; traceable.

  Args:
    model: The flow.
    variables: Its variables.
    tokens_BN: Ids of the prompt, then of the target, int32.
    tokens_B2: How many of each, int32.
    frames_B2: Their mel frames, int32.
    prompt_BTM: Mel of the prompt; only its own frames count.
    speaker_BS: Speaker embeddings.
  """
  places_1T = jnp.arange(prompt_BTM.shape[1])[None]
  mask_BT = places_1T < frames_B2.sum(axis=1, keepdims=True)
  h_BNM = model.apply(
    variables, tokens_BN, tokens_B2.sum(axis=1), method='encode'
  )
  mu_BTM = model.apply(
    variables, h_BNM, tokens_B2, frames_B2, mask_BT, method='regulate'
  )
  given = places_1T < frames_B2[:, :1]
  return Conditions(
    mu_BTM,
    model.apply(variables, speaker_BS, method='voice'),
    jnp.where(given[:, :, None], prompt_BTM, 0.0),
    mask_BT,
  )


def velocity(
  model: flow_lib.Flow,
  variables: Mapping[str, Any],
  c: Conditions,
  x_BTM: jax.Array,
  t: jax.Array,
) -> jax.Array:
  """Velocities of the conditional rows, then of the unconditional ones."""

  def with_nothing(array):
    return jnp.concatenate([array, jnp.zeros_like(array)])

  return model.apply(
    variables,
    jnp.concatenate([x_BTM, x_BTM]),
    jnp.broadcast_to(t, 2 * len(x_BTM)),
    *map(with_nothing, c[:3]),
    jnp.concatenate([c.mask_BT, c.mask_BT]),
    method='velocity',
  )


@functools.partial(jax.jit, static_argnames=('model', 'steps'))
def sample(
  model,
  variables,
  noise_BTM,
  tokens_BN,
  tokens_B2,
  frames_B2,
  prompt_BTM,
  speaker_BS,
  *,
  steps,
):
  """Noise (B, T, M) → mel (B, T, M), the prompt's frames included.

  The other arguments are those of `conditions`.
  """
  c = conditions(
    model, variables, tokens_BN, tokens_B2, frames_B2, prompt_BTM, speaker_BS
  )

  def guided(x_BTM, t):
    return matching.apply_guidance(
      velocity(model, variables, c, x_BTM, t), model.config.guidance
    )

  start_BTM = noise_BTM
  if model.config.start == 'prior':
    start_BTM = start_BTM + c.mu_BTM
  return matching.euler(guided, start_BTM, steps)


class FlowDecoder:
  """The flow with its weights.

  Attributes:
    config: Shape.
    mel: What its frames are.
  """

  def __init__(
    self,
    config: flow_lib.FlowConfig,
    params: Mapping[str, Any],
    mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel(),
  ):
    """Holds the weights on the device.

    Raises:
      UserError: `mel` has other bands than the flow.
    """
    if mel.bands != config.estimator.bands:
      raise errors.UserError(
        f'flow: the mel has {mel.bands} bands, expected '
        f'{config.estimator.bands}, those of the flow.'
      )
    self.config, self.mel_config = config, mel
    self.params = params
    self._model = flow_lib.Flow(config)
    self._variables = {'params': _place_params(config, params)}

  def frames(self, tokens: int) -> int:
    """Mel frames that `tokens` ids give."""
    return self.config.frames(
      tokens, self.mel_config.sample_rate / self.mel_config.hop
    )

  def _places(self, width: int) -> int:
    """Ids that `width` frames come from, so that one width is one program."""
    rate = self.mel_config.sample_rate / self.mel_config.hop
    return bucket(math.ceil(width * self.config.token_rate / rate) + 1)

  def mel(
    self,
    tokens_n: Sequence[int],
    *,
    prompt_tokens: Sequence[int] = (),
    prompt_mel_TM: np.ndarray | None = None,
    speaker_D: np.ndarray,
    seed: int = 0,
    steps: int = 10,
    noise_TM: np.ndarray | None = None,
    width: int = 0,
  ) -> np.ndarray:
    """Log-mel of speech ids, without the prompt's part.

    Args:
      tokens_n: Mixed ids of what is to be said, each below the vocabulary.
      prompt_tokens: Mixed ids of a voice to continue.
      prompt_mel_TM: Its log-mel (T, M).
      speaker_D: Speaker embedding, of any length.
      seed: Of the noise.
      steps: Of the solver.
      noise_TM: Standard normal noise instead of the seed's, at least prompt
        and target frames long; the configured temperature scales both.
      width: Frames that are computed, at least, prompt and padding included:
        one number for many lengths is one program for them.

    Returns:
      Float32 (T, M).

    Raises:
      UserError: Ids, the prompt or the speaker do not fit the flow.
    """
    bands = self.config.estimator.bands
    ids = np.concatenate(
      [np.asarray(part, np.int32) for part in (prompt_tokens, tokens_n)]
    )
    if prompt_mel_TM is None:
      prompt_mel_TM = np.zeros((0, bands), np.float32)
    self._check(ids, tokens_n, prompt_tokens, prompt_mel_TM, speaker_D)
    given, wanted = len(prompt_mel_TM), self.frames(len(tokens_n))
    total = given + wanted
    width = bucket(max(total, width))
    places = max(self._places(width), bucket(len(ids)))
    tokens = np.zeros((1, places), np.int32)
    tokens[0, : len(ids)] = ids
    prompt = np.zeros((1, width, bands), np.float32)
    prompt[0, :given] = prompt_mel_TM
    noise = np.zeros((1, width, bands), np.float32)
    if noise_TM is None:
      noise_TM = prior_noise(seed, total, bands)
    noise[0, :total] = self.config.temperature * noise_TM[:total]
    mel = sample(
      self._model,
      self._variables,
      noise,
      tokens,
      np.array([[len(prompt_tokens), len(tokens_n)]], np.int32),
      np.array([[given, wanted]], np.int32),
      prompt,
      np.asarray(speaker_D, np.float32)[None],
      steps=steps,
    )
    return np.asarray(mel)[0, given:total]

  def _check(self, ids, tokens, prompt_tokens, prompt_mel, speaker):
    c, bands = self.config, self.config.estimator.bands
    wrong = np.flatnonzero((ids < 0) | (ids >= c.vocabulary))
    if wrong.size:
      raise errors.UserError(
        f'flow: id {ids[wrong[0]]} at place {wrong[0]}, expected 0..'
        f'{c.vocabulary - 1}.'
      )
    if not self.frames(len(tokens)):
      raise errors.UserError(
        f'flow: {len(tokens)} ids make no mel frame, expected some speech.'
      )
    if bool(len(prompt_tokens)) != bool(len(prompt_mel)):
      raise errors.UserError(
        f'flow: the prompt has {len(prompt_tokens)} ids and {len(prompt_mel)} '
        'mel frames; expected both or none.'
      )
    if prompt_mel.ndim != 2 or prompt_mel.shape[1] != bands:
      raise errors.UserError(
        f'flow: the prompt mel is {prompt_mel.shape}, expected (frames, '
        f'{bands}).'
      )
    if np.shape(speaker) != (c.speaker_size,):
      raise errors.UserError(
        f'flow: the speaker embedding is {np.shape(speaker)}, expected '
        f'({c.speaker_size},).'
      )
    for name, array in (('prompt mel', prompt_mel), ('speaker', speaker)):
      if not np.isfinite(array).all():
        raise errors.UserError(f'flow: the {name} has numbers not finite.')


def _place_params(config, params):
  """Parameters on the device, those of the middle stages apart."""
  estimator = dict(params['estimator'])
  estimator['middle'] = blocks.unstack(
    estimator['middle'], config.estimator.middle
  )
  return jax.tree.map(jnp.asarray, {**params, 'estimator': estimator})


def prior_noise(seed: int, frames: int, bands: int) -> np.ndarray:
  """Standard normal noise (T, M) of which a longer one is a continuation."""
  draws = np.random.Generator(np.random.Philox(seed))
  return draws.standard_normal((frames, bands), np.float32)


def bucket(count: int) -> int:
  """The next of 32, 36 … 64, 72 … 128, 144 … 256, from there in steps of 32."""
  unit = 4
  while count > 16 * unit and unit < 32:
    unit *= 2
  return max(32, -(-count // unit) * unit)
