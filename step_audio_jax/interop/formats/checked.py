"""Weights on their way in or out, looked at as they pass.

A number that is not finite, or that the dtype asked for cannot hold, makes a
model that says nothing, and says so nowhere. It is found block by block while
weights are read, and told with the tensor's name and how many there are.
"""

import math
import sys
from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import lazy
from step_audio_jax.storage import shards

_WAY_ON = '`convert --allow_nonfinite` takes them as they are'
_DTYPES = {dtype.name: dtype for dtype in shards.DTYPES.values()}
_BLOCK = 32 * 2**20
# Exponent bits of the types that numpy is slow with.
_EXPONENTS = {'bfloat16': np.uint16(0x7F80), 'float16': np.uint16(0x7C00)}


def all_finite(array: np.ndarray) -> bool:
  """Whether every number is finite; float16 and bfloat16 by their bits."""
  exponent = _EXPONENTS.get(array.dtype.name)
  if exponent is None:
    return bool(np.isfinite(array).all())
  bits = np.ascontiguousarray(array).view(np.uint16)
  return not ((bits & exponent) == exponent).any()


def cast(array: np.ndarray, dtype: Any) -> np.ndarray:
  """`array` as `dtype`; what does not fit becomes infinite without a word."""
  with np.errstate(over='ignore'):
    return array.astype(dtype, copy=False)


class CheckedArray(lazy.LazyArray):
  """An array, perhaps in another dtype, whose every number is looked at.

  Attributes:
    file: Where it lies, if it lies in a file of its own.
    in_order: See `stored.StoredArray`.
  """

  def __init__(
    self,
    array: Any,
    name: str,
    where: str,
    *,
    dtype: Any = None,
    allow: bool = False,
  ):
    """Looks at `array`.

    Args:
      array: Lazy or not.
      name: Of the tensor, for messages.
      where: What holds it, for messages.
      dtype: What it is read as; as it is by default.
      allow: Tell what is found and take it as it is.
    """
    self._array, self._name, self._allow = array, name, allow
    self.shape, self.dtype = tuple(array.shape), np.dtype(dtype or array.dtype)
    self._where = str(getattr(array, 'file', where))
    self.file = self._where
    self.in_order = getattr(array, 'in_order', False)
    self._told = False

  def read(self, spans):
    """Reads a part.

    Raises:
      UserError: A number is not finite, or not in this dtype.
    """
    block = np.asarray(self._array[lazy.slices(spans)])
    out = cast(block, self.dtype)
    if not all_finite(out) and not self._told:
      self._told = True
      report_nonfinite(
        self._counted(), self._name, self._where, self.dtype, self._allow
      )
    return out

  def _counted(self) -> tuple[int, int, int]:
    """Numbers that are not finite, that do not fit, and all of them."""
    sums = [0, 0]
    for index in lazy.blocks(self._array, _BLOCK):
      found = count(np.asarray(self._array[index]), self.dtype)
      sums = [a + b for a, b in zip(sums, found)]
    return sums[0], sums[1], math.prod(self.shape)


def count(array: np.ndarray, dtype: Any) -> tuple[int, int]:
  """How many numbers are not finite, and how many are only not in `dtype`."""
  finite = np.isfinite(array)
  fits = np.isfinite(cast(array, dtype))
  return int((~finite).sum()), int((finite & ~fits).sum())


def report_nonfinite(
  found, name: str, where: str, dtype: Any, allow: bool
) -> None:
  """Says what was found in a tensor, and refuses it unless that is allowed.

  Args:
    found: (not finite, beyond `dtype`, all).
    name: Of the tensor.
    where: What holds it.
    dtype: What it was to become.
    allow: Only tell.

  Raises:
    UserError: It is not allowed.
  """
  broken, beyond, size = found
  parts = [
    f'{broken} of {size} numbers are NaN or infinite' if broken else '',
    f'{beyond} of {size} numbers are beyond the range of {np.dtype(dtype).name}'
    if beyond
    else '',
  ]
  text = f'{where}: tensor {name!r}: ' + ' and '.join(filter(None, parts))
  if allow:
    print(f'warning: {text}; they are taken so.', file=sys.stderr)
    return
  hint = ', as does --dtype=float32 or bfloat16' if beyond else ''
  raise errors.UserError(f'{text}; expected finite weights; {_WAY_ON}{hint}.')


def tensors(
  arrays: Mapping[str, Any],
  where: Any,
  *,
  dtype: str = '',
  allow: bool = False,
) -> dict[str, CheckedArray]:
  """Arrays by name, each as `CheckedArray`.

  Args:
    arrays: Lazy ones are not read yet.
    where: What holds them, for messages.
    dtype: What they are read as; as they are if empty.
    allow: See `CheckedArray`.
  """
  wanted = _DTYPES[dtype] if dtype else None
  return {
    name: CheckedArray(array, name, str(where), dtype=wanted, allow=allow)
    for name, array in arrays.items()
  }


def read_checked(array: Any, name: str, where: str, allow: bool) -> np.ndarray:
  """One array as float32, looked at.

  Raises:
    UserError: It holds no floating-point numbers, or some that are not finite.
  """
  array = np.asarray(array)
  if array.dtype.kind != 'f' and array.dtype.name not in _EXPONENTS:
    raise errors.UserError(
      f'{where}: {name}: found {array.dtype.name}, expected floating-point '
      'numbers.'
    )
  out = cast(array, np.float32)
  if not all_finite(out):
    found = count(array, np.float32)
    report_nonfinite((*found, array.size), name, where, np.float32, allow)
  return out
