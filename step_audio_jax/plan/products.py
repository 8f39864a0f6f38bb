"""FLOPs of matrix products; the TPU compiler writes them as convolutions."""

import math
import re
from typing import Iterator, Mapping

import numpy as np

from step_audio_jax.plan import hlo


def flops(instruction: hlo.Instruction, computation: hlo.Computation) -> float:
  """2 a multiply-add, of a dot or a convolution."""
  left, right = list(hlo.operand_arrays(instruction, computation))[:2]
  out = instruction.arrays[0]
  if instruction.opcode == 'dot':
    axes = re.findall(
      r'\d+', instruction.attribute('lhs_contracting_dims') or ''
    )
    return 2.0 * out.elements * math.prod(left.dims[int(a)] for a in axes)
  labels = instruction.attribute('dim_labels')
  left_labels, rest = labels.split('_')
  right_labels, out_labels = rest.split('->')
  pairs = 1.0  # (output place, kernel place) pairs that meet an input
  for axis, window in enumerate(_window(instruction)):
    place = str(axis)
    pairs *= _meetings(
      left.dims[left_labels.index(place)],
      out.dims[out_labels.index(place)],
      window,
    )
  batch = out.dims[out_labels.index('b')]
  return (
    2.0
    * pairs
    * batch
    * out.dims[out_labels.index('f')]
    * right.dims[right_labels.index('i')]
  )


def _window(instruction: hlo.Instruction) -> Iterator[Mapping[str, tuple]]:
  """For every spatial axis: size, stride, pad, lhs_dilate, rhs_dilate."""
  text = instruction.attribute('window') or '{}'
  fields = dict(re.findall(r'(\w+)=([\dx_\-]+)', text))
  sizes = fields.get('size', '').split('x') if fields.get('size') else []
  for axis in range(len(sizes)):

    def get(name, default, axis=axis):
      words = fields.get(name, '').split('x')
      return words[axis] if fields.get(name) else default

    low = get('pad', '0_0').partition('_')[0]
    yield {
      'size': int(sizes[axis]),
      'stride': int(get('stride', '1')),
      'low': int(low),
      'lhs_dilate': int(get('lhs_dilate', '1')),
      'rhs_dilate': int(get('rhs_dilate', '1')),
    }


def _meetings(inputs: int, outputs: int, window: Mapping[str, int]) -> int:
  """How many (output, kernel) places of one axis read a real input."""
  out, kernel = np.ogrid[:outputs, : window['size']]
  place = out * window['stride'] + kernel * window['rhs_dilate'] - window['low']
  dilate = window['lhs_dilate']
  real = (place >= 0) & (place % dilate == 0) & (place // dilate < inputs)
  return int(real.sum())
