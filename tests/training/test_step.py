"""One step: microbatches, skipping, the mean, what is donated and where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from step_audio_jax import errors
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import guard
from step_audio_jax.training.feeds import feed as feed_lib
from tests.training import toy_regression


@functools.cache
def whole(devices=1):
  """Two steps on the large batch."""
  return toy_regression.walk(toy_regression.trainer(devices), 2)


def distance(tree, wanted):
  """Largest relative distance of a leaf, in norms."""

  def one(a, b):
    return np.linalg.norm(np.ravel(a - b)) / (np.linalg.norm(np.ravel(b)) or 1)

  distances = jax.tree.leaves(jax.tree.map(one, tree, wanted))
  assert np.isfinite(distances).all()
  return max(distances)


def gradients(made):
  with jax.set_mesh(made.mesh):
    variables = made.fresh_variables()
    batch = made.device_batch(0)
    return jax.device_get(jax.jit(made.gradients)(variables, batch))


@pytest.mark.parametrize(
  'devices, count, mesh',
  [
    (1, 4, {}),
    (8, 2, {}),
    (8, 4, {'fsdp': 4, 'tensor': 2}),
  ],
  ids=str,
)
def test_microbatches_are_the_large_batch(devices, count, mesh):
  made = toy_regression.trainer(
    devices, mesh=mesh_lib.MeshConfig(**mesh), microbatches=count
  )
  (loss, metrics, updates), grads = gradients(made)
  (loss_1, metrics_1, updates_1), grads_1 = whole_gradients()
  assert distance(grads, grads_1) <= 1e-6
  assert distance((loss, metrics, updates), (loss_1, metrics_1, updates_1)) <= (
    1e-6
  )
  steps = toy_regression.walk(made, 2) if devices == 1 else []
  for one, wanted in zip(steps, whole()):
    assert distance(one[0]['seen'], wanted[0]['seen']) == 0
    metrics = [
      {k: v for k, v in m.items() if k != 'guard'} for m in (one[2], wanted[2])
    ]
    assert distance(*metrics) <= 2e-6
  parts = made.feed.batch(0)['weight'].reshape(-1, count).sum(0)
  assert len(set(parts)) > 1  # or a mean of means would pass


@functools.cache
def whole_gradients():
  return gradients(toy_regression.trainer())


def test_the_large_batch_is_the_closed_form():
  """The loss is one weighted mean over all rows, and its gradient is too."""
  made = toy_regression.trainer()
  variables, _ = toy_regression.state(made)
  batch = made.feed.batch(0)

  def mean(params):
    y = toy_regression.Net().apply({'params': params}, batch['x'])
    squared = jnp.square(y - batch['y'])
    return jnp.average(squared, weights=batch['weight'])

  value, wanted = jax.value_and_grad(mean)(variables['params'])
  (loss, _, _), grads = whole_gradients()
  assert loss == pytest.approx(float(value), rel=1e-6)
  assert distance(grads, jax.device_get(wanted)) < 1e-6


@pytest.mark.parametrize(
  'devices, count, found', [(1, 3, 'divisor of 16'), (8, 4, 'divisor of 2,')]
)
def test_microbatches_that_do_not_divide_are_refused(devices, count, found):
  with pytest.raises(errors.UserError, match=found):
    toy_regression.trainer(devices, microbatches=count)


@pytest.mark.parametrize('devices', [1, 8])
def test_the_state_is_given_away_and_stays_where_it_lies(devices):
  made = toy_regression.trainer(
    devices,
    mesh=mesh_lib.MeshConfig(tensor=2 if devices > 1 else 1),
    ema_decay=0.9,
  )
  variables, optimizer = toy_regression.state(made)
  given = jax.tree.leaves((variables, optimizer))
  shardings = [leaf.sharding for leaf in given]
  with jax.set_mesh(made.mesh):
    for step in range(2):
      variables, optimizer, _ = made.step(
        variables, optimizer, made.device_batch(step)
      )
  assert all(leaf.is_deleted() for leaf in given)
  assert [
    leaf.sharding for leaf in jax.tree.leaves((variables, optimizer))
  ] == shardings
  assert made.step._cache_size() == 1
  assert jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), (variables, optimizer)
  ) == jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), made.abstract_state()
  )


def test_the_step_is_lowered_from_shapes_alone():
  made = toy_regression.trainer(8, mesh=mesh_lib.MeshConfig(tensor=2))
  reads = len(made.feed.read)
  compiled = made.lowered().compile()
  variables, optimizer = toy_regression.state(made)
  assert len(made.feed.read) == reads == 1
  with jax.set_mesh(made.mesh):
    out = compiled(
      variables,
      optimizer,
      {**made.device_batch(0), 'step': jnp.int32(0)},
    )
  wanted = toy_regression.walk(toy_regression.trainer(), 1)[0]
  assert distance(jax.device_get(out[0]), wanted[0]) < 1e-5


def test_a_blank_feed_has_the_shapes_of_rows():
  blank = feed_lib.BlankFeed(batch_size=4, length=6, images=2, image_size=8)
  batch = blank.batch(0)
  assert batch['tokens'].shape == (4, 6) == batch['loss_weights'].shape
  assert batch['images'].shape == (4, 2, 8, 8, 3)
  assert (batch['image_slots'] == -1).all()
  assert blank.batch(7, 1, 3)['positions'].shape == (2, 6)
  assert 'images' not in feed_lib.BlankFeed(batch_size=1, length=4).batch(0)


@functools.cache
def watched():
  """A trainer that looks for spikes, its start and three steps in peace."""
  spikes = guard.SpikeConfig(factor=4, window=4, warmup=2)
  made = toy_regression.trainer(spikes=spikes)
  start = toy_regression.state(made)
  copies = jax.tree.map(jnp.copy, start)  # a step gives its state away
  return made, start, toy_regression.walk(made, 3, *copies)


@pytest.mark.parametrize('poison', [np.nan, np.inf, 1e30, -1e4])
def test_a_bad_step_changes_nothing_but_its_count(poison, monkeypatch):
  made, start, wanted = watched()
  monkeypatch.setattr(made.feed, 'poison', {3: poison})
  # Squared errors of tanh cannot spike through the input: weigh instead.
  if np.isfinite(poison):
    monkeypatch.setattr(made.feed, 'poison', {})
    batch = made.feed.batch

    def spiked(step, *span):
      bad = {'y': np.full(16, poison, np.float32)} if step == 3 else {}
      return {**batch(step, *span), **bad}

    monkeypatch.setattr(made.feed, 'batch', spiked)
  seen = toy_regression.walk(made, 6, *jax.tree.map(jnp.copy, start))
  before, after = seen[2], seen[3]
  jax.tree.map(np.testing.assert_array_equal, before[0], after[0])
  jax.tree.map(np.testing.assert_array_equal, before[1].chain, after[1].chain)
  jax.tree.map(np.testing.assert_array_equal, before[0], wanted[2][0])
  assert after[1].accepted == 3 and after[1].guard.skipped == 1
  assert all(
    value == 0
    for name, pair in after[2].items()
    if name != 'guard'
    for value in pair
  )
  verdict = guard.read(after[2]['guard'])
  assert verdict.in_a_row == 1 and verdict.skipped == 1
  last = guard.read(seen[5][2]['guard'])
  assert last.in_a_row == 0 and last.skipped == 1 and seen[5][1].accepted == 5
  moved = distance(seen[5][0]['params'], before[0]['params'])
  assert 0 < moved < 1 and np.isfinite(moved)


def test_without_a_guard_a_bad_step_goes_through():
  made = toy_regression.trainer(poison={1: np.nan}, spikes=None)
  variables, optimizer, metrics = toy_regression.walk(made, 2)[-1]
  assert np.isnan(variables['params']['up']).any()
  assert optimizer.guard is None and 'guard' not in metrics


def test_the_guard_changes_no_calm_step():
  calm = toy_regression.walk(toy_regression.trainer(spikes=None), 2)
  for one, wanted in zip(whole(), calm):
    jax.tree.map(np.testing.assert_allclose, one[0], wanted[0])


def test_the_mean_is_the_recursion_and_lies_as_the_parameters():
  made = toy_regression.trainer(8, ema_decay=0.5, poison={2: np.nan})
  variables, optimizer = toy_regression.state(made)
  mean = jax.device_get(variables['params'])
  n = 0
  for variables, optimizer, _ in toy_regression.walk(made, 5):
    if optimizer.accepted > n:  # the poisoned step adds nothing
      n = int(optimizer.accepted)
      rate = 1 - min(0.5, n / (n + 9))
      step = jax.tree.map(np.subtract, variables['params'], mean)
      mean = optax.tree_utils.tree_add_scale(mean, rate, step)
    assert distance(optimizer.ema, mean) < 1e-6
  assert n == 4 and distance(optimizer.ema, variables['params']) > 1e-4
  shapes = made.abstract_state()
  assert jax.tree.map(lambda x: x.sharding, shapes[1].ema) == jax.tree.map(
    lambda x: x.sharding, shapes[0]['params']
  )
