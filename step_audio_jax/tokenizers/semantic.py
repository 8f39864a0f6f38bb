"""The semantic tokenizer: log-mel → S3 encoder → nearest codebook row.

25 Hz. Audio is cut into pieces of 30 s (or what the positional table holds)
without overlap, and a piece below 480 samples is dropped, as Step-Audio does.
A folder holds `config.json` and `model.safetensors` (encoder and codebook).
"""

import dataclasses
import os
import pathlib
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import files
from step_audio_jax.audio import log_mel
from step_audio_jax.audio import preparation
from step_audio_jax.models import s3
from step_audio_jax.tokenizers import linguistic
from step_audio_jax.tokenizers import storage

PIECE_SAMPLES = 480_000
SHORTEST_PIECE = 480
_SAMPLES_PER_CODE = 640


class SemanticTokenizer:
  """Waveforms → semantic codes.

  Attributes:
    config: Of the model.
    size: Number of codes.
  """

  def __init__(
    self,
    config: s3.S3Config,
    params: Mapping[str, Any],
    codebook: np.ndarray,
  ):
    """Holds the parts.

    Args:
      config: Of the model.
      params: Of `models.s3.S3Encoder`.
      codebook: (codes, width).
    """
    self.config, self.size = config, len(codebook)
    self._arrays = {
      'params': jax.tree.map(jnp.asarray, dict(params)),
      'codebook': jnp.asarray(codebook, jnp.float32),
    }
    self._piece = min(PIECE_SAMPLES, config.positions * _SAMPLES_PER_CODE)
    self._encode = jax.jit(self._traced)

  def encode_padded(
    self, wave_BS: np.ndarray, samples_B: np.ndarray
  ) -> tuple[jax.Array, jax.Array]:
    """Padded waveforms → codes of their pieces.

    Returns:
      Codes int32 (B, P, T) and counts (B, P) for P pieces.
    """
    return self._encode(self._arrays, wave_BS, samples_B)

  def _traced(self, arrays, wave_BS, samples_B):
    with jax.default_matmul_precision('highest'):
      rows, total = wave_BS.shape
      wave_BS = preparation.normalise_energy(wave_BS, samples_B)
      pieces, size = -(-total // self._piece), min(total, self._piece)
      wave_BS = jnp.pad(wave_BS, ((0, 0), (0, pieces * size - total)))
      start_P = jnp.arange(pieces) * size
      lengths_BP = jnp.clip(samples_B[:, None] - start_P[None, :], 0, size)
      lengths_BP = jnp.where(lengths_BP < SHORTEST_PIECE, 0, lengths_BP)
      mel_BTM, frames_B = log_mel.log_mel(
        wave_BS.reshape(rows * pieces, size), lengths_BP.reshape(-1)
      )
      hidden_BTD, counts_B = s3.S3Encoder(self.config).apply(
        {'params': arrays['params']}, mel_BTM, frames_B
      )
      codes_BT = s3.nearest(s3.unit(hidden_BTD), arrays['codebook'])
    return (
      codes_BT.reshape(rows, pieces, -1),
      counts_B.reshape(rows, pieces),
    )

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the folder."""
    folder = pathlib.Path(folder)
    storage.write_tree(folder / 'model.safetensors', self._arrays)
    files.write_json(folder / 'config.json', dataclasses.asdict(self.config))

  @classmethod
  def load(cls, folder: str | os.PathLike) -> 'SemanticTokenizer':
    """Reads a folder.

    Raises:
      UserError: A file is missing, broken or does not fit the others.
    """
    folder = pathlib.Path(folder)
    config = linguistic.config_from(folder / 'config.json', s3.S3Config)
    boxed = jax.eval_shape(
      s3.S3Encoder(config).init,
      jax.random.key(0),
      jnp.zeros((1, 4, config.bands)),
      jnp.ones((1,), jnp.int32),
    )
    table = jax.ShapeDtypeStruct((config.codes, config.width), jnp.float32)
    tree = storage.read_tree(
      folder / 'model.safetensors', {**nn.unbox(boxed), 'codebook': table}
    )
    return cls(config, tree['params'], tree['codebook'])
