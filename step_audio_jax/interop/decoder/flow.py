"""CosyVoice's `flow.pt` as this project's parameters, and back.

One table of names serves both ways: ours → (theirs, how the array lies), so
that what is exported is what was imported, bit by bit.
"""

from typing import Any, Callable, Iterator, Mapping

from flax import traverse_util
import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.flow import flow

# Their layout → ours, and back: each is its own inverse where it can be.
_Turn = tuple[Callable[[np.ndarray], np.ndarray], ...]
_AS_IT_IS: _Turn = (lambda a: a, lambda a: a)
_LINEAR: _Turn = (lambda a: a.T, lambda a: a.T)
_POINT: _Turn = (lambda a: a[..., 0].T, lambda a: a.T[..., None])
_CONV: _Turn = (lambda a: a.transpose(2, 1, 0), lambda a: a.transpose(2, 1, 0))
_TURNED: _Turn = (
  lambda a: a.transpose(2, 0, 1),
  lambda a: a.transpose(1, 2, 0),
)
_ESTIMATOR = 'decoder.estimator'
KIND = 'CosyVoice-300M-25Hz (flow.pt)'
# First parts of their names.
ROOTS = (
  *('input_embedding', 'spk_embed_affine_layer', 'encoder', 'encoder_proj'),
  *('length_regulator', 'decoder'),
)
_Name = tuple[tuple[str, ...], str, _Turn]


def _pair(ours, theirs, turn, bias=True) -> Iterator[_Name]:
  """Weight and bias of one layer."""
  norm = turn is _AS_IT_IS
  yield (*ours, 'scale' if norm else 'kernel'), f'{theirs}.weight', turn
  if bias:
    yield (*ours, 'bias'), f'{theirs}.bias', _AS_IT_IS


def _encoder_block(ours, theirs) -> Iterator[_Name]:
  attention = (*ours, 'attention')
  for name, other in (
    ('query', 'linear_q'),
    ('key', 'linear_k'),
    ('value', 'linear_v'),
    ('out', 'linear_out'),
  ):
    yield from _pair((*attention, name), f'{theirs}.self_attn.{other}', _LINEAR)
  yield from _pair(
    (*attention, 'place'),
    f'{theirs}.self_attn.linear_pos',
    _LINEAR,
    bias=False,
  )
  for name, other in (('content', 'u'), ('place', 'v')):
    yield (
      (*attention, f'{name}_bias'),
      f'{theirs}.self_attn.pos_bias_{other}',
      _AS_IT_IS,
    )
  for name, other in (('up', 'w_1'), ('down', 'w_2')):
    yield from _pair((*ours, name), f'{theirs}.feed_forward.{other}', _LINEAR)
  for name, other in (('attention_norm', 'norm_mha'), ('mlp_norm', 'norm_ff')):
    yield from _pair((*ours, name), f'{theirs}.{other}', _AS_IT_IS)


def _conv_block(ours, theirs) -> Iterator[_Name]:
  yield from _pair((*ours, 'conv'), f'{theirs}.block.0', _CONV)
  yield from _pair((*ours, 'norm'), f'{theirs}.block.1', _AS_IT_IS)


def _stage(ours, theirs, blocks) -> Iterator[_Name]:
  resnet = (*ours, 'resnet')
  yield from _conv_block((*resnet, 'first'), f'{theirs}.0.block1')
  yield from _conv_block((*resnet, 'second'), f'{theirs}.0.block2')
  yield from _pair((*resnet, 'time'), f'{theirs}.0.mlp.1', _LINEAR)
  yield from _pair((*resnet, 'around'), f'{theirs}.0.res_conv', _POINT)
  for n in range(blocks):
    block, other = (*ours, f'block{n}'), f'{theirs}.1.{n}'
    for name in ('query', 'key', 'value'):
      yield from _pair(
        (*block, name), f'{other}.attn1.to_{name[0]}', _LINEAR, bias=False
      )
    for name, place in (
      ('out', 'attn1.to_out.0'),
      ('up', 'ff.net.0.proj'),
      ('down', 'ff.net.2'),
    ):
      yield from _pair((*block, name), f'{other}.{place}', _LINEAR)
    yield from _pair((*block, 'attention_norm'), f'{other}.norm1', _AS_IT_IS)
    yield from _pair((*block, 'mlp_norm'), f'{other}.norm3', _AS_IT_IS)


def _names(config: flow.FlowConfig) -> Iterator[_Name]:
  """Every parameter; scanned blocks are numbered (`blocks`, n, …)."""
  c = config
  yield ('embedding', 'embedding'), 'input_embedding.weight', _AS_IT_IS
  yield from _pair(('speaker',), 'spk_embed_affine_layer', _LINEAR)
  yield from _pair(('project',), 'encoder_proj', _LINEAR)
  yield from _pair(('encoder', 'embed'), 'encoder.embed.out.0', _LINEAR)
  yield from _pair(('encoder', 'embed_norm'), 'encoder.embed.out.1', _AS_IT_IS)
  yield from _pair(('encoder', 'final_norm'), 'encoder.after_norm', _AS_IT_IS)
  for n in range(c.encoder.layers):
    yield from _encoder_block(
      ('encoder', 'blocks', str(n)), f'encoder.encoders.{n}'
    )
  for n in range(c.regulator_layers):
    model = 'length_regulator.model'
    yield from _pair(('regulator', f'conv{n}'), f'{model}.{3 * n}', _CONV)
    yield from _pair(
      ('regulator', f'norm{n}'), f'{model}.{3 * n + 1}', _AS_IT_IS
    )
  last = f'length_regulator.model.{3 * c.regulator_layers}'
  yield from _pair(('regulator', 'out'), last, _CONV)
  yield from _estimator(c.estimator)


def _estimator(c) -> Iterator[_Name]:
  top, theirs = ('estimator',), _ESTIMATOR
  for name, number in (('time_in', 1), ('time_out', 2)):
    yield from _pair(
      (*top, name), f'{theirs}.time_mlp.linear_{number}', _LINEAR
    )
  for level in range(2):
    yield from _stage(
      (*top, f'down{level}'), f'{theirs}.down_blocks.{level}', c.blocks
    )
    yield from _stage(
      (*top, f'up{level}'), f'{theirs}.up_blocks.{level}', c.blocks
    )
  for n in range(c.middle):
    yield from _stage(
      (*top, 'middle', str(n)), f'{theirs}.mid_blocks.{n}', c.blocks
    )
  for name, place, turn in (
    ('halve', 'down_blocks.0.2.conv', _CONV),
    ('down_conv', 'down_blocks.1.2', _CONV),
    ('double', 'up_blocks.0.2.conv', _TURNED),
    ('up_conv', 'up_blocks.1.2', _CONV),
    ('project', 'final_proj', _POINT),
  ):
    yield from _pair((*top, name), f'{theirs}.{place}', turn)
  yield from _conv_block((*top, 'final'), f'{theirs}.final_block')


# Where in the yaml → the only value that is implemented.
_FIXED = {
  'encoder.input_layer': 'linear',
  'encoder.pos_enc_layer_type': 'rel_pos_espnet',
  'encoder.selfattention_layer_type': 'rel_selfattn',
  'encoder.normalize_before': True,
  'encoder.macaron_style': False,
  'encoder.use_cnn_module': False,
  'decoder.estimator.act_fn': 'gelu',
  'decoder.cfm_params.solver': 'euler',
  'decoder.cfm_params.t_scheduler': 'cosine',
}


def config_from(
  tree: Mapping[str, Any],
  state_shapes: Mapping[str, tuple[int, ...]],
  where: str = 'cosyvoice.yaml',
  padded: str = 'out',
) -> flow.FlowConfig:
  """The shape that `cosyvoice.yaml` describes.

  Args:
    tree: Its `flow` section, tags gone: sizes, `encoder`, `length_regulator`
      and `decoder` with `estimator` and `cfm_params`.
    state_shapes: Of the arrays of `flow.pt`, which alone say the vocabulary.
    where: The file, as errors name it.
    padded: See `EstimatorConfig`.

  Raises:
    UserError: A field is missing, or asks for another network.
  """

  def get(name, kind=(int, float, bool, str)):
    value: Any = tree
    for part in name.split('.'):
      # `cfm_params` may lie in an omegaconf wrapper.
      if isinstance(value, Mapping) and part not in value:
        value = value.get('content', value)
      value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, kind) or (kind is int and value is True):
      raise errors.UserError(
        f'{where}: flow.{name}: found {value!r}, expected '
        f'{"a whole number" if kind is int else "a value"}.'
      )
    return value

  for name, wanted in _FIXED.items():
    if (found := get(name)) != wanted:
      raise errors.UserError(
        f'{where}: flow.{name}: found {found!r}, expected {wanted!r}.'
      )
  channels = get('decoder.estimator.channels', (list, tuple))
  bands = get('decoder.estimator.out_channels', int)
  for name, found, wanted in (
    ('channels', list(channels), list(channels[:1]) * 2),
    ('in_channels', get('decoder.estimator.in_channels', int), 4 * bands),
  ):
    if found != wanted:
      raise errors.UserError(
        f'{where}: flow.decoder.estimator.{name}: found {found}, expected '
        f'{wanted}.'
      )
  table = 'input_embedding.weight'
  if len(state_shapes.get(table, ())) != 2:
    raise errors.UserError(
      f'{where}: {table}: found {state_shapes.get(table, "nothing")} in the '
      'weights beside it, expected a table of embeddings.'
    )
  number = (int, float)
  return flow.FlowConfig(
    vocabulary=state_shapes[table][0],
    input_width=get('input_size', int),
    token_rate=get('input_frame_rate', number),
    speaker_size=get('spk_embed_dim', int),
    encoder=flow.EncoderConfig(
      width=get('encoder.output_size', int),
      heads=get('encoder.attention_heads', int),
      mlp_width=get('encoder.linear_units', int),
      layers=get('encoder.num_blocks', int),
      dropout=get('encoder.dropout_rate', number),
    ),
    estimator=flow.EstimatorConfig(
      bands=bands,
      channels=channels[0],
      heads=get('decoder.estimator.num_heads', int),
      head_width=get('decoder.estimator.attention_head_dim', int),
      blocks=get('decoder.estimator.n_blocks', int),
      middle=get('decoder.estimator.num_mid_blocks', int),
      padded=padded,
    ),
    regulator_layers=len(
      get('length_regulator.sampling_ratios', (list, tuple))
    ),
    guidance=get('decoder.cfm_params.inference_cfg_rate', number),
    sigma=get('decoder.cfm_params.sigma_min', number),
  )


def params(state: Mapping[str, np.ndarray], config: flow.FlowConfig) -> Any:
  """Parameters of `models.flow.flow.Flow`.

  Args:
    state: Arrays under the names of `flow.pt`.
    config: Shape.

  Returns:
    Float32 parameters, blocks of one kind stacked on a leading axis.

  Raises:
    UserError: An array is missing.
  """
  state = state_lib.State(state, KIND, ROOTS)
  flat, stacks = {}, {}
  for path, theirs, (inward, _) in _names(config):
    array = np.ascontiguousarray(inward(state[theirs]))
    number = next((n for n, part in enumerate(path) if part.isdigit()), None)
    if number is None:
      flat[path] = array
    else:
      place = path[:number] + path[number + 1 :]
      stacks.setdefault(place, []).append(array)
  for place in list(stacks):  # and each layer's own copy goes
    flat[place] = np.stack(stacks.pop(place))
  return traverse_util.unflatten_dict(flat)


def state(
  tree: Mapping[str, Any], config: flow.FlowConfig
) -> dict[str, np.ndarray]:
  """The inverse of `params`: arrays under the names of `flow.pt`."""
  flat = traverse_util.flatten_dict(dict(tree))
  found = {}
  for path, theirs, (_, outward) in _names(config):
    number = next((n for n, part in enumerate(path) if part.isdigit()), None)
    if number is None:
      array = flat[path]
    else:
      array = flat[path[:number] + path[number + 1 :]][int(path[number])]
    found[theirs] = np.ascontiguousarray(outward(np.asarray(array)))
  return found


def shapes(config: flow.FlowConfig) -> dict[str, tuple[int, ...]]:
  """Every array of a `flow.pt` of this shape."""
  flat = traverse_util.flatten_dict(flow.shapes(config))
  found = {}
  for path, theirs, (_, outward) in _names(config):
    place = next((n for n, part in enumerate(path) if part.isdigit()), None)
    shape = (
      flat[path].shape
      if place is None
      else flat[path[:place] + path[place + 1 :]].shape[1:]
    )
    # The turn of an array that takes no memory.
    empty = np.broadcast_to(np.zeros((), np.float32), shape)
    found[theirs] = outward(empty).shape
  return found
