"""SigLIP's and CLIP's names and configurations; features are in goldens."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.language import vision as interop
from step_audio_jax.models.language import vision

W, F, P = 6, 10, 2


def siglip(**changes):
  return {
    'model_type': 'siglip_vision_model',
    'hidden_size': W,
    'intermediate_size': F,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'image_size': 5,
    'patch_size': P,
  } | changes


def tensors_of(clip=False, prefix='vision_model.', patches=4):
  rng = np.random.default_rng(0)
  layer = 'encoder.layers.0.'
  shapes = {
    'embeddings.patch_embedding.weight': (W, 3, P, P),
    'embeddings.position_embedding.weight': (patches + clip, W),
    f'{layer}mlp.fc1.weight': (F, W),
    f'{layer}mlp.fc1.bias': (F,),
    f'{layer}mlp.fc2.weight': (W, F),
    f'{layer}mlp.fc2.bias': (W,),
  }
  if clip:
    shapes |= {'embeddings.class_embedding': (W,)}
  else:
    shapes |= {'embeddings.patch_embedding.bias': (W,)}
  for name in ('q_proj', 'k_proj', 'v_proj', 'out_proj'):
    shapes[f'{layer}self_attn.{name}.weight'] = (W, W)
    shapes[f'{layer}self_attn.{name}.bias'] = (W,)
  norms = [f'{layer}layer_norm1', f'{layer}layer_norm2', 'post_layernorm']
  for name in [*norms, *(['pre_layrnorm'] if clip else [])]:
    shapes |= {f'{name}.weight': (W,), f'{name}.bias': (W,)}
  return {
    prefix + name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def test_configurations():
  so400m = interop.read_config(
    {
      'model_type': 'siglip',
      'text_config': {'hidden_size': 1152},
      'vision_config': {
        'hidden_size': 1152,
        'image_size': 384,
        'intermediate_size': 4304,
        'num_attention_heads': 16,
        'num_hidden_layers': 27,
        'patch_size': 14,
      },
    }
  )
  assert so400m.patches == 27 * 27 and so400m.crop
  assert so400m.activation == 'gelu' and so400m.norm_eps == 1e-6
  assert not so400m.class_token and so400m.final_norm and so400m.patch_bias
  clip = interop.read_config({'model_type': 'clip', 'vision_config': {}})
  assert (clip.patches, clip.width, clip.norm_eps) == (49, 768, 1e-5)
  assert clip.class_token and clip.pre_norm and not clip.final_norm
  assert clip.activation == 'quick_gelu' and not clip.patch_bias
  assert clip.pixel_mean[0] == 0.48145466
  base = interop.read_config({'model_type': 'siglip_vision_model'})
  assert base.patches == 196 and not base.crop
  assert not interop.is_vision({'model_type': 'llama'})


@pytest.mark.parametrize('prefix', ['vision_model.', ''])
def test_every_parameter_lies_where_it_should(prefix):
  config = interop.read_config(siglip(image_size=4))
  t = tensors_of(prefix=prefix)
  p = interop.variables(config, t, 'm')['params']['vision']
  name = prefix + 'embeddings.patch_embedding.weight'
  kernel = p['patch']['kernel'].reshape(P, P, 3, W)
  assert kernel[1, 0, 2, 4] == t[name][4, 2, 1, 0]
  layer = prefix + 'encoder.layers.0.'
  qkv = p['block_0']['qkv']
  # Head 1's own q, k and v, three columns each, behind those of head 0.
  for place, part in enumerate('qkv'):
    theirs = t[f'{layer}self_attn.{part}_proj.weight']
    column = 9 + 3 * place + 2
    np.testing.assert_array_equal(qkv['kernel'][:, column], theirs[5])
    bias = t[f'{layer}self_attn.{part}_proj.bias']
    assert qkv['bias'][column] == bias[5]
  up = t[f'{layer}mlp.fc1.weight']
  np.testing.assert_array_equal(p['block_0']['up']['kernel'], up.T)
  scale = t[f'{prefix}post_layernorm.weight']
  np.testing.assert_array_equal(p['final_norm']['scale'], scale)


def test_trees_are_those_of_the_encoder():
  for clip in (False, True):
    kind = 'clip_vision_model' if clip else 'siglip_vision_model'
    config = interop.read_config(
      siglip(model_type=kind, image_size=5 - clip, hidden_act='gelu')
    )
    tree = interop.variables(config, tensors_of(clip), 'm')['params']['vision']
    side = config.image_size
    shapes = jax.eval_shape(
      vision.VisionEncoder(config).init,
      jax.random.key(0),
      np.zeros((1, side, side, 3), np.uint8),
    )
    want = jax.tree.map(np.shape, nn.unbox(shapes))
    assert jax.tree.map(np.shape, tree) == want['params']


def test_a_text_tower_beside_it_is_not_looked_at():
  config = interop.read_config(siglip(image_size=4))
  t = tensors_of() | {'text_model.head.weight': np.zeros((2, 2))}
  interop.variables(config, t, 'm')


@pytest.mark.parametrize(
  ('changes', 'told'),
  [
    ({'hidden_act': 'relu'}, "hidden_act is 'relu', expected one of"),
    ({'hidden_size': '6'}, "hidden_size is '6', expected such as 768"),
    ({'num_attention_heads': 4}, 'heads must divide width'),
  ],
)
def test_bad_configurations(changes, told):
  with pytest.raises(errors.UserError, match=told):
    interop.read_config(siglip(**changes))


def test_bad_tensors_are_named():
  config = interop.read_config(siglip(image_size=4))
  t = tensors_of()
  name = 'vision_model.encoder.layers.0.mlp.fc2.weight'
  with pytest.raises(errors.UserError, match=r'fc2.weight.* has shape \(10, 6'):
    interop.variables(config, t | {name: t[name].T}, 'm')
  del t[name]
  with pytest.raises(errors.UserError, match='m: tensor .*fc2.* is missing'):
    interop.variables(config, t, 'm')
