"""config.json of the four families, there and back; what is refused."""

import dataclasses

import pytest

from step_audio_jax import errors
from step_audio_jax.interop.language import configs
from step_audio_jax.models import rope
from step_audio_jax.models.language import transformer
from tests.interop.language.tiny_folders import FAMILIES
from tests.interop.language.tiny_folders import config_of

SCALINGS = {
  'linear': {'rope_type': 'linear', 'factor': 2.0},
  'dynamic': {'type': 'dynamic', 'factor': 3.0},
  'llama3': {
    'rope_type': 'llama3',
    'factor': 32.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
  },
  'yarn': {
    'rope_type': 'yarn',
    'factor': 4.0,
    'original_max_position_embeddings': 32,
    'beta_fast': 16,
    'attention_factor': 1.25,
  },
}


def test_published_configurations():
  """The numbers of Llama-3.2-1B and of Step-Audio-Chat."""
  llama = configs.read(
    {
      'architectures': ['LlamaForCausalLM'],
      'attention_bias': False,
      'head_dim': 64,
      'hidden_act': 'silu',
      'hidden_size': 2048,
      'intermediate_size': 8192,
      'max_position_embeddings': 131072,
      'mlp_bias': False,
      'num_attention_heads': 32,
      'num_hidden_layers': 16,
      'num_key_value_heads': 8,
      'pretraining_tp': 1,
      'rms_norm_eps': 1e-05,
      'rope_scaling': SCALINGS['llama3'],
      'rope_theta': 500000.0,
      'tie_word_embeddings': True,
      'vocab_size': 128256,
    }
  )
  assert llama.parameters == 1_235_814_400
  assert llama.rope_scaling == rope.RopeScaling('llama3', 32.0, 8192, 1.0, 4.0)
  assert llama.tied_head and llama.rope_theta == 5e5 and llama.norm_eps == 1e-5
  step1 = configs.read(
    {
      'architectures': ['Step1ForCausalLM'],
      'hidden_size': 12288,
      'intermediate_size': 31232,
      'num_attention_heads': 96,
      'num_attention_groups': 8,
      'num_hidden_layers': 88,
      'max_seq_len': 32768,
      'vocab_size': 74752,
      'rms_norm_eps': 1e-5,
    }
  )
  assert step1.parameters == 131_946_590_208
  assert step1.position == 'sqrt_alibi' and not step1.tied_head


@pytest.mark.parametrize('family', FAMILIES)
def test_there_and_back(family):
  for tied in {False, family != 'step1'}:
    ours = configs.read(config_of(family, tied))
    back = configs.write(ours, 'bfloat16')
    assert configs.read(back) == ours
    assert back['architectures'] == config_of(family)['architectures']
    assert back['model_type'] == family and back['torch_dtype'] == 'bfloat16'
  assert ours.qkv_bias == (family == 'qwen2')
  assert ours.qk_norm == (family == 'qwen3')


@pytest.mark.parametrize('kind', SCALINGS)
def test_scalings_there_and_back(kind):
  old = config_of('llama', rope_scaling=SCALINGS[kind], rope_theta=5e5)
  ours = configs.read(old)
  assert ours.rope_scaling.kind == kind
  assert configs.read(configs.write(ours, 'float32')) == ours
  # The newer way to write it.
  new = dict(old)
  new['rope_parameters'] = {**new.pop('rope_scaling'), 'rope_theta': 5e5}
  del new['rope_theta']
  assert configs.read(new) == ours


def test_defaults_of_scalings():
  dynamic = configs.read(
    config_of('llama', rope_scaling=SCALINGS['dynamic'])
  ).rope_scaling
  assert dynamic.original_length == 64  # max_position_embeddings
  yarn = configs.read(
    config_of('qwen2', rope_scaling=SCALINGS['yarn'])
  ).rope_scaling
  assert (yarn.beta_fast, yarn.beta_slow) == (16.0, 1.0)
  assert yarn.attention_factor == 1.25
  plain = {'rope_type': 'default'}
  assert configs.read(config_of('qwen3', rope_scaling=plain)).rope_scaling is (
    None
  )


def test_optional_fields():
  config = config_of('llama', hidden_size=16)
  for name in ('head_dim', 'num_key_value_heads'):
    del config[name]
  ours = configs.read(config)
  assert (ours.kv_heads, ours.head_dim) == (4, 4)
  del config['tie_word_embeddings'], config['rope_theta']
  assert configs.read(config) == ours
  qwen = config_of('qwen2', sliding_window=4096, use_sliding_window=False)
  assert configs.read(qwen | {'layer_types': ['full_attention'] * 3}).qkv_bias


def test_what_we_do_not_know_is_kept():
  origin = config_of('llama', bos_token_id=128000, eos_token_id=[1, 2])
  ours = configs.read(origin)
  back = configs.write(dataclasses.replace(ours, vocab_size=99), 'f', origin)
  assert back['bos_token_id'] == 128000 and back['eos_token_id'] == [1, 2]
  assert back['vocab_size'] == 99 and back['max_position_embeddings'] == 64


@pytest.mark.parametrize(
  ('family', 'changes', 'told'),
  [
    ('llama', {'mlp_bias': True}, 'mlp_bias is True'),
    ('llama', {'attention_bias': True}, 'attention_bias is True'),
    ('qwen3', {'attention_bias': True}, 'attention_bias is True'),
    ('llama', {'hidden_act': 'gelu'}, "hidden_act is 'gelu'"),
    ('llama', {'sliding_window': 4096}, 'sliding_window is 4096'),
    ('qwen2', {'use_sliding_window': True}, 'use_sliding_window is True'),
    (
      'qwen2',
      {'layer_types': ['full_attention', 'sliding_attention']},
      'layer_types',
    ),
    ('qwen3', {'num_experts': 8}, 'num_experts is 8'),
    ('llama', {'quantization_config': {'bits': 4}}, 'quantization_config'),
    ('llama', {'partial_rotary_factor': 0.5}, 'partial_rotary_factor is 0.5'),
    ('llama', {'rope_scaling': {'type': 'longrope'}}, "is 'longrope'"),
    ('llama', {'rope_scaling': {'type': 'linear'}}, 'factor is None'),
    ('llama', {'rope_scaling': {'type': 'yarn', 'mscale': 1.0}}, 'mscale is'),
    ('llama', {'rope_scaling': 3}, 'rope_scaling is 3'),
    ('step1', {'tie_word_embeddings': True}, 'tie_word_embeddings is True'),
    ('llama', {'hidden_size': 'big'}, "hidden_size is 'big', expected a whole"),
    ('llama', {'num_hidden_layers': None}, 'num_hidden_layers is None'),
    ('llama', {'num_hidden_layers': 2.5}, 'is 2.5, expected a whole number'),
    ('llama', {'num_key_value_heads': 3}, 'kv_heads must divide heads'),
    ('llama', {'architectures': ['MixtralForCausalLM']}, 'MixtralForCausalLM'),
    ('llama', {'architectures': None}, 'architectures is'),
  ],
)
def test_refusals(family, changes, told):
  with pytest.raises(errors.UserError, match=told):
    configs.read(config_of(family, **changes), 'model/config.json')


@pytest.mark.parametrize(
  'changes',
  [
    {'position': 'rope', 'qkv_bias': True, 'qk_norm': True},
    {'tied_head': True},
    {'head_dim': 6},
  ],
)
def test_what_no_family_describes(changes):
  ours = transformer.TransformerConfig(10, 8, 1, 2, 1, 4, **changes)
  with pytest.raises(errors.UserError):
    configs.write(ours, 'float32')
