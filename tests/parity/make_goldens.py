"""Writes tests/golden/hf_*.safetensors: tiny models and what they compute.

The ordinary suite reads them, so that it needs no torch:

    make parity-goldens

Each file holds the tensors of a model under `weights/`, in bfloat16, what went
in and what came out, and the model's config.json as metadata.
"""

import json
import pathlib

import numpy as np
from safetensors import torch as safetensors_torch
import torch

from tests.parity import peers

FOLDER = pathlib.Path(__file__).parents[1] / 'golden'

TEXT = ('llama_llama3', 'llama_dynamic', 'llama_yarn', 'qwen2', 'qwen3_tied')


def write(name, model, arrays):
  """One golden file."""
  weights = {
    f'weights/{key}': value.bfloat16().contiguous().clone()
    for key, value in model.state_dict().items()
    if value.is_floating_point()
  }
  if getattr(model.config, 'tie_word_embeddings', False):
    weights.pop('weights/lm_head.weight', None)
  arrays = {key: torch.as_tensor(value) for key, value in arrays.items()}
  config = json.loads(model.config.to_json_string(use_diff=False))
  config['architectures'] = [type(model).__name__]
  path = FOLDER / f'hf_{name}.safetensors'
  safetensors_torch.save_file(
    {**weights, **arrays}, path, {'config': json.dumps(config)}
  )
  assert path.stat().st_size < 300_000, path
  print(path.name, path.stat().st_size)


def main():
  for name in TEXT:
    model = peers.language(name)
    rng = np.random.default_rng(1)
    arrays = {}
    for length in peers.LENGTHS:
      tokens = rng.integers(0, model.config.vocab_size, (1, length))
      arrays[f'tokens/{length}'] = tokens.astype(np.int32)
      arrays[f'logits/{length}'] = peers.logits(model, tokens)
    write(name, model, arrays)
  for name in peers.VISION:
    model = peers.tower(name)
    side = model.config.image_size
    pixels = np.random.default_rng(2).integers(0, 256, (2, side, side, 3))
    mean, std = [0.5] * 3, [0.5] * 3
    if name == 'clip':
      mean = [0.48145466, 0.4578275, 0.40821073]
      std = [0.26862954, 0.26130258, 0.27577711]
    seen = peers.normalised(pixels, mean, std)
    arrays = {
      'pixels': pixels.astype(np.uint8),
      'features': peers.features(model, seen),
    }
    write(name, model, arrays)


if __name__ == '__main__':
  main()
