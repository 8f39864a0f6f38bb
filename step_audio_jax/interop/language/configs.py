"""Hugging Face's `config.json` of a language model ↔ TransformerConfig.

Four families: `LlamaForCausalLM` (Llama 2 to 3.2), `Qwen2ForCausalLM` (2 and
2.5), `Qwen3ForCausalLM` (dense) and `Step1ForCausalLM` (Step-Audio-TTS-3B,
-Chat, -EditX). What our transformer cannot express is refused: a model that
loads and computes something else is worse than none.
"""

import math
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.models import rope
from step_audio_jax.models.language import transformer

STEP1 = 'Step1ForCausalLM'
LLAMA = 'LlamaForCausalLM'
QWEN2 = 'Qwen2ForCausalLM'
QWEN3 = 'Qwen3ForCausalLM'
FAMILIES = {LLAMA: 'llama', QWEN2: 'qwen2', QWEN3: 'qwen3', STEP1: 'step1'}

# Their name → ours, where the value needs no thought.
_PLAIN = {
  'vocab_size': 'vocab_size',
  'hidden_size': 'width',
  'num_hidden_layers': 'layers',
  'num_attention_heads': 'heads',
  'intermediate_size': 'mlp_width',
}
# Fields of rope_scaling, theirs → ours.
_SCALING = {
  'factor': 'factor',
  'original_max_position_embeddings': 'original_length',
  'low_freq_factor': 'low_frequency_factor',
  'high_freq_factor': 'high_frequency_factor',
  'beta_fast': 'beta_fast',
  'beta_slow': 'beta_slow',
  'attention_factor': 'attention_factor',
}
_USED = {
  'linear': ('factor',),
  'dynamic': ('factor', 'original_max_position_embeddings'),
  'llama3': tuple(_SCALING)[:4],
  'yarn': ('factor', 'original_max_position_embeddings', *tuple(_SCALING)[4:]),
}
# Switches of theirs that must be off, with the values that mean so.
_OFF = {
  'mlp_bias': (False, None),
  'use_sliding_window': (False, None),
  'num_experts': (0, None),
  'num_local_experts': (0, None),
  'moe_num_experts': (0, None),
  'quantization_config': (None,),
  'pretraining_tp': (0, 1, None),
}


def family(config: Mapping[str, Any], where: str) -> str:
  """The architecture of a `config.json`, one of `FAMILIES`.

  Raises:
    UserError: It is another one.
  """
  names = config.get('architectures') or [None]
  if len(names) != 1 or names[0] not in FAMILIES:
    raise errors.UserError(
      f'{where}: architectures is {names}, expected one of '
      f'{", ".join(FAMILIES)}.'
    )
  return names[0]


def read(
  config: Mapping[str, Any], where: str = 'config.json'
) -> transformer.TransformerConfig:
  """A `config.json` as our configuration.

  Args:
    config: The file's object.
    where: Its path, for messages.

  Raises:
    UserError: A field is missing or malformed, or the model is one that our
      transformer cannot express.
  """
  kind = family(config, where)
  for name, fine in _OFF.items():
    if name in config and config[name] not in fine:
      raise _refusal(where, name, config[name], fine[0])
  if config.get('hidden_act') not in (None, 'silu', 'swish'):
    raise _refusal(where, 'hidden_act', config['hidden_act'], 'silu')
  if kind != QWEN2 and config.get('attention_bias'):
    raise _refusal(where, 'attention_bias', True, False)
  types = set(config.get('layer_types') or ()) - {'full_attention'}
  if types:
    raise _refusal(where, 'layer_types', sorted(types), 'full_attention alone')
  # Without the switch, a window of Mistral's kind is in use where it is given.
  if kind == LLAMA and config.get('sliding_window'):
    raise _refusal(where, 'sliding_window', config['sliding_window'], None)
  groups = 'num_attention_groups' if kind == STEP1 else 'num_key_value_heads'
  heads = _number(config, 'num_attention_heads', where)
  fields = {
    ours: _number(config, theirs, where) for theirs, ours in _PLAIN.items()
  }
  fields['kv_heads'] = (
    heads if config.get(groups) is None else _number(config, groups, where)
  )
  fields['norm_eps'] = _number(
    config, 'rms_norm_eps', where, float, 1e-5 if kind == STEP1 else 1e-6
  )
  if config.get('head_dim') is not None:
    fields['head_dim'] = _number(config, 'head_dim', where)
  elif kind == QWEN3:
    fields['head_dim'] = 128
  tied = config.get('tie_word_embeddings') or False
  if not isinstance(tied, bool):
    raise errors.UserError(
      f'{where}: tie_word_embeddings is {tied!r}, expected true or false.'
    )
  if kind == STEP1:
    if tied:
      raise _refusal(where, 'tie_word_embeddings', True, False)
    return transformer.TransformerConfig(**fields, position='sqrt_alibi')
  return transformer.TransformerConfig(
    **fields,
    position='rope',
    tied_head=bool(tied),
    qkv_bias=kind == QWEN2,
    qk_norm=kind == QWEN3,
    **_rope(config, where),
  )


def _rope(config, where) -> dict[str, Any]:
  """rope_theta and rope_scaling, from either of the two ways to write them."""
  scaling = config.get('rope_parameters') or config.get('rope_scaling') or {}
  if not isinstance(scaling, Mapping):
    raise _refusal(where, 'rope_scaling', scaling, 'an object')
  if 'full_attention' in scaling:
    raise _refusal(
      where, 'rope_parameters', 'one a kind of layer', 'one for all'
    )
  given = scaling if scaling.get('rope_theta') is not None else config
  out = {'rope_theta': _number(given, 'rope_theta', where, float, 10_000.0)}
  for part in (config, scaling):
    name = 'partial_rotary_factor'
    if part.get(name) not in (None, 1, 1.0):
      raise _refusal(where, name, part[name], 1.0)
  kind = scaling.get('rope_type') or scaling.get('type') or 'default'
  if kind == 'default':
    return out
  if kind not in rope.KINDS:
    raise _refusal(where, 'rope_type', kind, ' or '.join(rope.KINDS))
  for name in ('mscale', 'mscale_all_dim'):
    if scaling.get(name):
      raise _refusal(where, f'rope_scaling.{name}', scaling[name], None)
  if scaling.get('truncate') not in (None, True):
    raise _refusal(where, 'rope_scaling.truncate', False, True)
  length = _number(config, 'max_position_embeddings', where, int, 0)
  known = {
    'original_max_position_embeddings': length,
    **{name: value for name, value in scaling.items() if value is not None},
  }
  trained = known['original_max_position_embeddings']
  if kind == 'dynamic':  # the reference reads the trained length there
    known['original_max_position_embeddings'] = length
  elif kind == 'yarn' and length and trained:
    known.setdefault('factor', length / trained)
  fields = {
    _SCALING[name]: _number(
      known, name, f'{where}, rope_scaling', int if 'max_p' in name else float
    )
    for name in _USED[kind]
    if name in known
  }
  if 'factor' not in fields:
    raise _refusal(where, 'rope_scaling.factor', None, 'a number')
  return out | {'rope_scaling': rope.RopeScaling(kind=kind, **fields)}


def write(
  config: transformer.TransformerConfig,
  dtype: str,
  origin: Mapping[str, Any] | None = None,
  max_length: int = 0,
) -> dict[str, Any]:
  """Our configuration as a `config.json`.

  Args:
    config: Of the backbone.
    dtype: Of the tensors, as torch calls it.
    origin: The file that the model came from; what we do not know about
      (ids of special tokens, say) is taken from there.
    max_length: Tokens the model is made for; the origin's, or 32768, if 0.

  Raises:
    UserError: None of the families is such a model.
  """
  kind = _family_of(config)
  out = dict(origin or {})
  for name in ('rope_parameters', 'rope_scaling', 'rope_theta', 'dtype'):
    out.pop(name, None)
  out |= {theirs: getattr(config, ours) for theirs, ours in _PLAIN.items()}
  out |= {
    'architectures': [kind],
    'model_type': FAMILIES[kind],
    'rms_norm_eps': config.norm_eps,
    'tie_word_embeddings': config.tied_head,
    'torch_dtype': dtype,
    'hidden_act': 'silu',
  }
  length_name = 'max_seq_len' if kind == STEP1 else 'max_position_embeddings'
  out[length_name] = max_length or out.get(length_name) or 32768
  if kind == STEP1:
    del out['hidden_act']
    return out | {'num_attention_groups': config.kv_heads}
  out |= {
    'num_key_value_heads': config.kv_heads,
    'head_dim': config.head_dim,
    'rope_theta': config.rope_theta,
    'rope_scaling': None,
  }
  if kind != QWEN2:
    out['attention_bias'] = False
  if kind == LLAMA:
    out['mlp_bias'] = False
  if config.rope_scaling is not None:
    scaling = config.rope_scaling
    out['rope_scaling'] = {'rope_type': scaling.kind} | {
      name: getattr(scaling, _SCALING[name])
      for name in _USED[scaling.kind]
      if name != 'attention_factor' or scaling.attention_factor
    }
    if scaling.kind == 'dynamic':
      out['max_position_embeddings'] = scaling.original_length
  return out


def _family_of(config) -> str:
  if config.position == 'sqrt_alibi':
    odd = [
      name
      for name in ('tied_head', 'qkv_bias', 'qk_norm')
      if getattr(config, name)
    ]
    if odd or config.head_dim * config.heads != config.width:
      raise errors.UserError(
        f'model: a sqrt-ALiBi model with {odd[0] if odd else "its head_dim"} '
        f'is not what {STEP1} describes.'
      )
    return STEP1
  if config.qkv_bias and config.qk_norm:
    raise errors.UserError(
      'model: qkv_bias and qk_norm together are in none of '
      f'{", ".join(FAMILIES)}.'
    )
  return QWEN2 if config.qkv_bias else QWEN3 if config.qk_norm else LLAMA


def _refusal(where, name, found, expected) -> errors.UserError:
  return errors.UserError(
    f'{where}: {name} is {found!r}, which this transformer cannot express; '
    f'expected {expected!r}.'
  )


def _number(config, name, where, kind=int, default=None):
  value = config.get(name)
  value = default if value is None else value  # null is the default, as theirs
  fine = isinstance(value, (int, float)) and not isinstance(value, bool)
  fine = fine and math.isfinite(value)
  if not fine or (kind is int and value != int(value)):
    raise errors.UserError(
      f'{where}: {name} is {value!r}, expected '
      f'{"a whole number" if kind is int else "a number"}.'
    )
  return kind(value)
