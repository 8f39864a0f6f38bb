"""Ragged packed rows, and attention over them with all its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.kernels.attention import attention


def packed(batch, length, mean, seed=0):
  """Segment ids and positions of rows of ragged segments, padding last."""
  rng = np.random.default_rng(seed)
  segments = np.zeros((batch, length), np.int32)
  positions = np.zeros((batch, length), np.int32)
  for b in range(batch):
    start, segment = 0, 1
    while start < length - length // 16:
      size = min(int(rng.integers(1, 2 * mean)), length - start)
      segments[b, start : start + size] = segment
      positions[b, start : start + size] = np.arange(size)
      start, segment = start + size, segment + 1
  return segments, positions


def tensors(batch, length, heads, groups, width, seed=0, dtype=np.float32):
  """q, k, v and the cotangent of the output."""
  rng = np.random.default_rng(seed)
  q, dout = rng.standard_normal((2, batch, length, heads, width), np.float32)
  k, v = rng.standard_normal((2, batch, length, groups, width), np.float32)
  return tuple(jnp.asarray(x, dtype) for x in (q, k, v, dout))


@functools.partial(jax.jit, static_argnames=('implementation', 'blocks'))
def out_and_gradients(
  q, k, v, dout, segments, positions, slopes, implementation, blocks
):
  """Output and the gradients of q, k and v."""
  out, vjp = jax.vjp(
    functools.partial(
      attention.attention,
      q_positions_BT=positions,
      kv_positions_BS=positions,
      q_segment_ids_BT=segments,
      kv_segment_ids_BS=segments,
      slopes_H=slopes,
      implementation=implementation,
      blocks=blocks,
    ),
    q,
    k,
    v,
  )
  return out, *vjp(dout)


# (batch, length, heads, groups, width), mean segment, with sqrt-ALiBi: lengths
# that no block divides; many segments, or one longer than the row.
CASES = [
  ((2, 300, 3, 3, 64), 40, True),
  ((1, 577, 12, 1, 64), 2000, True),
  ((1, 200, 2, 1, 128), 60, False),
]
LONG = ((1, 4096, 1, 1, 64), 1500, True)


def case(shape, mean, biased):
  """(q, k, v, dout, segment ids, positions, slopes) of a case."""
  batch, length, heads, *_ = shape
  ids = map(jnp.asarray, packed(batch, length, mean))
  slopes = jnp.asarray(attention.alibi_slopes(heads)) if biased else None
  return *tensors(*shape), *ids, slopes


@functools.cache
def dense(*key):
  """Output and gradients of the oracle for a case."""
  return out_and_gradients(*case(*key), 'dense', attention.Blocks())


def agree(got, key, tolerance=1e-5):
  """Asserts that output and gradients equal the dense ones.

  Args:
    got: Of `case(*key)`.
    key: The case.
    tolerance: Largest error over the larger of 1 and the largest value: what
      float32 can hold of a sum over thousands of terms.
  """
  for name, a, b in zip(('out', 'dq', 'dk', 'dv'), got, dense(*key)):
    assert a.shape == b.shape, name
    scale = max(1.0, float(jnp.abs(b).max()))
    error = float(jnp.abs(a.astype(jnp.float32) - b).max()) / scale
    assert error <= tolerance, f'{name}: {error}'
