"""CosyVoice's S3 tokenizer weights as this project's parameters."""

from typing import Any, Mapping

import numpy as np

from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.models.tokenizer import s3

KIND = 'speech_tokenizer_v1'
ROOTS = ('encoder', 'quantizer')  # first parts of their names
_DENSE = {
  'query': 'attn.query',
  'key': 'attn.key',
  'value': 'attn.value',
  'out': 'attn.out',
  'up': 'mlp.0',
  'down': 'mlp.2',
}
_NORMS = {'attention_norm': 'attn_ln', 'mlp_norm': 'mlp_ln'}


def encoder_params(
  state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], np.ndarray]:
  """Parameters of `models.tokenizer.s3.S3Encoder` and the codebook.

  Args:
    state: Arrays under the names of `s3tokenizer`'s state dict
      (`encoder.blocks.0.attn.query.weight`, `quantizer._codebook.embed`).

  Returns:
    Float32 parameters, blocks stacked on a leading axis; codebook (N, D).

  Raises:
    UserError: An array is missing.
  """
  state = state_lib.State(state, KIND, ROOTS)
  count = state.count('encoder.blocks.')
  params = {
    name: {
      'kernel': state[f'encoder.{name}.weight'].transpose(2, 1, 0),
      'bias': state[f'encoder.{name}.bias'],
    }
    for name in ('conv1', 'conv2')
  }
  params['positions'] = state['encoder.positional_embedding']
  blocks = {}
  for ours, theirs in _DENSE.items():
    names = [f'encoder.blocks.{i}.{theirs}' for i in range(count)]
    blocks[ours] = {
      'kernel': np.stack([state[f'{name}.weight'].T for name in names])
    }
    if f'{names[0]}.bias' in state:
      blocks[ours]['bias'] = np.stack([state[f'{n}.bias'] for n in names])
  for ours, theirs in _NORMS.items():
    names = [f'encoder.blocks.{i}.{theirs}' for i in range(count)]
    blocks[ours] = {
      'scale': np.stack([state[f'{name}.weight'] for name in names]),
      'bias': np.stack([state[f'{name}.bias'] for name in names]),
    }
  params['blocks'] = blocks
  return params, state['quantizer._codebook.embed']


def shapes(config: s3.S3Config) -> dict[str, tuple[int, ...]]:
  """Every array of a state dict that this tokenizer has, with its shape."""
  width = config.width
  found = {
    'encoder.positional_embedding': (config.positions, width),
    'quantizer._codebook.embed': (config.codes, width),
  }
  for name, into in (('conv1', config.bands), ('conv2', width)):
    found[f'encoder.{name}.weight'] = (width, into, 3)
    found[f'encoder.{name}.bias'] = (width,)
  for layer in range(config.layers):
    block = f'encoder.blocks.{layer}'
    for ours, theirs in _DENSE.items():
      out, into = width, width
      if ours == 'up':
        out = 4 * width
      elif ours == 'down':
        into = 4 * width
      found[f'{block}.{theirs}.weight'] = (out, into)
      if ours != 'key':
        found[f'{block}.{theirs}.bias'] = (out,)
    for theirs in _NORMS.values():
      found[f'{block}.{theirs}.weight'] = (width,)
      found[f'{block}.{theirs}.bias'] = (width,)
  return found
