"""Long convolutions with half the multiplications: Toom-Cook, after Winograd.

m outputs of r taps are one product of polynomials, known from m + r − 1 points:

    y = Aᵀ ((G g) ⊙ (Bᵀ x))            F(m, r) (arXiv 1509.09308)

instead of m r products, and with channels each ⊙ is a matrix product. A kernel
of K taps is G groups of r; the tiles of all groups are the same ones shifted,
because r = m, so a group more costs no transform. F(4, 4) has 7 points for 16
products, F(4, 3) has 6 for 12. Float32 errors are three to five times those of
a direct sum.

Where convolutions run at the peak of the arithmetic units, as on a CPU, this is
the only way to be faster; a matrix unit has products to spare and no use for
it.

Axes: B rows, T frames, C channels in, D channels out, K taps, P points, G
groups of r taps, J tiles of m outputs, N phases of the dilation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

NAME = 'points'
_TILE = 4  # m
# The point at infinity stands behind them.
_POINTS = {
  3: (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5)),
  4: (0.0, 1.0, -1.0, 0.5, -0.5, 2.0),
}


def _taps(kernel):
  """r and G of a kernel."""
  taps = 3 if kernel <= 3 else _TILE
  return taps, -(-kernel // taps)


@functools.cache
def _matrices(taps):
  """Aᵀ (m, P), G (P, r) and Bᵀ (P, P)."""
  points = np.array(_POINTS[taps])

  def powers(count):
    last = np.eye(1, count, count - 1)
    return np.concatenate([points[:, None] ** np.arange(count), last])

  inputs = np.linalg.inv(powers(len(points) + 1)).T
  # Rows of one size: what a point multiplies is neither large nor small.
  size = np.abs(inputs).sum(axis=1, keepdims=True)
  return powers(_TILE).T, powers(taps) * size, inputs / size


def is_worthwhile(kernel_KCD: np.ndarray) -> bool:
  """Whether the transforms cost less than they save."""
  taps, *widths = np.shape(kernel_KCD)
  return taps >= 3 and min(widths) >= 32


def transform_kernel(kernel_KCD: np.ndarray) -> np.ndarray:
  """A kernel → its values at the points, float32 (P, G, C, D)."""
  taps, groups = _taps(len(kernel_KCD))
  kernel = np.asarray(kernel_KCD, np.float64)
  kernel = np.pad(kernel, ((0, groups * taps - len(kernel)), (0, 0), (0, 0)))
  kernel = kernel.reshape(groups, taps, *kernel.shape[1:])
  values = np.einsum('pr,grcd->pgcd', _matrices(taps)[1], kernel)
  return values.astype(np.float32)


def _combined(coefficients, terms):
  """Σ c x over the terms whose coefficient is not 0."""
  total = None
  for c, x in zip(coefficients, terms):
    if abs(c) > 1e-12:
      part = x if abs(c - 1) < 1e-12 else x * np.float32(c)
      total = part if total is None else total + part
  return total


def conv(
  x_BTC: jax.Array,
  points_PGCD: jax.Array,
  kernel: int,
  pads: tuple[int, int],
  dilation: int,
) -> jax.Array:
  """Convolution over time, (B, T + pads − dilation (K − 1), D).

  Args:
    x_BTC: Input.
    points_PGCD: Of `transform_kernel`.
    kernel: K.
    pads: Zeros before and behind.
    dilation: Steps between taps.
  """
  taps, groups = _taps(kernel)
  outputs, _, inputs = _matrices(taps)
  rows, total, width = x_BTC.shape
  count = total + sum(pads) - dilation * (kernel - 1)
  step = _TILE * dilation
  tiles = -(-count // step)
  # One tile more than there are: the last one's points reach into it.
  need = (tiles + groups) * step
  x = jax.lax.pad(
    x_BTC,
    np.float32(0),
    ((0, 0, 0), (pads[0], need - pads[0] - total, 0), (0, 0, 0)),
  )
  x = x.reshape(rows, tiles + groups, _TILE, dilation * width)
  ahead = tiles + groups - 1
  places = [
    x[:, i // _TILE : i // _TILE + ahead, i % _TILE] for i in range(len(inputs))
  ]
  products = []
  for row, values_GCD in zip(inputs, points_PGCD):
    v = _combined(row, places).reshape(rows, ahead * dilation, width)
    products.append(
      jax.lax.conv_general_dilated(
        v,
        values_GCD,
        (1,),
        ((0, 0),),
        rhs_dilation=(dilation,),
        dimension_numbers=('NWC', 'WIO', 'NWC'),
      )
    )
  shape = (rows, tiles, 1, dilation * products[0].shape[-1])
  products = [p.reshape(shape) for p in products]
  y = jnp.concatenate([_combined(row, products) for row in outputs], axis=2)
  return y.reshape(rows, tiles * step, -1)[:, :count]
