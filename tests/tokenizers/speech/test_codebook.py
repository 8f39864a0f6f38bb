"""Codebooks: clustering, the moving mean, dead codes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.tokenizers.speech import codebook


def blobs(count=5, each=40, width=3, seed=0):
  """Far-apart blobs; returns vectors, centres and the blob of each vector."""
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(count, width)) * 20
  which = np.repeat(np.arange(count), each)
  x = centres[which] + rng.normal(size=(len(which), width)) * 0.1
  order = rng.permutation(len(x))
  return x[order].astype(np.float32), centres, which[order]


@pytest.mark.parametrize('count', [7, 8192, 8192 + 11])
def test_assign_equals_brute_force(count):
  rng = np.random.default_rng(count)
  x = rng.normal(size=(count, 4)).astype(np.float32)
  table = rng.normal(size=(6, 4)).astype(np.float32)
  distances = np.square(x[:, None] - table[None]).sum(-1)
  codes, nearest = jax.jit(codebook.assign)(x, table)
  np.testing.assert_array_equal(codes, distances.argmin(1))
  np.testing.assert_allclose(nearest, distances.min(1), atol=1e-4)


def test_plus_plus_visits_every_far_blob():
  x, centres, _ = blobs()
  start = jax.jit(codebook.plus_plus, static_argnums=2)
  for seed in range(5):
    table = start(jax.random.key(seed), jnp.asarray(x), 5)
    distance = np.linalg.norm(table[:, None] - centres[None], axis=-1)
    assert sorted(distance.argmin(1).tolist()) == [0, 1, 2, 3, 4]


def test_cluster_finds_the_means():
  x, centres, which = blobs()
  table, counts = codebook.cluster(jax.random.key(3), jnp.asarray(x), 5, 4)
  order = np.linalg.norm(centres[:, None] - table[None], axis=-1).argmin(1)
  means = np.stack([x[which == i].mean(0) for i in range(5)])
  np.testing.assert_allclose(np.asarray(table)[order], means, atol=1e-4)
  assert counts.tolist() == [40] * 5


CONFIG = codebook.CodebookConfig(
  size=5, start=4, reservoir=96, fill_steps=4, decay=0.9, dead=0.05
)


def run(config, batches, valid=None, steps=range(10)):
  step_fn = jax.jit(functools.partial(codebook.update, config))
  state = codebook.init(config, batches[0].shape[1])
  states = []
  for step in steps:
    x = jnp.asarray(batches[step % len(batches)])
    ok = jnp.ones(len(x), bool) if valid is None else jnp.asarray(valid)
    codes, _ = codebook.assign(x, state['table'])
    state = step_fn(state, x, codes, ok, jnp.int32(step), jax.random.key(step))
    states.append(jax.tree.map(np.asarray, state))
  return states


def test_codebook_exists_from_its_start_on():
  x, centres, _ = blobs(each=20)
  states = run(CONFIG, [x])
  assert not states[2]['table'].any()
  distance = np.linalg.norm(states[3]['table'][:, None] - centres, axis=-1)
  assert sorted(distance.argmin(1).tolist()) == [0, 1, 2, 3, 4]
  np.testing.assert_allclose(states[3]['counts'].sum(), len(x), rtol=1e-5)


def test_padding_never_enters_the_codebook():
  x, _, _ = blobs(each=20)
  valid = np.arange(len(x)) % 3 > 0
  poisoned = np.where(valid[:, None], x, 1e6).astype(np.float32)
  for state in run(CONFIG, [poisoned], valid):
    assert np.abs(state['table']).max() < 1e3
    assert np.abs(state['reservoir']).max() < 1e3


def test_moving_mean_equals_its_formula():
  x, _, _ = blobs(each=20)
  before, after = run(CONFIG, [x])[5:7]
  codes = np.square(x[:, None] - before['table'][None]).sum(-1).argmin(1)
  for k in range(5):
    mine = x[codes == k]
    count = 0.9 * before['counts'][k] + 0.1 * len(mine)
    total = 0.9 * before['counts'][k] * before['table'][k]
    total = total + 0.1 * mine.sum(0)
    np.testing.assert_allclose(after['counts'][k], count, rtol=1e-5)
    np.testing.assert_allclose(after['table'][k], total / count, rtol=1e-4)


def test_a_dead_code_is_moved_onto_the_data():
  x, centres, which = blobs(each=20)
  # From step 10 on the first blob is gone.
  rest = x[which != 0]
  states = run(
    CONFIG, [x] * 10 + [np.resize(rest, x.shape)] * 50, steps=range(60)
  )
  alive, table = states[9]['table'], states[-1]['table']
  gone = np.linalg.norm(alive - centres[0], axis=-1).argmin()
  assert np.linalg.norm(table[gone] - centres[0]) > 5
  assert np.linalg.norm(table[gone] - rest, axis=-1).min() < 1.0


def test_fewer_vectors_than_the_reservoir_wants_are_repeated():
  x, _, _ = blobs(each=2)
  states = run(CONFIG, [x])
  assert np.isfinite(states[-1]['table']).all()
  rows = {tuple(r) for r in np.round(states[3]['reservoir'], 4).tolist()}
  assert rows <= {tuple(r) for r in np.round(x, 4).tolist()}


def test_perplexity_is_the_number_of_equal_codes():
  np.testing.assert_allclose(
    codebook.perplexity(jnp.array([3.0, 3.0, 0.0, 3.0])), 3.0, rtol=1e-5
  )


@pytest.mark.parametrize(
  'change',
  [{'reservoir': 4}, {'fill_steps': 9}, {'reservoir': 97}, {'window': 0}],
)
def test_bad_configs_say_what_is_wrong(change):
  good = dict(size=5, start=4, reservoir=96, fill_steps=4)
  with pytest.raises(errors.UserError, match=next(iter(change))):
    codebook.CodebookConfig(**{**good, **change})
