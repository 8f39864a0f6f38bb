"""Logical axis names → where an array lies, and kernels that run per shard.

A kernel is opaque to the partitioner, so attention and the cross-entropy run
under `shard_map`: each device calls the same kernel on its rows, its heads or
its part of the vocabulary, and the few collectives are written out here.

* Attention: rows over `batch`, query heads over `heads`, tokens over `length`.
  Keys and values are gathered along `length` (with grouped queries they are a
  small part of the activations), their gradients scattered back by the
  transpose.
* Cross-entropy: the head's rows lie over `vocab`, its columns are gathered
  once a step.

Axes as in `kernels`: B batch, T queries, S keys, H heads, G key/value groups,
D head width, E width, V vocabulary.
"""

import functools
import math
from typing import Any, Mapping, NamedTuple, Sequence

from flax import linen as nn
import jax
from jax.sharding import PartitionSpec
import numpy as np

from step_audio_jax import errors
from step_audio_jax.kernels import cross_entropy as cross_entropy_lib
from step_audio_jax.kernels import placement
from step_audio_jax.kernels.attention import attention as attention_lib

Names = Sequence[str | None]


def spec(
  shape: Sequence[int],
  names: Names,
  sizes: Mapping[str, int],
  rules: Any,
) -> PartitionSpec:
  """Mesh axes of each dimension of an array.

  A mesh axis that another dimension already took, or that does not divide its
  dimension, is left out, so that a small model runs on any mesh.

  Args:
    shape: Of the array.
    names: Logical axis name of each dimension, None for "not split".
    sizes: Mesh axis → its size.
    rules: Logical axis → mesh axis, several mesh axes or None.
  """
  table = dict(rules)
  used, out = set(), []
  names = tuple(names) + (None,) * (len(shape) - len(tuple(names)))
  for size, name in zip(shape, names):
    axes = table.get(name) if name is not None else None
    axes = (axes,) if isinstance(axes, str) else tuple(axes or ())
    axes = tuple(a for a in axes if a not in used)
    parts = math.prod(sizes[a] for a in axes)
    if not axes or size % parts:
      out.append(None)
      continue
    used.update(axes)
    out.append(axes if len(axes) > 1 else axes[0])
  return PartitionSpec(*out)


def current_spec(shape: Sequence[int], names: Names) -> PartitionSpec | None:
  """`spec` for the mesh and rules in force; None where there is no mesh.

  An axis of one device splits nothing and is left out.
  """
  if placement.one_device():
    return None
  sizes = dict(jax.sharding.get_abstract_mesh().shape)
  found = spec(shape, names, sizes, nn.get_logical_axis_rules())
  return PartitionSpec(*(_larger_than_one(axes, sizes) for axes in found))


def _larger_than_one(axes, sizes):
  axes = tuple(a for a in _tuple(axes) if sizes[a] > 1)
  return (axes if len(axes) > 1 else axes[0]) if axes else None


def _size(axes) -> int:
  """Devices along mesh axes together."""
  sizes = dict(jax.sharding.get_abstract_mesh().shape)
  return math.prod(sizes[axis] for axis in axes)


def _tuple(axes) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else tuple(axes or ())


def constrain(x: jax.Array, names: Names) -> jax.Array:
  """Pins an activation to the mesh axes of its logical names."""
  found = current_spec(x.shape, names)
  if found is None:
    return x
  return jax.lax.with_sharding_constraint(x, found)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def regather(x: jax.Array, split: Names, whole: Names) -> jax.Array:
  """`x` gathered from `split` to `whole`; its gradient is scattered back.

  A constraint alone would pin the gradient to `whole` too, and so make an
  all-reduce of what a reduce-scatter moves in half the bytes.
  """
  return constrain(constrain(x, split), whole)


regather.defvjp(
  lambda x, split, whole: (regather(x, split, whole), None),
  lambda split, whole, _, dx: (constrain(dx, split),),
)


def attention(
  q_BTHD: jax.Array,
  k_BSGD: jax.Array,
  v_BSGD: jax.Array,
  *,
  q_positions_BT: jax.Array,
  kv_positions_BS: jax.Array,
  q_segment_ids_BT: jax.Array,
  kv_segment_ids_BS: jax.Array,
  slopes_H: np.ndarray | None = None,
  implementation: str = 'auto',
) -> jax.Array:
  """`kernels.attention.attention` on the mesh in force.

  Raises:
    UserError: The heads of one device would need parts of several groups, or
      the groups of another.
  """
  call = functools.partial(
    attention_lib.attention, implementation=implementation
  )
  q_spec = current_spec(q_BTHD.shape, ('batch', 'length', 'heads', 'head_dim'))
  if q_spec is None or not any(q_spec):
    return call(
      q_BTHD,
      k_BSGD,
      v_BSGD,
      q_positions_BT=q_positions_BT,
      kv_positions_BS=kv_positions_BS,
      q_segment_ids_BT=q_segment_ids_BT,
      kv_segment_ids_BS=kv_segment_ids_BS,
      slopes_H=slopes_H,
    )
  kv_spec = current_spec(
    k_BSGD.shape, ('batch', 'length', 'kv_heads', 'head_dim')
  )
  length, heads = _tuple(kv_spec[1]), q_spec[2]
  groups = _Groups(q_BTHD.shape[2], k_BSGD.shape[2], heads, kv_spec[2])

  def local(q, k, v, q_positions, kv_positions, q_segments, kv_segments):
    k, v = groups.pick(k), groups.pick(v)
    if length:
      k, v, kv_positions, kv_segments = (
        jax.lax.all_gather(x, length, axis=1, tiled=True)
        for x in (k, v, kv_positions, kv_segments)
      )
    return call(
      q,
      k,
      v,
      q_positions_BT=q_positions,
      kv_positions_BS=kv_positions,
      q_segment_ids_BT=q_segments,
      kv_segment_ids_BS=kv_segments,
      slopes_H=None if slopes_H is None else groups.slopes(slopes_H),
    )

  q_row, kv_row = PartitionSpec(*q_spec[:2]), PartitionSpec(*kv_spec[:2])
  return jax.shard_map(
    local,
    in_specs=(q_spec, kv_spec, kv_spec, q_row, kv_row, q_row, kv_row),
    out_specs=q_spec,
    check_vma=False,
  )(
    q_BTHD,
    k_BSGD,
    v_BSGD,
    q_positions_BT,
    kv_positions_BS,
    q_segment_ids_BT,
    kv_segment_ids_BS,
  )


class _Groups:
  """Which key/value groups the query heads of one device use."""

  def __init__(self, heads: int, groups: int, axis, kv_axis):
    self._axis = axis
    parts = _size(_tuple(axis))
    self._heads = heads // parts
    # Where the groups are too few to be split, every device holds them all
    # and takes the one its heads belong to.
    self._a_group = heads // groups
    self._whole = axis is not None and kv_axis is None and groups > 1
    inner = _tuple(kv_axis)
    if inner != _tuple(axis)[: len(inner)]:
      raise errors.UserError(
        f'mesh: heads lie over {axis}, expected axes that begin with those of '
        f'their groups, {kv_axis}: else heads would meet the groups of others.'
      )
    if self._whole and self._a_group % self._heads:
      raise errors.UserError(
        f'mesh: {heads} heads in {groups} groups cannot be split in {parts}; '
        f'expected a tensor axis that divides {groups} or is a multiple of it.'
      )

  def _first_head(self):
    return jax.lax.axis_index(self._axis) * self._heads

  def pick(self, x_BSGD):
    if not self._whole:
      return x_BSGD
    group = self._first_head() // self._a_group
    return jax.lax.dynamic_slice_in_dim(x_BSGD, group, 1, axis=2)

  def slopes(self, slopes_H):
    if self._axis is None:
      return slopes_H
    return jax.lax.dynamic_slice_in_dim(
      jax.numpy.asarray(slopes_H), self._first_head(), self._heads
    )


class _Loss(NamedTuple):
  z_loss: float
  chunk: int
  sparse: bool = False


def cross_entropy(
  hidden_BTE: jax.Array,
  head_VE: jax.Array,
  targets_BT: jax.Array,
  weights_BT: jax.Array,
  *,
  z_loss: float = 0.0,
  chunk: int = 1024,
  sparse: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`kernels.cross_entropy.cross_entropy` on the mesh in force.

  Returns:
    (total, losses BT, log normalisers BT); only `total` carries a gradient.
  """
  return _cross_entropy(
    _Loss(z_loss, chunk, sparse), hidden_BTE, head_VE, targets_BT, weights_BT
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(static, *arrays):
  return _on_shards(static, cross_entropy_lib.cross_entropy, *arrays)


def _cross_entropy_forward(static, *arrays):
  outs = _on_shards(static, cross_entropy_lib.with_gradients, *arrays)
  return outs[:3], outs[3:]


def _cross_entropy_backward(static, gradients, cotangents):
  del static
  dtotal = cotangents[0]
  dhidden, dhead = ((g * dtotal).astype(g.dtype) for g in gradients)
  return dhidden, dhead, None, None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def target_log_probs(
  hidden_BTE: jax.Array,
  head_VE: jax.Array,
  targets_BT: jax.Array,
  mask_BT: jax.Array,
  *,
  chunk: int = 1024,
) -> jax.Array:
  """Log-probability of each target, with a gradient at each place.

  Logits exist for a chunk of places at a time. The gradient is that of one
  cross-entropy whose weights are the cotangents, so the logits are computed
  twice and never kept.

  Args:
    hidden_BTE: Final hidden states.
    head_VE: Output table.
    targets_BT: Ids, int32; any where the mask is 0.
    mask_BT: Places that count; only their chunks are computed.
    chunk: Places whose logits exist at the same time.

  Returns:
    float32 (B, T), 0 outside of the mask.
  """
  mask_BT = (mask_BT != 0).astype(jax.numpy.float32)
  static = _Loss(0.0, chunk, True)
  return _target_log_probs(static, hidden_BTE, head_VE, targets_BT, mask_BT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _target_log_probs(static, hidden_BTE, head_VE, targets_BT, mask_BT):
  _, losses_BT, _ = _on_shards(
    static,
    cross_entropy_lib.cross_entropy,
    hidden_BTE,
    head_VE,
    targets_BT,
    mask_BT,
  )
  return -losses_BT * mask_BT


def _target_log_probs_forward(static, *arrays):
  return _target_log_probs(static, *arrays), arrays


def _target_log_probs_backward(static, arrays, cotangents_BT):
  hidden_BTE, head_VE, targets_BT, mask_BT = arrays
  *_, dhidden, dhead = _on_shards(
    static,
    cross_entropy_lib.with_gradients,
    hidden_BTE,
    head_VE,
    targets_BT,
    -cotangents_BT * mask_BT,
  )
  return dhidden, dhead, None, None


_target_log_probs.defvjp(_target_log_probs_forward, _target_log_probs_backward)


def _on_shards(static, function, hidden_BTE, head_VE, targets_BT, weights_BT):
  """(total, losses, log normalisers, and gradients if `function` has them).

  The gradients' collectives run here, in the forward pass, so that the whole
  gradient of the head never waits for the layers' backward pass: the head's is
  scattered over its columns, that of the hidden states over tokens.
  """
  shape, E = targets_BT.shape, hidden_BTE.shape[-1]

  def local(hidden, head, targets, weights, axis=None):
    total, *places = function(
      hidden.reshape(-1, E),
      head,
      targets.reshape(-1),
      weights.reshape(-1),
      z_loss=static.z_loss,
      chunk=static.chunk,
      sparse=static.sparse,
      axis_name=axis,
    )
    if len(places) > 2:
      places[2] = places[2].reshape(hidden.shape)
    rows = [x.reshape(targets.shape) for x in places[:2]]
    return total, *rows, *places[2:]

  row = current_spec(shape, ('batch', 'length'))
  if row is None:
    return local(hidden_BTE, head_VE, targets_BT, weights_BT)
  vocab, columns = current_spec(head_VE.shape, ('vocab', 'embed'))
  batch, residual = current_spec(shape, ('batch', 'residual_length'))
  split = tuple(a for axes in row for a in _tuple(axes))
  # A device's tokens of the residual stream lie inside its tokens of the row.
  scatter = tuple(a for a in _tuple(residual) if a not in _tuple(row[1]))
  scatter = scatter if scatter == _tuple(vocab) else ()
  replicas = tuple(a for a in split if a not in _tuple(columns))

  def shard(hidden, head, targets, weights):
    if columns:
      head = jax.lax.all_gather(head, columns, axis=1, tiled=True)
    total, losses, log_z, *gradients = local(
      hidden, head, targets, weights, vocab
    )
    total = jax.lax.psum(total, split) if split else total
    if not gradients:
      return total, losses, log_z
    dhidden, dhead = gradients
    if scatter:
      dhidden = jax.lax.psum_scatter(
        dhidden, scatter, scatter_dimension=1, tiled=True
      )
    elif vocab:
      dhidden = jax.lax.psum(dhidden, vocab)
    if columns:
      # Devices that hold the same rows would count them again.
      dhead /= _size(a for a in _tuple(columns) if a not in split)
      dhead = jax.lax.psum_scatter(
        dhead, columns, scatter_dimension=1, tiled=True
      )
    if replicas:
      dhead = jax.lax.psum(dhead, replicas)
    return total, losses, log_z, dhidden, dhead

  token = PartitionSpec(batch, residual if scatter else row[1], None)
  table = PartitionSpec(vocab, columns)
  gradients = function is cross_entropy_lib.with_gradients
  return jax.shard_map(
    shard,
    in_specs=(PartitionSpec(*row, None), table, row, row),
    out_specs=(PartitionSpec(), row, row) + (token, table) * gradients,
    check_vma=False,
  )(hidden_BTE, head_VE, targets_BT, weights_BT)
