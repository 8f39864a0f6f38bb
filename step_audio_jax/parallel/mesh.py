"""The device mesh and where each logical axis lies on it.

Axes, outermost first: `replica` (data parallel over DCN), `fsdp` (data
parallel with sharded state), `context` (sequence), `tensor`. Logical axis
names on parameters and activations are mapped to them by one table of rules.
"""

import dataclasses
import os
from typing import Any

from flax import linen as nn
import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np

from step_audio_jax import errors
from step_audio_jax.parallel import partition

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

AXES = ('replica', 'fsdp', 'context', 'tensor')

DEFAULT_RULES: Rules = (
  ('batch', ('replica', 'fsdp')),
  ('length', 'context'),
  # Between the blocks tokens lie over `tensor` too (sequence parallelism of
  # Korthikanti et al., arXiv 2205.05198): what remat keeps is split as well.
  ('residual_length', ('context', 'tensor')),
  ('vocab', 'tensor'),
  ('embed', 'fsdp'),
  ('heads', 'tensor'),
  ('kv_heads', 'tensor'),
  ('mlp', 'tensor'),
)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Sizes of the mesh axes; one of them may be -1, "what is left".

  Attributes:
    replica: Copies of the state, one a slice.
    fsdp: Shards of the batch and of the state.
    context: Shards of the sequence.
    tensor: Shards of heads, feed-forward and vocabulary.
    rules: Logical axis → mesh axis.
  """

  replica: int = 1
  fsdp: int = -1
  context: int = 1
  tensor: int = 1
  rules: Rules = DEFAULT_RULES

  def shape(self, devices: int) -> tuple[int, int, int, int]:
    """Axis sizes for a number of devices.

    Raises:
      UserError: The sizes do not multiply to `devices`.
    """
    sizes = [self.replica, self.fsdp, self.context, self.tensor]
    free = [i for i, size in enumerate(sizes) if size == -1]
    fixed = 1
    for size in sizes:
      fixed *= 1 if size == -1 else size
    if len(free) > 1 or min(fixed, *(s for s in sizes if s != -1), 1) < 1:
      raise errors.UserError(
        f'mesh: sizes are {dict(zip(AXES, sizes))}, expected positive numbers '
        'and at most one -1.'
      )
    if free and devices % fixed == 0:
      sizes[free[0]] = devices // fixed
      fixed = devices
    if fixed != devices:
      raise errors.UserError(
        f'mesh: sizes {dict(zip(AXES, sizes))} do not multiply to the '
        f'{devices} devices at hand.'
      )
    return tuple(sizes)

  def build(self, devices=None) -> jax.sharding.Mesh:
    """The mesh over `devices` (all devices if None)."""
    devices = jax.devices() if devices is None else devices
    return jax.sharding.Mesh(
      _arranged(self.shape(len(devices)), devices),
      AXES,
      axis_types=(AxisType.Auto,) * len(AXES),
    )


def _arranged(shape: tuple[int, ...], devices) -> np.ndarray:
  """Devices in the order of the mesh: near neighbours along inner axes.

  Slices, which only DCN joins, lie along `replica` alone.
  """
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if slices == 1 or devices[0].platform != 'tpu':
    return mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  replica, *inner = shape
  if replica % slices:
    raise errors.UserError(
      f'mesh: replica is {replica} on {slices} slices; expected a multiple of '
      'the slices, since no other axis should cross them.'
    )
  return mesh_utils.create_hybrid_device_mesh(
    (replica // slices, *inner),
    (slices,) + (1,) * len(inner),
    devices,
    allow_split_physical_axes=True,
  )


def initialize_distributed() -> None:
  """Joins the other processes of a job, where there are any.

  A launcher that is not a TPU runtime says so by `JAX_COORDINATOR_ADDRESS`,
  `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`; on a TPU pod, which the launcher
  marks with `JAX_PLATFORMS=tpu,cpu`, jax finds out by itself. When a process
  dies, the others end after `JAX_HEARTBEAT_TIMEOUT_SECONDS`, 60 if not given.
  """
  address = os.environ.get('JAX_COORDINATOR_ADDRESS')
  if not address and not os.environ.get('JAX_PLATFORMS', '').startswith('tpu'):
    return
  # SIGTERM is `training.preemption`'s; jax's own watch would swallow it.
  jax.config.update('jax_enable_preemption_service', False)
  beats = int(os.environ.get('JAX_HEARTBEAT_TIMEOUT_SECONDS', '60'))
  if address:
    jax.distributed.initialize(
      address,
      int(os.environ['JAX_NUM_PROCESSES']),
      int(os.environ['JAX_PROCESS_ID']),
      heartbeat_timeout_seconds=beats,
    )
  else:
    jax.distributed.initialize(heartbeat_timeout_seconds=beats)


def sharding_for(
  shape: tuple[int, ...], names: Any, mesh: jax.sharding.Mesh, rules: Rules
) -> NamedSharding:
  """Sharding of one array from its logical axis names; `partition.spec`."""
  return NamedSharding(
    mesh, partition.spec(shape, names, dict(mesh.shape), rules)
  )


def shardings(boxed: Any, mesh: jax.sharding.Mesh, rules: Rules) -> Any:
  """Shardings of a tree whose leaves may be boxed with logical names."""

  def one(leaf):
    if isinstance(leaf, nn.LogicallyPartitioned):
      return sharding_for(leaf.value.shape, leaf.names, mesh, rules)
    return NamedSharding(mesh, PartitionSpec())

  return jax.tree.map(
    one, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
  )


def batch_sharding(
  shape: tuple[int, ...], mesh: jax.sharding.Mesh, rules: Rules
) -> NamedSharding:
  """Sharding of a batch array: rows, and for (rows, length) the length."""
  names = ('batch', 'length') if len(shape) == 2 else ('batch',)
  return sharding_for(shape, names, mesh, rules)
