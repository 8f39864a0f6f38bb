"""The S3 encoder against plain numpy; padding, ties and sizes."""

import functools
import math

from flax import linen as nn
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.tokenizer import s3

GELU = s3.S3Config(
  bands=5, width=8, heads=2, layers=2, positions=7, codes=6, head_layers=2
)
RELU = s3.S3Config(
  bands=4,
  width=6,
  heads=3,
  layers=1,
  positions=9,
  codes=4,
  activation='relu',
  head_layers=1,
)


@functools.cache
def encoder_of(config):
  model = s3.S3Encoder(config)
  boxed = jax.eval_shape(
    model.init,
    jax.random.key(0),
    jnp.zeros((1, 4, config.bands)),
    jnp.array([4]),
  )
  return jax.jit(model.apply), randomised(boxed)


def randomised(boxed):
  rng = np.random.default_rng(7)
  return jax.tree.map(
    lambda x: rng.normal(0.1, 0.4, x.shape).astype(np.float32),
    nn.unbox(boxed),
  )


def mels(config, rows, frames):
  rng = np.random.default_rng(frames)
  return rng.normal(size=(rows, frames, config.bands)).astype(np.float32)


# The oracle: float64, one utterance at a time, no padding.


def norm(p, x):
  centred = x - x.mean(-1, keepdims=True)
  variance = np.square(centred).mean(-1, keepdims=True)
  return centred / np.sqrt(variance + 1e-5) * p['scale'] + p['bias']


def dense(p, x):
  return x @ p['kernel'].astype(np.float64) + p.get('bias', 0.0)


def activate(config, x):
  if config.activation == 'relu':
    return np.maximum(x, 0)
  return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def halve(p, x):
  """Kernel 3, stride 2, one zero on either side."""
  padded = np.pad(x, ((1, 1), (0, 0)))
  return np.stack(
    [
      sum(padded[t + tap] @ p['kernel'][tap] for tap in range(3)) + p['bias']
      for t in range(0, len(x), 2)
    ]
  )


def blocks(stacked, config, x, count):
  for layer in range(count):
    p = jax.tree.map(lambda leaf, i=layer: leaf[i], stacked)
    h = norm(p['attention_norm'], x)
    q, k, v = (dense(p[name], h) for name in ('query', 'key', 'value'))
    size, outs = config.width // config.heads, []
    for head in range(config.heads):
      own = slice(size * head, size * (head + 1))
      scores = q[:, own] @ k[:, own].T / math.sqrt(size)
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      outs.append(weights / weights.sum(-1, keepdims=True) @ v[:, own])
    x = x + dense(p['out'], np.concatenate(outs, -1))
    h = activate(config, dense(p['up'], norm(p['mlp_norm'], x)))
    x = x + dense(p['down'], h)
  return x


def encode(params, config, mel):
  x = mel.astype(np.float64)
  for name in ('conv1', 'conv2'):
    x = activate(config, halve(params[name], x))
  x = x + params['positions'][: len(x)]
  return blocks(params['blocks'], config, x, config.layers)


@pytest.mark.parametrize('config', [GELU, RELU])
def test_a_ragged_batch_equals_the_oracle(config):
  apply, variables = encoder_of(config)
  frames = 4 * config.positions - 1
  mel = mels(config, 5, frames)
  lengths = np.array([frames, 1, 2, 13, 8], np.int32)
  for row, length in zip(mel, lengths):
    row[length:] = -70.0  # what is behind does not matter
  hidden, counts = apply(variables, mel, lengths)
  assert hidden.shape == (5, config.positions, config.width)
  for row, out, length, count in zip(mel, hidden, lengths, counts):
    expected = encode(variables['params'], config, row[:length])
    assert count == len(expected)
    np.testing.assert_allclose(out[:count], expected, atol=2e-4, rtol=1e-4)


def test_wider_padding_changes_nothing():
  apply, variables = encoder_of(GELU)
  mel = mels(GELU, 5, 15)
  lengths = np.array([15, 6, 3, 14, 1], np.int32)
  narrow, counts = apply(variables, mel, lengths)
  wide, same = apply(variables, np.pad(mel, ((0, 0), (0, 12), (0, 0))), lengths)
  np.testing.assert_array_equal(counts, same)
  for row, count in enumerate(counts):
    np.testing.assert_allclose(
      narrow[row, :count], wide[row, :count], atol=1e-5
    )


def test_more_frames_than_positions_are_refused():
  apply, variables = encoder_of(GELU)
  mel = mels(GELU, 1, 4 * GELU.positions + 1)
  with pytest.raises(ValueError, match='8 frames, but only 7 positions'):
    apply(variables, mel, np.array([3], np.int32))


def test_the_head_reads_scaled_codebook_rows():
  config = GELU
  model = s3.S3CTC(config, labels=3)
  mel, lengths = mels(config, 2, 20), np.array([20, 9], np.int32)
  rng = np.random.default_rng(0)
  book = rng.normal(size=(config.codes, config.width)).astype(np.float32)
  book /= np.linalg.norm(book, axis=-1, keepdims=True)
  variables = randomised(
    jax.eval_shape(model.init, jax.random.key(0), mel, lengths, book)
  )
  params = variables['params']
  out = jax.jit(model.apply)(variables, mel, lengths, book, True)
  assert out['counts'].tolist() == [5, 3]
  for row, (length, count) in enumerate(zip(lengths, out['counts'])):
    hidden = encode(params['encoder'], config, mel[row, :length])
    unit = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    np.testing.assert_allclose(out['unit'][row, :count], unit, atol=1e-4)
    distance = np.square(unit[:, None] - book[None]).sum(-1)
    # The model's code may differ from the oracle's only where two are near.
    codes = np.asarray(out['codes'][row, :count])
    chosen = distance[np.arange(count), codes]
    np.testing.assert_allclose(chosen, distance.min(1), atol=1e-4)
    x = book[codes].astype(np.float64) * math.sqrt(config.width)
    x = blocks(params['head_blocks'], config, x, config.head_layers)
    expected = dense(params['head'], norm(params['head_norm'], x))
    np.testing.assert_allclose(
      out['logits'][row, :count], expected, atol=5e-4, rtol=1e-4
    )


def test_positions_start_as_whisper_has_them():
  def table():  # nothing else of the model is compiled
    init = s3.S3Encoder(RELU).init
    own = init(jax.random.key(3), jnp.zeros((1, 4, 4)), jnp.array([4]))
    return nn.unbox(own)['params']['positions']

  table = np.asarray(jax.jit(table)())
  for row in range(9):
    for k in range(3):
      angle = row * 10000.0 ** (-k / 2)
      assert table[row, k] == pytest.approx(math.sin(angle), abs=1e-5)
      assert table[row, 3 + k] == pytest.approx(math.cos(angle), abs=1e-5)


@hypothesis.given(frames=st.integers(0, 10**7))
def test_four_mel_frames_are_one_code_rounded_up(frames):
  assert s3.code_count(frames) == math.ceil(frames / 4)


NEAREST = jax.jit(s3.nearest_code)


@hypothesis.given(
  numbers=st.lists(st.integers(-2, 2), min_size=36, max_size=36)
)
def test_nearest_equals_brute_force(numbers):
  """On small integers all is exact, so ties are true ties."""
  rows = np.array(numbers, np.float32).reshape(12, 3)
  book, x = rows[:5], rows[5:]
  expected = np.square(x[:, None] - book[None]).sum(-1).argmin(1)
  got = NEAREST(x, book)
  assert got.dtype == jnp.int32
  np.testing.assert_array_equal(got, expected)


def test_nearest_keeps_leading_axes():
  rng = np.random.default_rng(0)
  x, book = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 5))
  expected = np.square(x[..., None, :] - book).sum(-1).argmin(-1)
  np.testing.assert_array_equal(NEAREST(x, book), expected)


def test_unit_has_length_one_and_leaves_silence_at_zero():
  x = jnp.array([[[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]]])
  np.testing.assert_allclose(
    s3.l2_normalise(x), [[[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]], rtol=1e-6
  )


@pytest.mark.parametrize('field', ['heads', 'bands', 'positions', 'codes'])
def test_sizes_of_nothing_are_refused(field):
  with pytest.raises(errors.UserError, match=f'{field} is 0, expected at le'):
    s3.S3Config(**{field: 0})
