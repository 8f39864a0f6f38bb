"""GGUF files: what they say of themselves, and tensors of any quantisation.

A GGUF file is a head (magic, version, two counts), named values, a table of
tensors (name, sizes, type, offset) and their blocks. Files come from
strangers: every number is checked before it is used. The head is read here and
not by `gguf.GGUFReader`, which takes seconds for a vocabulary and clips what
lies beyond the end without a word; how blocks of each type become numbers is
the business of that package alone.
"""

import dataclasses
import functools
import math
import mmap
import os
import pathlib
import reprlib
import struct
from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import lazy

_MAGIC = b'GGUF'
_VERSIONS = (2, 3)
# Types of values: number → its code, as numpy has it.
_NUMBERS = {
  **{0: '<u1', 1: '<i1', 2: '<u2', 3: '<i2', 4: '<u4', 5: '<i4', 6: '<f4'},
  **{7: '?', 10: '<u8', 11: '<i8', 12: '<f8'},
}
_STRING, _ARRAY = 8, 9
_MOST_AXES = 4
_ALIGNMENT = 'general.alignment'
# Kinds of values that are asked for, as messages call them.
_KINDS = {
  str: 'a text',
  int: 'a whole number',
  float: 'a number',
  bool: 'true or false',
}


class Tensor(lazy.LazyArray):
  """One tensor of a file, read as float32.

  Attributes:
    file: Where it lies.
    name: Its name there.
    kind: Of its blocks, 'Q4_K' say.
  """

  def __init__(self, file: pathlib.Path, name: str, shape, quantisation, begin):
    """The tensor at byte `begin`; `quantisation` is of the package's type."""
    self.file, self.name, self.kind = file, name, quantisation.name
    self.shape, self.dtype = tuple(shape), np.dtype(np.float32)
    self._quantisation, self._begin = quantisation, begin
    values, size = _block(quantisation)
    self._rows = (*self.shape[:-1], self.shape[-1] // values * size)

  @property
  def end(self) -> int:
    """One past its last byte."""
    return self._begin + math.prod(self._rows)

  @property
  def begin(self) -> int:
    """Its first byte."""
    return self._begin

  def read(self, spans):
    from gguf import quants

    # Mapped for one read only: pages of many maps would pile up.
    with files.as_local(self.file) as local:
      mapped = np.memmap(
        local, np.uint8, 'r', offset=self._begin, shape=self._rows
      )
    *leading, (start, stop) = spans
    block = np.ascontiguousarray(mapped[lazy.slices(leading)])
    if not block.size:
      return np.zeros([b - a for a, b in spans], np.float32)
    found = quants.dequantize(block, self._quantisation)
    return np.array(found[..., start:stop], np.float32)


@dataclasses.dataclass(frozen=True)
class GgufFile:
  """What a file holds.

  Attributes:
    path: Of the file.
    values: By their names; an array of numbers is numpy's.
    tensors: By their names, unread.
  """

  path: pathlib.Path
  values: dict[str, Any]
  tensors: dict[str, Tensor]

  def get(self, name: str, kind: type, default: Any = None) -> Any:
    """A value of one kind; `default` where the file has none.

    Args:
      name: Of the value.
      kind: `str`, `int`, `float` (a whole number will do) or `bool`.
      default: Is given back as it is.

    Raises:
      UserError: The value is of another kind.
    """
    value = self.values.get(name)
    if value is None:
      return default
    fine = isinstance(value, (int, float) if kind is float else kind)
    if not fine or (isinstance(value, bool) and kind is not bool):
      raise errors.UserError(
        f'{self.path}: {name} is {told(value)}, expected {_KINDS[kind]}.'
      )
    return value


def told(value: Any) -> str:
  """A value as messages tell it, in one short line."""
  if isinstance(value, (list, np.ndarray)):
    return f'an array of {len(value)} values'
  return reprlib.repr(value)


def is_gguf(path: str | os.PathLike) -> bool:
  """Whether this is meant as a GGUF file, by its name or its first bytes."""
  path = files.path(path)
  if not files.is_file(path):
    return False
  if path.suffix.lower() == '.gguf':
    return True
  with files.opened(path) as handle:
    return handle.read(4) == _MAGIC


def read(path: str | os.PathLike) -> GgufFile:
  """The head of a file.

  Raises:
    UserError: It is no such file, is cut, contradicts itself, or holds a
      tensor of a type that cannot be read.
  """
  path = files.path(path)
  with files.as_local(path) as local, files.opened(local, path) as handle:
    size = os.fstat(handle.fileno()).st_size
    start = handle.read(8)
    if start[:4] != _MAGIC:
      raise errors.UserError(
        f'{path}: begins with {start[:4]!r}, expected {_MAGIC!r}; this is no '
        'GGUF file.'
      )
    if len(start) < 8:
      raise errors.UserError(
        f'{path}: cut short in the head: the file has {len(start)} bytes.'
      )
    (version,) = struct.unpack_from('<I', start, 4)
    if version not in _VERSIONS:
      raise errors.UserError(
        f'{path}: GGUF version is {version}, expected 2 or 3, little-endian.'
      )
    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
      head = _Head(path, data, size, 8)
      try:
        return _read(head)
      except UnicodeDecodeError as error:
        raise errors.UserError(
          f'{path}: {head.what} is no UTF-8 ({error.reason}).'
        ) from error


class _Head:
  """A place in a file, and what is read there."""

  def __init__(self, path, data, size: int, place: int):
    self.path, self.size, self.place = path, size, place
    self._data = data
    self.what = 'the head'  # what is being read, for messages

  def take(self, count: int) -> bytes:
    """The next bytes."""
    if count > self.size - self.place:
      raise errors.UserError(
        f'{self.path}: cut short in {self.what}: {count} bytes are needed at '
        f'byte {self.place}, the file has {self.size}.'
      )
    self.place += count
    return self._data[self.place - count : self.place]

  def whole(self, code: str = '<Q') -> int:
    return struct.unpack(code, self.take(struct.calcsize(code)))[0]

  def text(self) -> str:
    return self.take(self.whole()).decode('utf-8')

  def value(self, kind: int) -> Any:
    """A value of a type."""
    if kind in _NUMBERS:
      return self.numbers(kind, 1)[0].item()
    if kind == _STRING:
      return self.text()
    if kind != _ARRAY:
      raise errors.UserError(
        f'{self.path}: {self.what} has a value of type {kind}, expected 0 to '
        '12.'
      )
    kind, count = self.whole('<I'), self.whole()
    if kind in _NUMBERS:
      return self.numbers(kind, count)
    if kind != _STRING:
      raise errors.UserError(
        f'{self.path}: {self.what} is an array of values of type {kind}, '
        'expected one of numbers or strings.'
      )
    if count * 8 > self.size - self.place:  # each has its length in front
      self.take(count * 8)
    return [self.text() for _ in range(count)]

  def numbers(self, kind: int, count: int) -> np.ndarray:
    dtype = np.dtype(_NUMBERS[kind])
    return np.frombuffer(self.take(count * dtype.itemsize), dtype)


def _read(head: _Head) -> GgufFile:
  count, pairs = head.whole(), head.whole()
  values: dict[str, Any] = {}
  for _ in range(pairs):
    head.what = f'value {len(values)} of {pairs}'
    name = head.text()
    head.what = f'the value {name!r}'
    found = head.value(head.whole('<I'))
    if name in values:
      raise errors.UserError(
        f'{head.path}: the value {name!r} is there twice, expected it once.'
      )
    values[name] = found
  table: dict[str, tuple] = {}
  for _ in range(count):
    head.what = f'tensor {len(table)} of {count}'
    name = head.text()
    head.what = f'the entry of tensor {name!r}'
    axes = head.whole('<I')
    if not 1 <= axes <= _MOST_AXES:
      raise errors.UserError(
        f'{head.path}: tensor {name!r} has {axes} axes, expected 1 to '
        f'{_MOST_AXES}.'
      )
    sizes = [head.whole() for _ in range(axes)]
    kind, offset = head.whole('<I'), head.whole()
    if name in table:
      raise errors.UserError(
        f'{head.path}: tensor {name!r} is there twice, expected it once.'
      )
    # The fastest axis stands first there, last here.
    table[name] = tuple(reversed(sizes)), kind, offset
  file = GgufFile(head.path, values, {})
  alignment = file.get(_ALIGNMENT, int, 32)
  if not 0 < alignment <= 2**20:
    raise errors.UserError(
      f'{head.path}: {_ALIGNMENT} is {alignment!r}, expected 1 to {2**20}.'
    )
  begin = -(-head.place // alignment) * alignment
  for name, entry in table.items():
    file.tensors[name] = _tensor(head, name, begin, *entry)
  end, last = begin, ''
  for tensor in sorted(file.tensors.values(), key=lambda t: t.begin):
    if tensor.begin < end:
      raise errors.UserError(
        f'{head.path}: tensor {tensor.name!r} lies over the bytes of {last!r}.'
      )
    end, last = tensor.end, tensor.name
  return file


def _tensor(head, name, begin, shape, kind, offset) -> Tensor:
  quantisation = _quantisation(kind)
  if quantisation is None:
    raise errors.UserError(
      f'{head.path}: tensor {name!r} is quantised as {_name_of(kind)}, which '
      'cannot be read; expected one of '
      f'{", ".join(map(_name_of, _readable()))}.'
    )
  values, _ = _block(quantisation)
  if min(shape) < 1 or shape[-1] % values:
    raise errors.UserError(
      f'{head.path}: tensor {name!r} has shape {shape}, expected rows of a '
      f'multiple of {values} numbers, as {quantisation.name} has them.'
    )
  tensor = Tensor(head.path, name, shape, quantisation, begin + offset)
  if tensor.end > head.size:
    raise errors.UserError(
      f'{head.path}: cut short: tensor {name!r} ends at byte {tensor.end}, the '
      f'file has {head.size}.'
    )
  return tensor


def _block(quantisation) -> tuple[int, int]:
  """Numbers and bytes of a block."""
  import gguf

  return gguf.GGML_QUANT_SIZES[quantisation]


def _name_of(kind: int) -> str:
  import gguf

  try:
    return gguf.GGMLQuantizationType(kind).name
  except ValueError:
    return f'type {kind}'


@functools.cache
def _quantisation(kind: int):
  """The package's name for a type, if it can be made numbers of."""
  import gguf
  from gguf import quants

  try:
    found = gguf.GGMLQuantizationType(kind)
    _, size = gguf.GGML_QUANT_SIZES[found]
    quants.dequantize(np.zeros((1, size), np.uint8), found)
  except (NotImplementedError, ValueError, KeyError):
    return None
  return found


def _readable() -> list[int]:
  import gguf

  kinds = [int(kind) for kind in gguf.GGMLQuantizationType]
  return [kind for kind in kinds if _quantisation(kind) is not None]
