"""Clustering at scale: sharded sums, block-wise k-means++, usage."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from step_audio_jax.tokenizers.speech import codebook

CONFIG = codebook.CodebookConfig(
  size=6, start=2, reservoir=64, fill_steps=2, decay=0.8, dead=0.3, window=3
)


def vectors(step, count=48, width=5):
  """Ragged groups: the seventh group is only there in odd steps."""
  rng = np.random.default_rng(step)
  centres = np.random.default_rng(0).normal(size=(7, width)) * 9
  which = rng.integers(0, 6 + step % 2, count)
  x = centres[which] + rng.normal(size=(count, width)) * 0.3
  return x.astype(np.float32), rng.random(count) < 0.8


def mesh_of(devices):
  kind = (jax.sharding.AxisType.Auto,)
  return jax.make_mesh((devices,), ('data',), axis_types=kind)


def train(place, steps=6):
  """States after each step; `place` puts an array where it shall lie."""

  @jax.jit
  def step_fn(state, x, valid, step):
    codes, _ = codebook.assign(x, state['table'])
    key = jax.random.fold_in(jax.random.key(4), step)
    return codebook.update(CONFIG, state, x, codes, valid, step, key)

  state = jax.jit(functools.partial(codebook.init, CONFIG, 5))()
  states = []
  for step in range(steps):
    x, valid = map(place, vectors(step))
    state = step_fn(state, x, valid, jnp.int32(step))
    states.append(jax.tree.map(np.asarray, state))
  return states


@pytest.fixture(scope='module')
def alone():
  return train(jnp.asarray)


def test_eight_devices_cluster_as_one(alone):
  mesh = mesh_of(8)
  spread = NamedSharding(mesh, PartitionSpec('data'))
  with jax.set_mesh(mesh):
    together = train(lambda array: jax.device_put(array, spread))
  for one, many in zip(alone, together):
    for name in ('table', 'counts', 'reservoir'):
      np.testing.assert_allclose(one[name], many[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(one['age'], many['age'])
  # Dead rows were moved on the way: the random choice is global as well.
  assert (alone[-1]['counts'] > 0).all()


def test_a_code_is_in_use_for_a_window(alone):
  chosen = []
  for step, (before, after) in enumerate(zip(alone, alone[1:]), start=1):
    x, valid = vectors(step)
    table = before['table']
    if step == CONFIG.start - 1:
      chosen.append(set(range(CONFIG.size)))  # of the clustering
    else:
      away = np.square(x[valid][:, None] - table[None]).sum(-1)
      chosen.append(set(away.argmin(1).tolist()))
    used = set().union(*chosen[-CONFIG.window :])
    np.testing.assert_allclose(
      codebook.usage(CONFIG, after), len(used) / CONFIG.size
    )
    assert after['age'].max() <= CONFIG.window
  assert float(codebook.usage(CONFIG, alone[0])) == 0  # nothing exists yet
  told = codebook.metrics(CONFIG, alone[-1], jnp.float32(1))
  assert set(told) == {'codes/usage', 'codes/perplexity'}


def exact(x, size):
  """Probability of every set of rows under k-means++, by enumeration."""
  table = {}
  for order in itertools.permutations(range(len(x)), size):
    chance = 1 / len(x)
    for k in range(1, size):
      away = np.square(x[:, None] - x[list(order[:k])][None]).sum(-1).min(1)
      chance *= away[order[k]] / away.sum()
    name = tuple(sorted(order))
    table[name] = table.get(name, 0.0) + chance
  return table


def test_blocks_draw_as_one_by_one(monkeypatch):
  monkeypatch.setattr(codebook, '_LARGE', 1)
  monkeypatch.setattr(codebook, '_BLOCK', 3)
  x = np.array([[0.0, 0], [1, 0], [1.2, 0.3], [4, 1], [0, 3]], np.float32)
  runs = 1500
  tables = jax.jit(
    jax.vmap(lambda key: codebook.plus_plus(key, jnp.asarray(x), 3))
  )(jax.random.split(jax.random.key(0), runs))
  away = np.abs(np.asarray(tables)[:, :, None] - x[None, None]).sum(-1)
  assert (away.min(-1) == 0).all()
  found = np.sort(away.argmin(-1), axis=1)
  for rows, chance in exact(x, 3).items():
    share = (found == np.array(rows)[None]).all(1).mean()
    error = 4 * np.sqrt(chance * (1 - chance) / runs)
    assert abs(share - chance) < error, (rows, share, chance)


def test_a_large_start_has_distinct_rows_and_ends_on_repeated_data():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(4096, 2)).astype(np.float32)
  start = jax.jit(codebook.plus_plus, static_argnums=2)
  table = np.asarray(start(jax.random.key(1), x, 1024))
  assert len(np.unique(table, axis=0)) == 1024
  # Fewer distinct vectors than codes: it ends, and has all of them.
  few = np.repeat(x[:100], 41, axis=0)[:4096]
  table = np.asarray(start(jax.random.key(1), few, 1024))
  assert len(np.unique(table, axis=0)) == 100
