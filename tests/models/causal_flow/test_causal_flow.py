"""Causal blocks against attention written out key by key; layout; caches."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models.causal_flow import attention_masks
from step_audio_jax.models.causal_flow import blocks
from step_audio_jax.models.causal_flow import causal_config

WIDTH, HEADS, WINDOW = 16, 2, 4
K = WIDTH // HEADS
# Rows: prompt, frames behind it; padding up to T.
ROWS = ((3, 11), (0, 14), (5, 2), (0, 1))
T = 14
CHUNKS = (2, 5)  # the last one goes on


def random_params(module, *inputs):
  """Parameters in which nothing is zero."""
  params = jax.jit(module.init)(jax.random.key(0), *inputs)['params']
  params = jax.tree.map(np.asarray, nn.unbox(params))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda p: (p + 0.2 * rng.normal(size=p.shape)).astype(np.float32), params
  )


def bounds(count):
  """(first, end) of the chunk of each of `count` frames."""
  out, begin, number = [], 0, 0
  while begin < count:
    end = begin + CHUNKS[min(number, len(CHUNKS) - 1)]
    out += [(begin, end)] * (min(end, count) - begin)
    begin, number = end, number + 1
  return out


def rows_sight():
  """The rows above, prompt first."""
  position, segment, first, end = np.zeros((4, len(ROWS), T), np.int32)
  for row, (prompt, count) in enumerate(ROWS):
    position[row] = np.arange(T) - prompt
    segment[row, :prompt] = 1
    segment[row, prompt : prompt + count] = 2
    for place, (a, b) in enumerate(bounds(count)):
      first[row, prompt + place] = a - WINDOW
      end[row, prompt + place] = b
  return attention_masks.full_mask(position, segment, first, end, WINDOW, K)


def turned(x, distance):
  """A head turned by a distance, float64; halves are pairs."""
  rates = 10000.0 ** (-np.arange(K // 2) / (K // 2))
  sin, cos = np.sin(distance * rates), np.cos(distance * rates)
  a, b = x[: K // 2], x[K // 2 :]
  return np.concatenate([a * cos - b * sin, b * cos + a * sin])


def seen(prompt, count, i):
  """(key, distance) pairs that frame i of a row sees."""
  if i < prompt:
    return [(j, i - j) for j in range(prompt)]
  mine = i - prompt
  far = min(mine, WINDOW) + prompt
  keys = [(j, far - j) for j in range(prompt)]
  a, b = bounds(count)[mine]
  for j in range(max(0, a - WINDOW), min(b, count)):
    keys.append((prompt + j, mine - j))
  return keys


def attention_oracle(params, x, prompt, count):
  """One row, frame by frame, key by key, in float64."""
  p = jax.tree.map(lambda a: a.astype(np.float64), params)

  def project(name, x):
    return x @ p[name]['kernel'] + p[name]['bias']

  heads = {
    n: project(n, x).reshape(-1, HEADS, K) for n in ('query', 'key', 'value')
  }
  out = np.zeros((prompt + count, WIDTH))
  for i in range(prompt + count):
    keys = seen(prompt, count, i)
    for h in range(HEADS):
      q = heads['query'][i, h] * K**-0.5
      # A query ahead by d is a key behind by d.
      scores = np.array([turned(q, d) @ heads['key'][j, h] for j, d in keys])
      weights = np.exp(scores - scores.max())
      weights /= weights.sum()
      out[i, h * K : (h + 1) * K] = sum(
        w * heads['value'][j, h] for w, (j, _) in zip(weights, keys)
      )
  return project('out', out)


@pytest.fixture(scope='module')
def x_BTD():
  return (
    np.random.default_rng(1)
    .normal(size=(len(ROWS), T, WIDTH))
    .astype(np.float32)
  )


def test_attention_is_that_of_single_keys(x_BTD):
  module = blocks.Attention(WIDTH, HEADS)
  mask = rows_sight()
  params = random_params(module, x_BTD, mask)
  out, _ = jax.jit(module.apply)({'params': params}, x_BTD, mask)
  for row, (prompt, count) in enumerate(ROWS):
    wanted = attention_oracle(params, x_BTD[row], prompt, count)
    np.testing.assert_allclose(
      out[row, : prompt + count], wanted, atol=2e-5, err_msg=str(row)
    )


def stack(remat=False):
  return blocks.Stack(2, WIDTH, HEADS, 24, remat)


# Of all tests, so that nothing is compiled twice.
APPLY = jax.jit(stack().apply, static_argnames='keep')


@pytest.fixture(scope='module')
def stacked(x_BTD):
  """A stack's parameters and what it makes of the rows, with modulation."""
  modulation = np.random.default_rng(2).normal(size=(2, len(ROWS), 9, WIDTH))
  modulation = modulation.astype(np.float32) * 0.5
  params = random_params(stack(), x_BTD, rows_sight(), modulation)
  whole, kept = APPLY({'params': params}, x_BTD, rows_sight(), modulation)
  assert kept is None
  return params, modulation, np.asarray(whole)


def test_parameters_apart_compute_the_same(stacked, x_BTD):
  params, modulation, whole = stacked
  apart = {'blocks': blocks_lib.unstack(params['blocks'], 2)}
  again, _ = APPLY({'params': apart}, x_BTD, rows_sight(), modulation)
  np.testing.assert_allclose(again, whole, atol=1e-5)


def test_chunks_behind_caches_are_the_whole_sequence(stacked, x_BTD):
  """Rows of other lengths and prompts side by side, padded chunks included."""
  params, modulation, whole = stacked
  variables = {'params': {'blocks': blocks_lib.unstack(params['blocks'], 2)}}
  P = 6
  prompts = np.zeros((len(ROWS), P, WIDTH), np.float32)
  counts = np.array([p for p, _ in ROWS], np.int32)
  for row, (p, _) in enumerate(ROWS):
    prompts[row, P - p :] = x_BTD[row, :p]
  place = np.broadcast_to(np.arange(-P, 0), (len(ROWS), P))
  segment = (place >= -counts[:, None]).astype(np.int32)
  out, prompt = APPLY(
    variables,
    prompts,
    attention_masks.full_mask(place, segment, place, place, WINDOW, K),
    modulation,
    keep=True,
  )
  for row, (p, _) in enumerate(ROWS):
    np.testing.assert_allclose(out[row, P - p :], whole[row, :p], atol=1e-5)
  empty = jnp.zeros((len(ROWS), WINDOW, HEADS, K))
  past = tuple(blocks.KeyValueCache(empty, empty, one.tail) for one in prompt)
  begin, number = 0, 0
  while begin < max(count for _, count in ROWS):
    size = CHUNKS[min(number, len(CHUNKS) - 1)]
    chunk = np.full((len(ROWS), size, WIDTH), 7.0, np.float32)
    there = np.clip([count - begin for _, count in ROWS], 0, size)
    for row, (p, _) in enumerate(ROWS):
      begins = p + begin
      chunk[row, : there[row]] = x_BTD[row, begins : begins + there[row]]
    out, past = APPLY(
      variables,
      chunk,
      attention_masks.chunk_mask(
        np.full(len(ROWS), begin),
        there.astype(np.int32),
        size,
        WINDOW,
        counts,
        P,
        K,
      ),
      modulation,
      past,
      prompt,
    )
    assert past[0].key.shape[1] == WINDOW
    for row, (p, _) in enumerate(ROWS):
      begins = p + begin
      np.testing.assert_allclose(
        out[row, : there[row]],
        whole[row, begins : begins + there[row]],
        atol=1e-5,
      )
    begin, number = begin + size, number + 1


def test_padding_changes_nothing(stacked, x_BTD):
  params, modulation, whole = stacked
  other = x_BTD.copy()
  for row, (prompt, count) in enumerate(ROWS):
    other[row, prompt + count :] = 100.0
  again, _ = APPLY({'params': params}, other, rows_sight(), modulation)
  for row, (prompt, count) in enumerate(ROWS):
    np.testing.assert_array_equal(
      again[row, : prompt + count], whole[row, : prompt + count]
    )


def test_gradients_are_those_of_differences(stacked, x_BTD):
  """Of the stack that computes its inside twice, along a random direction."""
  params, modulation, _ = stacked

  def total(out):
    return jnp.square(out).mean()

  @jax.jit
  def gradients(params):
    return jax.grad(
      lambda p: total(
        stack(remat=True).apply({'params': p}, x_BTD, rows_sight(), modulation)[
          0
        ]
      )
    )(params)

  rng = np.random.default_rng(3)
  way = jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32), params
  )
  slope = sum(
    float((g * w).sum())
    for g, w in zip(
      jax.tree.leaves(gradients(params)), jax.tree.leaves(way), strict=True
    )
  )
  ends = []
  for step in (1e-3, -1e-3):
    moved = jax.tree.map(lambda p, w, s=step: p + s * w, params, way)
    out, _ = APPLY({'params': moved}, x_BTD, rows_sight(), modulation)
    ends.append(float(total(out)))
  assert abs(slope) > 0.1
  np.testing.assert_allclose((ends[0] - ends[1]) / 2e-3, slope, rtol=1e-2)


def test_a_stack_in_one_piece_keeps_nothing(stacked, x_BTD):
  params, modulation, _ = stacked
  with pytest.raises(ValueError, match='keep nothing'):
    stack().apply(
      {'params': params}, x_BTD, rows_sight(), modulation, keep=True
    )


@pytest.mark.parametrize('xp', [np, jnp])
def test_groups_become_steps(xp):
  ids = xp.asarray([[7, 1023, 1024, 1030, 5119, 0, 1, 1026, 1027, 1028]])
  pairs = causal_config.steps_of(ids, 1024)
  assert pairs.dtype == np.int32
  # Linguistic ids as they are, the pad id 1024, semantic ids one further.
  wanted = [[7, 1025], [1023, 1031], [1024, 5120]]
  wanted += [[0, 1027], [1, 1028], [1024, 1029]]
  np.testing.assert_array_equal(pairs, [wanted])


@pytest.mark.parametrize(
  'settings, pattern',
  [
    ({'width': 30}, 'width is 30 and heads 8'),
    ({'window': 97}, 'window is 97 frames'),
    ({'window': 0}, 'window is 0 frames'),
    ({'chunks': ()}, 'chunks are ()'),
    ({'chunks': (3, 0)}, 'at least 1 step'),
    ({'look_ahead': 0}, 'look_ahead is 0'),
    ({'estimator_layers': 0}, 'estimator_layers is 0'),
  ],
)
def test_bad_shapes_are_refused(settings, pattern):
  with pytest.raises(errors.UserError, match='causal flow: .*') as error:
    causal_config.CausalFlowConfig(**settings)
  assert pattern in str(error.value)


def test_released_sizes():
  """Of the published systems: 25 Hz chunks, tables, window."""
  c = causal_config.CausalFlowConfig()
  assert c.chunks == (15, 24, 48) and c.look_ahead == 3
  assert c.linguistic + c.semantic + 1 == 5121
  assert (c.width, c.heads, c.head_dim, c.estimator_layers) == (512, 8, 64, 16)
  assert c.step_window == 48
