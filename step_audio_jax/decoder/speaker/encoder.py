"""Who speaks: a recording at 16 kHz → one vector, by CAM++.

    fbank (Povey window, samples in [-1, 1]) − its mean over the utterance
      → CAM++ → (D,)

The vectors have any length; compare them by their cosine. Recordings beyond a
minute are cut into equal parts, whose vectors are averaged: this project's
choice, the network's memory grows with its input. Axes: B rows, S samples, T
frames, M mel bands, D the vector.
"""

import os
from typing import Any, Mapping, Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import levels
from step_audio_jax.audio.features import fbank
from step_audio_jax.models.speaker import campplus
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import storage

FILE = 'speaker.safetensors'
SHORTEST, LONGEST = 0.4, 60.0  # seconds
_MOST = 64 * fbank.SAMPLE_RATE  # samples of a padded batch


def front_end(bands: int) -> fbank.FrontEnd:
  """The filter banks that the network reads."""
  return fbank.FrontEnd(bands=bands, window='povey', scale=1.0)


def features(
  wave_BS: jax.Array, lengths_B: jax.Array, bands: int
) -> tuple[jax.Array, jax.Array]:
  """Filter banks less their mean over the row, (B, T, M), and frame counts."""
  x_BTM, counts_B = fbank.fbank(wave_BS, lengths_B, front_end(bands))
  total = x_BTM.sum(axis=1, keepdims=True)  # zero behind a row's end
  mean_B1M = total / jnp.maximum(counts_B, 1)[:, None, None]
  valid = jnp.arange(x_BTM.shape[1])[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, x_BTM - mean_B1M, 0.0), counts_B


class SpeakerEncoder:
  """Recordings → vectors that tell who speaks.

  Attributes:
    config: Of the network.
    params: Its variables: 'params' and 'batch_stats', float32.
  """

  def __init__(
    self, config: campplus.CampplusConfig, params: Mapping[str, Any]
  ):
    """Holds the network.

    Args:
      config: Shape.
      params: As `interop.decoder.campplus.params` gives them.
    """
    self.config = config
    self.params = jax.tree.map(jnp.asarray, dict(params))
    self._run = jax.jit(self._traced)

  def embed(self, wave_S: np.ndarray, name: str = 'voice') -> np.ndarray:
    """The vector of one recording, float32 (D,); see `embed_batch`."""
    return self.embed_batch([wave_S], [name])[0]

  def embed_batch(
    self, waves: Sequence[np.ndarray], names: Sequence[str] | None = None
  ) -> np.ndarray:
    """Vectors of recordings of any lengths.

    Args:
      waves: Mono float samples at 16 kHz (S,) each.
      names: What messages call them.

    Returns:
      Float32 (B, D), in order; each what the recording gives alone.

    Raises:
      UserError: A recording is empty, shorter than 0.4 s, silent, or not
        finite.
    """
    names = names or [f'waveform {i}' for i in range(len(waves))]
    pieces, owners = [], []
    for owner, (wave, name) in enumerate(zip(waves, names, strict=True)):
      wave = check_wave(wave, name)
      count = -(-len(wave) // int(LONGEST * fbank.SAMPLE_RATE))
      pieces += np.array_split(wave, count)
      owners += [owner] * count
    sums_BD = np.zeros((len(waves), self.config.embedding), np.float32)
    for part, wave_BS, samples_B in storage.batches(pieces, _MOST):
      vectors_BD = np.asarray(self._run(self.params, wave_BS, samples_B))
      for row, index in enumerate(part):
        sums_BD[owners[index]] += vectors_BD[row]
    counts_B = np.bincount(owners, minlength=len(waves)).astype(np.float32)
    return sums_BD / np.maximum(counts_B, 1.0)[:, None]

  def _traced(self, params, wave_BS, samples_B):
    with jax.default_matmul_precision('highest'):
      x_BTM, counts_B = features(wave_BS, samples_B, self.config.bands)
      return campplus.Campplus(self.config).apply(params, x_BTM, counts_B)

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the network's file into a folder; `config` is for its owner."""
    storage.write_tree(files.path(folder) / FILE, self.params)

  @classmethod
  def load(
    cls, config: campplus.CampplusConfig, folder: str | os.PathLike
  ) -> 'SpeakerEncoder':
    """The network of a folder.

    Raises:
      UserError: The file is missing, broken, or of another network.
    """
    path = files.path(folder) / FILE
    return cls(config, storage.read_tree(path, shapes(config)))


def shapes(config: campplus.CampplusConfig) -> dict[str, Any]:
  """The variables of the network, as shapes."""
  example = jax.ShapeDtypeStruct((1, 8, config.bands), jnp.float32)
  tree = nn.unbox(
    jax.eval_shape(campplus.Campplus(config).init, jax.random.key(0), example)
  )
  return {kind: tree[kind] for kind in ('params', 'batch_stats')}


def check_wave(wave_S: np.ndarray, name: str) -> np.ndarray:
  """A waveform in which someone may speak, float32 (S,).

  Raises:
    UserError: It is empty, too short, silent, not mono, or not finite.
  """
  wave_S = storage.check_wave(wave_S, name)
  seconds = len(wave_S) / fbank.SAMPLE_RATE
  if seconds < SHORTEST:
    raise errors.UserError(
      f'{name}: {seconds:.3f} s of audio, expected at least {SHORTEST} s to '
      'hear who speaks.'
    )
  if levels.is_silent(wave_S):
    raise levels.silence(name, 'a voice')
  return wave_S
