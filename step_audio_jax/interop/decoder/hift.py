"""CosyVoice's `hift.pt` as this project's parameters, and back.

Its convolutions are weight-normalised: kernel = g v / ‖v‖, the norm over all
but the first axis. Old files say `weight_g` and `weight_v`, newer ones
`parametrizations.weight.original0` and `original1`, and once the norm has been
removed there is a `weight`; each is read, layer by layer, whatever the others
have, and folded to a plain kernel. Written is g = ‖kernel‖, v = kernel.
"""

import math
from typing import Any, Iterator, Mapping, NamedTuple

from flax import traverse_util
import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.vocoder import hift
from step_audio_jax.models.vocoder import hift_config

# How a normalised kernel is written → the endings of its norm and direction.
SPELLINGS = {
  'weight_g': ('weight_g', 'weight_v'),
  'parametrizations': (
    'parametrizations.weight.original0',
    'parametrizations.weight.original1',
  ),
  'plain': (),
}
KIND = 'HiFT (hift.pt)'
# First parts of their names, and of what they are trained against.
ROOTS = (
  *('f0_predictor', 'm_source', 'conv_pre', 'ups', 'source_downs'),
  *('source_resblocks', 'resblocks', 'conv_post'),
)
OTHERS = ('discriminator', 'mpd', 'msd', 'mrd', 'mrsd')
_TURN = {  # their axes → ours, and back
  'conv': ((2, 1, 0), (2, 1, 0)),
  'up': ((2, 0, 1), (1, 2, 0)),
  'dense': ((1, 0), (1, 0)),
}


class _Layer(NamedTuple):
  """One layer: our path, their name, our kernel's shape, how it lies."""

  ours: tuple[str, ...]
  theirs: str
  shape: tuple[int, ...]
  turn: str = 'conv'
  normalised: bool = True


def _layers(c: hift.HiftConfig) -> Iterator[_Layer]:
  """Every layer that has a kernel and a bias."""
  width, sines, bins = c.f0_channels, c.harmonics + 1, c.istft_fft + 2
  for i in range(hift_config.F0_LAYERS):
    yield _Layer(
      ('f0_predictor', f'conv{i}'),
      f'f0_predictor.condnet.{2 * i}',
      (3, width if i else c.bands, width),
    )
  yield _Layer(
    ('f0_predictor', 'out'),
    'f0_predictor.classifier',
    (width, 1),
    'dense',
    False,
  )
  yield _Layer(('merge',), 'm_source.l_linear', (sines, 1), 'dense', False)
  yield _Layer(('conv_pre',), 'conv_pre', (7, c.bands, c.channels))
  for i, kernel in enumerate(c.upsample_kernels):
    shape = (kernel, 2 * c.width(i), c.width(i))
    yield _Layer((f'up_{i}',), f'ups.{i}', shape, 'up')
    yield _Layer(
      (f'source_down_{i}',),
      f'source_downs.{i}',
      (c.down(i)[0], bins, c.width(i)),
      normalised=False,
    )
  for ours, theirs, width, kernel, dilations in _blocks(c):
    for i in range(len(dilations)):
      for half in (1, 2):
        yield _Layer(
          (ours, f'conv{half}_{i}'),
          f'{theirs}.convs{half}.{i}',
          (kernel, width, width),
        )
  last = c.width(len(c.units) - 1)
  yield _Layer(('conv_post',), 'conv_post', (7, last, bins))


def _blocks(c):
  """Residual blocks: ours, theirs, channels, kernel, dilations."""
  count = len(c.resblock_kernels)
  for i in range(len(c.upsample_rates)):
    yield (
      f'source_block_{i}',
      f'source_resblocks.{i}',
      c.width(i),
      c.source_resblock_kernels[i],
      c.source_resblock_dilations[i],
    )
    for j in range(count):
      yield (
        f'block_{i}_{j}',
        f'resblocks.{i * count + j}',
        c.width(i),
        c.resblock_kernels[j],
        c.resblock_dilations[j],
      )


def _alphas(c):
  """Snake's scales: our path, their name, channels."""
  for ours, theirs, width, _, dilations in _blocks(c):
    for i in range(len(dilations)):
      for half in (1, 2):
        yield (
          (ours, f'snake{half}_{i}', 'alpha'),
          f'{theirs}.activations{half}.{i}.alpha',
          width,
        )


def _norm(array):
  """‖·‖ over all but the first axis, which stays, (n, 1, …), float64."""
  flat = np.asarray(array, np.float64).reshape(len(array), -1)
  shape = (-1, *(1,) * (np.ndim(array) - 1))
  return np.linalg.norm(flat, axis=1).reshape(shape)


def _folded(state, name):
  """A layer's kernel as torch lays it, in whichever spelling it is there."""
  there = [
    spelling
    for spelling, endings in SPELLINGS.items()
    if f'{name}.{endings[0] if endings else "weight"}' in state
  ]
  if len(there) > 1:
    raise errors.UserError(
      f'state dict: {name}: found its kernel as {there[0]} and as {there[1]}, '
      'expected one; remove those that are old.'
    )
  for norm, direction in filter(None, SPELLINGS.values()):
    if f'{name}.{norm}' in state:
      v = state[f'{name}.{direction}']
      length = _norm(v)
      if not np.all(length > 0):
        raise errors.UserError(
          f'state dict: {name}.{direction}: found a row of zeros, which has no '
          'direction.'
        )
      g = state[f'{name}.{norm}']
      # Exactly v where nothing is to be scaled, as in what `state` writes.
      scale = np.where(g == length.astype(np.float32), 1.0, g / length)
      return (v * scale).astype(np.float32)
  return state[f'{name}.weight']


def params(
  state: Mapping[str, np.ndarray], config: hift.HiftConfig
) -> dict[str, Any]:
  """Parameters of `models.vocoder.hift.Hift`.

  Args:
    state: Arrays under the names of `hift.pt`, any spelling.
    config: Shape.

  Returns:
    Float32 parameters.

  Raises:
    UserError: An array is missing or has another shape.
  """
  state = state_lib.State(state, KIND, ROOTS, others=OTHERS)
  flat = {}
  for layer in _layers(config):
    inward, outward = _TURN[layer.turn]
    kernel = _folded(state, layer.theirs)
    wanted = tuple(layer.shape[axis] for axis in outward)
    _same(f'{layer.theirs}.weight', kernel.shape, wanted)
    bias = state[f'{layer.theirs}.bias']
    _same(f'{layer.theirs}.bias', bias.shape, layer.shape[-1:])
    flat[(*layer.ours, 'kernel')] = np.ascontiguousarray(
      kernel.transpose(inward)
    )
    flat[(*layer.ours, 'bias')] = bias
  for ours, theirs, width in _alphas(config):
    _same(theirs, state[theirs].shape, (width,))
    flat[ours] = state[theirs]
  return traverse_util.unflatten_dict(flat)


def state(
  tree: Mapping[str, Any],
  config: hift.HiftConfig,
  spelling: str = 'weight_g',
) -> dict[str, np.ndarray]:
  """The inverse of `params`: arrays under the names of `hift.pt`.

  Raises:
    UserError: `spelling` is none of `SPELLINGS`.
  """
  endings = _endings(spelling)
  flat = traverse_util.flatten_dict(dict(tree))
  found = {}
  for layer in _layers(config):
    kernel = np.asarray(flat[(*layer.ours, 'kernel')], np.float32)
    kernel = np.ascontiguousarray(kernel.transpose(_TURN[layer.turn][1]))
    if endings and layer.normalised:
      norm, direction = endings
      found[f'{layer.theirs}.{norm}'] = _norm(kernel).astype(np.float32)
      found[f'{layer.theirs}.{direction}'] = kernel
    else:
      found[f'{layer.theirs}.weight'] = kernel
    found[f'{layer.theirs}.bias'] = np.asarray(flat[(*layer.ours, 'bias')])
  for ours, theirs, _ in _alphas(config):
    found[theirs] = np.asarray(flat[ours], np.float32)
  return found


def shapes(
  config: hift.HiftConfig, spelling: str = 'weight_g'
) -> dict[str, tuple[int, ...]]:
  """Every array of a `hift.pt` of this shape, with its shape.

  Raises:
    UserError: `spelling` is none of `SPELLINGS`.
  """
  endings = _endings(spelling)
  found = {}
  for layer in _layers(config):
    shape = tuple(layer.shape[axis] for axis in _TURN[layer.turn][1])
    if endings and layer.normalised:
      found[f'{layer.theirs}.{endings[0]}'] = (shape[0], 1, 1)
      found[f'{layer.theirs}.{endings[1]}'] = shape
    else:
      found[f'{layer.theirs}.weight'] = shape
    found[f'{layer.theirs}.bias'] = layer.shape[-1:]
  found |= {theirs: (width,) for _, theirs, width in _alphas(config)}
  return found


def spelling_of(names: Mapping[str, Any]) -> str:
  """Which of `SPELLINGS` the names of a state dict are in."""
  for spelling, endings in SPELLINGS.items():
    if endings and any(name.endswith(endings[0]) for name in names):
      return spelling
  return 'plain'


# Their name in the yaml → ours and its kind.
FIELDS = {
  'in_channels': ('bands', int),
  'base_channels': ('channels', int),
  'sampling_rate': ('sample_rate', int),
  'nb_harmonics': ('harmonics', int),
  'nsf_alpha': ('sine_amplitude', float),
  'nsf_sigma': ('noise_deviation', float),
  'nsf_voiced_threshold': ('voiced_hz', float),
  'upsample_rates': ('upsample_rates', list),
  'upsample_kernel_sizes': ('upsample_kernels', list),
  'istft_params.n_fft': ('istft_fft', int),
  'istft_params.hop_len': ('istft_hop', int),
  'resblock_kernel_sizes': ('resblock_kernels', list),
  'resblock_dilation_sizes': ('resblock_dilations', list),
  'source_resblock_kernel_sizes': ('source_resblock_kernels', list),
  'source_resblock_dilation_sizes': ('source_resblock_dilations', list),
  'lrelu_slope': ('slope', float),
  'audio_limit': ('limit', float),
  'f0_predictor.cond_channels': ('f0_channels', int),
}
_KINDS = {int: 'a whole number', float: 'a number', list: 'whole numbers'}


def config_from(
  tree: Mapping[str, Any],
  state_shapes: Mapping[str, tuple[int, ...]],
  where: str = 'cosyvoice.yaml',
) -> hift.HiftConfig:
  """The shape that `cosyvoice.yaml` describes, held against the weights.

  Args:
    tree: Its `hift` section, tags gone, with the `f0_predictor` inside.
    state_shapes: Of the arrays of `hift.pt`.
    where: The file, as errors name it.

  Raises:
    UserError: A field is missing or no such value, or the weights have other
      names or shapes.
  """
  fields = {}
  for theirs, (ours, kind) in FIELDS.items():
    value: Any = tree
    for part in theirs.split('.'):
      value = value.get(part) if isinstance(value, Mapping) else None
    if not _is(value, kind):
      raise errors.UserError(
        f'{where}: hift.{theirs}: found {value!r}, expected {_KINDS[kind]}.'
      )
    fields[ours] = value
  config = hift.HiftConfig(**fields)
  wanted = shapes(config, 'plain')
  state_shapes = _folded_shapes(state_shapes, where)
  for name in sorted(wanted.keys() | state_shapes.keys()):
    found = tuple(state_shapes.get(name, ())) or 'nothing'
    expected = wanted.get(name, 'nothing')
    if found != expected:
      raise errors.UserError(
        f'{where}: hift: {name}: found {found} in the weights beside it, '
        f'expected {expected}.'
      )
  return config


def _folded_shapes(state_shapes, where) -> dict[str, tuple[int, ...]]:
  """Shapes as if every norm had been removed.

  Raises:
    UserError: A layer is there in two spellings, or a norm and its direction
      do not belong together.
  """
  left = {name: tuple(shape) for name, shape in state_shapes.items()}
  for norm, direction in filter(None, SPELLINGS.values()):
    for name in [name for name in left if name.endswith(f'.{norm}')]:
      layer = name.removesuffix(f'.{norm}')
      shape = left.get(f'{layer}.{direction}')
      if shape is None:
        raise errors.UserError(
          f'{where}: hift: {name}: found no {layer}.{direction} in the weights '
          'beside it, expected the direction that belongs to this norm.'
        )
      expected = (*shape[:1], *(1,) * (len(shape) - 1))
      if left[name] != expected:
        raise errors.UserError(
          f'{where}: hift: {name}: found {left[name]} in the weights beside '
          f'it, expected {expected}.'
        )
      if f'{layer}.weight' in left:
        raise errors.UserError(
          f'{where}: hift: {layer}: found its kernel in two spellings in the '
          'weights beside it, expected one; remove those that are old.'
        )
      del left[name], left[f'{layer}.{direction}']
      left[f'{layer}.weight'] = shape
  return left


def count(config: hift.HiftConfig) -> int:
  """Numbers in a `hift.pt` of this shape: 20,460,591 as released."""
  return sum(map(math.prod, shapes(config).values()))


def _is(value, kind):
  if kind is list:
    return (
      isinstance(value, list | tuple)
      and bool(value)
      and all(_is(one, list) or _is(one, int) for one in value)
    )
  if isinstance(value, bool):
    return False
  return isinstance(value, (int, float) if kind is float else kind)


def _endings(spelling):
  if spelling not in SPELLINGS:
    raise errors.UserError(
      f'spelling: found {spelling!r}, expected one of {", ".join(SPELLINGS)}.'
    )
  return SPELLINGS[spelling]


def _same(name, found, wanted):
  if found != wanted:
    raise errors.UserError(
      f'state dict: {name}: found {found}, expected {wanted}.'
    )
