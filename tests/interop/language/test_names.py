"""Where every foreign array goes, and what is said when one is missing.

The weights written here follow the published state dicts; each array holds a
number of its own, so an exchange of two is seen.
"""

from flax import traverse_util
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.tokenizer import paraformer
from step_audio_jax.interop.tokenizer import s3

WIDTH, MLP, INPUT, KERNEL = 4, 6, 10, 5
BANDS, CODES = 3, 7


def numbered(shapes):
  """Name → an array of distinct numbers, different ones for each name."""
  state, first = {}, 0.0
  for name, shape in shapes.items():
    size = int(np.prod(shape))
    state[name] = np.arange(first, first + size).reshape(shape)
    first += size
  return state


def sanm_shapes(blocks=3):
  shapes = {}
  for prefix, width in [
    ('encoder.encoders0.0.', INPUT),
    *((f'encoder.encoders.{i}.', WIDTH) for i in range(blocks)),
  ]:
    shapes |= {
      f'{prefix}norm1.weight': (width,),
      f'{prefix}norm1.bias': (width,),
      f'{prefix}self_attn.linear_q_k_v.weight': (3 * WIDTH, width),
      f'{prefix}self_attn.linear_q_k_v.bias': (3 * WIDTH,),
      f'{prefix}self_attn.fsmn_block.weight': (WIDTH, 1, KERNEL),
      f'{prefix}self_attn.linear_out.weight': (WIDTH, WIDTH),
      f'{prefix}self_attn.linear_out.bias': (WIDTH,),
      f'{prefix}norm2.weight': (WIDTH,),
      f'{prefix}norm2.bias': (WIDTH,),
      f'{prefix}feed_forward.w_1.weight': (MLP, WIDTH),
      f'{prefix}feed_forward.w_1.bias': (MLP,),
      f'{prefix}feed_forward.w_2.weight': (WIDTH, MLP),
      f'{prefix}feed_forward.w_2.bias': (WIDTH,),
    }
  after = {f'encoder.after_norm.{n}': (WIDTH,) for n in ('weight', 'bias')}
  return shapes | after


SANM = {
  'attention_norm/scale': 'norm1.weight',
  'attention_norm/bias': 'norm1.bias',
  'qkv/kernel': 'self_attn.linear_q_k_v.weight',
  'qkv/bias': 'self_attn.linear_q_k_v.bias',
  'attention/fsmn': 'self_attn.fsmn_block.weight',
  'attention/out/kernel': 'self_attn.linear_out.weight',
  'attention/out/bias': 'self_attn.linear_out.bias',
  'mlp_norm/scale': 'norm2.weight',
  'mlp_norm/bias': 'norm2.bias',
  'up/kernel': 'feed_forward.w_1.weight',
  'up/bias': 'feed_forward.w_1.bias',
  'down/kernel': 'feed_forward.w_2.weight',
  'down/bias': 'feed_forward.w_2.bias',
}


def as_ours(path, array):
  """Layout: matrices are transposed, the depthwise kernel is taps first."""
  if path.endswith('fsmn'):
    return array.reshape(WIDTH, KERNEL).T
  return array.T if path.endswith('kernel') else array


def test_every_sanm_array_has_its_place():
  state = numbered(sanm_shapes())
  params = paraformer.encoder_params(state)
  flat = traverse_util.flatten_dict(params, sep='/')
  expected = {
    f'final_norm/{ours}': state[f'encoder.after_norm.{theirs}']
    for ours, theirs in (('scale', 'weight'), ('bias', 'bias'))
  }
  for path, name in SANM.items():
    expected[f'first_block/{path}'] = as_ours(
      path, state[f'encoder.encoders0.0.{name}']
    )
    expected[f'blocks/{path}'] = np.stack(
      [as_ours(path, state[f'encoder.encoders.{i}.{name}']) for i in range(3)]
    )
  assert flat.keys() == expected.keys()
  for path, array in expected.items():
    np.testing.assert_array_equal(flat[path], array, err_msg=path)
    assert flat[path].dtype == np.float32


def test_blocks_are_ordered_by_number_and_not_by_name():
  state = numbered(sanm_shapes(blocks=12))
  order = sorted(state)  # '10' before '2'
  params = paraformer.encoder_params({name: state[name] for name in order})
  for i in range(12):
    np.testing.assert_array_equal(
      params['blocks']['up']['bias'][i],
      state[f'encoder.encoders.{i}.feed_forward.w_1.bias'],
    )


def test_other_parts_of_the_checkpoint_are_ignored():
  state = numbered(sanm_shapes())
  more = state | {
    'decoder.embed.0.weight': np.ones((3, 3)),
    'predictor.cif_output.bias': np.ones(1),
    'ctc.ctc_lo.weight': np.array(['not', 'numbers']),
  }
  a, b = map(paraformer.encoder_params, (state, more))
  np.testing.assert_equal(a, b)


@pytest.mark.parametrize(
  'name',
  [
    'encoder.after_norm.bias',
    'encoder.encoders0.0.norm1.weight',
    'encoder.encoders.1.self_attn.fsmn_block.weight',
    'encoder.encoders.2.feed_forward.w_2.bias',
  ],
)
def test_a_missing_sanm_array_is_named(name):
  state = numbered(sanm_shapes())
  del state[name]
  with pytest.raises(errors.UserError) as caught:
    paraformer.encoder_params(state)
  assert f'found no {name!r}' in str(caught.value)
  assert 'SANMEncoderChunkOpt' in str(caught.value)


def test_a_gap_between_blocks_is_named():
  state = {
    name: value
    for name, value in numbered(sanm_shapes()).items()
    if '.encoders.1.' not in name
  }
  with pytest.raises(errors.UserError, match=r"found no 'encoder.encoders.1."):
    paraformer.encoder_params(state)


@pytest.mark.parametrize('read', [paraformer.encoder_params, s3.encoder_params])
def test_another_models_weights_are_refused(read):
  for state in ({}, {'model.layers.0.weight': np.ones(2)}):
    with pytest.raises(errors.UserError, match='found no .encoder'):
      read(state)


def s3_shapes(blocks=2):
  shapes = {
    'encoder.conv1.weight': (WIDTH, BANDS, 3),
    'encoder.conv1.bias': (WIDTH,),
    'encoder.conv2.weight': (WIDTH, WIDTH, 3),
    'encoder.conv2.bias': (WIDTH,),
    'encoder.positional_embedding': (9, WIDTH),
    'quantizer._codebook.embed': (CODES, WIDTH),
  }
  for i in range(blocks):
    prefix = f'encoder.blocks.{i}.'
    shapes |= {
      f'{prefix}attn.key.weight': (WIDTH, WIDTH),
      f'{prefix}mlp.0.weight': (4 * WIDTH, WIDTH),
      f'{prefix}mlp.0.bias': (4 * WIDTH,),
      f'{prefix}mlp.2.weight': (WIDTH, 4 * WIDTH),
      f'{prefix}mlp.2.bias': (WIDTH,),
    }
    for name in ('attn.query', 'attn.value', 'attn.out'):
      shapes[f'{prefix}{name}.weight'] = (WIDTH, WIDTH)
      shapes[f'{prefix}{name}.bias'] = (WIDTH,)
    for name in ('attn_ln', 'mlp_ln'):
      shapes[f'{prefix}{name}.weight'] = (WIDTH,)
      shapes[f'{prefix}{name}.bias'] = (WIDTH,)
  return shapes


S3 = {
  'query': 'attn.query',
  'key': 'attn.key',
  'value': 'attn.value',
  'out': 'attn.out',
  'up': 'mlp.0',
  'down': 'mlp.2',
  'attention_norm': 'attn_ln',
  'mlp_norm': 'mlp_ln',
}


def test_every_s3_array_has_its_place():
  state = numbered(s3_shapes())
  params, codebook = s3.encoder_params(state)
  np.testing.assert_array_equal(codebook, state['quantizer._codebook.embed'])
  expected = {'positions': state['encoder.positional_embedding']}
  for name in ('conv1', 'conv2'):
    weight = state[f'encoder.{name}.weight']
    expected[f'{name}/kernel'] = np.moveaxis(weight, (0, 1, 2), (2, 1, 0))
    expected[f'{name}/bias'] = state[f'encoder.{name}.bias']
  for ours, theirs in S3.items():
    for kind in ('weight', 'bias'):
      names = [f'encoder.blocks.{i}.{theirs}.{kind}' for i in range(2)]
      if names[0] not in state:
        continue
      norm = ours.endswith('norm')
      leaf = {'weight': 'scale' if norm else 'kernel', 'bias': 'bias'}[kind]
      expected[f'blocks/{ours}/{leaf}'] = np.stack(
        [state[name].T for name in names]
      )
  flat = traverse_util.flatten_dict(params, sep='/')
  assert flat.keys() == expected.keys()
  assert 'blocks/key/bias' not in flat
  for path, array in expected.items():
    np.testing.assert_array_equal(flat[path], array, err_msg=path)


@pytest.mark.parametrize(
  'name',
  [
    'quantizer._codebook.embed',
    'encoder.conv2.bias',
    'encoder.positional_embedding',
    'encoder.blocks.1.attn.key.weight',
    'encoder.blocks.1.mlp.2.bias',
  ],
)
def test_a_missing_s3_array_is_named(name):
  state = numbered(s3_shapes())
  del state[name]
  with pytest.raises(errors.UserError) as caught:
    s3.encoder_params(state)
  assert f'found no {name!r}' in str(caught.value)
  assert 'speech_tokenizer_v1' in str(caught.value)


def test_halves_become_floats():
  state = {k: v.astype(np.float16) for k, v in numbered(s3_shapes()).items()}
  params, codebook = s3.encoder_params(state)
  leaves = traverse_util.flatten_dict(params).values()
  assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
  assert codebook.dtype == np.float32
