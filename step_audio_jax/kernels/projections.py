"""Linear maps between named axes, whichever way their weights lie.

A network asks for a `Projection`: the axes that it makes and what they are
called. Several of one input go to `project_together`, products with the rows of
a table are made by `project_onto_rows`. How the weights lie is decided here:

* As they are trained, stored and split over a mesh: one `kernel` with all its
  axes. On one device it is multiplied as a plain matrix.
* With a low-rank adapter that is trained while the kernel stays, as factors
  beside it (`FACTORS`): x W + (x A) B. The gradient of the kernel, a third of
  the work, is never formed.
* For a few rows on a CPU (`tiles_pay`): in `tiles`, and those that read the
  same input are one product. `tile` lays parameters out like that.

A product of few rows is bound by reading its weights. XLA's library packs the
right side of a product anew each time, except at a width of 64 outputs; hence
the tiles.

Axes: B rows, E inputs and F outputs of a product, in P parts of e and J tiles
of f; V rows of a table.
"""

import itertools
import math
from typing import Any, Mapping, Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.kernels import placement

# Of the parameters of an adapter; A (in…, r) and B (r, out…), scale included.
FACTORS = ('kernel_a', 'kernel_b')
_TILE = 64
# Inputs that are summed up at a time, the most that give every thread tiles:
# of fewer than 80 XLA's library makes one task. Where none does, the most.
_PARTS = (256, 128, 64)
_TASKS = 80
_FEW = range(2, 17)


class Projection(nn.Module):
  """Sums over the last axes of its input, with or without a bias.

  Attributes:
    features: Sizes of the axes that it makes.
    axes: Logical names of the kernel's axes, those summed over first.
    dtype: Of the product; parameters are float32.
    contract: How many axes are summed over.
    use_bias: Whether there is a bias.
    scale: Variance of the initial kernel, times its inputs.
  """

  features: tuple[int, ...]
  axes: tuple[str, ...]
  dtype: Any
  contract: int = 1
  use_bias: bool = False
  scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    lead = x.shape[: x.ndim - self.contract]
    inputs = x.shape[len(lead) :]
    if self.has_variable('params', 'tiles'):
      out = multiply_tiles(
        x.reshape(*lead, -1).astype(self.dtype),
        self.get_variable('params', 'tiles').astype(self.dtype),
        math.prod(self.features),
      )
      out = out.astype(self.dtype).reshape(*lead, *self.features)
    else:
      init = nn.initializers.variance_scaling(
        self.scale,
        'fan_in',
        'normal',
        in_axis=tuple(range(self.contract)),
        out_axis=tuple(
          range(self.contract, self.contract + len(self.features))
        ),
      )
      kernel = self.param(
        'kernel',
        nn.with_logical_partitioning(init, self.axes),
        inputs + self.features,
      )
      out = _contracted(
        x.astype(self.dtype), kernel.astype(self.dtype), self.contract
      )
      if self.has_variable('params', FACTORS[0]):
        a, b = (
          self.get_variable('params', name).astype(self.dtype)
          for name in FACTORS
        )
        narrow = _contracted(x.astype(self.dtype), a, self.contract)
        out += _contracted(narrow, b, 1)
    if self.use_bias:
      bias = self.param(
        'bias',
        nn.with_logical_partitioning(
          nn.initializers.zeros, self.axes[self.contract :]
        ),
        self.features,
      )
      shape = (1,) * len(lead) + self.features
      out += bias.astype(self.dtype).reshape(shape)
    return out


def project_together(
  x: jax.Array, *projections: Projection
) -> Sequence[jax.Array]:
  """What each of several projections makes of the same input.

  Args:
    x: The input.
    *projections: Named submodules of one module; they differ in their names
      and the first axis that they make, and sum over one axis.
  """
  first, name = projections[0], _as_one(p.name for p in projections)
  if not first.parent.has_variable('params', name):
    return [projection(x) for projection in projections]
  *ends, total = itertools.accumulate(p.features[0] for p in projections)
  merged = first.clone(
    parent=first.parent, name=name, features=(total, *first.features[1:])
  )
  return jnp.split(merged(x), ends, axis=x.ndim - 1)


def project_onto_rows(
  module: nn.Module, name: str, x_BE: jax.Array, table_VE: jax.Array
) -> jax.Array:
  """Products with every row of a table → float32 (..., V).

  Args:
    module: Whose parameter the table is.
    name: What `tile_table` was called for, if it was.
    x_BE: The input (..., E).
    table_VE: Its rows, in the dtype of the product.
  """
  name = _table(name)
  if module.has_variable('params', name):
    tiles = module.get_variable('params', name).astype(x_BE.dtype)
    return multiply_tiles(x_BE, tiles, len(table_VE))
  return jnp.einsum(
    '...E,VE->...V', x_BE, table_VE, preferred_element_type=jnp.float32
  )


def tiles_pay(rows: int) -> bool:
  """Whether products of so many rows gain from weights in tiles.

  With 8 rows the products of small blocks are 1.2 and those of a head 2.4
  times as fast on two cores. One row is another kernel of XLA's, and for many
  rows the packing pays. On a mesh the kernels' axes stay apart, for each may be
  split.
  """
  few = jax.default_backend() == 'cpu' and rows in _FEW
  return few and placement.one_device()


def tile(
  params: Mapping[str, Any],
  *,
  together: Sequence[Sequence[str]] = (),
  contract: Mapping[str, int] | None = None,
) -> dict[str, Any]:
  """A module's parameters, those of its projections in tiles.

  Args:
    params: Parameters of the module, unboxed.
    together: Names of projections that the module gives `project_together`.
    contract: How many axes a projection sums over, where it is not one.
  """
  rest = dict(params)
  for names in together:
    # Kernels (E, H, D) and biases (H, D) meet in H, E being one axis.
    parts = [rest.pop(name) for name in names]
    rest[_as_one(names)] = {
      key: jnp.concatenate(
        [part[key] for part in parts], axis=1 if key == 'kernel' else 0
      )
      for key in parts[0]
    }
  return {
    name: _tiled(leaves, (contract or {}).get(name, 1))
    if isinstance(leaves, Mapping) and 'kernel' in leaves
    else leaves
    for name, leaves in rest.items()
  }


def tile_table(name: str, table_VE: jax.Array) -> dict[str, jax.Array]:
  """The parameter that `project_onto_rows` reads instead of the table."""
  return {_table(name): pack_tiles(table_VE.T)}


def pack_tiles(kernel_EF: jax.Array) -> jax.Array:
  """The right side of a product → JPef, outputs filled up with zeros."""
  E, F = kernel_EF.shape
  J = -(-F // _TILE)
  parts = [part for part in _PARTS if E % part == 0] or [E]
  e = next((e for e in parts if J * (E // e) >= _TASKS), parts[0])
  kernel_EF = jnp.pad(kernel_EF, ((0, 0), (0, J * _TILE - F)))
  kernel_PeJf = kernel_EF.reshape(E // e, e, J, _TILE)
  return kernel_PeJf.transpose(2, 0, 1, 3)


def multiply_tiles(
  x: jax.Array, kernel_JPef: jax.Array, outputs: int
) -> jax.Array:
  """x (..., E) times a kernel of `pack_tiles` → float32 (..., outputs)."""
  J, P, e, f = kernel_JPef.shape
  rows = math.prod(x.shape[:-1])
  x_PBe = x.reshape(rows, P, e).swapaxes(0, 1)
  out_JPBf = jax.lax.dot_general(
    jnp.broadcast_to(x_PBe[None], (J, P, rows, e)),
    kernel_JPef,
    (((3,), (2,)), ((0, 1), (0, 1))),
    preferred_element_type=jnp.float32,
  )
  out_BF = out_JPBf.sum(1).swapaxes(0, 1).reshape(rows, J * f)
  return out_BF[:, :outputs].reshape(*x.shape[:-1], outputs)


def _as_one(names) -> str:
  return '_'.join(names)


def _table(name: str) -> str:
  return f'{name}_tiles'


def _tiled(params, contract: int):
  rest = dict(params)
  kernel = rest.pop('kernel')
  kernel_EF = kernel.reshape(math.prod(kernel.shape[:contract]), -1)
  return {**rest, 'tiles': pack_tiles(kernel_EF)}


def _contracted(x, kernel, axes: int):
  """Sums over the last `axes` axes of x and the first ones of the kernel."""
  lead, rest = x.shape[: x.ndim - axes], kernel.shape[axes:]
  if placement.one_device():
    # Plain matrices: with several axes of tokens XLA transposes both sides of
    # the kernel's gradient first (a fifth of a feed-forward on CPUs). On a mesh
    # the token axes stay apart, for each may be split.
    x = x.reshape(math.prod(lead), -1)
    kernel = kernel.reshape(x.shape[1], -1)
    axes = 1
  out = jax.lax.dot_general(
    x,
    kernel,
    (
      (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))),
      ((), ()),
    ),
  )
  return out.reshape(*lead, *rest)
