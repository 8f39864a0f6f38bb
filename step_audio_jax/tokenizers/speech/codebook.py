"""A codebook that learns beside a network: k-means start, then a moving mean.

    n_k ← γ n_k + (1 − γ) |{x : code(x) = k}|
    e_k ← (γ n_k e_k + (1 − γ) Σ_{code(x)=k} x) / n_k'

(the EMA of VQ-VAE, arXiv 1711.00937). Until `start` the steps only fill a
reservoir of recent vectors; the last of them clusters it: k-means++ (Arthur
and Vassilvitskii, 2007), then Lloyd's iterations. A row whose share falls
below `dead` of the mean share is put onto a random vector of the batch.

With a frozen network in front this is mini-batch k-means. Its sums run over
the global batch: where the vectors are sharded over devices or hosts, the
compiler adds the parts up, and every device keeps the same state.

The state is a dict of arrays: `table` (K, D), `counts` (K,), `age` (K,) steps
since a code was last chosen, `reservoir` (R, D). Axes: N vectors, K codes,
R reservoir rows, D width, J candidates.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from step_audio_jax import errors

State = dict[str, jax.Array]
_CHUNK = 8192  # vectors compared with the whole codebook at a time
# A large codebook draws its start in blocks: one matmul in place of as many
# passes over all vectors.
_LARGE, _BLOCK = 1024, 64


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
    window: Steps in which a code that is in use must be chosen; see `usage`.
  """

  size: int
  start: int
  reservoir: int = 8192
  fill_steps: int = 8
  iterations: int = 8
  decay: float = 0.99
  dead: float = 0.02
  window: int = 100

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
    if self.window < 1:
      raise errors.UserError(
        f'codebook: window is {self.window}, expected at least 1.'
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
  """k-means++ start: each next row is drawn by squared distance, (K, D).

  In a block the candidates are drawn by the distances d before it, and one is
  kept with probability d' / d, where d' is its distance from the rows that
  stand by then. Those that are kept are distributed as if drawn one by one.
  """
  first, key = jax.random.split(key)
  count = x_ND.shape[0]
  block = _BLOCK if size >= _LARGE else 1
  square_N = jnp.sum(jnp.square(x_ND), axis=-1)

  def distance(rows_JD):
    square_J = jnp.sum(jnp.square(rows_JD), axis=-1)
    away = square_N[:, None] - 2.0 * x_ND @ rows_JD.T + square_J[None, :]
    return jnp.maximum(away, 0.0)

  def add(carry):
    table, filled, nearest_N = carry
    place_key = jax.random.fold_in(key, filled)
    keep_key = jax.random.fold_in(key, size + filled)
    total_N = jnp.cumsum(nearest_N)
    draw_J = jax.random.uniform(place_key, (block,)) * total_N[-1]
    place_J = jnp.minimum(jnp.searchsorted(total_N, draw_J), count - 1)
    away_NJ = distance(x_ND[place_J])
    kept_J = _kept(
      jax.random.uniform(keep_key, (block,)),
      nearest_N[place_J],
      away_NJ[place_J],
      size - filled,
    )
    slot_J = jnp.where(kept_J, filled + jnp.cumsum(kept_J) - 1, size)
    table = table.at[slot_J].set(x_ND[place_J], mode='drop')
    away_NJ = jnp.where(kept_J[None, :], away_NJ, jnp.inf)
    nearest_N = jnp.minimum(nearest_N, away_NJ.min(axis=1))
    return table, filled + kept_J.sum(), nearest_N

  row_1D = x_ND[jax.random.randint(first, (1,), 0, count)]
  table = jnp.zeros((size, x_ND.shape[1]), x_ND.dtype).at[:1].set(row_1D)
  table, _, _ = jax.lax.while_loop(
    lambda carry: carry[1] < size,
    add,
    (table, jnp.int32(1), distance(row_1D)[:, 0]),
  )
  return table


def _kept(chance_J, before_J, away_JJ, room):
  """Which candidates stay, one after the other; at most `room` of them."""

  def one(j, kept_J):
    near = jnp.where(kept_J, away_JJ[j], jnp.inf).min()
    now = jnp.minimum(before_J[j], near)
    stays = (chance_J[j] * before_J[j] <= now) & (kept_J.sum() < room)
    return kept_J.at[j].set(stays)

  return jax.lax.fori_loop(
    0, len(chance_J), one, jnp.zeros(chance_J.shape, bool)
  )


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
    'age': jnp.full((config.size,), config.window, jnp.int32),
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
  chosen = last & (counts > 0)
  return {
    'table': table,
    'counts': counts,
    'age': jnp.where(chosen, 0, state['age']),
    'reservoir': reservoir,
  }


def _move(config, state, x_ND, codes_N, valid_N, key):
  count, total = totals(x_ND, codes_N, valid_N.astype(x_ND.dtype), config.size)
  gamma = config.decay
  counts = gamma * state['counts'] + (1 - gamma) * count
  old = gamma * state['counts'][:, None] * state['table']
  table = (old + (1 - gamma) * total) / jnp.maximum(counts, 1e-8)[:, None]
  mean = counts.mean()
  dead = counts < config.dead * mean

  def revived():
    fresh = _sample(key, x_ND, valid_N, config.size)
    return jnp.where(dead[:, None], fresh, table)

  return {
    'table': jax.lax.cond(dead.any(), revived, lambda: table),
    'counts': jnp.where(dead, 0.5 * mean, counts),
    # As far as the window reaches; a skipped step cannot overflow it.
    'age': jnp.where(
      count > 0, 0, jnp.minimum(state['age'] + 1, config.window)
    ),
    'reservoir': state['reservoir'],
  }


def perplexity(counts_K: jax.Array) -> jax.Array:
  """exp of the entropy of the code distribution: codes in effective use."""
  p = counts_K / jnp.maximum(counts_K.sum(), 1e-8)
  return jnp.exp(-jnp.sum(p * jnp.log(jnp.maximum(p, 1e-12))))


def usage(config: CodebookConfig, state: State) -> jax.Array:
  """Share of the codes that were chosen in the last `window` steps."""
  return (state['age'] < config.window).mean(dtype=jnp.float32)


def metrics(
  config: CodebookConfig, state: State, started: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """`codes/usage` and `codes/perplexity`, as sums over `started` (0 or 1)."""
  return {
    'codes/usage': (usage(config, state) * started, started),
    'codes/perplexity': (perplexity(state['counts']) * started, started),
  }
