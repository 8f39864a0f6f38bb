"""Weights as trainers leave them: wrapped, prefixed, spelt in several ways.

Oracles: the plain files of the same numbers.
"""

import json
import re

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.decoder import campplus
from step_audio_jax.interop.decoder import flow
from step_audio_jax.interop.decoder import hift
from step_audio_jax.interop.decoder import importing as decoder
from step_audio_jax.interop.formats import pickles
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import importing
from step_audio_jax.interop.language import vision
from step_audio_jax.interop.language import weights
from step_audio_jax.interop.tokenizer import paraformer
from step_audio_jax.interop.tokenizer import released as tokenizer
from step_audio_jax.interop.tokenizer import s3
from step_audio_jax.storage import shards
from step_audio_jax.training.checkpoints import stored
from tests.interop.decoder import released_decoder as released
from tests.interop.language import tiny_folders as tiny
from tests.interop.tokenizer import released_tokenizer

PREFIXES = ['generator.', 'module.', 'model.', 'module.generator.']
PREFIXES += ['_orig_mod.module.model.', 'state_dict.']
WRAPS = [
  lambda state: {'model': state, 'step': 3},
  lambda state: {'state_dict': state, 'epoch': np.zeros(1, np.float32)},
  lambda state: {'generator': state, 'discriminator': {'x': np.ones(2, 'f')}},
  lambda state: {'model': {'module': {'state_dict': state}}},
]


def prefixed(state, prefix):
  return {prefix + name: value for name, value in state.items()}


def same(found, want):
  if isinstance(want, dict):
    assert found.keys() == want.keys()
    for name in want:
      same(found[name], want[name])
  elif isinstance(want, tuple):
    for a, b in zip(found, want, strict=True):
      same(a, b)
  else:
    np.testing.assert_array_equal(found, want)


READERS = {
  'flow': (
    lambda state: flow.params(state, released.FLOW),
    lambda: released_tokenizer.arrays(flow.shapes(released.FLOW)),
  ),
  'hift': (
    lambda state: hift.params(state, released.HIFT),
    lambda: released_tokenizer.arrays(hift.shapes(released.HIFT)),
  ),
  'campplus': (campplus.params, released.speaker_state),
  'paraformer': (
    paraformer.encoder_params,
    lambda: released_tokenizer.arrays(
      paraformer.shapes(released_tokenizer.PARAFORMER)
    ),
  ),
  's3': (
    s3.encoder_params,
    lambda: released_tokenizer.arrays(s3.shapes(released_tokenizer.S3)),
  ),
}


@pytest.mark.parametrize('name', READERS)
def test_every_network_is_found_inside(name):
  read, make = READERS[name]
  state = make()
  want = read(state)
  for prefix in PREFIXES:
    same(read(prefixed(state, prefix)), want)
  for wrap in WRAPS:
    same(read(wrap(prefixed(state, 'module.'))), want)
  half = dict(list(state.items())[::2])
  rest = {name: value for name, value in state.items() if name not in half}
  same(read({**prefixed(half, 'generator.'), **rest}), want)


@pytest.mark.parametrize('name', READERS)
def test_what_is_there_twice_is_named(name):
  read, make = READERS[name]
  state = make()
  first = next(iter(state))
  twice = {**state, f'module.{first}': state[first]}
  told = f"{re.escape(first)} is there twice, as '{re.escape(first)}' and as"
  with pytest.raises(errors.UserError, match=told):
    read(twice)
  with pytest.raises(errors.UserError, match="under 'model' and under 'gener"):
    read({'generator': state, 'model': state})


def respelt(state, spellings):
  """Normalised layers of a hift in several spellings, in turns."""
  out = dict(state)
  layers = [
    n.removesuffix('.weight_g') for n in state if n.endswith('weight_g')
  ]
  for place, layer in enumerate(layers):
    g, v = out.pop(f'{layer}.weight_g'), out.pop(f'{layer}.weight_v')
    spelling = spellings[place % len(spellings)]
    if spelling == 'plain':
      norm = np.linalg.norm(v.reshape(len(v), -1).astype(np.float64), axis=1)
      v = v * (g / norm.reshape(g.shape))
      out[f'{layer}.weight'] = v.astype(np.float32)
      continue
    for ending, value in zip(hift.SPELLINGS[spelling], (g, v)):
      out[f'{layer}.{ending}'] = value
  return out


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('released') / 'CosyVoice'
  return folder, released.write(folder)


@pytest.fixture(scope='module')
def sealed(folder, tmp_path_factory):
  target = tmp_path_factory.mktemp('sealed') / 'decoder'
  decoder.import_folder(folder[0], target)
  return arrays_of(target)


@pytest.fixture
def copy(folder, tmp_path):
  source = tmp_path / 'source'
  source.mkdir()
  for path in folder[0].iterdir():
    (source / path.name).write_bytes(path.read_bytes())
  return source


def arrays_of(folder):
  return {
    f'{path.stem}/{name}': np.asarray(tensor)
    for path in sorted(folder.rglob('*.safetensors'))
    for name, tensor in shards.read_header(path).items()
  }


@pytest.mark.parametrize(
  'spellings, prefix',
  [
    (['weight_g', 'parametrizations'], ''),
    (['plain', 'weight_g'], 'generator.'),
    (['parametrizations', 'plain', 'weight_g'], 'module.generator.'),
  ],
)
def test_spellings_mixed_in_one_file(copy, folder, sealed, spellings, prefix):
  mixed = prefixed(respelt(folder[1]['hift'], spellings), prefix)
  beside = prefixed({'mpd.0.weight': np.ones(3, 'f')}, 'discriminator.')
  released_tokenizer.save_pt(copy / 'hift.pt', {**mixed, **beside})
  target = copy.with_name('target')
  decoder.import_folder(copy, target)
  same(arrays_of(target), sealed)


@pytest.mark.parametrize(
  'change, said',
  [
    (
      {'conv_pre.weight': np.ones((8, 16, 7), np.float32)},
      'hift: conv_pre: found its kernel in two spellings',
    ),
    (
      {'conv_pre.parametrizations.weight.original0': np.ones((8, 1, 1), 'f')},
      r'conv_pre\.parametrizations\.weight\.original0: found no conv_pre\.par',
    ),
    (
      {'ups.0.weight_g': np.ones((4, 1, 1), np.float32)},
      r'ups\.0\.weight_g: found \(4, 1, 1\) in .* expected \(8, 1, 1\)',
    ),
    (
      {'ups.0.weight_v': None},
      r'ups\.0\.weight_g: found no ups\.0\.weight_v',
    ),
    (
      {'conv_post.weight_g': None},
      r'conv_post\.weight: found nothing .* expected \(18, 2, 7\)',
    ),
    ({'extra.weight': np.ones(3, 'f')}, r'extra\.weight: found \(3,\)'),
  ],
)
def test_a_kernel_in_two_spellings_or_half_of_one(copy, folder, change, said):
  state = {**folder[1]['hift'], **change}
  state = {name: value for name, value in state.items() if value is not None}
  released_tokenizer.save_pt(copy / 'hift.pt', state)
  with pytest.raises(errors.UserError, match=said) as caught:
    decoder.import_folder(copy, copy.with_name('target'))
  assert '\n' not in str(caught.value) and 'cosyvoice.yaml' in str(caught.value)


def test_a_decoder_of_wrapped_files(copy, folder, sealed):
  """All three networks, the speaker encoder as its state dict."""
  flows, hifts, speakers = (folder[1][n] for n in ('flow', 'hift', 'speaker'))
  save = released_tokenizer.save_pt
  save(copy / 'flow.pt', {'model': prefixed(flows, 'module.')})
  save(copy / 'hift.pt', {'generator': hifts, 'discriminator': {}})
  (copy / 'campplus.onnx').unlink()
  counter = {'head.bn1.num_batches_tracked': np.array(7, np.int64)}
  save(copy / 'campplus.pt', {'state_dict': {**speakers, **counter}})
  target = copy.with_name('target')
  decoder.import_folder(copy, target)
  found = arrays_of(target)
  for name, value in sealed.items():
    # A norm that an exporter has folded has another form, not this.
    if not name.startswith('speaker'):
      np.testing.assert_array_equal(found[name], value)
  config = campplus.config_from(speakers)
  assert config == released.SPEAKER
  same(decoder.read_speaker(copy, {})[1], campplus.params(speakers, config))


def test_a_paraformer_of_a_wrapped_file(tmp_path):
  source = tmp_path / 'source'
  released_tokenizer.write(source)
  tokenizer.import_folder(source, tmp_path / 'want')
  inside = source / released_tokenizer.INSIDE / 'model.pt'
  state = dict(pickles.Checkpoint(inside))
  released_tokenizer.save_pt(inside, {'model': prefixed(state, 'module.')})
  tokenizer.import_folder(source, tmp_path / 'found')
  want = arrays_of(tmp_path / 'want')
  assert len(want) > 20
  same(arrays_of(tmp_path / 'found'), want)


def test_whole_numbers_are_no_weights():
  state = released_tokenizer.arrays(flow.shapes(released.FLOW))
  name = 'encoder_proj.weight'
  state[name] = state[name].astype(np.int8)
  told = 'encoder_proj.weight: found int8, expected floating-point numbers'
  with pytest.raises(errors.UserError, match=told):
    flow.params(state, released.FLOW)
  with pytest.raises(errors.UserError, match='found a list, expected a state'):
    state_lib.unwrap_state_dict([1], lambda value: True, 'x.pt')


# Language models: names and nulls.


@pytest.mark.parametrize('family', tiny.FAMILIES)
@pytest.mark.parametrize(
  'rename',
  [
    lambda name: f'module.{name}',
    lambda name: f'_orig_mod.module.{name}',
    lambda name: f'model.{name}',
    lambda name: name.removeprefix('model.'),  # a backbone saved alone
  ],
)
def test_names_of_language_models(tmp_path, family, rename):
  config, tensors = tiny.config_of(family), tiny.tensors_of(family)
  renamed = {rename(name): value for name, value in tensors.items()}
  folder = tiny.write(tmp_path / 'm', config, renamed, files=2)
  ours = configs.read(config)
  found = weights.variables(ours, shards.read_folder(folder), str(folder))
  want = weights.variables(ours, tensors, 'm')
  for path in ('embedding', 'head'):
    np.testing.assert_array_equal(
      np.asarray(found['params']['transformer'][path]),
      np.asarray(want['params']['transformer'][path]),
    )
  twice = {**tensors, 'module.model.norm.weight': tensors['model.norm.weight']}
  with pytest.raises(errors.UserError, match='norm.weight is there twice'):
    weights.variables(ours, twice, 'm')


@pytest.mark.parametrize(
  'nulls',
  [
    {'rope_theta': None},
    {'rope_theta': None, 'rope_scaling': None, 'rope_parameters': None},
    {'rope_parameters': {'rope_theta': None, 'rope_type': None}},
    {'rope_scaling': {'type': None, 'rope_type': 'default'}},
    {'hidden_act': None, 'layer_types': None, 'attention_bias': None},
    {'tie_word_embeddings': None, 'max_position_embeddings': None},
    {'quantization_config': None, 'pretraining_tp': None, 'mlp_bias': None},
    {'use_sliding_window': None, 'sliding_window': None},
  ],
)
@pytest.mark.parametrize('family', ['llama', 'qwen2', 'qwen3'])
def test_null_is_the_default(family, nulls):
  want = tiny.config_of(family)
  assert want['rope_theta'] == 10_000.0
  assert configs.read({**want, **nulls}) == configs.read(want)


def test_nulls_of_sizes():
  config = tiny.config_of('llama', hidden_size=16)
  found = configs.read(
    {**config, 'head_dim': None, 'num_key_value_heads': None}
  )
  assert (found.head_dim, found.kv_heads) == (4, 4)
  found = configs.read({**tiny.config_of('qwen3'), 'head_dim': None})
  assert found.head_dim == 128
  found = configs.read(
    {**tiny.config_of('step1'), 'num_attention_groups': None}
  )
  assert found.kv_heads == tiny.H
  assert configs.read({**config, 'rms_norm_eps': None}).norm_eps == 1e-6
  step1 = {**tiny.config_of('step1'), 'rms_norm_eps': None}
  assert configs.read(step1).norm_eps == 1e-5


@pytest.mark.parametrize(
  'change, said',
  [
    ({'rope_theta': 'x'}, "rope_theta is 'x', expected a number"),
    ({'rope_theta': float('inf')}, 'rope_theta is inf, expected a number'),
    ({'vocab_size': float('inf')}, 'vocab_size is inf, expected a whole'),
    ({'vocab_size': None}, 'vocab_size is None, expected a whole number'),
    ({'tie_word_embeddings': 'false'}, "tie_word_embeddings is 'false', exp"),
  ],
)
def test_what_is_no_number_is_named(change, said):
  with pytest.raises(errors.UserError, match=said):
    configs.read(tiny.config_of('llama', **change))


def test_nulls_of_image_encoders():
  config = {'model_type': 'siglip_vision_model', 'hidden_size': 32}
  config |= {'num_attention_heads': 4}
  nulls = dict.fromkeys(('image_size', 'hidden_act', 'layer_norm_eps'))
  assert vision.read_config({**config, **nulls}) == vision.read_config(config)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le'])
def test_json_with_a_byte_order_mark(tmp_path, encoding):
  """Whatever wrote config.json, the index and the companions."""
  folder, theirs = tiny.make(tmp_path / 'm', 'llama', files=2)
  (folder / 'generation_config.json').write_text('{"eos_token_id": 7}')
  for path in folder.glob('*.json'):
    text = json.loads(path.read_text())
    path.write_bytes(json.dumps(text).encode(encoding))
  assert folders.config_of(folder)['model_type'] == 'llama'
  importing.import_folder(folder, tmp_path / 'run')
  tree, _ = stored.open_variables(tmp_path / 'run')
  np.testing.assert_array_equal(
    np.asarray(tree['params']['transformer']['head']), theirs['lm_head.weight']
  )
  # Others read plain UTF-8 alone.
  kept = tmp_path / 'run/huggingface/generation_config.json'
  assert json.loads(kept.read_text(encoding='utf-8')) == {'eos_token_id': 7}


def test_json_that_is_none_is_named(tmp_path):
  folder, _ = tiny.make(tmp_path / 'm', 'llama')
  (folder / 'config.json').write_bytes(b'\xff\xfe{\x00\xd8')
  with pytest.raises(errors.UserError, match='config.json: not valid JSON'):
    folders.config_of(folder)
