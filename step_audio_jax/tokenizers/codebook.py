"""A codebook that learns beside a network: k-means start, then a moving mean.

    n_k ← γ n_k + (1 − γ) |{x : code(x) = k}|
    e_k ← (γ n_k e_k + (1 − γ) Σ_{code(x)=k} x) / n_k'

(the EMA of VQ-VAE, arXiv 1711.00937). Until `start` the steps only fill a
reservoir of recent vectors; the last of them clusters it: k-means++ (Arthur
and Vassilvitskii, 2007), then Lloyd's iterations. A row whose share falls
below `dead` of the mean share is put onto a random vector of the batch.

The state is a dict of arrays: `table` (K, D), `counts` (K,), `reservoir`
(R, D). Axes: N vectors, K codes, R reservoir rows, D width.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from step_audio_jax import errors

State = dict[str, jax.Array]
_CHUNK = 8192  # vectors compared with the whole codebook at a time


@dataclasses.dataclass(frozen=True)
class CodebookConfig:
  """How a codebook is started and kept.

  Attributes:
    size: Codes K.
    start: Steps before the codebook exists.
    reservoir: Vectors that the start clusters.
    fill_steps: The last steps before `start`, which fill the reservoir.
    iterations: Lloyd iterations at the start.
    decay: γ of the moving mean.
    dead: Share of the mean count below which a code is moved.
  """

  size: int
  start: int
  reservoir: int = 8192
  fill_steps: int = 8
  iterations: int = 8
  decay: float = 0.99
  dead: float = 0.02

  def __post_init__(self):
    if self.reservoir < self.size:
      raise errors.UserError(
        f'codebook: reservoir is {self.reservoir}, expected at least the '
        f'{self.size} codes.'
      )
    if not 1 <= self.fill_steps <= self.start:
      raise errors.UserError(
        f'codebook: fill_steps is {self.fill_steps}, expected 1..{self.start} '
        '(start).'
      )
    if self.reservoir % self.fill_steps:
      raise errors.UserError(
        f'codebook: reservoir {self.reservoir} is no multiple of fill_steps '
        f'{self.fill_steps}.'
      )


def assign(x_ND: jax.Array, table_KD: jax.Array):
  """Nearest code and squared distance of each vector, (N,) int32 and (N,)."""
  count = x_ND.shape[0]
  square_K = jnp.sum(jnp.square(table_KD), axis=-1)

  def part(x):
    score = square_K[None, :] - 2.0 * x @ table_KD.T
    code = jnp.argmin(score, axis=-1).astype(jnp.int32)
    best = jnp.take_along_axis(score, code[:, None], axis=-1)[:, 0]
    return code, jnp.maximum(best + jnp.sum(jnp.square(x), axis=-1), 0.0)

  if count <= _CHUNK:
    return part(x_ND)
  pad = -count % _CHUNK
  chunks = jnp.pad(x_ND, ((0, pad), (0, 0)))
  codes, distances = jax.lax.map(
    part, chunks.reshape(-1, _CHUNK, x_ND.shape[1])
  )
  return codes.reshape(-1)[:count], distances.reshape(-1)[:count]


def plus_plus(key: jax.Array, x_ND: jax.Array, size: int) -> jax.Array:
  """k-means++ start: each next row is drawn by squared distance, (K, D)."""
  first, key = jax.random.split(key)
  count = x_ND.shape[0]
  square_N = jnp.sum(jnp.square(x_ND), axis=-1)

  def distance(row_D):
    cross = x_ND @ row_D
    return jnp.maximum(square_N - 2.0 * cross + row_D @ row_D, 0.0)

  def add(k, carry):
    table, nearest_N = carry
    draw = jax.random.uniform(jax.random.fold_in(key, k))
    total_N = jnp.cumsum(nearest_N)
    place = jnp.searchsorted(total_N, draw * total_N[-1])
    row = x_ND[jnp.minimum(place, count - 1)]
    table = jax.lax.dynamic_update_index_in_dim(table, row, k, 0)
    return table, jnp.minimum(nearest_N, distance(row))

  row = x_ND[jax.random.randint(first, (), 0, count)]
  table = jnp.zeros((size, x_ND.shape[1])).at[0].set(row)
  table, _ = jax.lax.fori_loop(1, size, add, (table, distance(row)))
  return table


def totals(x_ND, codes_N, weights_N, size):
  """Weighted count (K,) and sum (K, D) of the vectors of each code."""
  count_K = jax.ops.segment_sum(weights_N, codes_N, size)
  sum_KD = jax.ops.segment_sum(x_ND * weights_N[:, None], codes_N, size)
  return count_K, sum_KD


def cluster(key, x_ND: jax.Array, size: int, iterations: int):
  """k-means of vectors; returns table (K, D) and counts (K,)."""
  ones_N = jnp.ones(x_ND.shape[:1])

  def lloyd(_, table):
    codes, _ = assign(x_ND, table)
    count, total = totals(x_ND, codes, ones_N, size)
    mean = total / jnp.maximum(count, 1.0)[:, None]
    return jnp.where((count > 0)[:, None], mean, table)

  table = plus_plus(key, x_ND, size)
  table = jax.lax.fori_loop(0, iterations, lloyd, table)
  codes, _ = assign(x_ND, table)
  return table, totals(x_ND, codes, ones_N, size)[0]


def init(config: CodebookConfig, width: int) -> State:
  """The state before the first step."""
  return {
    'table': jnp.zeros((config.size, width)),
    'counts': jnp.zeros((config.size,)),
    'reservoir': jnp.zeros((config.reservoir, width)),
  }


def _sample(key, x_ND, valid_N, count):
  """`count` valid vectors in random order; repeated where there are fewer."""
  order = jnp.argsort(jax.random.uniform(key, valid_N.shape) + ~valid_N)
  place = jnp.arange(count) % jnp.maximum(valid_N.sum(), 1)
  return x_ND[order[place]]


def update(
  config: CodebookConfig,
  state: State,
  x_ND: jax.Array,
  codes_N: jax.Array,
  valid_N: jax.Array,
  step: jax.Array,
  key: jax.Array,
) -> State:
  """The state after one step.

  Args:
    config: Numbers.
    state: Before the step.
    x_ND: Vectors of the step; no gradient flows.
    codes_N: Their codes under `state` (ignored before the start).
    valid_N: Which vectors count.
    step: Number of the step, from 0.
    key: Random key of the step.
  """
  x_ND = jax.lax.stop_gradient(x_ND)
  fill = functools.partial(_fill, config, state, x_ND, valid_N, step, key)
  move = functools.partial(_move, config, state, x_ND, codes_N, valid_N, key)
  return jax.lax.cond(step < config.start, fill, move)


def _fill(config, state, x_ND, valid_N, step, key):
  rows = config.reservoir // config.fill_steps
  slot = jnp.mod(step, config.fill_steps) * rows
  reservoir = jax.lax.dynamic_update_slice_in_dim(
    state['reservoir'], _sample(key, x_ND, valid_N, rows), slot, axis=0
  )

  def begin():
    return cluster(key, reservoir, config.size, config.iterations)

  def wait():
    return state['table'], state['counts']

  last = step == config.start - 1
  table, counts = jax.lax.cond(last, begin, wait)
  # The counts of one step, as the moving mean keeps them.
  scale = valid_N.sum() / config.reservoir
  counts = jnp.where(last, counts * scale, counts)
  return {'table': table, 'counts': counts, 'reservoir': reservoir}


def _move(config, state, x_ND, codes_N, valid_N, key):
  count, total = totals(x_ND, codes_N, valid_N.astype(x_ND.dtype), config.size)
  gamma = config.decay
  counts = gamma * state['counts'] + (1 - gamma) * count
  old = gamma * state['counts'][:, None] * state['table']
  table = (old + (1 - gamma) * total) / jnp.maximum(counts, 1e-8)[:, None]
  mean = counts.mean()
  dead = counts < config.dead * mean
  fresh = _sample(key, x_ND, valid_N, config.size)
  return {
    'table': jnp.where(dead[:, None], fresh, table),
    'counts': jnp.where(dead, 0.5 * mean, counts),
    'reservoir': state['reservoir'],
  }


def perplexity(counts_K: jax.Array) -> jax.Array:
  """exp of the entropy of the code distribution: codes in effective use."""
  p = counts_K / jnp.maximum(counts_K.sum(), 1e-8)
  return jnp.exp(-jnp.sum(p * jnp.log(jnp.maximum(p, 1e-12))))
