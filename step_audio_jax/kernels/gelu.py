"""The exact GELU, x · Φ(x) (arXiv 1606.08415), by the error function.

`jax.nn.gelu(x, approximate=False)` goes through `erfc`, which takes a CPU three
times as long and is exact where x · Φ(x) is next to nothing. This is as torch
computes it.
"""

import math

import jax


def gelu(x: jax.Array) -> jax.Array:
  """x · (1 + erf(x / √2)) / 2, elementwise."""
  return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))
