"""Encoders that begin in the middle: caches and positions carried over."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3

CONFIG = paraformer.ParaformerConfig(
  width=16, heads=2, mlp_width=16, layers=3, input_size=20
)


def random_params(model, *args):
  """Random parameters without compiling the model's own initialisation."""
  rng = np.random.default_rng(0)
  boxed = jax.eval_shape(model.init, jax.random.key(0), *args)
  return jax.tree.map(
    lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32),
    nn.unbox(boxed),
  )


@pytest.fixture(scope='module')
def encoder():
  return paraformer.SanmEncoder(CONFIG)


@pytest.fixture(scope='module')
def params(encoder):
  return random_params(encoder, jnp.zeros((1, 4, 20)), jnp.array([4]))


@functools.cache
def compiled(method):
  model = paraformer.SanmEncoder(CONFIG)
  return jax.jit(functools.partial(model.apply, method=method))


def test_blocks_of_windows_are_the_whole(params):
  """Ragged rows, one of which ends in a block before the last."""
  rng = np.random.default_rng(1)
  lengths = np.array([39, 30, 12], np.int32)
  x = rng.normal(size=(3, 48, 20)).astype(np.float32)
  whole = compiled('windowed')(params, x, lengths)
  cache, blocks = paraformer.init_cache(CONFIG, 3), []
  for begin in range(0, 48, 12):
    counts = np.clip(lengths - begin, 0, 12)
    part = x[:, begin : begin + 12].copy()
    for row, count in zip(part, counts):
      row[count:] = 9.0  # loud garbage behind a row's end
    out, cache = compiled('resume')(params, part, counts, cache)
    blocks.append(out)
  got = np.concatenate(blocks, axis=1)
  for row, length in enumerate(lengths):
    np.testing.assert_allclose(
      got[row, :length], whole[row, :length], atol=1e-5
    )
  assert cache['position'].tolist() == [49, 49, 49]


def test_a_last_window_shorter_than_a_chunk(params):
  """The window's own frames are then fewer than those it looks back on."""
  model = paraformer.SanmEncoder(dataclasses.replace(CONFIG, overlap=1))
  x = np.random.default_rng(4).normal(size=(1, 9, 20)).astype(np.float32)
  whole = jax.jit(functools.partial(model.apply, method='windowed'))(
    params, x, np.array([9])
  )
  cache = paraformer.init_cache(model.config, 1)
  step = jax.jit(functools.partial(model.apply, method='step'))
  for begin in (0, 4, 8):
    out, cache = step(params, x[:, begin : begin + 4], cache)
    np.testing.assert_allclose(out, whole[:, begin : begin + 4], atol=1e-5)


def test_blocks_that_lie_apart_are_the_same(params):
  """Whole, resumed and with the last block cut to its new frames."""
  layers = blocks_lib.unstack(params['params']['blocks'], CONFIG.layers - 1)
  apart = {'params': {**params['params'], 'blocks': layers}}
  rng = np.random.default_rng(3)
  lengths = np.array([23, 24, 9], np.int32)
  x = rng.normal(size=(3, 24, 20)).astype(np.float32)
  cache = paraformer.init_cache(CONFIG, 3)
  expected = (
    compiled('windowed')(params, x, lengths),
    compiled('resume')(params, x[:, :12], np.minimum(lengths, 12), cache),
  )
  got = (
    compiled('windowed')(apart, x, lengths),
    compiled('resume')(apart, x[:, :12], np.minimum(lengths, 12), cache),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected
  )


def test_what_is_carried_matters(params):
  """A block without its past differs: the check above can fail."""
  x = np.random.default_rng(2).normal(size=(1, 24, 20)).astype(np.float32)
  count = np.array([12], np.int32)
  cache = paraformer.init_cache(CONFIG, 1)
  _, carried = compiled('resume')(params, x[:, :12], count, cache)
  whole, _ = compiled('resume')(params, x[:, 12:], count, carried)
  for name in ('key', 'value', 'frames', 'position', 'filled'):
    broken = {**carried, name: cache[name]}
    out, _ = compiled('resume')(params, x[:, 12:], count, broken)
    assert np.abs(np.asarray(out - whole)).max() > 1e-4, name


def test_positions_of_a_window_can_begin_anywhere():
  """`first_B` reads the table from there, row by row."""
  config = s3.S3Config(
    bands=8, width=16, heads=2, layers=1, positions=20, codes=5
  )
  model = s3.S3Encoder(config)
  mel = np.random.default_rng(0).normal(size=(2, 16, 8)).astype(np.float32)
  lengths = np.array([16, 9], np.int32)
  params = random_params(model, mel, lengths)
  run = jax.jit(model.apply)
  got, counts = run(params, mel, lengths, np.array([7, 0], np.int32))
  plain, _ = run(params, mel, lengths)
  table = params['params']['positions']
  rolled = {'params': {**params['params'], 'positions': np.roll(table, -7, 0)}}
  moved, _ = run(rolled, mel, lengths)
  assert counts.tolist() == [4, 3]
  np.testing.assert_allclose(got[0], moved[0], atol=1e-5)
  np.testing.assert_allclose(got[1, :3], plain[1, :3], atol=1e-5)
  assert np.abs(np.asarray(got[0] - plain[0])).max() > 1e-2
