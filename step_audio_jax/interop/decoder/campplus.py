"""CAM++ weights of other people as this project's variables, and back.

A state dict has the names of 3D-Speaker's class (`head.conv1.weight`,
`xvector.block1.tdnnd1.nonlinear1.batchnorm.running_mean`); `units` tells them
all, in the order in which the network runs.
"""

from typing import Any, Iterator, Mapping, NamedTuple

from flax import traverse_util
import numpy as np

from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.speaker import campplus

KIND = 'CAM++ (campplus)'
ROOTS = ('head', 'xvector')  # first parts of their names
Tree = dict[str, Any]


class Conv(NamedTuple):
  """A convolution.

  Attributes:
    name: In a state dict.
    path: Of the module in our variables.
    shape: As torch has it: (out, in, kernel …).
    bias: Whether it has one.
    strides: As torch has them; empty where they are 1.
    dilation: Along time.
    alone: Whether the norm behind it is all that reads it, so that exporters
      may fold the norm into it.
  """

  name: str
  path: tuple[str, ...]
  shape: tuple[int, ...]
  bias: bool = False
  strides: tuple[int, ...] = ()
  dilation: int = 1
  alone: bool = True


class Norm(NamedTuple):
  """A batch norm.

  Attributes:
    name: In a state dict.
    path: Of the module in our variables.
    width: Channels.
    affine: Whether it has scale and offset.
  """

  name: str
  path: tuple[str, ...]
  width: int
  affine: bool = True


def units(config: campplus.CampplusConfig) -> Iterator[Conv | Norm]:
  """Convolutions and norms in the order in which the network runs them."""
  yield from _head(config)
  c, width = config, config.initial
  into = c.head_width * (c.bands // 8)
  own = 'xvector.tdnn'
  yield Conv(
    f'{own}.linear', ('tdnn', 'linear'), (width, into, 5), strides=(2,)
  )
  yield Norm(f'{own}.nonlinear.batchnorm', ('tdnn', 'norm'), width)
  for block, count in enumerate(c.layers, 1):
    for layer in range(1, count + 1):
      yield from _dense_layer(c, block, layer, width)
      width += c.growth
    own, path = f'xvector.transit{block}', f'transit{block}'
    yield Norm(f'{own}.nonlinear.batchnorm', (path, 'norm'), width)
    width //= 2
    yield Conv(
      f'{own}.linear',
      (path, 'linear'),
      (width, 2 * width, 1),
      alone=block == len(c.layers),
    )
  yield Norm('xvector.out_nonlinear.batchnorm', ('out_norm',), width)
  own = 'xvector.dense'
  yield Conv(f'{own}.linear', ('dense',), (c.embedding, 2 * width, 1))
  path = ('dense_norm',)
  yield Norm(f'{own}.nonlinear.batchnorm', path, c.embedding, affine=False)


def _head(c):
  width = c.head_width

  def conv(name, path, into, kernel, stride):
    shape = (width, into, kernel, kernel)
    strides = (stride, 1) if stride > 1 else ()
    return Conv(f'head.{name}', ('head', *path), shape, strides=strides)

  def norm(name, *path):
    return Norm(f'head.{name}', ('head', *path), width)

  yield conv('conv1', ('conv1',), 1, 3, 1)
  yield norm('bn1', 'norm1')
  for level, count in enumerate(c.head_blocks, 1):
    for place in range(count):
      own, path = f'layer{level}.{place}', f'layer{level}_{place}'
      stride = 1 if place else 2
      yield conv(f'{own}.conv1', (path, 'conv1'), width, 3, stride)
      yield norm(f'{own}.bn1', path, 'norm1')
      yield conv(f'{own}.conv2', (path, 'conv2'), width, 3, 1)
      yield norm(f'{own}.bn2', path, 'norm2')
      if not place:
        yield conv(f'{own}.shortcut.0', (path, 'shortcut'), width, 1, stride)
        yield norm(f'{own}.shortcut.1', path, 'shortcut_norm')
  yield conv('conv2', ('conv2',), width, 3, 2)
  yield norm('bn2', 'norm2')


def _dense_layer(c, block, layer, width):
  own = f'xvector.block{block}.tdnnd{layer}'
  path = (f'block{block}', f'layer{layer}')
  inner = c.growth * c.bottleneck
  yield Norm(f'{own}.nonlinear1.batchnorm', (*path, 'norm1'), width)
  yield Conv(f'{own}.linear1', (*path, 'linear1'), (inner, width, 1))
  yield Norm(f'{own}.nonlinear2.batchnorm', (*path, 'norm2'), inner)
  cam, half = f'{own}.cam_layer', inner // 2
  yield Conv(
    f'{cam}.linear_local',
    (*path, 'local'),
    (c.growth, inner, c.kernels[block - 1]),
    dilation=c.dilations[block - 1],
    alone=False,
  )
  for number, out, into in ((1, half, inner), (2, c.growth, half)):
    yield Conv(
      f'{cam}.linear{number}',
      (*path, f'gate{number}'),
      (out, into, 1),
      bias=True,
      alone=False,
    )


def _arrays(config):
  """(name, shape, collection and path) of every array of a state dict."""
  for unit in units(config):
    if isinstance(unit, Conv):
      path = ('params', *unit.path)
      yield f'{unit.name}.weight', unit.shape, (*path, 'kernel')
      if unit.bias:
        yield f'{unit.name}.bias', unit.shape[:1], (*path, 'bias')
      continue
    shape = (unit.width,)
    if unit.affine:
      path = ('params', *unit.path)
      yield f'{unit.name}.weight', shape, (*path, 'scale')
      yield f'{unit.name}.bias', shape, (*path, 'bias')
    path = ('batch_stats', *unit.path)
    yield f'{unit.name}.running_mean', shape, (*path, 'mean')
    yield f'{unit.name}.running_var', shape, (*path, 'var')


def shapes(config: campplus.CampplusConfig) -> dict[str, tuple[int, ...]]:
  """Every array of a state dict that this network has, with its shape.

  The counters `num_batches_tracked`, which mean nothing here, are left out.
  """
  return {name: shape for name, shape, _ in _arrays(config)}


def params(
  state: Mapping[str, np.ndarray],
  config: campplus.CampplusConfig | None = None,
) -> Tree:
  """Variables ('params', 'batch_stats') of `speaker.campplus.Campplus`.

  Args:
    state: Arrays under their original names.
    config: Of the network; by default `config_from(state)`.

  Raises:
    UserError: An array is missing.
  """
  state = state_lib.State(state, KIND, ROOTS)
  flat = {}
  for name, _, path in _arrays(config or config_from(state)):
    value = state[name]
    if path == ('params', 'dense', 'kernel'):
      value = value[:, :, 0]
    # torch: (out, in, band, time); here: (time, band, in, out).
    flat[path] = value.transpose() if value.ndim > 1 else value
  return traverse_util.unflatten_dict(flat)


def state(tree: Mapping[str, Any], config: campplus.CampplusConfig):
  """The inverse of `params`: arrays under their original names."""
  flat = traverse_util.flatten_dict(dict(tree))
  found = {}
  for name, shape, path in _arrays(config):
    value = np.asarray(flat[path], np.float32)
    found[name] = np.ascontiguousarray(value.transpose()).reshape(shape)
  return found


def config_from(
  state: Mapping[str, np.ndarray], dilations: tuple[int, ...] = (1, 2, 2)
) -> campplus.CampplusConfig:
  """The network's shape from its arrays.

  Args:
    state: Arrays under their original names.
    dilations: Of the local convolutions, which no array tells.

  Raises:
    UserError: An array is missing that the shape is read from.
  """
  state = state_lib.State(state, KIND, ROOTS)

  def shape(name):
    return state[f'{name}.weight'].shape

  tdnn, head = shape('xvector.tdnn.linear'), shape('head.conv1')[0]
  counts, kernels = [], []
  for block in range(1, 1 + state.count('xvector.transit')):
    own = f'xvector.block{block}.tdnnd'
    counts.append(state.count(own))
    kernels.append(shape(f'{own}1.cam_layer.linear_local')[-1])
  own = 'xvector.block1.tdnnd1'
  growth = shape(f'{own}.cam_layer.linear_local')[0]
  return campplus.CampplusConfig(
    bands=tdnn[1] // head * 8,
    embedding=shape('xvector.dense.linear')[0],
    growth=growth,
    bottleneck=shape(f'{own}.linear1')[0] // growth,
    initial=tdnn[0],
    head_width=head,
    head_blocks=tuple(state.count(f'head.layer{i}.') for i in (1, 2)),
    layers=tuple(counts),
    kernels=tuple(kernels),
    dilations=dilations,
  )
