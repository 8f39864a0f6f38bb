"""gin/models of open language models: published sizes, published configs."""

import json
import pathlib

import pytest

from step_audio_jax.commands import gin_files
from step_audio_jax.interop.language import configs

ROOT = pathlib.Path(__file__).parents[3]

# File → (rows of its own vocabulary, published number of parameters).
SIZES = {
  'llama3_8b': (128_256, 8_030_261_248),
  'llama31_8b': (128_256, 8_030_261_248),
  'llama32_1b': (128_256, 1_235_814_400),
  'llama32_3b': (128_256, 3_212_749_824),
  'smollm2_135m': (49_152, 134_515_008),
  'qwen25_05b': (151_936, 494_032_768),
  'qwen25_7b': (152_064, 7_615_616_512),
  'qwen3_06b': (151_936, 596_049_920),
  'qwen3_8b': (151_936, 8_190_735_360),
}


def probe(config):
  return config


def config_of(name):
  call = gin_files.configure(
    [f'gin/models/{name}.gin'],
    [
      f'VOCAB_SIZE = {SIZES[name][0]}',
      "TEXT_MODEL = 'unread'",
      f'{__name__}.probe.config = @transformer.TransformerConfig()',
    ],
    probe,
  )
  return call()


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  config = config_of(name)
  rows, parameters = SIZES[name]
  assert config.parameters == parameters
  text = (ROOT / f'gin/models/{name}.gin').read_text()
  assert f'{parameters:,} parameters' in text and f'{rows:,} rows' in text
  assert f'\nTEXT_ROWS = {rows}\n' in text


def test_every_preset_is_looked_at():
  found = {
    path.stem
    for path in (ROOT / 'gin/models').glob('*.gin')
    if 'open_llm.gin' in path.read_text()
  }
  assert found == set(SIZES)


def test_a_preset_is_what_its_folder_says():
  """Qwen2.5-7B's published config.json."""
  theirs = {
    'architectures': ['Qwen2ForCausalLM'],
    'attention_dropout': 0.0,
    'hidden_act': 'silu',
    'hidden_size': 3584,
    'intermediate_size': 18944,
    'max_position_embeddings': 131072,
    'max_window_layers': 28,
    'model_type': 'qwen2',
    'num_attention_heads': 28,
    'num_hidden_layers': 28,
    'num_key_value_heads': 4,
    'rms_norm_eps': 1e-06,
    'rope_theta': 1000000.0,
    'sliding_window': 131072,
    'tie_word_embeddings': False,
    'use_sliding_window': False,
    'vocab_size': 152064,
  }
  ours, read = config_of('qwen25_7b'), configs.read(theirs)
  free = {'dtype': 'float32', 'remat': 'none'}
  assert read == type(ours)(**{**vars(ours), **free})
  assert json.dumps(configs.write(ours, 'bfloat16'))
