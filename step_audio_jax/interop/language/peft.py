"""LoRA adapters as a folder of Hugging Face's PEFT library.

PEFT keeps A as (r, in) and B as (out, r) of every torch linear layer, and adds
alpha / r * B A to its weight: the same scale as ours.
"""

from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.training.objectives import lora

WEIGHTS = 'adapter_model.safetensors'
CONFIG = 'adapter_config.json'

# Our kernel → their layer.
_LAYERS = {
  'attention/q': 'self_attn.q_proj',
  'attention/k': 'self_attn.k_proj',
  'attention/v': 'self_attn.v_proj',
  'attention/out': 'self_attn.o_proj',
  'mlp/gate': 'mlp.gate_proj',
  'mlp/up': 'mlp.up_proj',
  'mlp/down': 'mlp.down_proj',
}
_BLOCKS = 'transformer/blocks/'


def adapter(
  adapters: Mapping[str, Any], description: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Weights and configuration of a PEFT adapter.

  Args:
    adapters: The `params` of a LoRA run.
    description: The `lora` entry of its config.json.

  Returns:
    (arrays by PEFT's names, adapter_config.json).

  Raises:
    UserError: An adapter is on something that is no linear layer of theirs,
      or a parameter was trained in full.
  """
  if whole := lora.full_parameters(adapters):
    raise errors.UserError(
      f'lora: {next(iter(whole))} was trained in full; merge the adapters '
      'instead (leave --adapter out).'
    )
  tensors, modules = {}, set()
  for path, a, b in lora.adapter_pairs(adapters):
    ours = path.removeprefix(_BLOCKS).removesuffix('/kernel')
    if ours not in _LAYERS or not path.startswith(_BLOCKS):
      raise errors.UserError(
        f'lora: {path} is no linear layer of a Hugging Face language model; '
        'merge the adapters instead (leave --adapter out).'
      )
    theirs = _LAYERS[ours]
    modules.add(theirs.rpartition('.')[2])
    a, b = np.asarray(a), np.asarray(b)
    rank = a.shape[-1]
    for layer in range(len(a)):
      name = f'base_model.model.model.layers.{layer}.{theirs}'
      down = a[layer].reshape(-1, rank)
      up = b[layer].reshape(rank, -1)
      tensors[f'{name}.lora_A.weight'] = np.ascontiguousarray(down.T)
      tensors[f'{name}.lora_B.weight'] = np.ascontiguousarray(up.T)
  return tensors, {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'r': description['rank'],
    'lora_alpha': description['alpha'],
    'target_modules': sorted(modules),
    'lora_dropout': 0.0,
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
    'modules_to_save': None,
    'use_rslora': False,
    'use_dora': False,
  }
