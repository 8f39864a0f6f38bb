"""State dicts as PyTorch's `save` writes them, without PyTorch.

The opposite of `pickles`: a zip archive with `data.pkl`, an OrderedDict of
tensors in a fixed grammar of a dozen opcodes, and the raw numbers of each
tensor in a file of its own, unpacked and on a multiple of 64 bytes.
"""

import pathlib
import pickle
import struct
from typing import Mapping
import zipfile

import numpy as np

from step_audio_jax.storage import files

_ALIGNMENT = 64
_PADDING = 0x4246  # the extra field 'FB' of torch's own padding
_LOCAL_HEADER = 30  # bytes, before the name
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal arrays give equal files
_ORDERED_DICT = (
  pickle.GLOBAL
  + b'collections\nOrderedDict\n'
  + (pickle.EMPTY_TUPLE + pickle.REDUCE)
)


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes one float32 state dict, atomically, array by array."""
  with files.atomic(path) as handle, zipfile.ZipFile(handle, 'w') as archive:
    folder = files.path(path).stem
    _add(archive, f'{folder}/data.pkl', _pickled(arrays))
    _add(archive, f'{folder}/byteorder', b'little')
    for key, array in enumerate(arrays.values()):
      raw = np.ascontiguousarray(array, '<f4').reshape(-1).view(np.uint8)
      _add(archive, f'{folder}/data/{key}', raw.data)
    _add(archive, f'{folder}/version', b'3\n')


def _add(archive, name, raw):
  info = zipfile.ZipInfo(name, _EPOCH)
  # Padded in the header's extra field, so that the file can be mapped.
  start = archive.fp.tell() + _LOCAL_HEADER + len(name.encode()) + 4
  pad = -start % _ALIGNMENT
  info.extra = struct.pack('<HH', _PADDING, pad) + b'Z' * pad
  archive.writestr(info, raw)


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
  parts = [pickle.PROTO + b'\x02', _ORDERED_DICT, pickle.MARK]
  for key, (name, array) in enumerate(arrays.items()):
    parts += [_text(name), *_tensor(str(key), array.shape)]
  return b''.join([*parts, pickle.SETITEMS, pickle.STOP])


def _tensor(key, shape):
  """A call of torch's rebuild function on storage `key`, row-major."""
  size, strides = 1, []
  for length in reversed(shape):
    strides.insert(0, size)
    size *= length
  yield pickle.GLOBAL + b'torch._utils\n_rebuild_tensor_v2\n'
  yield pickle.MARK  # of the arguments
  yield pickle.MARK + _text('storage')
  yield pickle.GLOBAL + b'torch\nFloatStorage\n'
  yield _text(key) + _text('cpu') + _integer(size)
  yield pickle.TUPLE + pickle.BINPERSID
  yield _integer(0)  # offset
  for numbers in (shape, strides):
    yield pickle.MARK + b''.join(map(_integer, numbers)) + pickle.TUPLE
  yield pickle.NEWFALSE  # requires_grad
  yield _ORDERED_DICT  # no hooks
  yield pickle.TUPLE + pickle.REDUCE


def _text(value: str) -> bytes:
  raw = value.encode()
  return pickle.BINUNICODE + struct.pack('<I', len(raw)) + raw


def _integer(value: int) -> bytes:
  if value < 2**31:
    return pickle.BININT + struct.pack('<i', value)
  raw = value.to_bytes(8, 'little', signed=True)
  return pickle.LONG1 + bytes([len(raw)]) + raw
