"""Arrays that are read slice by slice, from a file or from another array.

A source of weights may be larger than the memory of a host. What takes such an
array asks for the slices it needs (`array[0:4, :, 8:16]`), and only those are
read. A numpy array is as good: both have `shape`, `dtype` and slicing.
"""

import math
from typing import Any, Iterator, Sequence

import numpy as np

Span = tuple[int, int]


class LazyArray:
  """An array whose slices are read when they are asked for.

  A subclass sets `shape` and `dtype` and gives `read`.

  Attributes:
    shape: As numpy's.
    dtype: As numpy's.
  """

  shape: tuple[int, ...]
  dtype: np.dtype

  def read(self, spans: Sequence[Span]) -> np.ndarray:
    """The values inside (start, stop) of every axis; never a view."""
    raise NotImplementedError

  @property
  def ndim(self) -> int:
    return len(self.shape)

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def nbytes(self) -> int:
    return self.size * self.dtype.itemsize

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    return self.read(spans_of(index, self.shape))

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    del copy  # what is read is new
    return self[...].astype(dtype or self.dtype, copy=False)


def spans_of(index: Any, shape: Sequence[int]) -> list[Span]:
  """(start, stop) of every axis of slices without steps.

  Raises:
    TypeError: The index holds something else.
  """
  index = index if isinstance(index, tuple) else (index,)
  if index and index[-1] is Ellipsis:
    index = index[:-1]
  spans = []
  for axis, size in enumerate(shape):
    part = index[axis] if axis < len(index) else slice(None)
    if not isinstance(part, slice) or len(index) > len(shape):
      raise TypeError(f'lazy arrays take one slice an axis, not {index}.')
    start, stop, step = part.indices(size)
    if step != 1:
      raise TypeError('lazy arrays take slices without steps.')
    spans.append((start, max(start, stop)))
  return spans


def slices(spans: Sequence[Span]) -> tuple[slice, ...]:
  """Spans as an index."""
  return tuple(slice(start, stop) for start, stop in spans)


def blocks(array: Any, limit: int) -> Iterator[tuple[slice, ...]]:
  """Indices that cut an array into blocks of at most about `limit` bytes.

  The leading axes are cut first, so a block of a row-major array is one run
  of bytes.
  """

  def cut(axis, spans):
    size = np.dtype(array.dtype).itemsize * math.prod(array.shape[axis:])
    if size <= limit or axis == len(array.shape):
      rest = [(0, size) for size in array.shape[axis:]]
      yield slices([*spans, *rest])
      return
    length = array.shape[axis]
    step = max(1, limit * length // size)
    for start in range(0, length, step):
      span = (start, min(length, start + step))
      if step > 1:
        rest = [(0, size) for size in array.shape[axis + 1 :]]
        yield slices([*spans, span, *rest])
      else:
        yield from cut(axis + 1, [*spans, span])

  yield from cut(0, [])


class Stacked(LazyArray):
  """Arrays of one shape behind each other on a new first axis."""

  def __init__(self, parts: Sequence[Any]):
    """Stacks `parts`, which have one shape and one dtype."""
    self._parts = list(parts)
    first = self._parts[0]
    self.shape = (len(self._parts), *first.shape)
    self.dtype = np.dtype(first.dtype)

  def read(self, spans):
    (start, stop), *rest = spans
    out = np.empty([stop - start, *(b - a for a, b in rest)], self.dtype)
    for place, part in enumerate(self._parts[start:stop]):
      out[place] = part[slices(rest)]
    return out


class Rows(LazyArray):
  """Runs of rows of other arrays behind each other."""

  def __init__(self, pieces: Sequence[tuple[Any, int, int]]):
    """Concatenates (array, first row, last row + 1) pieces."""
    self._pieces = [piece for piece in pieces if piece[2] > piece[1]]
    first = pieces[0][0]
    rows = sum(stop - start for _, start, stop in self._pieces)
    self.shape = (rows, *first.shape[1:])
    self.dtype = np.dtype(first.dtype)

  def read(self, spans):
    (low, high), *rest = spans
    out = np.empty([high - low, *(b - a for a, b in rest)], self.dtype)
    place = 0
    for array, start, stop in self._pieces:
      first, last = max(low, place), min(high, place + stop - start)
      if first < last:
        rows = slice(first - place + start, last - place + start)
        out[first - low : last - low] = array[(rows, *slices(rest))]
      place += stop - start
    return out


class Folded(LazyArray):
  """A matrix seen as the array of several axes that it was made from.

  The matrix is `array.transpose(order)` with its first `split` axes folded
  into rows and the others into columns (no columns where none are left).
  """

  def __init__(
    self, matrix: Any, shape: Sequence[int], order: Sequence[int], split: int
  ):
    """Unfolds `matrix` into an array of `shape`."""
    self._matrix, self._order, self._split = matrix, tuple(order), split
    self.shape, self.dtype = tuple(shape), np.dtype(matrix.dtype)

  def read(self, spans):
    turned = [spans[axis] for axis in self._order]
    shape = [self.shape[axis] for axis in self._order]
    groups = [turned[: self._split], turned[self._split :]]
    sizes = [shape[: self._split], shape[self._split :]]
    outer, inner = [], []
    for spans_, sizes_ in zip(groups, sizes):
      if spans_:
        width = math.prod(sizes_[1:])
        outer.append((spans_[0][0] * width, spans_[0][1] * width))
        first = spans_[0][1] - spans_[0][0]
        inner.append([first, *sizes_[1:]])
    block = self._matrix[slices(outer)].reshape(sum(inner, []))
    cut = []
    for spans_ in groups:
      if spans_:
        cut += [slice(None), *slices(spans_[1:])]
    return block[tuple(cut)].transpose(np.argsort(self._order)).copy()


class Matrix(LazyArray):
  """The inverse of `Folded`: an array of several axes seen as its matrix."""

  def __init__(self, array: Any, order: Sequence[int], split: int):
    """Folds `array`."""
    self._array, self._order, self._split = array, tuple(order), split
    shape = [array.shape[axis] for axis in self._order]
    folded = [shape[:split], shape[split:]]
    self._groups = [group for group in folded if group]
    self.shape = tuple(math.prod(group) for group in self._groups)
    self.dtype = np.dtype(array.dtype)

  def read(self, spans):
    turned, cut, inner = [], [], []
    for (start, stop), sizes in zip(spans, self._groups):
      width = math.prod(sizes[1:])
      low, high = start // width, -(-stop // width)
      turned += [(low, high), *((0, size) for size in sizes[1:])]
      inner.append((high - low) * width)
      cut.append(slice(start - low * width, stop - low * width))
    wanted = [turned[place] for place in np.argsort(self._order)]
    block = self._array[slices(wanted)].transpose(self._order)
    return block.reshape(inner)[tuple(cut)].copy()


class Layer(LazyArray):
  """One entry of the first axis of an array."""

  def __init__(self, array: Any, place: int):
    """The array `array[place]`."""
    self._array, self._place = array, place
    self.shape, self.dtype = tuple(array.shape[1:]), np.dtype(array.dtype)

  def read(self, spans):
    place = self._place
    return self._array[(slice(place, place + 1), *slices(spans))][0]


class Cast(LazyArray):
  """An array in another dtype."""

  def __init__(self, array: Any, dtype: Any):
    """Reads `array` as `dtype`."""
    self._array = array
    self.shape, self.dtype = tuple(array.shape), np.dtype(dtype)

  def read(self, spans):
    return np.asarray(self._array[slices(spans)]).astype(self.dtype)
