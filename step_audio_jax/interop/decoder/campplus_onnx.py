"""CAM++ from an ONNX file, whatever its arrays are called.

Exporters fold a batch norm into the convolution that it alone reads, and then
neither keeps its name. So the file is read by the order of its convolutions
and norms: a convolution that has no bias in the original but has one here has
taken up the norm behind it. Such a norm becomes one that adds the bias.
"""

import os
from typing import Any, NamedTuple

import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.formats import onnx
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.speaker import layers as campplus_layers
from step_audio_jax.storage import files

_CONV, _NORM = 'Conv', 'BatchNormalization'
_SPOKEN = {_CONV: 'a convolution', _NORM: 'a batch norm'}


class _Found(NamedTuple):
  node: onnx.Node
  arrays: list[np.ndarray]

  @property
  def shape(self) -> tuple[int, ...]:
    return self.arrays[0].shape


def read(
  path: str | os.PathLike, allow_nonfinite: bool = False
) -> tuple[campplus.CampplusConfig, dict[str, Any]]:
  """Shape and variables of the network in a file.

  Args:
    path: Of the file.
    allow_nonfinite: Take numbers that are not finite as they are.

  Raises:
    UserError: The file is broken, or holds another network.
  """
  path = files.path(path)
  nodes, constants = onnx.read(path)
  found = []
  for node in nodes:
    if node.kind in _SPOKEN:
      arrays = [constants.get(name) for name in node.inputs[1:]]
      need = 1 if node.kind == _CONV else 4
      if len(arrays) < need or any(a is None for a in arrays):
        raise errors.UserError(
          f'{path}: {node.name or node.kind}: its weights are no constants of '
          'the file, expected the network CAM++.'
        )
      found.append(_Found(node, arrays))
  config = _config(path, [one for one in found if one.node.kind == _CONV])
  state = state_lib.State(
    _state(path, found, config),
    campplus_interop.KIND,
    campplus_interop.ROOTS,
    where=str(path),
    allow=allow_nonfinite,
  )
  return config, campplus_interop.params(state, config)


def _config(path, convolutions) -> campplus.CampplusConfig:
  """The network's shape from the shapes of its convolutions, in order."""
  head = [one.shape for one in convolutions if len(one.shape) == 4]
  body = [one for one in convolutions if len(one.shape) == 3]
  # A 1 x 1 convolution is the shortcut at the start of a level.
  shortcuts = [i for i, shape in enumerate(head) if shape[2:] == (1, 1)]
  layers, kernels, dilations, count, place = [], [], [], 0, 1
  while place < len(body) - 1:
    if body[place + 1].shape[2] == 1:  # a transit; in a layer a kernel comes
      layers.append(count)
      count, place = 0, place + 1
      continue
    if not count:
      kernels.append(body[place + 1].shape[2])
      dilations.append((*body[place + 1].node.dilations, 1)[0])
    count, place = count + 1, place + 4
  if len(shortcuts) != 2 or not layers or not all(layers) or count:
    raise errors.UserError(
      f'{path}: found {len(head)} two-dimensional and {len(body)} '
      'one-dimensional convolutions in another order than those of CAM++.'
    )
  first, second = shortcuts
  growth = body[2].shape[0]
  try:
    return campplus.CampplusConfig(
      bands=body[0].shape[1] // head[0][0] * 8,
      embedding=body[-1].shape[0],
      growth=growth,
      bottleneck=body[1].shape[0] // growth,
      initial=body[0].shape[0],
      head_width=head[0][0],
      head_blocks=((second - first - 1) // 2, (len(head) - second) // 2),
      layers=tuple(layers),
      kernels=tuple(kernels),
      dilations=tuple(dilations),
    )
  except (errors.UserError, ZeroDivisionError) as error:
    raise errors.UserError(
      f'{path}: not the network CAM++: {str(error).rstrip(".")}.'
    ) from error


def _state(path, found, config) -> dict[str, np.ndarray]:
  """Arrays under their original names; every one is checked."""
  state, rest, folded = {}, list(reversed(found)), None
  for unit in campplus_interop.units(config):
    norm = isinstance(unit, campplus_interop.Norm)
    if norm and folded is not None:
      state |= _only_bias(unit, folded)
      folded = None
      continue
    kind = _NORM if norm else _CONV
    one = rest.pop() if rest else None
    if one is None or one.node.kind != kind:
      told = f'{_SPOKEN[one.node.kind]} {one.node.name}' if one else 'the end'
      raise errors.UserError(
        f'{path}: found {told.strip()}, expected {_SPOKEN[kind]}, {unit.name}.'
      )
    if norm:
      state |= _norm(path, unit, one)
    else:
      arrays, folded = _conv(path, unit, one)
      state |= arrays
  if rest:
    raise errors.UserError(
      f'{path}: found {_SPOKEN[rest[-1].node.kind]} {rest[-1].node.name} '
      'behind the last layer, expected the network CAM++.'
    )
  return state


def _conv(path, unit, one):
  """Arrays of a convolution, and the bias of the norm that it took up."""
  _same(path, f'{unit.name}.weight', one.shape, unit.shape)
  ones = (1,) * (len(unit.shape) - 2)
  strides = one.node.strides or ones
  _same(path, f'{unit.name}: strides', strides, unit.strides or ones)
  dilations = one.node.dilations or ones
  wanted = (unit.dilation,) * len(ones)
  _same(path, f'{unit.name}: dilations', dilations, wanted)
  state = {f'{unit.name}.weight': one.arrays[0]}
  bias = one.arrays[1] if len(one.arrays) > 1 else None
  if unit.bias or bias is not None:
    allowed = unit.bias or unit.alone
    found = 'nothing' if bias is None else bias.shape
    wanted = unit.shape[:1] if allowed else 'nothing'
    _same(path, f'{unit.name}.bias', found, wanted)
  if unit.bias:
    return state | {f'{unit.name}.bias': bias}, None
  return state, bias


def _norm(path, unit, one):
  names = ('weight', 'bias', 'running_mean', 'running_var')
  state = {}
  for name, array in zip(names, one.arrays):
    _same(path, f'{unit.name}.{name}', array.shape, (unit.width,))
    state[f'{unit.name}.{name}'] = array
  if not unit.affine:
    for name, value in (('weight', 1), ('bias', 0)):
      if not np.all(state.pop(f'{unit.name}.{name}') == value):
        raise errors.UserError(
          f'{path}: {unit.name}.{name}: found numbers other than {value}, '
          'expected a norm without scale and offset.'
        )
  return state


def _only_bias(unit, bias):
  """A norm that adds `bias` and does nothing else."""
  width = (unit.width,)
  state = {
    f'{unit.name}.running_mean': np.zeros(width, np.float32),
    f'{unit.name}.running_var': np.full(
      width, 1 - campplus_layers.EPSILON, np.float32
    ),
  }
  if unit.affine:
    state[f'{unit.name}.weight'] = np.ones(width, np.float32)
    state[f'{unit.name}.bias'] = bias
  else:
    state[f'{unit.name}.running_mean'] = -bias
  return state


def _same(path, name, found, wanted):
  if found != wanted:
    raise errors.UserError(f'{path}: {name}: found {found}, expected {wanted}.')
