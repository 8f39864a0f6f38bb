"""The GPU kernels: interpreted against the oracle, lowered for CUDA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels.attention import layout
from step_audio_jax.kernels.attention import triton
from tests.kernels import rows


@functools.partial(jax.jit, static_argnames=('options',))
def out_and_gradients(q, k, v, dout, ids, slopes, options=()):
  options = dict(options)
  out, lse = triton.forward(q, k, v, ids, slopes, **options)
  gradients = triton.backward(q, k, v, ids, slopes, out, lse, dout, **options)
  return out, *gradients


# Triton's tiles are powers of two: width 24 is filled up to 32.
@pytest.mark.parametrize(
  'key', [rows.CASES[0], ((1, 90, 12, 1, 24), 40, False)]
)
def test_values_and_gradients_equal_the_dense_ones(key):
  q, k, v, dout, segments, positions, slopes = rows.case(*key)
  ids = layout.Ids(positions, positions, segments, segments)
  got = out_and_gradients(q, k, v, dout, ids, slopes, (('interpret', True),))
  rows.agree(got, key)


@pytest.mark.parametrize(
  ('shape', 'dtype'),
  [
    ((1, 4096, 48, 4, 64), jnp.bfloat16),
    ((1, 4096, 12, 1, 128), jnp.bfloat16),
    ((2, 300, 2, 1, 32), jnp.float32),
  ],
)
def test_lower_for_cuda(shape, dtype):
  batch, length, heads, groups, width = shape
  array = jax.ShapeDtypeStruct
  q = array((batch, length, heads, width), dtype)
  k = array((batch, length, groups, width), dtype)
  ids = array((batch, length), jnp.int32)
  text = (
    out_and_gradients.trace(
      *(q, k, k, q), layout.Ids(ids, ids, ids, ids), array((heads,), np.float32)
    )
    .lower(lowering_platforms=('cuda',))
    .as_text()
  )
  assert text.count('__gpu$xla.gpu.triton') == 3
