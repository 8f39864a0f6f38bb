"""The XLA path against the dense oracle, and what it never materialises."""

import functools
import math

import jax
import jax.numpy as jnp
import kernels_rows as rows
import numpy as np
import pytest

from step_audio_jax.kernels import attention
from step_audio_jax.kernels import layout

SMALL = attention.Blocks(queries=128, keys=256)


@pytest.mark.parametrize(
  ('shape', 'mean', 'biased'),
  [
    ((2, 300, 1, 1, 64), 40, False),
    ((1, 577, 3, 1, 128), 2000, True),
    ((2, 515, 24, 2, 16), 150, True),
    ((1, 100, 6, 2, 8), 30, True),
    ((1, 100, 6, 2, 8), 30, False),
  ],
)
def test_values_and_gradients_equal_the_dense_ones(shape, mean, biased):
  rows.compare('blockwise', shape, mean, biased, SMALL)


def test_4096_tokens():
  rows.compare('blockwise', (1, 4096, 2, 1, 64), 1500, True)


def test_float64_like_agreement_in_bfloat16():
  segments, positions = map(jnp.asarray, rows.packed(1, 384, 200))
  args = rows.tensors(1, 384, 4, 2, 32, dtype=jnp.bfloat16)
  exact = rows.tensors(1, 384, 4, 2, 32)
  slopes = jnp.asarray(attention.alibi_slopes(4))
  got = rows.out_and_gradients(
    *args, segments, positions, slopes, 'blockwise', SMALL
  )
  want = rows.out_and_gradients(
    *exact, segments, positions, slopes, 'dense', SMALL
  )
  for a, b in zip(got, want):
    assert a.dtype == jnp.bfloat16
    error = jnp.abs(a.astype(jnp.float32) - b).max() / jnp.abs(b).max()
    assert error < 2e-2  # three bits of slack over bfloat16's 2^-8


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


def test_compiled_memory_is_linear_in_length():
  def temporaries(length):
    shape = jax.ShapeDtypeStruct
    q = shape((1, length, 2, 32), jnp.float32)
    ids = shape((1, length), jnp.int32)
    slopes = shape((2,), jnp.float32)
    compiled = rows.out_and_gradients.lower(
      q, q, q, q, ids, ids, slopes, 'auto', attention.Blocks()
    ).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporaries(4096) < 2.5 * temporaries(2048)


def test_a_token_of_another_segment_never_changes_an_output():
  segments, positions = rows.packed(1, 700, 120)
  q, k, v, dout = rows.tensors(1, 700, 2, 1, 16)
  slopes = jnp.asarray(attention.alibi_slopes(2))

  def run(k, v, dout):
    return rows.out_and_gradients(
      *(q, k, v, dout),
      *map(jnp.asarray, (segments, positions)),
      *(slopes, 'auto', SMALL),
    )

  chosen = np.isin(segments, [2, 4])[..., None, None]
  noise = jnp.where(chosen, 100.0, 1.0)
  got, want = run(k * noise, v * noise, dout * noise), run(k, v, dout)
  other = np.broadcast_to(~chosen, q.shape)
  for a, b in zip(got[:2], want[:2]):
    np.testing.assert_array_equal(np.asarray(a)[other], np.asarray(b)[other])
    assert not np.array_equal(a, b)


def dense_need(ids, block_q, block_kv):
  """Which block pairs hold a visible pair, by looking at every pair."""
  visible = (ids.q_segments_BT[:, :, None] == ids.kv_segments_BS[:, None]) & (
    ids.q_positions_BT[:, :, None] >= ids.kv_positions_BS[:, None]
  )
  B, T, S = visible.shape
  blocks = visible.reshape(B, T // block_q, block_q, S // block_kv, block_kv)
  return np.asarray(blocks.any(axis=(2, 4)))


def within(first, last, size):
  index = np.arange(size)[None, None]
  return (index >= np.asarray(first)[..., None]) & (
    index <= np.asarray(last)[..., None]
  )


@pytest.mark.parametrize('mean', [5, 60, 900])
def test_ranges_are_exactly_the_useful_blocks_of_packed_rows(mean):
  segments, positions = map(jnp.asarray, rows.packed(3, 700, mean))
  ids = layout.pad_ids(
    layout.Ids(positions, positions, segments, segments), 128, 64
  )
  need = dense_need(ids, 128, 64)
  useful = layout.ranges(ids, 128, 64)
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
  ids = layout.pad_ids(
    layout.Ids(
      positions[:, :200], positions, jnp.sort(segments)[:, :200], segments
    ),
    *(32, 32),
  )
  need = dense_need(ids, 32, 32)
  useful = layout.ranges(ids, 32, 32)
  kept = within(useful.kv_first_BM, useful.kv_last_BM, need.shape[2])
  assert not (need & ~kept).any()
