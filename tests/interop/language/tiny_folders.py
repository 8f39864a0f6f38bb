"""Tiny Hugging Face folders, written from nothing but the public names.

The list of names and shapes here is the oracle: it shares no code with
`interop.language`.
"""

import json

import numpy as np
from safetensors import numpy as safetensors_numpy

V, E, L, H, G, D, F = 23, 12, 3, 4, 2, 6, 7
FAMILIES = ('llama', 'qwen2', 'qwen3', 'step1')
_NAMES = {
  'llama': 'LlamaForCausalLM',
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
  'step1': 'Step1ForCausalLM',
}


def config_of(family, tied=False, **changes):
  """The object of a config.json."""
  config = {
    'architectures': [_NAMES[family]],
    'model_type': family,
    'vocab_size': V,
    'hidden_size': E,
    'intermediate_size': F,
    'num_hidden_layers': L,
    'num_attention_heads': H,
    'rms_norm_eps': 1e-5,
    'torch_dtype': 'float32',
  }
  if family == 'step1':
    config |= {'num_attention_groups': G, 'max_seq_len': 64}
  else:
    config |= {
      'num_key_value_heads': G,
      'head_dim': D,
      'hidden_act': 'silu',
      'max_position_embeddings': 64,
      'rope_theta': 10000.0,
      'tie_word_embeddings': tied,
    }
  return config | changes


def head_dim(family):
  return E // H if family == 'step1' else D


def tensors_of(family, tied=False, dtype=np.float32, seed=0):
  """Random tensors under their names."""
  rng = np.random.default_rng(seed)
  d = head_dim(family)
  shapes = {'model.embed_tokens.weight': (V, E), 'model.norm.weight': (E,)}
  if not tied:
    shapes['lm_head.weight'] = (V, E)
  for i in range(L):
    layer = {
      'input_layernorm.weight': (E,),
      'post_attention_layernorm.weight': (E,),
      'self_attn.q_proj.weight': (H * d, E),
      'self_attn.k_proj.weight': (G * d, E),
      'self_attn.v_proj.weight': (G * d, E),
      'self_attn.o_proj.weight': (E, H * d),
      'mlp.gate_proj.weight': (F, E),
      'mlp.up_proj.weight': (F, E),
      'mlp.down_proj.weight': (E, F),
    }
    if family == 'qwen2':
      for name, heads in (('q', H), ('k', G), ('v', G)):
        layer[f'self_attn.{name}_proj.bias'] = (heads * d,)
    if family == 'qwen3':
      layer |= {'self_attn.q_norm.weight': (d,)}
      layer |= {'self_attn.k_norm.weight': (d,)}
    shapes |= {f'model.layers.{i}.{n}': s for n, s in layer.items()}
  return {
    name: rng.normal(0.0, 0.5, shape).astype(dtype)
    for name, shape in shapes.items()
  }


def write(folder, config, tensors, files=1):
  """A folder of `files` safetensors files, with an index if more than one."""
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(config))
  if files == 1:
    safetensors_numpy.save_file(tensors, folder / 'model.safetensors')
    return folder
  table = {}
  for k in range(files):
    file = f'model-{k + 1:05d}-of-{files:05d}.safetensors'
    # Dealt out like cards: a layer's tensors lie in different files.
    part = {n: t for i, (n, t) in enumerate(tensors.items()) if i % files == k}
    safetensors_numpy.save_file(part, folder / file)
    table |= dict.fromkeys(part, file)
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'metadata': {}, 'weight_map': table})
  )
  return folder


def make(folder, family, *, tied=False, dtype=np.float32, files=1, **changes):
  """A whole folder; returns it and its tensors."""
  tensors = tensors_of(family, tied, dtype)
  config = config_of(family, tied, **changes)
  return write(folder, config, tensors, files), tensors
