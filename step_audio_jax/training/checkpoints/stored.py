"""Arrays of a checkpoint on disk, read and written slice by slice.

`checkpoints` moves the state of a run between disk and devices. Here the host
looks into a checkpoint, or makes one, that its memory could not hold: Orbax
writes the tree with empty leaves, and TensorStore fills in the arrays.
"""

import math
from typing import Any, Callable, Iterator, Mapping

from flax import traverse_util
import numpy as np
import tensorstore as ts

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import lazy
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import remote
from step_audio_jax.training.checkpoints import sums

# A chunk is what one read or write moves.
CHUNK_BYTES = 32 * 2**20


class StoredArray(lazy.LazyArray):
  """One array of a checkpoint.

  Attributes:
    chunk: Shape of what is decoded together.
    chunk_bytes: Its size in memory.
    in_order: Whether entries of the first axis should be read one after the
      other, since large chunks hold several of them.
  """

  def __init__(self, store: ts.TensorStore):
    """Wraps an open TensorStore."""
    self._store = store
    self.shape = tuple(store.shape)
    self.dtype = np.dtype(store.dtype.numpy_dtype)
    self.chunk = tuple(store.chunk_layout.read_chunk.shape or self.shape)
    self.chunk_bytes = math.prod(self.chunk) * self.dtype.itemsize
    several = bool(self.chunk) and self.chunk[0] > 1
    self.in_order = several and self.chunk_bytes > CHUNK_BYTES

  def read(self, spans):
    return np.asarray(self._store[lazy.slices(spans)].read().result())


def open_variables(
  run_dir: files.Path, step: int | None = None, ema: bool = False
) -> tuple[dict[str, Any], int]:
  """As `checkpoints.load_variables`, with arrays that are not read yet.

  Raises:
    UserError: There is no such step, or it cannot be read, or it has no mean.
  """
  folder, step = checkpoints.step_folder(run_dir, step, ema)
  checkpoints.verify(folder, ema)
  variables = _open(folder / 'variables')
  if ema:
    variables['params'] = _open(folder / 'ema')
  return variables, step


def _open(folder: files.AnyPath) -> dict[str, Any]:
  """The arrays of one Orbax item, unread."""
  try:
    tree = files.parsed(files.read_text(folder / '_METADATA'))
    driver = 'zarr3' if tree.get('use_zarr3') else 'zarr'
    paths = [
      tuple(key['key'] for key in entry['key_metadata'])
      for entry in tree['tree_metadata'].values()
      if not entry['value_metadata'].get('skip_deserialize')
    ]
    leaves = _open_all(folder, paths, driver, CHUNK_BYTES)
    largest = max((leaf.chunk_bytes for leaf in leaves.values()), default=0)
    if largest > CHUNK_BYTES:
      # A chunk that holds many layers is decoded once, not once a layer.
      leaves = _open_all(folder, paths, driver, largest)
  except Exception as error:  # TensorStore raises many types for a cut file
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise errors.UserError(
      f'{folder}: cannot be read as a checkpoint: {reason}.'
    ) from error
  return traverse_util.unflatten_dict(leaves)


def _open_all(folder, paths, driver, cache_bytes):
  context = ts.Context({'cache_pool': {'total_bytes_limit': cache_bytes}})
  spec = {'driver': driver, 'recheck_cached_data': 'open'}
  waiting = {
    path: ts.open(
      {**spec, 'kvstore': _kvstore(folder, path)}, open=True, context=context
    )
    for path in paths
  }
  return {
    path: StoredArray(future.result()) for path, future in waiting.items()
  }


def write_variables(
  run_dir: files.Path,
  step: int,
  variables: Mapping[str, Any],
  told: Callable[[int], None] = lambda written: None,
) -> None:
  """Makes a checkpoint of `variables` alone, without optimizer.

  Args:
    run_dir: Gets `checkpoints/<step>`.
    step: Its number.
    variables: Nested dicts of arrays, lazy ones too.
    told: Called with the bytes of every written block.
  """
  flat = traverse_util.flatten_dict(dict(variables))
  empty = {path: np.zeros((), leaf.dtype) for path, leaf in flat.items()}
  store = checkpoints.Checkpoints(run_dir)
  store.save(step, traverse_util.unflatten_dict(empty), None, {'row': 0})
  store.close()
  folder = variables_folder(run_dir, step)
  for path, leaf in flat.items():
    if leaf.shape:
      _write(folder, path, leaf, told)
    else:
      ts.open({'driver': 'zarr', 'kvstore': _kvstore(folder, path)}).result()[
        ...
      ].write(np.asarray(leaf)).result()
  sums.write(folder.parent)


def _write(folder, path, leaf, told) -> None:
  first = next(_chunks(leaf))
  chunk = [part.stop - part.start for part in first]
  store = ts.open(
    {
      'driver': 'zarr',
      'kvstore': _kvstore(folder, path),
      'metadata': {
        'shape': list(leaf.shape),
        'chunks': chunk,
        'dtype': ts.dtype(np.dtype(leaf.dtype)).to_json()
        if np.dtype(leaf.dtype).name == 'bfloat16'
        else np.dtype(leaf.dtype).str,
        'compressor': {'id': 'zstd', 'level': 1},
        'fill_value': None,
        'filters': None,
        'order': 'C',
        'dimension_separator': '.',
        'zarr_format': 2,
      },
      'store_data_equal_to_fill_value': True,
    },
    create=True,
    delete_existing=True,
  ).result()
  pending = None
  for index in _chunks(leaf):
    block = np.asarray(leaf[index])
    # One chunk is read while the one before it is compressed and written.
    if pending is not None:
      pending.result()
    pending = store[index].write(block)
    told(block.nbytes)
  pending.result()


def _chunks(leaf) -> Iterator[tuple[slice, ...]]:
  return lazy.blocks(leaf, CHUNK_BYTES)


def variables_folder(run_dir: files.Path, step: int) -> files.AnyPath:
  """Where the parameters of a step lie."""
  return checkpoints.step_folder(run_dir, step)[0] / 'variables'


def _kvstore(folder, path):
  return {
    'driver': 'ocdbt',
    'base': remote.kvstore(folder),
    'path': '.'.join(path) + '/',
  }
