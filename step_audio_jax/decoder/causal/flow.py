"""The causal flow: mixed ids, a prompt and a voice in, log-mel out.

`CausalFlowDecoder` makes the mel of an utterance at once, with the chunks of a
stream or, `whole`, with the future in mask. `decoder.causal.stream` makes the
former live. Noise depends on the seed and the frame's number alone, so chunks
line up.

Axes: B rows, S steps of 40 ms, T = 2 S frames, M mel bands.
"""

from typing import Any, Mapping, Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.causal import layout
from step_audio_jax.decoder.causal import solver
from step_audio_jax.decoder.flow import offline as flow_lib
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.models.causal_flow import causal_flow

_FRAMES = causal_config.FRAMES_PER_STEP
# Steps before and behind a frame when the whole utterance is one chunk.
ALL = 1 << 20
# 24 kHz, as the published causal systems have it.
MEL = vocoder_mel.VocoderMel(sample_rate=24000, fft=1920, window=1920, hop=480)


class CausalFlowDecoder:
  """The causal flow with its weights.

  Attributes:
    config: Shape.
    mel_config: What its frames are.
    params: As given.
  """

  def __init__(
    self,
    config: causal_config.CausalFlowConfig,
    params: Mapping[str, Any],
    mel: vocoder_mel.VocoderMel = MEL,
  ):
    """Holds the weights on the device.

    Raises:
      UserError: `mel` has other bands or another rate than the flow.
    """
    check_mel(config, mel)
    self.config, self.mel_config, self.params = config, mel, params
    self.model = causal_flow.CausalFlow(config)
    self.variables = {'params': for_decoding(config, params)}

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
    whole: bool = False,
  ) -> np.ndarray:
    """Log-mel of speech ids, without the prompt's part.

    Args:
      tokens_n: Mixed ids of what is to be said, in whole groups.
      prompt_tokens: Mixed ids of a voice to continue, in whole groups.
      prompt_mel_TM: Its log-mel (T, M).
      speaker_D: Speaker embedding.
      seed: Of the noise.
      steps: Of the solver.
      noise_TM: Standard normal start instead of the seed's, of the prompt's
        frames (those that are used), then of the target's.
      whole: Whether every frame sees the whole utterance; else frames see
        what they see in a stream, and the mel is that of a stream.

    Returns:
      Float32 (T, M), two frames a step.

    Raises:
      UserError: Ids, the prompt or the speaker do not fit the flow.
    """
    c = self.config
    ids = layout.check_ids(tokens_n, c)
    layout.whole_groups(len(ids))
    if not len(ids):
      raise errors.UserError('tokens: found none, expected some speech.')
    prompt = layout.prompt(c, prompt_tokens, prompt_mel_TM, speaker_D)
    pairs = np.concatenate([prompt.ids_S2, layout.steps_of(ids, c)])
    given, total = len(prompt.ids_S2), len(pairs)
    S = flow_lib.bucket(total)
    place_S = np.arange(S, dtype=np.int32) - given
    bounds_S2 = np.zeros((S, 2), np.int32)
    bounds_S2[given:total] = layout.chunk_ends(c, total - given)
    first_S, end_S = bounds_S2[:, 0] - c.step_window, bounds_S2[:, 1]
    if whole:
      first_S, end_S = np.full((2, S), [[-ALL], [ALL]], np.int32)
    if noise_TM is None:
      noise_TM = np.concatenate(
        [
          prompt_noise(_FRAMES * given, c.bands),
          Noise(seed, c.bands).next(_FRAMES * (total - given)),
        ]
      )
    mel_BTM = solver.solve_utterances(
      self.model,
      self.variables,
      _filled(noise_TM[: _FRAMES * total], _FRAMES * S),
      _filled(pairs, S),
      _filled(np.where(place_S[:total] < 0, 1, 2).astype(np.int32), S),
      place_S[None],
      first_S[None],
      end_S[None],
      _filled(prompt.mel_TM, _FRAMES * S),
      prompt.speaker_E[None],
      steps=steps,
    )
    return np.asarray(mel_BTM)[0, _FRAMES * given : _FRAMES * total]


def for_decoding(
  config: causal_config.CausalFlowConfig, params: Mapping[str, Any]
) -> dict[str, Any]:
  """Parameters on the device, those of the blocks apart."""
  params = dict(params)
  for name, layers in (
    ('step_blocks', config.step_layers),
    ('frame_blocks', config.frame_layers),
    ('estimator_blocks', config.estimator_layers),
  ):
    blocks = blocks_lib.unstack(params[name]['blocks'], layers)
    params[name] = {'blocks': blocks}
  return jax.tree.map(jnp.asarray, params)


def shapes(config: causal_config.CausalFlowConfig) -> Any:
  """The parameters as shapes, to read a file of them."""
  boxed = jax.eval_shape(lambda: causal_flow.init(config, jax.random.key(0)))
  return nn.unbox(boxed)['params']


def check_mel(
  config: causal_config.CausalFlowConfig, mel: vocoder_mel.VocoderMel
) -> None:
  """Refuses a mel that is not the causal flow's.

  Raises:
    UserError: It has other bands, or frames that are not 20 ms.
  """
  if mel.bands != config.bands:
    raise errors.UserError(
      f'causal flow: the mel has {mel.bands} bands, expected {config.bands}, '
      'those of the flow.'
    )
  if mel.sample_rate != causal_config.FRAMES_PER_SECOND * mel.hop:
    raise errors.UserError(
      f'causal flow: the mel has a frame every {mel.hop} samples of '
      f'{mel.sample_rate} Hz, expected {causal_config.FRAMES_PER_SECOND} '
      'frames a second.'
    )


class Noise:
  """Standard normal frames in their order, whatever the pieces."""

  def __init__(self, seed: int, bands: int):
    self._source = np.random.Generator(np.random.Philox(seed))
    self._bands = bands

  def next(self, frames: int) -> np.ndarray:
    """The next frames, float32 (T, M)."""
    return self._source.standard_normal((frames, self._bands), np.float32)


def prompt_noise(frames: int, bands: int) -> np.ndarray:
  """Noise of a prompt, the same for all utterances that continue it."""
  return Noise(0, bands).next(frames)


def _filled(array, length):
  """One row with zeros behind it."""
  out = np.zeros((1, length, *array.shape[1:]), array.dtype)
  out[0, : len(array)] = array
  return out
