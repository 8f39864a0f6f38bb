"""The semantic tokenizer: log-mel → S3 encoder → nearest codebook row.

25 Hz. The encoder sees a whole window at once, so long audio has to be cut:

* `pieces`, as Step-Audio does: 30 s (or what the positional table holds)
  without overlap; a last piece below 480 samples is dropped;
* `overlap`: windows of the same length that share 4 s with the next; codes
  come from the window in whose middle they lie.

Up to 30 s both are the same. A folder holds `config.json` and
`model.safetensors` (encoder and codebook). Axes: B rows, S samples, P windows,
T frames.
"""

import dataclasses
import os
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import log_mel
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import linguistic
from step_audio_jax.tokenizers.speech import storage

MODES = ('pieces', 'overlap')
PIECE_SAMPLES = 480_000
SHORTEST_PIECE = 480
SAMPLES_PER_CODE = 640
_OVERLAP = 2 / 15  # of a window; 4 s of 30 s


class SemanticTokenizer:
  """Waveforms → semantic codes.

  Attributes:
    config: Of the model.
    size: Number of codes.
    window: Samples of the longest window, 480,000 as released.
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
      params: Of `models.tokenizer.s3.S3Encoder`.
      codebook: (codes, width).
    """
    self.config, self.size = config, len(codebook)
    blocks = blocks_lib.unstack(params['blocks'], config.layers)
    self._arrays = {
      'params': jax.tree.map(jnp.asarray, {**params, 'blocks': blocks}),
      'codebook': jnp.asarray(codebook, jnp.float32),
    }
    codes_per_piece = min(PIECE_SAMPLES // SAMPLES_PER_CODE, config.positions)
    self.window = codes_per_piece * SAMPLES_PER_CODE
    self._half = max(1, round(codes_per_piece * _OVERLAP / 2))
    self._encode = jax.jit(self._traced, static_argnames='mode')

  def overlap(self, mode: str) -> int:
    """Samples that a window shares with the next.

    Raises:
      UserError: There is no such mode.
    """
    if mode not in MODES:
      raise errors.UserError(
        f'mode: found {mode!r}, expected one of {", ".join(MODES)}.'
      )
    return 2 * self._half * SAMPLES_PER_CODE if mode == 'overlap' else 0

  def count(self, samples: int) -> int:
    """Codes of a signal of `samples` in mode `pieces`."""
    whole, rest = divmod(samples, self.window)
    if rest < SHORTEST_PIECE:
      rest = 0
    codes = s3.code_count(log_mel.frame_count(rest))
    return whole * (self.window // SAMPLES_PER_CODE) + codes

  def encode_padded(
    self, wave_BS: np.ndarray, samples_B: np.ndarray, mode: str = 'pieces'
  ) -> tuple[jax.Array, jax.Array]:
    """Padded waveforms → codes, window by window.

    Returns:
      Codes int32 (B, P, T) and counts (B, P) for P windows; of each window
      only what the mode takes from it.

    Raises:
      UserError: There is no such mode.
    """
    self.overlap(mode)
    return self._encode(self._arrays, wave_BS, samples_B, mode=mode)

  def encode_windows(
    self,
    wave_BS: np.ndarray,
    samples_B: np.ndarray,
    gains_2B: np.ndarray,
    first_B: np.ndarray | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Windows of signals whose gains are known → all their codes.

    Args:
      wave_BS: At most `window` samples each.
      samples_B: Samples of each row.
      gains_2B: Of `audio.preparation.gains`.
      first_B: Positions of the rows' first codes in their window, by default
        0.

    Returns:
      Codes int32 (B, T) and their counts (B,).
    """
    codes_BPT, counts_BP = self._encode(
      self._arrays, wave_BS, samples_B, gains_2B, first_B, mode='pieces'
    )
    return codes_BPT[:, 0], counts_BP[:, 0]

  def _traced(
    self, arrays, wave_BS, samples_B, gains_2B=None, first_B=None, *, mode
  ):
    with jax.default_matmul_precision('highest'):
      rows, total = wave_BS.shape
      if gains_2B is None:
        wave_BS = preparation.normalise_energy(wave_BS, samples_B)
      else:
        wave_BS = preparation.scale(wave_BS, gains_2B)
      shared, size = self.overlap(mode), min(total, self.window)
      step = self.window - shared
      windows = max(1, -(-(total - shared) // step))
      right = max(0, (windows - 1) * step + size - total)
      wave_BS = jnp.pad(wave_BS, ((0, 0), (0, right)))
      parts = [wave_BS[:, p * step : p * step + size] for p in range(windows)]
      left_BP = samples_B[:, None] - np.arange(windows)[None, :] * step
      # What fits into the window before needs no window of its own.
      needed_BP = (left_BP > shared) | (np.arange(windows) == 0)[None, :]
      needed_BP &= left_BP >= SHORTEST_PIECE
      lengths_BP = jnp.where(needed_BP, jnp.clip(left_BP, 0, size), 0)
      mel_BTM, frames_B = log_mel.log_mel(
        jnp.stack(parts, axis=1).reshape(rows * windows, size),
        lengths_BP.reshape(-1),
      )
      hidden_BTD, counts_B = s3.S3Encoder(self.config).apply(
        {'params': arrays['params']}, mel_BTM, frames_B, first_B
      )
      codes_BT = s3.nearest_code(
        s3.l2_normalise(hidden_BTD), arrays['codebook']
      )
    codes_BPT = codes_BT.reshape(rows, windows, -1)
    counts_BP = counts_B.reshape(rows, windows)
    if not shared or windows == 1:
      return codes_BPT, counts_BP
    middle_BPT = jnp.roll(codes_BPT, -self._half, axis=2)
    first_1P1 = (np.arange(windows) == 0)[None, :, None]
    codes_BPT = jnp.where(first_1P1, codes_BPT, middle_BPT)
    later_1P = np.minimum(np.arange(windows), 1)[None, :]
    cut_BP = self._half * (later_1P + (left_BP > self.window))
    return codes_BPT, jnp.where(lengths_BP > 0, counts_BP - cut_BP, 0)

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the folder."""
    folder = files.path(folder)
    params = self._arrays['params']
    params = {**params, 'blocks': blocks_lib.stack(params['blocks'])}
    storage.write_tree(
      folder / 'model.safetensors', {**self._arrays, 'params': params}
    )
    files.write_json(folder / 'config.json', dataclasses.asdict(self.config))

  @classmethod
  def load(cls, folder: str | os.PathLike) -> 'SemanticTokenizer':
    """Reads a folder.

    Raises:
      UserError: A file is missing, broken or does not fit the others.
    """
    folder = files.path(folder)
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
