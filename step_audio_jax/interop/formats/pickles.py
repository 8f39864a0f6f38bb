"""PyTorch checkpoints without PyTorch, and without running what is in them.

A `.pt` file is a zip archive: `NAME/data.pkl`, a pickle in which each tensor is
a call of a rebuild function on a numbered storage, and the raw storages
`NAME/data/0`, `NAME/data/1` … A pickle may name any function of any module and
call it; here it can name the few below only, and gets stand-ins for them that
merely note down offset, shape and strides.
"""

import collections
import math
import os
import pickle
from typing import Any, Mapping, NamedTuple
import zipfile
import zlib

import ml_dtypes
import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs

_STORAGES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
_LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_BROKEN = (
  *(AttributeError, EOFError, IndexError, KeyError, MemoryError),
  *(NotImplementedError, OverflowError, RuntimeError, TypeError, ValueError),
  *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)


# Stand-ins are immutable: a pickle may also set the state of what it has made.
class _Storage(NamedTuple):
  key: str
  dtype: np.dtype
  size: int


class Tensor(NamedTuple):
  """Where one tensor lies; `Checkpoint` reads it."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _RebuildTensor:
  __slots__ = ()

  def __call__(self, storage, offset, shape, strides, *_):
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(
      type(n) is int and n >= 0 for n in numbers
    ):
      raise pickle.UnpicklingError('a malformed tensor')
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
    beyond = math.prod(shape) and last >= storage.size
    if len(shape) != len(strides) or beyond:
      raise pickle.UnpicklingError('a tensor beyond its storage')
    return Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
  __slots__ = ()

  def __call__(self, tensor, *_):
    return tensor


_ALLOWED = {
  ('collections', 'OrderedDict'): collections.OrderedDict,
  ('torch._utils', '_rebuild_tensor'): _RebuildTensor(),
  ('torch._utils', '_rebuild_tensor_v2'): _RebuildTensor(),
  ('torch._utils', '_rebuild_parameter'): _RebuildParameter(),
}
_ALLOWED |= {('torch', name): name for name in _STORAGES}


class _Unpickler(pickle.Unpickler):
  """Knows nothing but `_ALLOWED`."""

  def __init__(self, handle, where):
    super().__init__(handle, encoding='utf-8')
    self._where = where

  def find_class(self, module, name):
    try:
      return _ALLOWED[module, name]
    except KeyError:
      raise errors.UserError(
        f'{self._where}: its pickle asks for {module}.{name}, expected '
        'nothing but tensors; none of it was run.'
      ) from None

  def persistent_load(self, reference):
    kind, dtype, key, _, size = reference
    if kind != 'storage' or not isinstance(key, str) or type(size) is not int:
      raise pickle.UnpicklingError('a malformed storage')
    return _Storage(key, np.dtype(_STORAGES[dtype]), size)


class Checkpoint(Mapping[str, np.ndarray]):
  """The tensors of a `.pt` file by name, read one at a time."""

  def __init__(self, path: str | os.PathLike):
    """Reads the names and shapes.

    Args:
      path: A state dict, alone or inside others (see `state.unwrapped`).

    Raises:
      UserError: No such file, of another format, cut, or its pickle wants
        more than tensors.
    """
    self._where = str(path)
    lfs.refuse_path(path)
    try:
      with files.open_read(path) as handle:
        start = handle.read(len(_LEGACY))
      with files.as_local(path) as name:
        self._zip = zipfile.ZipFile(name)
    except FileNotFoundError as error:
      raise errors.UserError(f'{path}: no such file.') from error
    except (OSError, zipfile.BadZipFile) as error:
      found = 'something else or cut short'
      if start == _LEGACY:
        found = 'the format before PyTorch 1.6; load it there and save it again'
      raise errors.UserError(
        f"{path}: expected a zip archive as PyTorch's save writes it, found "
        f'{found}.'
      ) from error
    self._folder, tree = self._unpickled()
    tree = state_lib.unwrap_state_dict(
      tree, lambda value: isinstance(value, Tensor), str(path)
    )
    self._tensors = {
      name: value for name, value in tree.items() if isinstance(value, Tensor)
    }

  def _unpickled(self) -> tuple[str, Any]:
    names = [n for n in self._zip.namelist() if n.endswith('/data.pkl')]
    if len(names) != 1:
      raise errors.UserError(
        f'{self._where}: found {len(names)} data.pkl in the archive, expected '
        'one.'
      )
    folder = names[0].removesuffix('data.pkl')
    order = f'{folder}byteorder'
    if order in self._zip.namelist() and self._zip.read(order) != b'little':
      raise errors.UserError(
        f'{self._where}: big-endian numbers, expected little-endian.'
      )
    try:
      with self._zip.open(names[0]) as handle:
        return folder, _Unpickler(handle, self._where).load()
    except errors.UserError:
      raise
    except _BROKEN as error:
      raise errors.UserError(
        f'{self._where}: its pickle is broken: {error}.'
      ) from error

  def shape(self, name: str) -> tuple[int, ...]:
    """Shape of a tensor, unread."""
    return self._tensors[name].shape

  def __getitem__(self, name: str) -> np.ndarray:
    """Reads a tensor.

    Raises:
      UserError: Its storage is missing, packed, or of another size.
    """
    tensor = self._tensors[name]
    storage = tensor.storage
    entry = f'{self._folder}data/{storage.key}'
    need = storage.size * storage.dtype.itemsize
    try:
      info = self._zip.getinfo(entry)
      if (info.file_size, info.compress_type) != (need, zipfile.ZIP_STORED):
        raise ValueError(f'{info.file_size} bytes, expected {need} as they are')
      flat = np.frombuffer(self._zip.read(entry), storage.dtype)
    except _BROKEN as error:
      raise errors.UserError(
        f'{self._where}: {name}: its storage {entry} is broken: {error}.'
      ) from error
    strides = [n * storage.dtype.itemsize for n in tensor.strides]
    # Within the storage: `_tensor` has checked it.
    return np.lib.stride_tricks.as_strided(
      flat[tensor.offset :], tensor.shape, strides, writeable=False
    )

  def __contains__(self, name: object) -> bool:
    return name in self._tensors  # without reading it

  def __iter__(self):
    return iter(self._tensors)

  def __len__(self):
    return len(self._tensors)
