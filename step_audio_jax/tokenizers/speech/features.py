"""Waveform → network input, the same in training and in encoding.

Energy normalisation, then stacked filter banks with CMVN (linguistic) or
Whisper's log-mel (semantic). Axes: B rows, S samples, T frames, D features.
"""

import jax
import jax.numpy as jnp

from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import fbank
from step_audio_jax.audio.features import log_mel
from step_audio_jax.models.tokenizer import s3

# The smallest deviation that CMVN divides by: features that never move carry
# nothing that should be amplified.
_FLOOR = 1e-2


def linguistic(wave_BS: jax.Array, lengths_B: jax.Array):
  """Stacked filter banks before CMVN, (B, T, 560), and frame counts."""
  wave_BS = preparation.normalise_energy(wave_BS, lengths_B)
  return fbank.stacked_features(wave_BS, lengths_B)


def semantic(wave_BS: jax.Array, lengths_B: jax.Array):
  """Log-mel, (B, T, 128), and frame counts (100 Hz)."""
  wave_BS = preparation.normalise_energy(wave_BS, lengths_B)
  return log_mel.log_mel(wave_BS, lengths_B)


def frames(stream: str, samples):
  """Code frames of a stream ('linguistic' or 'semantic') for `samples`."""
  if stream == 'linguistic':
    return fbank.stacked_count(samples)
  return s3.code_count(log_mel.frame_count(samples))


def empty_moments(width: int) -> dict[str, jax.Array]:
  """Sums from which CMVN is computed; nothing counted yet."""
  return {
    'count': jnp.zeros(()),
    'sum': jnp.zeros((width,)),
    'square': jnp.zeros((width,)),
  }


def add_moments(moments, x_BTD: jax.Array, counts_B: jax.Array, weights_B):
  """Adds the valid frames of a batch; rows of weight zero do not count."""
  valid = jnp.arange(x_BTD.shape[1])[None, :] < counts_B[:, None]
  valid_BT1 = (valid & (weights_B > 0)[:, None])[:, :, None]
  x = jnp.where(valid_BT1, x_BTD, 0.0)
  return {
    'count': moments['count'] + valid_BT1.sum(),
    'sum': moments['sum'] + x.sum(axis=(0, 1)),
    'square': moments['square'] + jnp.square(x).sum(axis=(0, 1)),
  }


def shift_and_scale(moments) -> tuple[jax.Array, jax.Array]:
  """CMVN as `am.mvn` has it: negated mean, inverse standard deviation."""
  count = jnp.maximum(moments['count'], 1.0)
  mean = moments['sum'] / count
  variance = jnp.maximum(moments['square'] / count - jnp.square(mean), 0.0)
  return -mean, 1.0 / jnp.maximum(jnp.sqrt(variance), _FLOOR)
