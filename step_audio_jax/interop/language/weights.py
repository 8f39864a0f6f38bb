"""Weights of open language models under our names, and ours under theirs.

All four families of `configs` share one table of names. Torch keeps a linear
layer as (out, in); ours are (in…, out…) with heads as an axis of their own and
layers stacked in front. Nothing is read here: both directions give lazy arrays
in the dtype of their source.

Axes: L layers, E width, H heads, G key/value groups, D head width, F
feed-forward width, V vocabulary.
"""

import dataclasses
from typing import Any, Mapping

from flax import traverse_util
import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.language import transformer
from step_audio_jax.storage import lazy

ROOT = 'params/transformer/'
EMBEDDING = 'model.embed_tokens.weight'
HEAD = 'lm_head.weight'
_LAYER = 'model.layers.{}.'
# First parts of names, behind `model.`.
_ROOTS = ('embed_tokens', 'layers', 'norm', 'rotary_emb', 'lm_head')


@dataclasses.dataclass(frozen=True)
class Entry:
  """One parameter of ours and its tensors.

  Attributes:
    path: Ours, behind `ROOT`.
    name: Theirs; with a {} for the layer where there is one tensor a layer.
    shape: Ours, without the layers.
    order: Their matrix is ours with its axes in this order,
    split: the first so many of them folded into rows, the rest into columns.
  """

  path: str
  name: str
  shape: tuple[int, ...]
  order: tuple[int, ...]
  split: int

  @property
  def layered(self) -> bool:
    return '{}' in self.name

  @property
  def matrix(self) -> tuple[int, ...]:
    """Shape of their tensor."""
    blank = np.broadcast_to(np.float32(0), self.shape)
    return lazy.Matrix(blank, self.order, self.split).shape


def entries(config: transformer.TransformerConfig) -> list[Entry]:
  """Every parameter of a backbone."""
  c = config
  E, H, G, D, F = c.width, c.heads, c.kv_heads, c.head_dim, c.mlp_width
  table = (c.vocab_size, E)
  out = [Entry('embedding', EMBEDDING, table, (0, 1), 1)]

  def add(path, name, shape, order, split):
    out.append(Entry('blocks/' + path, _LAYER + name, shape, order, split))

  add('attention_norm/scale', 'input_layernorm.weight', (E,), (0,), 1)
  for name, heads in (('q', H), ('k', G), ('v', G)):
    theirs = f'self_attn.{name}_proj.'
    path = f'attention/{name}/'
    add(path + 'kernel', theirs + 'weight', (E, heads, D), (1, 2, 0), 2)
    if c.qkv_bias:
      add(path + 'bias', theirs + 'bias', (heads, D), (0, 1), 2)
  out_name = 'self_attn.o_proj.weight'
  add('attention/out/kernel', out_name, (H, D, E), (2, 0, 1), 1)
  if c.qk_norm:
    for name in ('q_norm', 'k_norm'):
      theirs = f'self_attn.{name}.weight'
      add(f'attention/{name}/scale', theirs, (D,), (0,), 1)
  add('mlp_norm/scale', 'post_attention_layernorm.weight', (E,), (0,), 1)
  for name, shape in (('gate', (E, F)), ('up', (E, F)), ('down', (F, E))):
    add(f'mlp/{name}/kernel', f'mlp.{name}_proj.weight', shape, (1, 0), 1)
  out.append(Entry('final_norm/scale', 'model.norm.weight', (E,), (0,), 1))
  if not c.tied_head:
    out.append(Entry('head', HEAD, table, (0, 1), 1))
  return out


def variables(
  config: transformer.TransformerConfig, tensors: Mapping[str, Any], where: str
) -> dict[str, Any]:
  """Their tensors as our variables, unread.

  Args:
    config: Of the backbone.
    tensors: Arrays by their names.
    where: The folder, for messages.

  Returns:
    {'params': {'transformer': …}} of lazy arrays.

  Raises:
    UserError: A tensor is missing, unexpected or has another shape or dtype
      than the configuration says.
  """
  tensors = _own_names(tensors, where)
  left = dict(tensors)

  def take(entry, name):
    if name not in left:
      raise errors.UserError(
        f'{where}: tensor {name!r} is missing; expected one of shape '
        f'{entry.matrix}.'
      )
    tensor = left.pop(name)
    if tuple(tensor.shape) != entry.matrix:
      raise errors.UserError(
        f'{_place(tensor, where)}: tensor {name!r} has shape '
        f'{tuple(tensor.shape)}, expected {entry.matrix}.'
      )
    return tensor

  flat = {}
  for entry in entries(config):
    count = config.layers if entry.layered else 1
    parts = []
    for layer in range(count):
      tensor = take(entry, entry.name.format(layer))
      if parts and tensor.dtype != parts[0].dtype:
        raise errors.UserError(
          f'{_place(tensor, where)}: tensor {entry.name.format(layer)!r} is '
          f'{tensor.dtype}, expected {parts[0].dtype} as in layer 0.'
        )
      parts.append(tensor)
    parts = [
      lazy.Folded(part, entry.shape, entry.order, entry.split) for part in parts
    ]
    whole = lazy.Stacked(parts) if entry.layered else parts[0]
    flat[ROOT + entry.path] = whole
  if config.tied_head and HEAD in left:
    _check_tied(left.pop(HEAD), tensors[EMBEDDING], where)
  for name, tensor in left.items():
    # Buffers of old files: computed from the configuration.
    if not name.endswith('.rotary_emb.inv_freq'):
      raise errors.UserError(
        f'{_place(tensor, where)}: tensor {name!r} is unexpected; no model of '
        'this configuration has it.'
      )
  return traverse_util.unflatten_dict(flat, sep='/')


def tensors(
  config: transformer.TransformerConfig, tree: Mapping[str, Any]
) -> dict[str, Any]:
  """Our variables as their tensors, unread.

  They come layer by layer, as everybody has them; weight by weight where the
  checkpoint keeps several layers in one chunk, which is then decoded once.

  Args:
    config: Of the backbone.
    tree: Variables with `params/transformer`.

  Raises:
    UserError: A parameter is missing or has another shape than the
      configuration says.
  """
  flat = traverse_util.flatten_dict(dict(tree), sep='/')
  table = entries(config)

  def array(entry):
    path = ROOT + entry.path
    shape = ((config.layers,) if entry.layered else ()) + entry.shape
    if path not in flat:
      raise errors.UserError(f'model: parameter {path} is missing.')
    if tuple(flat[path].shape) != shape:
      raise errors.UserError(
        f'model: parameter {path} has shape {tuple(flat[path].shape)}, '
        f'expected {shape}.'
      )
    return flat[path]

  def matrix(entry, value):
    return lazy.Matrix(value, entry.order, entry.split)

  arrays = {entry.path: array(entry) for entry in table}
  layered = [entry for entry in table if entry.layered]
  rest = [entry for entry in table if not entry.layered]
  out = {EMBEDDING: matrix(rest[0], arrays[rest[0].path])}
  order = [(e, layer) for layer in range(config.layers) for e in layered]
  if any(getattr(arrays[e.path], 'in_order', False) for e in layered):
    order = [(e, layer) for e in layered for layer in range(config.layers)]
  for entry, layer in order:
    value = lazy.Layer(arrays[entry.path], layer)
    out[entry.name.format(layer)] = matrix(entry, value)
  for entry in rest[1:]:
    out[entry.name] = matrix(entry, arrays[entry.path])
  return out


def _own_names(tensors, where) -> dict[str, Any]:
  """Tensors by the names of `entries`, without what was wrapped around them.

  A backbone that was saved alone has no `model.`, one inside others has more.
  """
  found = state_lib.find_names(tensors, _ROOTS, where=where)
  out = {}
  for own, name in found.items():
    ours = own.partition('.')[0] in _ROOTS and not own.startswith('lm_head.')
    out[f'model.{own}' if ours else own] = tensors[name]
  return out


def _check_tied(head, embedding, where):
  """A tied model may carry its head again, if it is the same table."""
  same = head.shape == embedding.shape and head.dtype == embedding.dtype
  if not same or any(
    not np.array_equal(head[index], embedding[index])
    for index in lazy.blocks(head, 2**26)
  ):
    raise errors.UserError(
      f'{_place(head, where)}: tensor {HEAD!r} differs from {EMBEDDING!r}, '
      'expected the same table: config.json says tie_word_embeddings.'
    )


def _place(tensor, where) -> str:
  return str(getattr(tensor, 'file', where))
