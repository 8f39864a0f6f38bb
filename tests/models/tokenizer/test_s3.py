"""The S3 tokenizer against recorded outputs of the original."""

import json
import pathlib

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.tokenizer import s3 as interop
from step_audio_jax.models.tokenizer import s3

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'semantic_A.npz'


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN)


@pytest.fixture(scope='module')
def config(golden):
  c = json.loads(str(golden['config']))['model']
  return s3.S3Config(
    bands=c['n_mels'],
    width=c['n_audio_state'],
    heads=c['n_audio_head'],
    layers=c['n_audio_layer'],
    positions=c['n_audio_ctx'],
    codes=c['n_codebook_size'],
  )


@pytest.fixture(scope='module')
def weights(golden):
  state = {k[2:]: golden[k] for k in golden.files if k.startswith('w/')}
  return interop.encoder_params(state)


def test_parameter_shapes_are_the_models_own(config, weights):
  own = jax.eval_shape(
    s3.S3Encoder(config).init,
    jax.random.key(0),
    jnp.zeros((1, 16, config.bands)),
    jnp.array([16]),
  )
  shapes = jax.tree.map(lambda x: x.shape, nn.unbox(own))
  assert shapes['params'] == jax.tree.map(lambda x: x.shape, weights[0])


def test_hidden_and_codes_match_golden_in_a_ragged_batch(
  golden, config, weights
):
  """The recording has garbage in its padding."""
  params, codebook = weights
  mel, lengths = golden['in/mel'].transpose(0, 2, 1), golden['in/mel_len']
  model = s3.S3Encoder(config)
  hidden, counts = jax.jit(model.apply)({'params': params}, mel, lengths)
  codes = jax.jit(s3.nearest_code)(s3.l2_normalise(hidden), codebook)
  np.testing.assert_array_equal(counts, golden['out/code_len'])
  for row, count in enumerate(counts):
    np.testing.assert_allclose(
      hidden[row, :count], golden['out/hidden'][row, :count], atol=1e-4
    )
    np.testing.assert_array_equal(
      codes[row, :count], golden['out/codes'][row, :count]
    )


@pytest.mark.parametrize('stride', [1, 2])
def test_strided_conv_equals_a_convolution(stride):
  x = jax.random.normal(jax.random.key(0), (2, 9, 5))
  model = s3.StridedConv(7, stride)
  for count in (1, 2, 8, 9):
    variables = nn.unbox(model.init(jax.random.key(1), x[:, :count]))
    got = model.apply(variables, x[:, :count])
    expected = jax.lax.conv_general_dilated(
      x[:, :count],
      variables['params']['kernel'],
      (stride,),
      [(1, 1)],
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize('frames', range(1, 12))
def test_code_count_is_what_the_convolutions_yield(frames):
  x = jnp.zeros((1, frames, 2))
  for _ in range(2):
    x = jnp.zeros((1, (x.shape[1] - 1) // 2 + 1, 2))
  assert s3.code_count(frames) == x.shape[1]


def test_nearest_takes_the_lowest_index_on_ties():
  codebook = jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
  x = jnp.array([[0.0, 1.0], [1.0, 0.0], [0.9, 0.0]])
  # A long row is no nearer for being long: Euclid, not the inner product.
  assert s3.nearest_code(x, codebook).tolist() == [1, 3, 3]


SMALL = s3.S3Config(
  bands=8,
  width=16,
  heads=2,
  layers=2,
  positions=16,
  codes=5,
  head_layers=1,
  activation='relu',
)


def small_model():
  model = s3.S3CTC(SMALL, labels=4)
  mel = jax.random.normal(jax.random.key(0), (2, 20, 8))
  lengths = jnp.array([20, 11])
  codebook = s3.l2_normalise(jax.random.normal(jax.random.key(2), (5, 16)))
  init = jax.jit(model.init)
  variables = nn.unbox(init(jax.random.key(1), mel, lengths, codebook))
  return model, variables, mel, lengths, codebook


def test_straight_through_gives_the_encoder_the_heads_gradient():
  model, variables, mel, lengths, codebook = small_model()

  @jax.jit
  def run(params, quantise):
    out = model.apply({'params': params}, mel, lengths, codebook, quantise)
    return jnp.sum(out['logits'][:, :2] ** 2), out

  quantised = jax.jit(jax.grad(run, has_aux=True))
  grads, out = quantised(variables['params'], True)
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads['encoder']))
  _, plain = run(variables['params'], False)
  assert np.abs(plain['logits'] - out['logits']).max() > 1e-4
  np.testing.assert_allclose(
    out['quantised'], np.asarray(codebook)[out['codes']]
  )
  np.testing.assert_allclose(
    np.linalg.norm(out['unit'], axis=-1), 1.0, rtol=1e-5
  )


def test_padding_does_not_reach_valid_frames():
  model, variables, mel, lengths, codebook = small_model()
  loud = mel.at[1, 11:].set(99.0)
  apply = jax.jit(model.apply)
  a = apply(variables, mel, lengths, codebook)
  b = apply(variables, loud, lengths, codebook)
  assert a['counts'].tolist() == [5, 3]
  np.testing.assert_array_equal(a['logits'][1, :3], b['logits'][1, :3])


@pytest.mark.parametrize(
  'field, value', [('heads', 3), ('activation', 'tanh'), ('layers', 0)]
)
def test_bad_configs_say_what_is_wrong(field, value):
  with pytest.raises(errors.UserError, match=field):
    s3.S3Config(**{field: value})
