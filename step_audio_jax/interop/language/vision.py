"""SigLIP's and CLIP's image encoders as parameters of `models.language.vision`.

Read are the vision towers of `SiglipModel`, `SiglipVisionModel`, `CLIPModel`
and `CLIPVisionModel`. Kept is what gives a feature to every patch: SigLIP's
last norm is kept and its pooling head dropped; CLIP's last norm belongs to its
pooled token, and goes with it.

Axes: W width, 3W queries, keys and values, head by head.
"""

from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.models.language import vision

# `config.json` of the tower: model_type → architecture.
_KINDS = {
  'siglip': 'siglip',
  'siglip_vision_model': 'siglip',
  'clip': 'clip',
  'clip_vision_model': 'clip',
}
_ACTIVATIONS = {
  'gelu_pytorch_tanh': 'gelu',
  'gelu': 'exact_gelu',
  'quick_gelu': 'quick_gelu',
}
# Statistics of the pixels that CLIP was trained on (its preprocessor config).
_CLIP_PIXELS = {
  'pixel_mean': (0.48145466, 0.4578275, 0.40821073),
  'pixel_std': (0.26862954, 0.26130258, 0.27577711),
}
_DENSE = {
  'out': 'self_attn.out_proj',
  'up': 'mlp.fc1',
  'down': 'mlp.fc2',
}
_NORMS = {'attention_norm': 'layer_norm1', 'mlp_norm': 'layer_norm2'}


def is_vision(config: Mapping[str, Any]) -> bool:
  """Whether a `config.json` describes a tower that can be read here."""
  return config.get('model_type') in _KINDS


def read_config(
  config: Mapping[str, Any], where: str = 'config.json'
) -> vision.VisionConfig:
  """A `config.json` as our configuration.

  Raises:
    UserError: A field is missing, or the activation is unknown.
  """
  clip = _KINDS[config['model_type']] == 'clip'
  tower = config.get('vision_config') or config
  defaults = {
    'hidden_size': 768,
    'intermediate_size': 3072,
    'num_hidden_layers': 12,
    'num_attention_heads': 12,
    'image_size': 224,
    'patch_size': 32 if clip else 16,
    'layer_norm_eps': 1e-5 if clip else 1e-6,
    'hidden_act': 'quick_gelu' if clip else 'gelu_pytorch_tanh',
  }
  # null is the default, as theirs.
  values = {
    name: value if tower.get(name) is None else tower[name]
    for name, value in defaults.items()
  }
  for name, value in values.items():
    if not isinstance(value, type(defaults[name])):
      raise errors.UserError(
        f'{where}: {name} is {value!r}, expected such as {defaults[name]!r}.'
      )
  if values['hidden_act'] not in _ACTIVATIONS:
    raise errors.UserError(
      f'{where}: hidden_act is {values["hidden_act"]!r}, expected one of '
      f'{", ".join(_ACTIVATIONS)}.'
    )
  return vision.VisionConfig(
    image_size=values['image_size'],
    patch_size=values['patch_size'],
    width=values['hidden_size'],
    layers=values['num_hidden_layers'],
    heads=values['num_attention_heads'],
    mlp_width=values['intermediate_size'],
    activation=_ACTIVATIONS[values['hidden_act']],
    norm_eps=values['layer_norm_eps'],
    class_token=clip,
    pre_norm=clip,
    final_norm=not clip,
    patch_bias=not clip,
    crop=bool(values['image_size'] % values['patch_size']),
    **(_CLIP_PIXELS if clip else {}),
  )


def variables(
  config: vision.VisionConfig, tensors: Mapping[str, Any], where: str
) -> dict[str, Any]:
  """The tower's tensors as float32 variables.

  Args:
    config: Of the encoder.
    tensors: Arrays by their names; a text tower beside it is not looked at.
    where: The folder, for messages.

  Returns:
    {'params': {'vision': …}}, in the dtype of the tensors.

  Raises:
    UserError: A tensor is missing or has another shape than expected.
  """
  c = config
  prefix = 'vision_model.'
  if not any(name.startswith(prefix) for name in tensors):
    prefix = ''

  def take(name, *shape):
    name = prefix + name
    if name not in tensors:
      raise errors.UserError(
        f'{where}: tensor {name!r} is missing; expected one of shape {shape}.'
      )
    if tuple(tensors[name].shape) != shape:
      raise errors.UserError(
        f'{getattr(tensors[name], "file", where)}: tensor {name!r} has shape '
        f'{tuple(tensors[name].shape)}, expected {shape}.'
      )
    return np.asarray(tensors[name])

  def norm(name):
    return {
      'scale': take(f'{name}.weight', c.width),
      'bias': take(f'{name}.bias', c.width),
    }

  def dense(name, fan_in, fan_out):
    return {
      'kernel': take(f'{name}.weight', fan_out, fan_in).T,
      'bias': take(f'{name}.bias', fan_out),
    }

  kernel = take(
    'embeddings.patch_embedding.weight', c.width, 3, c.patch_size, c.patch_size
  )
  params = {
    'patch': {'kernel': kernel.transpose(2, 3, 1, 0).reshape(-1, c.width)},
    'positions': take(
      'embeddings.position_embedding.weight',
      c.patches + c.class_token,
      c.width,
    ),
  }
  if c.patch_bias:
    params['patch']['bias'] = take('embeddings.patch_embedding.bias', c.width)
  if c.class_token:
    params['class_token'] = take('embeddings.class_embedding', c.width)[None]
  if c.pre_norm:
    params['pre_norm'] = norm('pre_layrnorm')
  if c.final_norm:
    params['final_norm'] = norm('post_layernorm')
  sizes = {
    'out': (c.width, c.width),
    'up': (c.width, c.mlp_width),
    'down': (c.mlp_width, c.width),
  }
  for i in range(c.layers):
    name = f'encoder.layers.{i}.'
    block = {
      ours: dense(name + theirs, *sizes[ours])
      for ours, theirs in _DENSE.items()
    }
    block |= {ours: norm(name + theirs) for ours, theirs in _NORMS.items()}
    parts = [
      dense(f'{name}self_attn.{part}_proj', c.width, c.width) for part in 'qkv'
    ]
    block['qkv'] = {
      leaf: _head_by_head([part[leaf] for part in parts], c.heads)
      for leaf in ('kernel', 'bias')
    }
    params[f'block_{i}'] = block
  return {'params': {'vision': params}}


def _head_by_head(parts, heads):
  """q, k and v (…, W) → (…, 3W): each head's own three side by side."""
  lead = parts[0].shape[:-1]
  split = [part.reshape(*lead, heads, -1) for part in parts]
  return np.concatenate(split, -1).reshape(*lead, -1)
