"""Tiny models of `transformers` with random weights, and what they compute.

Used by the parity tests and by `make_goldens.py`; nothing else imports torch.
"""

import torch
import transformers

_TEXT = {
  'vocab_size': 61,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 64,
}
_LLAMA = transformers.LlamaConfig
_QWEN2 = transformers.Qwen2Config
_QWEN3 = transformers.Qwen3Config
_WINDOW = 'original_max_position_embeddings'

# Name → (configuration class, what differs from _TEXT).
LANGUAGE = {
  'llama': (_LLAMA, {'rms_norm_eps': 1e-5}),
  'llama_tied': (_LLAMA, {'tie_word_embeddings': True, 'head_dim': 12}),
  'llama_llama3': (
    _LLAMA,
    {
      'rope_theta': 5e5,
      'rope_scaling': {
        'rope_type': 'llama3',
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        _WINDOW: 16,
      },
    },
  ),
  'llama_linear': (
    _LLAMA,
    {'rope_scaling': {'rope_type': 'linear', 'factor': 4.0}},
  ),
  'llama_dynamic': (
    _LLAMA,
    {
      'rope_scaling': {'rope_type': 'dynamic', 'factor': 4.0},
      'max_position_embeddings': 12,
    },
  ),
  'llama_yarn': (
    _LLAMA,
    {'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0, _WINDOW: 12}},
  ),
  'qwen2': (_QWEN2, {}),
  'qwen2_tied': (_QWEN2, {'tie_word_embeddings': True, 'rope_theta': 1e6}),
  'qwen3': (_QWEN3, {'head_dim': 16}),
  'qwen3_tied': (_QWEN3, {'head_dim': 16, 'tie_word_embeddings': True}),
}
# Ragged: below, at and beyond the windows above.
LENGTHS = (1, 7, 12, 33)

_TOWER = {
  'hidden_size': 24,
  'intermediate_size': 40,
  'num_hidden_layers': 2,
  'num_attention_heads': 3,
}
VISION = {
  'siglip': (
    transformers.SiglipVisionConfig,
    transformers.SiglipVisionModel,
    {'image_size': 20, 'patch_size': 4},
  ),
  'siglip_cropped': (
    transformers.SiglipVisionConfig,
    transformers.SiglipVisionModel,
    {'image_size': 19, 'patch_size': 4},
  ),
  'clip': (
    transformers.CLIPVisionConfig,
    transformers.CLIPVisionModel,
    {'image_size': 15, 'patch_size': 5},
  ),
}


def randomise(model, seed=0):
  """Weights that no initialiser would give, in bfloat16's precision."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      noise = torch.randn(parameter.shape, generator=generator)
      scale = 1.0 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.3
      center = 1.0 if name.endswith('norm.weight') else 0.0
      parameter.copy_((center + scale * noise).bfloat16().float())
  return model.eval()


def language(name):
  """A language model by its name in `LANGUAGE`."""
  kind, changes = LANGUAGE[name]
  config = kind(**{**_TEXT, **changes})
  return randomise(transformers.AutoModelForCausalLM.from_config(config))


def logits(model, tokens):
  """Its logits of (B, T) ids, as numpy."""
  with torch.no_grad():
    return model(torch.as_tensor(tokens, dtype=torch.long)).logits.numpy()


def tower(name):
  """An image encoder by its name in `VISION`."""
  kind, model, changes = VISION[name]
  return randomise(model(kind(**{**_TOWER, **changes})))


def normalised(pixels, mean, std):
  """uint8 (B, H, W, 3) → what their processors give, (B, 3, H, W)."""
  x = torch.as_tensor(pixels).float() / 255.0
  x = (x - torch.tensor(mean)) / torch.tensor(std)
  return x.permute(0, 3, 1, 2)


def features(model, pixel_values):
  """Their last hidden state, (B, patches and perhaps a class token, W)."""
  with torch.no_grad():
    return model(pixel_values=pixel_values).last_hidden_state.numpy()
