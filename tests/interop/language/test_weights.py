"""Weights of the four families under our names, against plain formulae."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import weights
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import lazy
from step_audio_jax.storage import shards
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import stored
from tests.interop.language import tiny_folders as tiny


def opened(folder, family, **kwargs):
  folder, theirs = tiny.make(folder, family, **kwargs)
  config = configs.read(
    tiny.config_of(family, kwargs.get('tied', False)), str(folder)
  )
  tree = weights.variables(config, shards.read_folder(folder), str(folder))
  return config, tree, theirs


@pytest.mark.parametrize('family', tiny.FAMILIES)
@pytest.mark.parametrize('files', [1, 3])
def test_every_parameter_lies_where_it_should(tmp_path, family, files):
  config, tree, t = opened(tmp_path / 'm', family, files=files)
  d = tiny.head_dim(family)
  ours = tree['params']['transformer']
  np.testing.assert_array_equal(
    np.asarray(ours['embedding']), t['model.embed_tokens.weight']
  )
  np.testing.assert_array_equal(np.asarray(ours['head']), t['lm_head.weight'])
  scale = np.asarray(ours['final_norm']['scale'])
  np.testing.assert_array_equal(scale, t['model.norm.weight'])
  b = jax.tree.map(np.asarray, ours['blocks'])
  for layer in range(tiny.L):
    p = f'model.layers.{layer}.'
    for name, heads in (('q', tiny.H), ('k', tiny.G), ('v', tiny.G)):
      theirs = t[f'{p}self_attn.{name}_proj.weight']
      kernel = b['attention'][name]['kernel'][layer]
      assert kernel.shape == (tiny.E, heads, d)
      for e, h, i in ((0, 0, 0), (5, heads - 1, 1), (11, 1, d - 1)):
        assert kernel[e, h, i] == theirs[h * d + i, e]
      if family == 'qwen2':
        bias = t[f'{p}self_attn.{name}_proj.bias']
        found = b['attention'][name]['bias'][layer]
        assert found[1, d - 1] == bias[2 * d - 1] and found[0, 1] == bias[1]
    out = b['attention']['out']['kernel'][layer]
    assert out.shape == (tiny.H, d, tiny.E)
    assert out[2, 1, 7] == t[f'{p}self_attn.o_proj.weight'][7, 2 * d + 1]
    for name in ('gate', 'up', 'down'):
      np.testing.assert_array_equal(
        b['mlp'][name]['kernel'][layer], t[f'{p}mlp.{name}_proj.weight'].T
      )
    np.testing.assert_array_equal(
      b['attention_norm']['scale'][layer], t[f'{p}input_layernorm.weight']
    )
    np.testing.assert_array_equal(
      b['mlp_norm']['scale'][layer], t[f'{p}post_attention_layernorm.weight']
    )
    if family == 'qwen3':
      np.testing.assert_array_equal(
        b['attention']['k_norm']['scale'][layer],
        t[f'{p}self_attn.k_norm.weight'],
      )
  # They are the parameters of our model, no more and no fewer.
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 3), jnp.int32)
  )
  want = nn.unbox(shapes)['params']['transformer']
  assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, want)


@pytest.mark.parametrize('family', tiny.FAMILIES)
def test_names_there_and_back(tmp_path, family):
  config, tree, theirs = opened(tmp_path / 'm', family)
  back = weights.tensors(config, tree)
  assert set(back) == set(theirs)
  for name, value in theirs.items():
    np.testing.assert_array_equal(np.asarray(back[name]), value)


def test_a_slice_reads_a_slice(tmp_path, monkeypatch):
  _, tree, theirs = opened(tmp_path / 'm', 'llama')
  read = []
  whole = shards.Tensor.read

  def spied(self, spans):
    read.append((self.name, [b - a for a, b in spans]))
    return whole(self, spans)

  monkeypatch.setattr(shards.Tensor, 'read', spied)
  q = tree['params']['transformer']['blocks']['attention']['q']['kernel']
  block = q[1:2, 0:4, 2:3]
  assert read == [('model.layers.1.self_attn.q_proj.weight', [tiny.D, 4])]
  want = theirs['model.layers.1.self_attn.q_proj.weight']
  np.testing.assert_array_equal(
    block[0, :, 0], want[2 * tiny.D : 3 * tiny.D, :4].T
  )


def refusal(tensors, family='llama', tied=False):
  config = configs.read(tiny.config_of(family, tied))
  with pytest.raises(errors.UserError) as caught:
    weights.variables(config, tensors, 'folder')
  return str(caught.value)


def test_a_missing_tensor_is_named():
  tensors = tiny.tensors_of('llama')
  del tensors['model.layers.2.mlp.up_proj.weight']
  told = refusal(tensors)
  assert told.startswith("folder: tensor 'model.layers.2.mlp.up_proj.weight'")
  assert '(7, 12)' in told


def test_an_unexpected_tensor_is_named():
  assert "q_proj.bias' is unexpected" in refusal(tiny.tensors_of('qwen2'))
  tensors = tiny.tensors_of('llama')
  tensors['model.layers.0.self_attn.rotary_emb.inv_freq'] = np.ones(2)
  config = configs.read(tiny.config_of('llama'))
  weights.variables(config, tensors, 'folder')  # a buffer of old files


def test_a_wrong_shape_is_named_with_its_file(tmp_path):
  tensors = tiny.tensors_of('llama')
  name = 'model.layers.1.self_attn.o_proj.weight'
  tensors[name] = np.ascontiguousarray(tensors[name].T)
  folder = tiny.write(tmp_path / 'm', tiny.config_of('llama'), tensors)
  told = refusal(shards.read_folder(folder))
  assert told.startswith(f'{folder}/model.safetensors: tensor {name!r} has')
  assert 'shape (24, 12), expected (12, 24)' in told


def test_dtypes_may_differ_between_weights_but_not_between_layers():
  tensors = tiny.tensors_of('llama')
  tensors['model.norm.weight'] = tensors['model.norm.weight'].astype('float16')
  config = configs.read(tiny.config_of('llama'))
  weights.variables(config, tensors, 'folder')
  name = 'model.layers.2.mlp.up_proj.weight'
  tensors[name] = tensors[name].astype(np.float16)
  assert 'is float16, expected float32 as in layer 0' in refusal(tensors)


def test_a_tied_model_may_carry_its_head_again():
  tensors = tiny.tensors_of('qwen3', tied=True)
  embedding = tensors['model.embed_tokens.weight']
  config = configs.read(tiny.config_of('qwen3', True))
  tree = weights.variables(
    config, tensors | {'lm_head.weight': embedding}, 'folder'
  )
  assert 'head' not in tree['params']['transformer']
  other = embedding.copy()
  other[3, 4] += 1
  told = refusal(tensors | {'lm_head.weight': other}, 'qwen3', True)
  assert "'lm_head.weight' differs" in told


def test_our_own_tree_is_checked_on_the_way_out():
  config = configs.read(tiny.config_of('llama'))
  tree = weights.variables(config, tiny.tensors_of('llama'), 'folder')
  blocks = tree['params']['transformer']['blocks']
  blocks['mlp']['up']['kernel'] = lazy.Layer(blocks['mlp']['up']['kernel'], 0)
  with pytest.raises(errors.UserError, match='mlp/up/kernel has shape'):
    weights.tensors(config, tree)
  del blocks['mlp']['up']
  with pytest.raises(errors.UserError, match='mlp/up/kernel is missing'):
    weights.tensors(config, tree)


def test_weights_that_share_a_chunk_come_one_after_the_other(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(stored, 'CHUNK_BYTES', 100)
  config = configs.read(tiny.config_of('llama'))
  theirs = tiny.tensors_of('llama')
  tree = weights.variables(config, theirs, 'folder')
  together = jax.tree.map(np.asarray, tree)
  store = checkpoints.Checkpoints(tmp_path)
  store.save(0, together, None, {'row': 0})
  store.close()
  out = weights.tensors(config, stored.open_variables(tmp_path)[0])
  for name, tensor in out.items():
    np.testing.assert_array_equal(np.asarray(tensor), theirs[name])
  names = list(out)
  ups = [name for name in names if 'up_proj' in name]
  start = names.index(ups[0])
  assert names[start : start + tiny.L] == ups
  plain = list(weights.tensors(config, tree))
  assert plain.index(ups[1]) - plain.index(ups[0]) == 9  # a layer's tensors
