"""Folders of safetensors files, read and written slice by slice.

A safetensors file is an 8-byte length, a JSON header (name → dtype, shape, byte
range) and raw little-endian data, so a slice can be read without the rest and
nothing in it can be executed. A model of several files has an index, which
says which file holds which tensor. Files come from strangers: every number of
a header is checked before it is used.
"""

import contextlib
import json
import math
import os
import pathlib
import struct
from typing import Any, Callable, Mapping

import ml_dtypes
import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import lazy
from step_audio_jax.storage import lfs

INDEX = 'model.safetensors.index.json'
DTYPES = {
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
# The format's own bound on headers.
_MAX_HEADER = 100_000_000
_BLOCK = 32 * 2**20
# Of what is read out of a bucket: several are in flight.
_RANGE = 8 * 2**20


class Tensor(lazy.LazyArray):
  """One tensor of a safetensors file.

  Attributes:
    file: Where it lies.
    name: Its name there.
  """

  def __init__(
    self, file: files.AnyPath, name: str, code, shape, begin: int, ranged=None
  ):
    """The tensor at byte `begin` of `file`.

    Args:
      file: See above.
      name: See above.
      code: Of its dtype.
      shape: Of all of it.
      begin: Where it begins.
      ranged: The file, open for ranges (`files.ranged`), if it lies in a
        bucket: all of its tensors share it. None maps it.
    """
    self.file, self.name = file, name
    self.shape, self.dtype = tuple(shape), DTYPES[code]
    self._begin = begin
    self._ranged = ranged

  def read(self, spans):
    if not self.size:
      return np.zeros([stop - start for start, stop in spans], self.dtype)
    if self._ranged is not None:
      return self._read_ranges(spans)
    # Mapped for one read only: pages of many maps would pile up.
    mapped = np.memmap(
      self.file, self.dtype, 'r', offset=self._begin, shape=self.shape or (1,)
    )
    block = mapped[lazy.slices(spans)] if self.shape else mapped[0]
    return np.array(block, copy=True)

  def _read_ranges(self, spans):
    """The same out of a bucket, where nothing is mapped.

    What is asked for is nearly always whole but for its first axis, and so one
    run of bytes; of other slices the rows around them are read, too.
    """
    (start, stop), *rest = spans or [(0, 1)]
    row = self.dtype.itemsize * math.prod(self.shape[1:])
    begin, end = self._begin + start * row, self._begin + stop * row
    cuts = [*range(begin, end, _RANGE), end]
    raw = b''.join(self._ranged.read_many(list(zip(cuts, cuts[1:]))))
    block = np.frombuffer(raw, self.dtype).reshape(-1, *self.shape[1:])
    block = block[(slice(None), *lazy.slices(rest))]
    return np.array(block if self.shape else block[0], copy=True)


def read_header(path: files.AnyPath) -> dict[str, Tensor]:
  """The tensors of one file, unread.

  Raises:
    UserError: The file is cut or malformed, or holds another dtype than
      float32, float16 and bfloat16.
  """
  lfs.refuse_path(path)
  try:
    ranged = files.ranged(path)
    with contextlib.closing(ranged):
      size = ranged.size
      start = ranged.read(0, min(8, size))
      length = struct.unpack('<Q', start)[0] if len(start) == 8 else size
      if length > min(size - 8, _MAX_HEADER):
        raise errors.UserError(
          f'{path}: found no safetensors header; the file is cut or is '
          'something else.'
        )
      text = ranged.read(8, 8 + length)
    header = files.parsed(text, object_pairs_hook=_without_repeats)
    if not isinstance(header, dict):
      raise ValueError('not an object')
  except OSError as error:
    raise errors.UserError(
      f'{path}: cannot be read ({error.strerror}).'
    ) from error
  except errors.UserError:
    raise
  except ValueError as error:
    raise errors.UserError(
      f'{path}: the safetensors header is not valid JSON ({error}).'
    ) from error
  if not files.is_address(path):
    ranged = None
  header.pop('__metadata__', None)
  found, ranges = {}, []
  for name, entry in header.items():
    found[name], span = _tensor(path, name, entry, 8 + length, size, ranged)
    ranges.append((span, name))
  end = 0
  for (first, last), name in sorted(ranges):
    if first < end:
      raise errors.UserError(
        f'{path}: tensor {name!r} lies over the bytes of another tensor.'
      )
    end = last
  return found


def _tensor(path, name, entry, data, size, ranged):
  try:
    code, shape = entry['dtype'], entry['shape']
    first, last = entry['data_offsets']
    numbers = [first, last, *shape]
    if not all(type(n) is int and n >= 0 for n in numbers):
      raise TypeError
  except (KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'{path}: the header entry of tensor {name!r} is malformed.'
    ) from error
  if code not in DTYPES:
    raise errors.UserError(
      f'{path}: tensor {name!r} has dtype {code}, expected one of '
      f'{", ".join(DTYPES)}.'
    )
  need = math.prod(shape) * DTYPES[code].itemsize
  if last - first != need or data + last > size:
    raise errors.UserError(
      f'{path}: tensor {name!r} of shape {tuple(shape)} needs {need} bytes, '
      f'found {max(0, min(last, size - data) - first)}; the file is cut or '
      'malformed.'
    )
  tensor = Tensor(path, name, code, shape, data + first, ranged)
  return tensor, (first, last)


def _without_repeats(pairs):
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError('a name stands twice')
  return found


def read_folder(folder: str | os.PathLike) -> dict[str, Tensor]:
  """The tensors of a folder, unread: of its index, or of all its files.

  Raises:
    UserError: There is no safetensors file, the index names a file outside
      the folder, or index and files disagree.
  """
  folder = files.path(folder)
  index = folder / INDEX
  if files.is_file(index):
    return _indexed(folder, index)
  paths = sorted(files.glob(folder, '*.safetensors'))
  whole = folder / 'model.safetensors'
  paths = [whole] if whole in paths else paths
  if not paths:
    others = sorted(
      path.name
      for ending in ('*.bin', '*.pt', '*.pth')
      for path in files.glob(folder, ending)
    )
    found = f'found {others[0]}, which is a pickle' if others else 'found none'
    raise errors.UserError(f'{folder}: {found}; expected *.safetensors files.')
  tensors: dict[str, Tensor] = {}
  for path in paths:
    for name, tensor in read_header(path).items():
      if name in tensors:
        raise errors.UserError(
          f'{path}: tensor {name!r} is in {tensors[name].file.name} as well.'
        )
      tensors[name] = tensor
  return tensors


def _indexed(folder, index):
  table = files.read_json(index)
  table = table.get('weight_map') if isinstance(table, dict) else None
  if not isinstance(table, dict) or not table:
    raise errors.UserError(f'{index}: found no "weight_map".')
  for name, file in table.items():
    if (
      not isinstance(file, str)
      or file != pathlib.PurePosixPath(file).name
      or '\\' in file
      or not file.endswith('.safetensors')
    ):
      raise errors.UserError(
        f'{index}: tensor {name!r} is said to be in {file!r}, expected the '
        'bare name of a safetensors file of this folder.'
      )
  tensors = {}
  for file in sorted(set(table.values())):
    held = read_header(folder / file)
    for name, tensor in held.items():
      if table.get(name) != file:
        raise errors.UserError(
          f'{folder / file}: tensor {name!r} is unexpected: {INDEX} places it '
          f'in {table.get(name, "no file")}.'
        )
      tensors[name] = tensor
    for name, place in table.items():
      if place == file and name not in held:
        raise errors.UserError(
          f'{folder / file}: tensor {name!r} is missing, which {INDEX} places '
          'there.'
        )
  return tensors


def write_file(
  path: pathlib.Path,
  tensors: Mapping[str, Any],
  told: Callable[[int], None] = lambda written: None,
) -> None:
  """Writes one safetensors file from arrays, lazy ones block by block.

  Args:
    path: Written atomically.
    tensors: float32, float16 or bfloat16 arrays by name.
    told: Called with the bytes of every written block.
  """
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  place = 0
  for name, tensor in tensors.items():
    header[name] = {
      'dtype': _CODES[np.dtype(tensor.dtype)],
      'shape': list(tensor.shape),
      'data_offsets': [place, place + _bytes(tensor)],
    }
    place += _bytes(tensor)
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  with files.atomic(path) as handle:
    handle.write(struct.pack('<Q', len(text)) + text)
    for tensor in tensors.values():
      for index in lazy.blocks(tensor, _BLOCK):
        block = np.ascontiguousarray(tensor[index])
        handle.write(block.view(np.uint8).data if block.ndim else bytes(block))
        told(block.nbytes)


def write_folder(
  folder: pathlib.Path,
  tensors: Mapping[str, Any],
  shard_bytes: int,
  told: Callable[[int], None] = lambda written: None,
) -> int:
  """Writes a model as files of at most `shard_bytes`, with an index.

  A tensor that is larger gets a file of its own; one file alone is called
  `model.safetensors` and needs no index.

  Returns:
    Number of files.
  """
  groups: list[dict[str, Any]] = [{}]
  room = shard_bytes
  for name, tensor in tensors.items():
    if _bytes(tensor) > room and groups[-1]:
      groups.append({})
      room = shard_bytes
    groups[-1][name] = tensor
    room -= _bytes(tensor)
  if len(groups) == 1:
    write_file(folder / 'model.safetensors', groups[0], told)
    return 1
  table = {}
  for place, group in enumerate(groups, 1):
    file = f'model-{place:05d}-of-{len(groups):05d}.safetensors'
    write_file(folder / file, group, told)
    table |= dict.fromkeys(group, file)
  total = sum(map(_bytes, tensors.values()))
  files.write_json(
    folder / INDEX, {'metadata': {'total_size': total}, 'weight_map': table}
  )
  return len(groups)


def _bytes(tensor) -> int:
  return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
