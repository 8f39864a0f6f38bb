"""The SAN-M encoder against plain numpy, in shapes that no recording has."""

import functools
import json
import pathlib

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import fbank
from step_audio_jax.interop.tokenizer import paraformer as interop
from step_audio_jax.models.tokenizer import paraformer

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'linguistic_A.npz'

# Overlap longer and shorter than a chunk; kernels longer than a window.
CONFIGS = (
  paraformer.ParaformerConfig(
    input_size=6,
    width=8,
    heads=2,
    mlp_width=10,
    layers=3,
    kernel=3,
    chunk=2,
    overlap=3,
    look_back=2,
  ),
  paraformer.ParaformerConfig(
    input_size=10,
    width=6,
    heads=1,
    mlp_width=4,
    layers=2,
    kernel=9,
    chunk=3,
    overlap=1,
    look_back=1,
  ),
)


@functools.cache
def variables_of(config):
  model = paraformer.SanmEncoder(config)
  boxed = jax.eval_shape(
    model.init,
    jax.random.key(0),
    jnp.zeros((1, 4, config.input_size)),
    jnp.array([4]),
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.normal(0.1, 0.4, x.shape).astype(np.float32),
    nn.unbox(boxed),
  )


@functools.cache
def runner(config, method):
  model = paraformer.SanmEncoder(config)
  return jax.jit(functools.partial(model.apply, method=method))


def features(config, rows, frames):
  rng = np.random.default_rng(frames)
  return rng.normal(size=(rows, frames, config.input_size)).astype(np.float32)


# The oracle: float64, one utterance, one chunk after the other.


def norm(p, x):
  centred = x - x.mean(-1, keepdims=True)
  variance = np.square(centred).mean(-1, keepdims=True)
  return centred / np.sqrt(variance + 1e-12) * p['scale'] + p['bias']


def dense(p, x):
  return x @ p['kernel'].astype(np.float64) + p['bias']


def place_code(first, count, width):
  half = width // 2
  out = np.zeros((count, width))
  for row in range(count):
    for k in range(half):
      angle = (first + row) * 10000.0 ** (-k / (half - 1))
      out[row, k], out[row, half + k] = np.sin(angle), np.cos(angle)
  return out


def memory(v, kernel):
  """v plus its depthwise convolution, zeros outside."""
  half, out = len(kernel) // 2, v.copy()
  for t in range(len(v)):
    for tap, weights in enumerate(kernel):
      if 0 <= t + tap - half < len(v):
        out[t] += weights * v[t + tap - half]
  return out


def block(p, x, config, first, past):
  """One block; `past` holds keys and values before the window."""
  q, k, v = np.split(dense(p['qkv'], norm(p['attention_norm'], x)), 3, -1)
  keys = np.concatenate([past[0], k])
  values = np.concatenate([past[1], v])
  size = config.width // config.heads
  outs = []
  for head in range(config.heads):
    own = slice(size * head, size * (head + 1))
    scores = q[:, own] @ keys[:, own].T / np.sqrt(size)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    outs.append(weights @ values[:, own])
  out = dense(p['attention']['out'], np.concatenate(outs, -1))
  out = out + memory(v, p['attention']['fsmn'].astype(np.float64))
  x = out if first else x + out
  h = np.maximum(dense(p['up'], norm(p['mlp_norm'], x)), 0)
  return x + dense(p['down'], h), (k, v)


def layers_of(params, config):
  yield params['first_block']
  for i in range(config.layers - 1):
    yield jax.tree.map(lambda x, i=i: x[i], params['blocks'])


def prepared(config, x):
  scaled = x.astype(np.float64) * np.sqrt(config.width)
  return scaled + place_code(1, len(x), config.input_size)


def whole(params, config, x):
  x = prepared(config, x)
  none = np.zeros((0, config.width))
  for number, p in enumerate(layers_of(params, config)):
    x, _ = block(p, x, config, number == 0, (none, none))
  return norm(params['final_norm'], x)


def streamed(params, config, x):
  x = prepared(config, x)
  frames = np.zeros((config.overlap, config.input_size))
  none = np.zeros((0, config.width))
  caches = [(none, none)] * config.layers
  keep, outs = config.chunk * config.look_back, []
  for begin in range(0, len(x), config.chunk):
    window = np.concatenate([frames, x[begin : begin + config.chunk]])
    frames, h = window[-config.overlap :], window
    for number, p in enumerate(layers_of(params, config)):
      past = caches[number]
      h, new = block(p, h, config, number == 0, past)
      caches[number] = tuple(
        np.concatenate([a, b[: len(b) - config.overlap]])[-keep:]
        for a, b in zip(past, new)
      )
    outs.append(norm(params['final_norm'], h)[config.overlap :])
  return np.concatenate(outs)


@pytest.mark.parametrize('config', CONFIGS)
@pytest.mark.parametrize(
  ('method', 'oracle'), [('__call__', whole), ('windowed', streamed)]
)
def test_a_ragged_batch_equals_the_oracle(config, method, oracle):
  variables = variables_of(config)
  x = features(config, 4, 11)
  lengths = np.array([11, 1, 6, 8], np.int32)
  for row, length in zip(x, lengths):
    row[length:] = 50.0  # what is behind does not matter
  got = runner(config, method)(variables, x, lengths)
  for row, out, length in zip(x, got, lengths):
    expected = oracle(variables['params'], config, row[:length])
    np.testing.assert_allclose(out[:length], expected, atol=5e-4, rtol=1e-4)


def test_steps_equal_the_oracle():
  config = CONFIGS[0]
  variables = variables_of(config)
  x = features(config, 2, 4 * config.chunk + 1)
  step, outs = runner(config, 'step'), []
  cache = paraformer.init_cache(config, 2)
  for begin in range(0, x.shape[1], config.chunk):
    out, cache = step(variables, x[:, begin : begin + config.chunk], cache)
    outs.append(out)
  outs = np.concatenate(outs, 1)
  for row, out in zip(x, outs):
    expected = streamed(variables['params'], config, row)
    np.testing.assert_allclose(out, expected, atol=5e-4, rtol=1e-4)
  assert cache['position'].tolist() == [x.shape[1] + 1] * 2


def test_a_row_may_join_while_another_is_under_way():
  """Positions and fill are of each row: a server's batch is such a one."""
  config = CONFIGS[0]
  variables, step = variables_of(config), runner(config, 'step')
  x = features(config, 2, 10)
  cache = paraformer.init_cache(config, 2)
  for begin in (0, 2, 4):
    _, cache = step(variables, x[:, begin : begin + 2], cache)
  fresh = paraformer.init_cache(config, 2)
  for name, value in cache.items():
    axis = 1 if name in ('key', 'value') else 0
    row = jax.lax.slice_in_dim(fresh[name], 1, 2, axis=axis)
    old = jax.lax.slice_in_dim(value, 0, 1, axis=axis)
    cache[name] = jnp.concatenate([old, row], axis=axis)
  outs = []
  for begin in (6, 8):
    chunk = np.stack([x[0, begin : begin + 2], x[1, begin - 6 : begin - 4]])
    out, cache = step(variables, chunk, cache)
    outs.append(out)
  outs = np.concatenate(outs, 1)
  params = variables['params']
  np.testing.assert_allclose(
    outs[0], streamed(params, config, x[0])[6:], atol=5e-4, rtol=1e-4
  )
  np.testing.assert_allclose(
    outs[1], streamed(params, config, x[1, :4]), atol=5e-4, rtol=1e-4
  )


def test_positions_equal_the_formula():
  got = paraformer.positions(jnp.array([1, 40]), 5, 12)
  for row, first in zip(got, (1, 40)):
    np.testing.assert_allclose(row, place_code(first, 5, 12), atol=2e-5)


def test_a_recorded_session_of_pieces():
  """What each call returned, and that the pieces make up the whole."""
  golden = np.load(GOLDEN)
  c = json.loads(str(golden['config']))['encoder']
  config = paraformer.ParaformerConfig(
    input_size=c['input_size'],
    width=c['output_size'],
    heads=c['attention_heads'],
    mlp_width=c['linear_units'],
    layers=c['num_blocks'],
    kernel=c['kernel_size'],
  )
  state = {k[2:]: golden[k] for k in golden.files if k.startswith('w/')}
  variables = {'params': interop.encoder_params(state)}
  step = runner(config, 'step')
  cuts, lengths = golden['in/session_cuts'], golden['out/session_lens']
  heard, returned = cuts[1:], np.cumsum(lengths)
  # Before the end only whole chunks of 240 ms are answered.
  chunks = heard[:-1] // fbank.CHUNK_SAMPLES * fbank.CHUNK_FRAMES
  np.testing.assert_array_equal(returned[:-1], chunks)
  assert returned[-1] == fbank.stacked_count(heard[-1])
  cache, outs, begin = paraformer.init_cache(config, 1), [], 0
  feats = golden['out/stream_feat']
  for end in returned:
    # The rest below a chunk is met by other tests.
    while begin + config.chunk <= end:
      stop = begin + config.chunk
      out, cache = step(variables, feats[None, begin:stop], cache)
      outs.append(out[0])
      begin = stop
  assert returned[-1] - begin < config.chunk
  np.testing.assert_allclose(
    np.concatenate(outs), golden['out/session_enc'][:begin], atol=1e-4
  )


@pytest.mark.parametrize(
  'field', ['heads', 'chunk', 'overlap', 'look_back', 'kernel']
)
def test_sizes_of_nothing_are_refused(field):
  with pytest.raises(errors.UserError, match=f'{field} is 0, expected at le'):
    paraformer.ParaformerConfig(**{field: 0})
