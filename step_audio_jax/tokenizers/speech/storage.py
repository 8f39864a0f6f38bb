"""Parameter trees as safetensors files, and batches of ragged waveforms."""

import os
from typing import Any, Mapping, Sequence

from flax import traverse_util
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from step_audio_jax import errors
from step_audio_jax.audio import levels
from step_audio_jax.audio.features import fbank
from step_audio_jax.storage import files
from step_audio_jax.storage import shards

# Widths grow by halves and rows by fours, so that few shapes are compiled.
_WIDTHS = (2, 3)
_ROWS = (1, 4, 16, 64)
_MAX_SAMPLES = 64 * 8 * 16000  # of a padded batch


def write_tree(path: str | os.PathLike, tree: Mapping[str, Any]) -> None:
  """Writes a tree of arrays as one safetensors file, atomically.

  Block by block: a large tree needs no second copy.
  """
  flat = traverse_util.flatten_dict(tree, sep='/')
  arrays = {name: np.asarray(v, np.float32) for name, v in flat.items()}
  shards.write_file(files.path(path), arrays)


def read_tree(
  path: str | os.PathLike, shapes: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads a tree of arrays and compares it with the shapes that it must have.

  Args:
    path: A file of `write_tree`.
    shapes: Tree of objects with a `shape`.

  Raises:
    UserError: The file is missing or broken, or an array is missing, has
      another shape or is not expected.
  """
  try:
    if files.is_address(path):
      flat = _in_order(files.read_bytes(path))
    else:
      with files.as_local(path) as name:
        flat = safetensors_numpy.load_file(name)
  except FileNotFoundError as error:
    raise errors.UserError(f'{path}: no such file.') from error
  except safetensors.SafetensorError as error:
    raise errors.UserError(
      f'{path}: not a whole safetensors file: {error}.'
    ) from error
  expected = traverse_util.flatten_dict(shapes, sep='/')
  for name in sorted(expected.keys() | flat.keys()):
    found = flat[name].shape if name in flat else 'nothing'
    wanted = expected[name].shape if name in expected else 'nothing'
    if found != wanted:
      raise errors.UserError(
        f'{path}: {name}: found {found}, expected {wanted}.'
      )
  return traverse_util.unflatten_dict(flat, sep='/')


def _in_order(raw: bytes) -> dict[str, np.ndarray]:
  """The arrays of a file in its own order, which the library forgets."""
  found = safetensors_numpy.load(raw)
  header = files.parsed(raw[8 : 8 + int.from_bytes(raw[:8], 'little')])
  return {name: found[name] for name in header if name in found}


def check_wave(wave, name: str) -> np.ndarray:
  """A waveform as float32 (S,).

  Raises:
    UserError: It is empty, not one-dimensional, not finite, or far beyond
      full scale.
  """
  wave = np.asarray(wave)
  if wave.ndim != 1 or not np.issubdtype(wave.dtype, np.floating):
    raise errors.UserError(
      f'{name}: found an array {wave.shape} of {wave.dtype}, expected mono '
      'floating-point samples (S,).'
    )
  if not wave.size:
    raise errors.UserError(f'{name}: 0 samples of audio, expected some.')
  if not np.isfinite(wave).all():
    raise errors.UserError(f'{name}: samples are not finite numbers.')
  levels.check_scale(wave, name)
  return wave.astype(np.float32)


def batches(waves: Sequence[np.ndarray], most_samples: int = _MAX_SAMPLES):
  """Padded batches of similar length.

  Args:
    waves: Samples (S,) each.
    most_samples: Of a padded batch, unless one row has more.

  Yields:
    (indices into `waves`, wave float32 (B, S), samples int32 (B,)); rows
    behind the indices are padding of length 0.
  """
  groups: dict[int, list[int]] = {}
  for index, wave in enumerate(waves):
    groups.setdefault(_width(len(wave)), []).append(index)
  for width, members in sorted(groups.items()):
    most = max((r for r in _ROWS if r * width <= most_samples), default=1)
    for begin in range(0, len(members), most):
      part = members[begin : begin + most]
      rows = next(r for r in _ROWS if r >= len(part))
      wave_BS = np.zeros((rows, width), np.float32)
      samples_B = np.zeros(rows, np.int32)
      for row, index in enumerate(part):
        wave_BS[row, : len(waves[index])] = waves[index]
        samples_B[row] = len(waves[index])
      yield part, wave_BS, samples_B


def _width(samples: int) -> int:
  """The smallest width that holds `samples`.

  2, 3, 4, 6 … 24 x 0.96 s, then 1, 1.5, 2, 3, 4 … x 30 s: a width just above 30
  s would cost the semantic encoder a whole window of padding.
  """
  short, long = 4 * fbank.CHUNK_SAMPLES, 125 * fbank.CHUNK_SAMPLES
  unit = short if samples <= 24 * short else long // 2
  scale = 1
  while True:
    for factor in _WIDTHS:
      if samples <= factor * scale * unit:
        return factor * scale * unit
    scale *= 2
