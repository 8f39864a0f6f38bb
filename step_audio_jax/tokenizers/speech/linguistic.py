"""The linguistic tokenizer: streaming Paraformer frames → nearest centroid.

16.67 Hz. Offline encoding computes exactly what feeding 240 ms chunks would
(see `models.tokenizer.paraformer`), as Step-Audio does;
`tokenizers.speech.linguistic_stream` feeds them. A folder holds `config.json`,
`encoder.safetensors` (encoder and CMVN) and `centroids.npy`. Axes: B rows, S
samples, T frames, D width.
"""

import dataclasses
import os
import pathlib
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import fbank
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import codebook
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.speech import storage

State = dict[str, Any]


class LinguisticTokenizer:
  """Waveforms → linguistic codes.

  Attributes:
    config: Of the encoder.
    size: Number of centroids.
  """

  def __init__(
    self,
    config: paraformer.ParaformerConfig,
    params: Mapping[str, Any],
    cmvn: Mapping[str, np.ndarray],
    centroids: np.ndarray,
  ):
    """Holds the parts.

    Args:
      config: Of the encoder.
      params: Of `models.tokenizer.paraformer.SanmEncoder`.
      cmvn: `shift` and `scale`, each (input_size,).
      centroids: (K, width).

    Raises:
      UserError: The centroids do not fit the encoder.
    """
    centroids = np.asarray(centroids, np.float32)
    if centroids.ndim != 2 or centroids.shape[1] != config.width:
      raise errors.UserError(
        f'centroids: found shape {centroids.shape}, expected (codes, '
        f'{config.width}).'
      )
    self.config, self.size = config, len(centroids)
    blocks = blocks_lib.unstack(params['blocks'], config.layers - 1)
    self._arrays = {
      'params': jax.tree.map(jnp.asarray, {**params, 'blocks': blocks}),
      'shift': jnp.asarray(cmvn['shift']),
      'scale': jnp.asarray(cmvn['scale']),
      'centroids': jnp.asarray(centroids),
    }
    self._encode = jax.jit(self._traced)
    self._advance = jax.jit(self._traced_advance)

  def encode_padded(
    self, wave_BS: np.ndarray, samples_B: np.ndarray
  ) -> tuple[jax.Array, jax.Array]:
    """Padded waveforms → codes int32 (B, T) and their counts (B,)."""
    return self._encode(self._arrays, wave_BS, samples_B)[:2]

  def frames_padded(self, wave_BS: np.ndarray, samples_B: np.ndarray):
    """Padded waveforms → encoder frames (B, T, D) and their counts (B,)."""
    _, counts_B, hidden_BTD = self._encode(self._arrays, wave_BS, samples_B)
    return hidden_BTD, counts_B

  def begin(self, rows: int) -> State:
    """The state of `rows` streams; which begin, `advance` is told."""
    shapes = jax.eval_shape(lambda: self._initial(rows))
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

  def advance(
    self,
    state: State,
    wave_BS: np.ndarray,
    heard_B: np.ndarray,
    fresh_B: np.ndarray,
    gains_2B: np.ndarray,
  ) -> tuple[jax.Array, jax.Array, jax.Array, State]:
    """Goes on with streams by whole chunks of 240 ms; one shape, one program.

    Args:
      state: Of `begin` or of the call before.
      wave_BS: Float32 16 kHz samples, S a multiple of 3840.
      heard_B: Samples of each row. Fewer than S end its stream, and 0 leaves
        the row as it is.
      fresh_B: Whether a stream begins in the row.
      gains_2B: Of `audio.preparation.gains`.

    Returns:
      Codes int32 (B, T), their counts (B,), encoder frames (B, T, D) and the
      next state.
    """
    return self._advance(
      self._arrays, state, wave_BS, heard_B, fresh_B, gains_2B
    )

  def _initial(self, rows):
    return {
      'encoder': paraformer.init_cache(self.config, rows),
      'wave': jnp.zeros((rows, fbank.history())),
    }

  def _traced(self, arrays, wave_BS, samples_B):
    # Codes are decided by small distances: no reduced-precision matmuls.
    with jax.default_matmul_precision('highest'):
      x_BTF, counts_B = features.linguistic(wave_BS, samples_B)
      x_BTF = fbank.normalise(x_BTF, arrays['shift'], arrays['scale'])
      hidden_BTD = paraformer.SanmEncoder(self.config).apply(
        {'params': arrays['params']}, x_BTF, counts_B, method='windowed'
      )
      codes_BT = self._assign(arrays, hidden_BTD)
    return codes_BT, counts_B, hidden_BTD

  def _traced_advance(self, arrays, old, wave_BS, heard_B, fresh_B, gains_2B):
    with jax.default_matmul_precision('highest'):
      begun = self._initial(len(wave_BS))
      old = _select(fresh_B, begun, old)
      wave_BS = preparation.scale(wave_BS, gains_2B)
      wave_BS = jnp.concatenate([old['wave'], wave_BS], axis=1)
      first_B = old['encoder']['position'] == 1
      x_BTF, counts_B = fbank.streaming_features(wave_BS, heard_B, first_B)
      x_BTF = fbank.normalise(x_BTF, arrays['shift'], arrays['scale'])
      hidden_BTD, cache = paraformer.SanmEncoder(self.config).apply(
        {'params': arrays['params']},
        x_BTF,
        counts_B,
        old['encoder'],
        method='resume',
      )
      new = {'encoder': cache, 'wave': wave_BS[:, -begun['wave'].shape[1] :]}
      codes_BT = self._assign(arrays, hidden_BTD)
    return codes_BT, counts_B, hidden_BTD, _select(heard_B > 0, new, old)

  def _assign(self, arrays, hidden_BTD):
    flat = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
    codes, _ = codebook.assign(flat, arrays['centroids'])
    return codes.reshape(hidden_BTD.shape[:2])

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the folder."""
    folder, arrays = files.path(folder), self._arrays
    cmvn = {'shift': arrays['shift'], 'scale': arrays['scale']}
    params = dict(arrays['params'])
    params['blocks'] = blocks_lib.stack(params['blocks'])
    storage.write_tree(
      folder / 'encoder.safetensors', {'params': params, 'cmvn': cmvn}
    )
    with files.atomic(folder / 'centroids.npy') as handle:
      np.save(handle, np.asarray(arrays['centroids']))
    files.write_json(folder / 'config.json', dataclasses.asdict(self.config))

  @classmethod
  def load(cls, folder: str | os.PathLike) -> 'LinguisticTokenizer':
    """Reads a folder.

    Raises:
      UserError: A file is missing, broken or does not fit the others.
    """
    folder = files.path(folder)
    config = config_from(folder / 'config.json', paraformer.ParaformerConfig)
    tree = storage.read_tree(folder / 'encoder.safetensors', _shapes(config))
    path = folder / 'centroids.npy'
    try:
      with files.open_read(path) as handle:
        centroids = np.load(handle, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
      raise errors.UserError(
        f'{path}: cannot be read as an array: {error}.'
      ) from error
    return cls(config, tree['params'], tree['cmvn'], centroids)


def _select(chosen_B, one: State, other: State) -> State:
  """Row by row one state or the other; keys and values have layers first."""

  def pick(path, a, b):
    axis = 1 if path[-1].key in ('key', 'value') else 0
    shape = (1,) * axis + (-1,) + (1,) * (a.ndim - axis - 1)
    return jnp.where(chosen_B.reshape(shape), a, b)

  return jax.tree_util.tree_map_with_path(pick, one, other)


def config_from(path: pathlib.Path, kind):
  """A configuration dataclass from a JSON file.

  Raises:
    UserError: The file is missing, or its fields are not those of `kind`.
  """
  value = files.read_json(path)
  try:
    return kind(**value)
  except TypeError as error:
    raise errors.UserError(
      f'{path}: not a {kind.__name__}: {error}.'
    ) from error


def _shapes(config):
  boxed = jax.eval_shape(
    paraformer.SanmEncoder(config).init,
    jax.random.key(0),
    jnp.zeros((1, config.chunk, config.input_size)),
    jnp.ones((1,), jnp.int32),
  )
  row = jax.ShapeDtypeStruct((config.input_size,), jnp.float32)
  return {**nn.unbox(boxed), 'cmvn': {'shift': row, 'scale': row}}
