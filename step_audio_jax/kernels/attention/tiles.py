"""What the bodies of the Pallas kernels share, on TPU and GPU."""

import math

import jax
import jax.numpy as jnp

# Scores are in base 2: exp2 is what the hardware has.
LOG2_E = math.log2(math.e)


def dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
  """Matrix product over one axis of each, float32; exact for float32."""
  exact = a.dtype == jnp.float32
  return jax.lax.dot_general(
    a,
    b,
    (((a_axis,), (b_axis,)), ((), ())),
    precision=jax.lax.Precision.HIGHEST if exact else None,
    preferred_element_type=jnp.float32,
  )
