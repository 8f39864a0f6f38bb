"""CAM++: rows of a batch are what they are alone; norms, pooling in numpy."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.speaker import layers

TINY = campplus.CampplusConfig(
  bands=16,
  embedding=6,
  growth=4,
  bottleneck=2,
  initial=8,
  head_width=4,
  head_blocks=(1, 1),
  layers=(1, 1),
  kernels=(3, 5),
  dilations=(1, 2),
)
LENGTHS = (230, 1, 101, 62, 0)


@pytest.fixture(scope='module')
def rows():
  rng = np.random.default_rng(0)
  loud = rng.normal(size=(len(LENGTHS), 1, 16))
  return [
    (rng.normal(size=(n, 16)) + 2 * own).astype(np.float32)
    for n, own in zip(LENGTHS, loud)
  ]


@pytest.fixture(scope='module')
def variables():
  """Of the classifier, with running statistics that are not trivial."""
  model = campplus.SpeakerClassifier(TINY, 3)
  x = jax.ShapeDtypeStruct((1, 9, 16), np.float32)
  counts = jax.ShapeDtypeStruct((1,), np.int32)
  shapes = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), x, counts))
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    name = path[-1].key
    if name in ('var', 'scale'):
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    scale = 0.3 if leaf.ndim == 1 else 1.5 / np.sqrt(np.prod(leaf.shape[:-1]))
    return (scale * rng.normal(size=leaf.shape)).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def padded(rows, fill, extra=17):
  out = np.full((len(rows), max(map(len, rows)) + extra, 16), fill, np.float32)
  for place, row in zip(out, rows):
    place[: len(row)] = row
  return out, np.array([len(row) for row in rows], np.int32)


def test_rows_of_a_batch_are_what_they_are_alone(rows, variables):
  tree = {kind: variables[kind]['encoder'] for kind in variables}
  run = jax.jit(campplus.Campplus(TINY).apply)
  got = run(tree, *padded(rows, 7.0))
  assert got.shape == (5, 6) and np.isfinite(got).all()
  assert np.abs(got[0] - got[2]).max() > 0.1
  for row, vector in ((rows[0], got[0]), (rows[3], got[3])):
    alone = run(tree, row[None])  # as the original has it, without lengths
    np.testing.assert_allclose(alone[0], vector, rtol=1e-4, atol=1e-5)
  garbage = run(tree, *padded(rows, -3.0))
  np.testing.assert_allclose(garbage, got, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def trained(rows, variables):
  """Gradients and new statistics of one step, for two sorts of garbage."""
  model = campplus.SpeakerClassifier(TINY, 3)

  @jax.jit
  def step(variables, x, counts):
    def loss(params):
      cosines, updates = model.apply(
        {**variables, 'params': params}, x, counts, mutable=['batch_stats']
      )
      valid = (counts > 0)[:, None]
      return jnp.where(valid, jnp.square(cosines - 1), 0.0).sum(), (
        cosines,
        updates['batch_stats'],
      )

    return jax.grad(loss, has_aux=True)(variables['params'])

  return [step(variables, *padded(rows, fill)) for fill in (5.0, -2.0)]


def test_training_does_not_see_what_is_behind_a_row(trained, variables):
  one, other = trained
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)
  grads, (cosines, stats) = one
  assert np.abs(cosines).max() <= 1 + 1e-5
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).max() > 0, stats, variables['batch_stats']
  )
  assert all(jax.tree.leaves(moved))
  # A ReLU of so few channels may be shut; by far the most are not.
  alive = [np.abs(g).max() > 0 for g in jax.tree.leaves(grads)]
  assert sum(alive) > 0.8 * len(alive)


def test_batch_norm_counts_valid_places_only():
  rng = np.random.default_rng(2)
  x = rng.normal(2, 3, size=(3, 5, 4)).astype(np.float32)
  valid = np.arange(5)[None, :, None] < np.array([5, 2, 0])[:, None, None]
  norm = layers.Norm(train=True)
  start = norm.init(jax.random.key(0), x)
  got, updates = norm.apply(start, x, valid, mutable=['batch_stats'])
  kept = x[np.broadcast_to(valid, x.shape)].reshape(-1, 4).astype(np.float64)
  want = (x - kept.mean(0)) / np.sqrt(kept.var(0) + layers.EPSILON)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  stats = jax.tree.map(np.asarray, updates['batch_stats'])
  np.testing.assert_allclose(stats['mean'], 0.1 * kept.mean(0), rtol=1e-5)
  want = 0.9 + 0.1 * kept.var(0, ddof=1)
  np.testing.assert_allclose(stats['var'], want, rtol=1e-5)
  # What it learnt is what it goes by afterwards.
  still = layers.Norm(train=False).apply({**start, **updates}, x)
  want = (x - stats['mean']) / np.sqrt(stats['var'] + layers.EPSILON)
  np.testing.assert_allclose(still, want, rtol=1e-5)


def test_a_batch_of_nothing_moves_no_statistics():
  x = np.ones((2, 3, 4), np.float32)
  norm = layers.Norm(train=True, affine=False)
  start = norm.init(jax.random.key(0), x)
  nothing = np.zeros((2, 3, 1), bool)
  got, updates = norm.apply(start, x, nothing, mutable=['batch_stats'])
  assert np.isfinite(got).all()
  np.testing.assert_array_equal(updates['batch_stats']['mean'], np.zeros(4))
  np.testing.assert_array_equal(updates['batch_stats']['var'], np.ones(4))


@pytest.mark.parametrize('total', [1, 100, 250])
def test_context_is_utterance_mean_and_segment_mean(total):
  rng = np.random.default_rng(total)
  x = rng.normal(size=(3, total, 4)).astype(np.float32)
  lengths = np.array([total, (total + 1) // 2, 0])
  valid = np.arange(total)[None, :, None] < lengths[:, None, None]
  got = np.asarray(jax.jit(layers.context)(x, valid))
  assert got.shape == (3, -(-total // 100), 4)
  for row, length in zip(range(2), lengths):
    whole = x[row, :length].mean(0)
    for begin in range(0, length, 100):
      part = x[row, begin : min(length, begin + 100)].mean(0)
      place = begin // 100
      np.testing.assert_allclose(got[row, place], whole + part, atol=1e-5)
  alone = jax.jit(layers.context)(x[:1], None)
  np.testing.assert_allclose(alone, got[:1], rtol=1e-5, atol=1e-6)


def test_pooling_is_mean_and_unbiased_deviation():
  rng = np.random.default_rng(3)
  x = rng.normal(5, 2, size=(4, 9, 3)).astype(np.float32)
  x[:, :, 2] = 1.5  # a channel that never moves
  lengths = np.array([9, 4, 1, 0])
  valid = np.arange(9)[None, :, None] < lengths[:, None, None]
  pooled = jax.jit(layers.statistics_pooling)
  got = pooled(x, valid)
  for row, length in ((0, 9), (1, 4)):
    part = x[row, :length].astype(np.float64)
    want = np.concatenate([part.mean(0), part.std(0, ddof=1)])
    np.testing.assert_allclose(got[row], want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(got[2, 3:], 0)

  slope = jax.jit(jax.grad(lambda x: layers.statistics_pooling(x, valid).sum()))
  assert np.isfinite(slope(jnp.asarray(x))).all()


def test_the_released_shape():
  c = campplus.CampplusConfig()
  assert c.widths == (512, 1024, 1024)
  assert [int(campplus.frame_count(n)) for n in (1, 2, 267)] == [1, 1, 134]


@pytest.mark.parametrize(
  'change, said',
  [
    ({'bands': 20}, 'bands is 20, expected a multiple of 8'),
    ({'growth': 0}, 'growth is 0, expected at least 1'),
    ({'layers': (2, 1, 1)}, '3 layers, 2 kernels and 2 dilations'),
    ({'kernels': (3, 4)}, r'kernels is \(3, 4\), expected odd'),
    ({'layers': ()}, r'layers is \(\), expected numbers'),
    ({'head_blocks': (1,)}, r'head_blocks is \(1,\), expected two'),
    ({'growth': 1, 'bottleneck': 3}, 'bottleneck 3 is odd'),
    ({'initial': 7}, 'block 1 ends with 11 channels'),
  ],
)
def test_a_bad_shape_says_what_is_wrong(change, said):
  fields = {**TINY.__dict__, **change}
  with pytest.raises(errors.UserError, match=said):
    campplus.CampplusConfig(**fields)


def test_lists_become_tuples():
  """As gin and JSON give them."""
  lists = {
    k: list(v) if isinstance(v, tuple) else v for k, v in TINY.__dict__.items()
  }
  assert campplus.CampplusConfig(**lists) == TINY
  assert hash(campplus.CampplusConfig(**lists)) == hash(TINY)
