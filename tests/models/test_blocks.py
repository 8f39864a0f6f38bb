"""Blocks apart: the inverse of stacking, and the same encoder."""

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.models import blocks
from step_audio_jax.models.tokenizer import s3


def test_apart_and_stacked_are_inverse():
  rng = np.random.default_rng(0)
  tree = {
    'kernel': rng.normal(size=(3, 4, 5)).astype(np.float32),
    'norm': {'scale': rng.normal(size=(3, 4)).astype(np.float32)},
  }
  parts = blocks.unstack(tree, 3)
  assert len(parts) == 3
  np.testing.assert_array_equal(
    parts[2]['norm']['scale'], tree['norm']['scale'][2]
  )
  jax.tree.map(np.testing.assert_array_equal, blocks.stack(parts), tree)


def test_s3_encodes_alike_from_either():
  config = s3.S3Config(
    bands=8, width=16, heads=2, layers=2, codes=32, positions=16
  )
  encoder = s3.S3Encoder(config)
  mel_BTM = jax.random.normal(jax.random.key(0), (2, 24, 8))
  lengths_B = jnp.array([23, 9])
  init = jax.jit(encoder.init)
  params = init(jax.random.key(1), mel_BTM, lengths_B)['params']
  apart = {**params, 'blocks': blocks.unstack(params['blocks'], 2)}
  apply = jax.jit(lambda p: encoder.apply({'params': p}, mel_BTM, lengths_B))
  (ours, counts), (theirs, same) = apply(apart), apply(params)
  np.testing.assert_array_equal(counts, same)
  for row, count in enumerate(np.asarray(counts)):
    np.testing.assert_allclose(
      ours[row, :count], theirs[row, :count], rtol=1e-5, atol=1e-5
    )
