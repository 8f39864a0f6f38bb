"""The XLA path against the dense oracle, and what it never materialises."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels.attention import attention
from step_audio_jax.kernels.attention import layout
from tests.kernels import rows

SMALL = attention.Blocks(queries=128, keys=256)


def run(*args):
  return rows.out_and_gradients(*args, 'blockwise', SMALL)


@pytest.mark.parametrize('key', rows.CASES)
def test_values_and_gradients_equal_the_dense_ones(key):
  rows.agree(run(*rows.case(*key)), key)


def test_a_row_of_one_block_takes_no_loop():
  key = (1, 120, 4, 2, 8), 30, True
  rows.agree(run(*rows.case(*key)), key)
  jaxpr = str(jax.make_jaxpr(run)(*rows.case(*key)))
  assert 'while' not in jaxpr and 'scan' not in jaxpr


def test_4096_tokens():
  args = rows.case(*rows.LONG)
  got = rows.out_and_gradients(*args, 'blockwise', attention.Blocks())
  rows.agree(got, rows.LONG)


def test_bfloat16_keeps_its_bits():
  key = rows.CASES[0]
  q, k, v, dout, *rest = rows.case(*key)
  got = run(*(x.astype(jnp.bfloat16) for x in (q, k, v, dout)), *rest)
  assert all(x.dtype == jnp.bfloat16 for x in got)
  rows.agree(got, key, tolerance=2e-2)  # bits of slack over bfloat16's 2^-8


def shapes_in(jaxpr):
  """Shapes of all values, those of inner programs included."""
  for equation in jaxpr.eqns:
    for value in equation.outvars:
      yield getattr(value.aval, 'shape', ())
    for inner in jax.core.jaxprs_in_params(equation.params):
      yield from shapes_in(inner)


@pytest.mark.parametrize('implementation', ['auto', 'interpret'])
def test_nothing_of_length_squared(implementation):
  length = 2048
  segments, positions = map(jnp.asarray, rows.packed(1, length, 300))
  args = rows.tensors(1, length, 2, 1, 64)

  def largest(implementation):
    run = functools.partial(
      rows.out_and_gradients,
      implementation=implementation,
      blocks=attention.Blocks(),
    )
    slopes = jnp.asarray(attention.alibi_slopes(2))
    jaxpr = jax.make_jaxpr(run)(*args, segments, positions, slopes)
    return max(math.prod(s) for s in shapes_in(jaxpr.jaxpr))

  assert largest('dense') >= length * length
  assert largest(implementation) <= 512 * 512


def test_compiled_memory_is_far_below_the_scores():
  length = 4096
  shape = jax.ShapeDtypeStruct
  q = shape((1, length, 2, 32), jnp.float32)
  ids = shape((1, length), jnp.int32)
  compiled = rows.out_and_gradients.lower(
    *(q, q, q, q, ids, ids, shape((2,), jnp.float32)),
    *('auto', attention.Blocks()),
  ).compile()
  memory = compiled.memory_analysis().temp_size_in_bytes
  assert memory < 2 * length * length * 4 / 8


def test_a_token_of_another_segment_never_changes_an_output():
  q, k, v, dout, segments, *rest = rows.case(*rows.CASES[0])
  chosen = np.isin(segments, [2, 4])[..., None, None]
  noise = jnp.where(chosen, 100.0, 1.0)
  got = run(q, k * noise, v * noise, dout * noise, segments, *rest)
  want = run(q, k, v, dout, segments, *rest)
  other = np.broadcast_to(~chosen, q.shape)
  for a, b in zip(got, want):
    np.testing.assert_array_equal(np.asarray(a)[other], np.asarray(b)[other])
    assert not np.array_equal(a, b)


def dense_need(ids, block_q, block_kv):
  """Which block pairs hold a visible pair, by looking at every pair."""
  ids = jax.tree.map(np.asarray, ids)
  visible = (ids.q_segments_BT[:, :, None] == ids.kv_segments_BS[:, None]) & (
    ids.q_positions_BT[:, :, None] >= ids.kv_positions_BS[:, None]
  )
  B, T, S = visible.shape
  blocks = visible.reshape(B, T // block_q, block_q, S // block_kv, block_kv)
  return blocks.any(axis=(2, 4))


def useful_blocks(positions, segments, queries, block_q, block_kv):
  """(ids, ranges) of rows, of which the first `queries` tokens ask."""
  ids = layout.Ids(
    positions[:, :queries], positions, segments[:, :queries], segments
  )
  ids = layout.pad_ids(ids, block_q, block_kv)
  return ids, layout.ranges(ids, block_q, block_kv)


find = jax.jit(useful_blocks, static_argnums=(2, 3, 4))


def within(first, last, size):
  index = np.arange(size)[None, None]
  return (index >= np.asarray(first)[..., None]) & (
    index <= np.asarray(last)[..., None]
  )


@pytest.mark.parametrize('mean', [5, 60, 900])
def test_ranges_are_exactly_the_useful_blocks_of_packed_rows(mean):
  segments, positions = map(jnp.asarray, rows.packed(3, 700, mean))
  ids, useful = find(positions, segments, 700, 128, 64)
  need = dense_need(ids, 128, 64)
  B, M, N = need.shape
  kv = within(useful.kv_first_BM, useful.kv_last_BM, N)
  queries = within(useful.q_first_BN, useful.q_last_BN, M).swapaxes(1, 2)
  assert not (need & ~kv).any() and not (need & ~queries).any()
  # Where a segment begins inside a block, the pair before may be kept too.
  assert kv.sum() <= need.sum() + B * M
  assert need.sum() < B * M * N * 0.75


def test_ranges_are_sound_for_ids_in_any_order():
  rng = np.random.default_rng(0)
  segments = jnp.asarray(rng.integers(0, 6, (4, 256)), jnp.int32)
  positions = jnp.asarray(rng.integers(0, 90, (4, 256)), jnp.int32)
  ids, useful = find(positions, segments, 200, 32, 32)
  need = dense_need(ids, 32, 32)
  kept = within(useful.kv_first_BM, useful.kv_last_BM, need.shape[2])
  assert not (need & ~kept).any()
