"""Muon: steps whose matrices turn every direction alike.

    m <- beta * m + (1 - beta) * g;    update = 0.2 * sqrt(max(I, O)) * U V'

with U S V' the singular values of the Nesterov momentum (I, O), S being made
one, nearly, by five Newton-Schulz steps: Jordan, `Muon`, 2024. The factor gives
updates the size that Adam's have, so that one learning rate and one weight
decay serve both: Liu et al., arXiv 2502.16982.

What is a matrix is said by the logical axes of a parameter (`split`); matrices
of one shape are turned together, those of a scan over layers among them.

Axes: N matrices, I the smaller and O the larger side.
"""

import collections
import dataclasses
import math
from typing import Any, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import optax

_TABLES = ('vocab', 'patches')  # rows that are looked up, not multiplied
_JOINED = 'head_dim'  # belongs to the axis of heads before it
_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_EPSILON = 1e-8
_RMS = 0.2


@dataclasses.dataclass(frozen=True)
class Split:
  """How an array is a stack of matrices.

  Attributes:
    lead: Axes that count matrices, the first ones.
    inputs: Axes behind them that are one side together; the rest is the other.
  """

  lead: int
  inputs: int

  def matrices(self, shape: Sequence[int]) -> tuple[int, int, int]:
    """(matrices, inputs, outputs) of an array."""
    end = self.lead + self.inputs
    return (
      math.prod(shape[: self.lead]),
      math.prod(shape[self.lead : end]),
      math.prod(shape[end:]),
    )


def split(names: Sequence[str | None]) -> Split | None:
  """The matrices of a parameter with these logical axes; None: it has none.

  The last axis that has a name is what a matrix makes, with `head_dim` behind
  its heads; what stands before it is what it sums over, the taps of a
  convolution among them; `layers` counts matrices. Tables that are looked up,
  vectors, and kernels with one named axis only (a convolution of each channel
  by itself) are no matrices.
  """
  lead = 1 if names and names[0] == 'layers' else 0
  axes = names[lead:]
  sides = [name for name in axes if name not in (None, _JOINED)]
  if len(sides) < 2 or set(sides) & set(_TABLES):
    return None
  outputs = 2 if axes[-1] == _JOINED else 1
  return Split(lead, len(axes) - outputs)


class MuonState(NamedTuple):
  """Steps so far, int32 (), and the momentum."""

  count: jax.Array
  momentum: Any


def scale_by_muon(splits: Any, beta: float) -> optax.GradientTransformation:
  """Momentum, turned and scaled; the learning rate is left to the chain.

  Args:
    splits: `Split` of every parameter, in a tree like theirs.
    beta: Decay of the momentum.
  """
  splits = jax.tree.leaves(splits)

  def init(params):
    return MuonState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params))

  def update(updates, state, params=None):
    del params
    count = optax.safe_increment(state.count)
    momentum = optax.tree.update_moment(updates, state.momentum, beta, 1)
    ahead = jax.tree.map(
      lambda m, g: beta * m + (1 - beta) * g,
      optax.tree.bias_correction(momentum, beta, count + 1),
      optax.tree.bias_correction(updates, beta, count),
    )
    leaves, tree = jax.tree.flatten(ahead)
    turned = _turned(
      [x.reshape(s.matrices(x.shape)) for x, s in zip(leaves, splits)]
    )
    leaves = [y.reshape(x.shape) for x, y in zip(leaves, turned)]
    return jax.tree.unflatten(tree, leaves), MuonState(count, momentum)

  return optax.GradientTransformation(init, update)


def _turned(stacks: Sequence[jax.Array]) -> list[jax.Array]:
  """Stacks of matrices, orthogonal and scaled; one program a shape."""
  tall = [x.shape[1] > x.shape[2] for x in stacks]
  wide = [x.mT if t else x for x, t in zip(stacks, tall)]
  together = collections.defaultdict(list)
  for place, x_NIO in enumerate(wide):
    together[x_NIO.shape[1:]].append(place)
  for (_, larger), places in together.items():
    all_NIO = orthogonal(jnp.concatenate([wide[p] for p in places]))
    all_NIO *= _RMS * math.sqrt(larger)
    start = 0
    for place in places:
      stop = start + len(wide[place])
      wide[place], start = all_NIO[start:stop], stop
  return [x.mT if t else x for x, t in zip(wide, tall)]


def orthogonal(x_NIO: jax.Array) -> jax.Array:
  """Matrices with I <= O → their nearest with orthonormal rows, roughly.

  Singular values end between 0.7 and 1.2, those that were not near zero.
  """
  a, b, c = _COEFFICIENTS
  norm_N11 = jnp.sqrt(jnp.square(x_NIO).sum((1, 2), keepdims=True))

  def step(_, x_NIO):
    gram_NII = x_NIO @ x_NIO.mT
    return a * x_NIO + (b * gram_NII + c * gram_NII @ gram_NII) @ x_NIO

  return jax.lax.fori_loop(0, _STEPS, step, x_NIO / (norm_N11 + _EPSILON))
