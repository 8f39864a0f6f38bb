"""The Llamas of the comparisons: one configuration, both sides' models.

Our initial weights are written as a Hugging Face folder, by the library's own
export, and the peer reads them from there: both sides start from the same
numbers. Embedding and head rows are scaled up, so that greedy choices are not
near ties.
"""

import json
import pathlib
from typing import Any

import numpy as np

# Size → TransformerConfig, a Llama 3 in small; untied head.
SIZES = {
  '25M': dict(
    vocab_size=8192,
    width=512,
    layers=6,
    heads=8,
    kv_heads=4,
    mlp_width=1280,
  ),
  '100M': dict(
    vocab_size=16384,
    width=768,
    layers=12,
    heads=12,
    kv_heads=4,
    mlp_width=2048,
  ),
  'tiny': dict(
    vocab_size=5248,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    mlp_width=48,
  ),
}
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP = 1e-4, (0.9, 0.95), 0.1, 1.0
# Kept for the backward pass: what a matrix product or attention gave. Norms,
# the gate's silu and rotations are cheaper to compute again than to store.
REMAT = (
  'query',
  'key',
  'value',
  'attention_out',
  'attention_lse',
  'attention_projected',
  'mlp_gate',
  'mlp_up',
)


def ours(shape: str | dict[str, Any], **changes: Any):
  """(SpeechTextModel, Vocabulary) of a size or of a TransformerConfig's fields.

  `changes` are fields too, and win.
  """
  from step_audio_jax import vocabulary as vocabulary_lib
  from step_audio_jax.models.language import speech_text

  fields = SIZES[shape] if isinstance(shape, str) else shape
  config = speech_text.TransformerConfig(
    **({'position': 'rope'} | fields | changes)
  )
  speech = vocabulary_lib.Vocabulary(text_size=128).end - 128
  vocabulary = vocabulary_lib.Vocabulary(text_size=config.vocab_size - speech)
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
  return model, vocabulary


def scaled(variables: Any) -> Any:
  """Variables with tables of unit size."""
  params = variables['params']
  tables = dict(params['transformer'])
  for name in ('embedding', 'head'):
    if name in tables:  # a tied head has no rows of its own
      tables[name] = tables[name] * 5.0
  return {**variables, 'params': {**params, 'transformer': tables}}


def write(config: Any, variables: Any, folder: pathlib.Path) -> None:
  """Our weights as a folder that `transformers` reads."""
  import jax

  from step_audio_jax.interop.language import configs
  from step_audio_jax.interop.language import weights
  from step_audio_jax.storage import shards

  folder.mkdir(parents=True, exist_ok=True)
  host = jax.tree.map(np.asarray, variables)
  shards.write_folder(folder, weights.tensors(config, host), 2**31)
  found = configs.write(config, 'float32', max_length=4096)
  (folder / 'config.json').write_text(json.dumps(found))


def peer(folder: pathlib.Path, threads: int):
  """The same model as LlamaForCausalLM, float32."""
  import torch
  import transformers

  transformers.logging.set_verbosity_error()
  torch.set_num_threads(threads)
  return transformers.LlamaForCausalLM.from_pretrained(
    folder, dtype=torch.float32
  )


def peer_optimizer(model: Any):
  """AdamW in one fused kernel, the fastest torch has; norms do not decay."""
  import torch

  groups = [
    {'params': [p for p in model.parameters() if p.ndim > 1]},
    {
      'params': [p for p in model.parameters() if p.ndim < 2],
      'weight_decay': 0.0,
    },
  ]
  return torch.optim.AdamW(
    groups,
    lr=LEARNING_RATE,
    betas=BETAS,
    weight_decay=WEIGHT_DECAY,
    fused=True,
  )
