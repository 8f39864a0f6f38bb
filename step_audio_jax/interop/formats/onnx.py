"""Weights of an ONNX file: its nodes and constants, nothing else.

ONNX is protobuf (`storage/wire.py`). The few fields that hold weights are read
here from the mapped file without a copy; `onnx` itself would hold protobuf at
a version that TensorFlow does not share.
"""

import dataclasses
import mmap
import os
import struct

import ml_dtypes
import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs
from step_audio_jax.storage import wire

_DTYPES = {
  1: np.float32,
  6: np.int32,
  7: np.int64,
  9: np.bool_,
  10: np.float16,
  11: np.float64,
  16: ml_dtypes.bfloat16,
}
# Typed fields of a tensor that is not raw: field → its numbers' code.
_TYPED = {4: '<f4', 10: '<f8'}
_EXTERNAL = 1


@dataclasses.dataclass(frozen=True)
class Node:
  """One operation of the graph.

  Attributes:
    name: As exported.
    kind: Operator.
    inputs: Names of its inputs.
    strides: The attribute of that name; empty without one.
    dilations: Likewise.
  """

  name: str
  kind: str
  inputs: tuple[str, ...]
  strides: tuple[int, ...] = ()
  dilations: tuple[int, ...] = ()


def _tensor(data) -> tuple[str, np.ndarray | None]:
  """Name and numbers of a TensorProto; None for a type that holds no weight."""
  shape, name, kind, raw, typed, external = [], '', 0, None, [], False
  for field, value in wire.fields(data):
    if field == 1:
      shape += wire.integers(value)
    elif field == 2:
      kind = value
    elif field == 8:
      name = wire.text(value)
    elif field == 9:
      raw = value
    elif field in _TYPED:
      typed.append(np.frombuffer(value, _TYPED[field]))
    elif field == 14:
      external = value == _EXTERNAL
  if external:
    raise ValueError(f'{name} lies in another file; expected all in one')
  if kind not in _DTYPES:
    return name, None
  if raw is not None:
    flat = np.frombuffer(raw, _DTYPES[kind])
  elif typed:
    flat = np.concatenate(typed).astype(_DTYPES[kind])
  else:
    return name, None
  return name, flat.reshape(shape)


def _node(data):
  """A Node, its outputs and, of a Constant, its value."""
  inputs, outputs, name, kind, constant = [], [], '', '', None
  numbers = {'strides': (), 'dilations': ()}
  for field, value in wire.fields(data):
    if field == 1:
      inputs.append(wire.text(value))
    elif field == 2:
      outputs.append(wire.text(value))
    elif field == 3:
      name = wire.text(value)
    elif field == 4:
      kind = wire.text(value)
    elif field == 5:
      parts = list(wire.fields(value))
      key = next((wire.text(v) for f, v in parts if f == 1), '')
      if key in numbers:
        numbers[key] = tuple(
          n for f, v in parts if f == 8 for n in wire.integers(v)
        )
      elif key == 'value':
        constant = next((_tensor(v)[1] for f, v in parts if f == 5), None)
  return Node(name, kind, tuple(inputs), **numbers), outputs, constant


def read(path: str | os.PathLike) -> tuple[list[Node], dict[str, np.ndarray]]:
  """Nodes in the graph's order, and its constants by name.

  Raises:
    UserError: No such file, cut or malformed, or the weights lie elsewhere.
  """
  lfs.refuse_path(path)
  try:
    with files.as_local(path) as name, files.open_read(name) as handle:
      # What was mapped stays, whatever becomes of the name.
      data = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    graph = next((v for f, v in wire.fields(data) if f == 7), None)
    if not isinstance(graph, memoryview):
      raise ValueError('no graph in it')
    nodes, constants, same = [], {}, {}
    for field, value in wire.fields(graph):
      if field == 1:
        node, outputs, constant = _node(value)
        nodes.append(node)
        if constant is not None:
          constants[outputs[0]] = constant
        if node.kind == 'Identity':
          same[outputs[0]] = node.inputs[0]
      elif field == 5:
        name, array = _tensor(value)
        if array is not None:
          constants[name] = array
    # Of equal arrays exporters keep one, and let the others be called so.
    for name, other in same.items():
      if other in constants:
        constants[name] = constants[other]
  except FileNotFoundError as error:
    raise errors.UserError(f'{path}: no such file.') from error
  except (IndexError, OSError, TypeError, ValueError, struct.error) as error:
    raise errors.UserError(
      f'{path}: not a whole ONNX file: {error}.'
    ) from error
  return nodes, constants
