"""FunASR's SAN-M encoder weights as this project's parameters."""

from typing import Any, Mapping

import numpy as np

from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.tokenizer import paraformer

KIND = 'SANMEncoderChunkOpt'
ROOTS = ('encoder',)  # first parts of their names
_PREFIX = 'encoder.'
_DENSE = {
  'attention.out': 'self_attn.linear_out',
  'qkv': 'self_attn.linear_q_k_v',
  'up': 'feed_forward.w_1',
  'down': 'feed_forward.w_2',
}
_NORMS = {'attention_norm': 'norm1', 'mlp_norm': 'norm2'}


def encoder_params(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Parameters of `models.tokenizer.paraformer.SanmEncoder` from a state dict.

  Args:
    state: Arrays under the names of `SANMEncoderChunkOpt`, with the prefix
      `encoder.`; other names are ignored.

  Returns:
    Float32 parameters; blocks behind the first are stacked on a leading axis.

  Raises:
    UserError: An array is missing.
  """
  state = state_lib.State(state, KIND, ROOTS)
  count = state.count(f'{_PREFIX}encoders.')
  blocks = [_block(state, f'{_PREFIX}encoders.{i}.') for i in range(count)]
  return {
    'first_block': _block(state, f'{_PREFIX}encoders0.0.'),
    'blocks': _stack(blocks),
    'final_norm': _norm(state, f'{_PREFIX}after_norm.'),
  }


def _block(state, prefix):
  tree = {}
  for ours, theirs in _DENSE.items():
    value = {
      'kernel': state[f'{prefix}{theirs}.weight'].T,
      'bias': state[f'{prefix}{theirs}.bias'],
    }
    if ours == 'attention.out':
      fsmn = state[f'{prefix}self_attn.fsmn_block.weight'][:, 0].T
      tree['attention'] = {'out': value, 'fsmn': fsmn}
    else:
      tree[ours] = value
  for ours, theirs in _NORMS.items():
    tree[ours] = _norm(state, f'{prefix}{theirs}.')
  return tree


def _norm(state, prefix):
  return {'scale': state[prefix + 'weight'], 'bias': state[prefix + 'bias']}


def _stack(trees):
  if isinstance(trees[0], dict):
    return {name: _stack([t[name] for t in trees]) for name in trees[0]}
  return np.stack(trees)


def shapes(
  config: paraformer.ParaformerConfig,
) -> dict[str, tuple[int, ...]]:
  """Every array of a state dict that this encoder has, with its shape."""
  width, found = config.width, {}
  for layer in range(config.layers):
    into = width if layer else config.input_size
    block = f'encoders.{layer - 1}' if layer else 'encoders0.0'
    sizes = {
      'self_attn.linear_q_k_v': (3 * width, into),
      'self_attn.linear_out': (width, width),
      'feed_forward.w_1': (config.mlp_width, width),
      'feed_forward.w_2': (width, config.mlp_width),
      'norm1': (into,),
      'norm2': (width,),
    }
    for name, shape in sizes.items():
      found[f'{_PREFIX}{block}.{name}.weight'] = shape
      found[f'{_PREFIX}{block}.{name}.bias'] = shape[:1]
    fsmn = f'{_PREFIX}{block}.self_attn.fsmn_block.weight'
    found[fsmn] = (width, 1, config.kernel)
  for kind in ('weight', 'bias'):
    found[f'{_PREFIX}after_norm.{kind}'] = (width,)
  return found
