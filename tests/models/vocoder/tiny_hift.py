"""A small vocoder with mild random weights, for tests."""

import dataclasses

import jax
import numpy as np

from step_audio_jax.decoder.vocoder import step
from step_audio_jax.models.vocoder import hift

TINY = hift.HiftConfig(
  bands=6,
  channels=16,
  sample_rate=2000,
  harmonics=2,
  upsample_rates=(4, 2),
  upsample_kernels=(8, 5),
  istft_fft=8,
  istft_hop=2,
  resblock_kernels=(3, 7),
  resblock_dilations=((1, 3), (1, 2)),
  source_resblock_kernels=(3, 7),
  source_resblock_dilations=((1, 3), (1, 3)),
  f0_channels=8,
)
CAUSAL = dataclasses.replace(TINY, causal=True, look_ahead=2)


def params(config, seed=0):
  """Weights that keep activations near one and magnitudes below the cut."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name, layer = path[-1].key, path[-2].key
    value = rng.standard_normal(leaf.shape).astype(np.float32)
    if name == 'alpha':
      return np.exp(0.3 * value)
    if layer == 'out':  # F0 of a voice, now and then none
      return 30 * value if name == 'kernel' else np.float32([120.0])
    if name == 'bias':
      return 0.1 * value
    return value / np.float32(np.sqrt(2 * np.prod(leaf.shape[:-1])))

  return jax.tree_util.tree_map_with_path(draw, step.shapes(config))


def mel(frames, bands=TINY.bands, seed=0):
  """Random frames (T, M)."""
  rng = np.random.default_rng(seed)
  return rng.standard_normal((frames, bands)).astype(np.float32)


def draws(config, frames, rows=1, seed=0):
  """Phases (B, H) and noise (B, S, H)."""
  rng = np.random.default_rng(seed)
  width = config.harmonics + 1
  phase = rng.uniform(-np.pi, np.pi, (rows, width)).astype(np.float32)
  noise = rng.standard_normal((rows, frames * config.hop, width), np.float32)
  return phase, noise
