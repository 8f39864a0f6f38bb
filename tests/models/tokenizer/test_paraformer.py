"""The SAN-M encoder against recorded outputs of the original."""

import functools
import json
import pathlib

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.tokenizer import paraformer as interop
from step_audio_jax.models.tokenizer import paraformer

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'linguistic_A.npz'
SHOWN = (0, 1, 2, 5, 10)  # chunks whose inner state was recorded


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN)


@pytest.fixture(scope='module')
def config(golden):
  c = json.loads(str(golden['config']))['encoder']
  return paraformer.ParaformerConfig(
    input_size=c['input_size'],
    width=c['output_size'],
    heads=c['attention_heads'],
    mlp_width=c['linear_units'],
    layers=c['num_blocks'],
    kernel=c['kernel_size'],
  )


@pytest.fixture(scope='module')
def params(golden):
  state = {k[2:]: golden[k] for k in golden.files if k.startswith('w/')}
  return {'params': interop.encoder_params(state)}


def windowed(config):
  model = paraformer.SanmEncoder(config)
  return jax.jit(functools.partial(model.apply, method='windowed'))


@functools.cache
def stepped(config):
  model = paraformer.SanmEncoder(config)
  return jax.jit(functools.partial(model.apply, method='step'))


def test_parameter_shapes_are_the_models_own(config, params):
  """An import that misses or invents a parameter must fail here."""
  model = paraformer.SanmEncoder(config)
  own = jax.eval_shape(
    model.init,
    jax.random.key(0),
    jnp.zeros((1, 8, config.input_size)),
    jnp.array([8]),
  )
  shapes = jax.tree.map(lambda x: x.shape, nn.unbox(own))
  assert shapes == jax.tree.map(lambda x: x.shape, params)


def test_whole_utterances_match_golden(golden, config, params):
  features, lengths = golden['in/offline_feats'], golden['in/offline_lens']
  model = paraformer.SanmEncoder(config)
  got = jax.jit(model.apply)(params, features, lengths)
  expected = golden['out/offline_enc']
  for row, length in enumerate(lengths):
    np.testing.assert_allclose(
      got[row, :length], expected[row, :length], atol=1e-4
    )


def test_windows_match_golden_in_a_ragged_batch(golden, config, params):
  feats = golden['out/stream_feat']
  expected = golden['out/stream_enc']
  lengths = np.array([len(feats), 8, 1, 0, 14], np.int32)
  batch = np.full((5, len(feats) + 6, feats.shape[1]), 1e3, np.float32)
  for row, length in zip(batch, lengths):
    row[:length] = feats[:length]
  got = windowed(config)(params, batch, lengths)
  assert np.isfinite(got).all()
  for row, length in enumerate(lengths):
    whole = length // 4 * 4 if length < len(feats) else length
    np.testing.assert_allclose(got[row, :whole], expected[:whole], atol=1e-4)


def test_steps_match_golden_chunk_by_chunk(golden, config, params):
  step = stepped(config)
  cache = paraformer.init_cache(config, 2)
  feats, begin, outputs = golden['out/stream_feat'], 0, []
  for number, count in enumerate(golden['out/stream_chunk_lens']):
    chunk = np.stack([feats[begin : begin + count]] * 2)
    out, cache = step(params, chunk, cache)
    np.testing.assert_array_equal(out[0], out[1])
    outputs.append(out[0])
    begin += count
    if number in SHOWN:
      check_inner_state(golden, f'out/chunk{number}/', out[0], cache, config)
  np.testing.assert_allclose(
    np.concatenate(outputs), golden['out/stream_enc'], atol=1e-4
  )


def check_inner_state(golden, prefix, out, cache, config):
  np.testing.assert_allclose(
    out, golden[prefix + 'out'][config.overlap :], atol=1e-4
  )
  np.testing.assert_allclose(
    cache['frames'][0], golden[prefix + 'cfeats'], atol=1e-4
  )
  filled = int(cache['filled'][0])
  for name, layer, key in (
    ('key', 0, 'k0'),
    ('value', 0, 'v0'),
    ('key', -1, 'klast'),
    ('value', -1, 'vlast'),
  ):
    expected = golden[prefix + key]  # (heads, frames, head width)
    got = cache[name][layer, 0, -filled:].reshape(filled, config.heads, -1)
    assert filled == expected.shape[1]
    np.testing.assert_allclose(got.transpose(1, 0, 2), expected, atol=1e-4)


def test_windows_equal_steps_for_every_tail(golden, config, params):
  """Also the tails that the recording does not hold."""
  feats = golden['out/stream_feat'][None, :20]
  step = stepped(config)
  lengths = np.array([1, 2, 3, 4, 5, 17, 18, 20], np.int32)
  whole = windowed(config)(
    params, np.repeat(feats, len(lengths), axis=0), lengths
  )
  for row, length in zip(whole, lengths):
    cache, outputs = paraformer.init_cache(config, 1), []
    for begin in range(0, length, 4):
      chunk = feats[:, begin : min(begin + 4, length)]
      out, cache = step(params, chunk, cache)
      outputs.append(out[0])
    np.testing.assert_allclose(row[:length], np.concatenate(outputs), atol=1e-5)


def test_windows_do_not_see_the_future(golden, config, params):
  feats = golden['out/stream_feat'][None]
  changed = feats.copy()
  changed[:, 12:, ::3] *= -2.0
  a, b = windowed(config)(
    params, np.concatenate([feats, changed]), np.full(2, feats.shape[1])
  )
  np.testing.assert_array_equal(a[:12], b[:12])
  assert np.abs(a[12:] - b[12:]).max() > 1e-2


@pytest.mark.parametrize('windowed', [True, False])
def test_ctc_model_gives_logits_and_gradients(windowed):
  config = paraformer.ParaformerConfig(
    input_size=28, width=16, heads=2, mlp_width=32, layers=3
  )
  model = paraformer.ParaformerCTC(config, labels=7, windowed=windowed)
  feats = jax.random.normal(jax.random.key(1), (2, 10, 28))
  lengths = jnp.array([10, 6])
  init = jax.jit(model.init)
  variables = nn.unbox(init(jax.random.key(0), feats, lengths))
  hidden, logits = jax.jit(model.apply)(variables, feats, lengths)
  assert hidden.shape == (2, 10, 16) and logits.shape == (2, 10, 7)

  def loss(params):
    _, logits = model.apply({'params': params}, feats, lengths)
    return jnp.sum(logits[:, :6] ** 2)

  grads = jax.jit(jax.grad(loss))(variables['params'])
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize(
  'field, value',
  [('heads', 3), ('layers', 1), ('kernel', 10), ('input_size', 7)],
)
def test_bad_configs_say_what_is_wrong(field, value):
  with pytest.raises(errors.UserError, match=f'{field}'):
    paraformer.ParaformerConfig(**{field: value})
