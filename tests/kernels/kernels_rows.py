"""Ragged packed rows, and attention over them with all its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.kernels import attention


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


def compare(
  implementation, shape, mean, biased, blocks=attention.Blocks(), tolerance=1e-5
):
  """Asserts that a path equals the dense one, each error over its scale.

  Args:
    implementation: The path.
    shape: (batch, length, heads, groups, width).
    mean: Mean length of the segments.
    biased: With sqrt-ALiBi or without a bias.
    blocks: Block sizes.
    tolerance: Largest error over the larger of 1 and the largest value: what
      float32 can hold of a sum over thousands of terms.
  """
  batch, length, heads, *_ = shape
  args = tensors(*shape) + tuple(map(jnp.asarray, packed(batch, length, mean)))
  slopes = jnp.asarray(attention.alibi_slopes(heads)) if biased else None
  want = out_and_gradients(*args, slopes, 'dense', attention.Blocks())
  got = out_and_gradients(*args, slopes, implementation, blocks)
  for name, a, b in zip(('out', 'dq', 'dk', 'dv'), got, want):
    assert a.dtype == b.dtype and a.shape == b.shape
    scale = max(1.0, float(jnp.abs(b).max()))
    error = float(jnp.abs(a - b).max()) / scale
    assert error <= tolerance, f'{name}: {error}'
