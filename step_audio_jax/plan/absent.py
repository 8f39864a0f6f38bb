"""Compiles for TPUs that are not there, and reads what the compiler says.

`libtpu` holds the whole TPU compiler; `jax.experimental.topologies` describes
the chips of a slice to it. Nothing of that needs a TPU, only the package.
"""

import dataclasses
import importlib.util
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies

from step_audio_jax import errors
from step_audio_jax.parallel import topology
from step_audio_jax.parallel import xla_flags

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_TEMPORARIES = re.compile(r'HLO temporaries \(([\d.]+)([KMGT]?)i?B?\)')
_USED = re.compile(r'Used ([\d.]+)([KMGT]?)i?B? of ([\d.]+)([KMGT]?)i?B? hbm')


@dataclasses.dataclass(frozen=True)
class Memory:
  """HBM of one chip, bytes.

  Attributes:
    arguments: State and batch.
    temporaries: All else that the program holds: activations, gradients,
      gathered parameters, results that take no argument's place, code.
    capacity: What a program may use.
  """

  arguments: int
  temporaries: int
  capacity: int

  @property
  def total(self) -> int:
    return self.arguments + self.temporaries

  @property
  def fits(self) -> bool:
    return self.total <= self.capacity

  def gib(self) -> dict[str, float]:
    """In GiB, by kind."""
    parts = {
      'arguments': self.arguments,
      'temporaries': self.temporaries,
      'total': self.total,
      'capacity': self.capacity,
    }
    return {name: round(n / topology.GIB, 3) for name, n in parts.items()}


def devices(found: topology.Slice, slices: int = 1) -> list[Any]:
  """Stand-ins for the chips of one or several slices.

  The compiler's flags are those that a launched job gets
  (`parallel.xla_flags`); they must be in the environment before libtpu is
  loaded, so one process plans for one generation.

  Raises:
    UserError: libtpu is not installed, or was loaded for other flags.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise errors.UserError(
      'plan: compiling for TPUs needs the package libtpu, which is not '
      "installed; pip install -e '.[tpu]' brings it."
    )
  if slices < 1:
    raise errors.UserError(f'--slices={slices}: expected at least 1.')
  flags = xla_flags.libtpu_init_args(found.chip.name, slices)
  already = os.environ.setdefault('LIBTPU_INIT_ARGS', flags)
  if already != flags and _PLANNED:
    raise errors.UserError(
      f'plan: this process has compiled for {_PLANNED[0]}, whose flags differ '
      f'from those of {found.topology}; expected a process of its own.'
    )
  _PLANNED[:] = [found.topology]
  # No metadata server, no lock, no lines about hosts that are not there.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', found.accelerator_type)
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_STDERR_LOG_LEVEL', '3')
  os.environ.setdefault('TPU_MIN_LOG_LEVEL', '3')
  more: dict[str, Any] = {'num_slices': slices} if slices > 1 else {}
  if found.chips == 1:  # hosts are taken to have four
    more['chips_per_host_bounds'] = [1, 1, 1]
  described = topologies.get_topology_desc(
    platform='tpu', topology_name=found.topology, **more
  )
  return described.devices


_PLANNED: list[str] = []


def shard_bytes(tree: Any) -> int:
  """Bytes that one device holds of a tree of shapes; all of what has no place.

  Args:
    tree: Of shapes and dtypes, with shardings where they are split.
  """

  def held(leaf):
    sharding, shape = getattr(leaf, 'sharding', None), tuple(leaf.shape)
    shape = shape if sharding is None else sharding.shard_shape(shape)
    return int(leaf.dtype.itemsize * _product(shape))

  return sum(map(held, jax.tree.leaves(tree)))


def _product(sizes) -> int:
  total = 1
  for size in sizes:
    total *= size
  return total


def compile_step(
  lowered: jax.stages.Lowered, arguments: int, chip: topology.Chip
) -> tuple[Memory, str | None, float]:
  """Compiles a lowered step.

  Args:
    lowered: Of `Trainer.lowered`.
    arguments: Bytes of its arguments on one chip.
    chip: What it is compiled for.

  Returns:
    (memory, text of the program, seconds). There is no text where the compiler
    refused since memory is too small; the memory is then what it asked for.

  Raises:
    UserError: The compiler failed for another reason, a fault of its own.
  """
  began = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    memory = out_of_memory_bytes(str(error), arguments, chip.usable_hbm_bytes)
    if memory is None:
      told = str(error).strip().splitlines()[0].rstrip('.')
      raise errors.UserError(
        f'plan: the TPU compiler failed on this program ({told}); another '
        'mesh, remat or batch may pass.'
      ) from error
    return memory, None, time.monotonic() - began
  seconds = time.monotonic() - began
  found = compiled.memory_analysis()
  temporaries = (
    found.temp_size_in_bytes
    + max(0, found.output_size_in_bytes - found.alias_size_in_bytes)
    + found.generated_code_size_in_bytes
  )
  memory = Memory(
    arguments=found.argument_size_in_bytes,
    temporaries=temporaries,
    capacity=chip.usable_hbm_bytes,
  )
  return memory, compiled.as_text(), seconds


def out_of_memory_bytes(
  message: str, arguments: int, capacity: int
) -> Memory | None:
  """What the compiler asked for when it ran out of memory; else None."""
  if 'RESOURCE_EXHAUSTED' not in message:
    return None
  if found := _TEMPORARIES.search(message):
    return Memory(arguments, _bytes(found[1], found[2]), capacity)
  if found := _USED.search(message):
    used = _bytes(found[1], found[2])
    capacity = min(capacity, _bytes(found[3], found[4]))
    return Memory(arguments, max(used - arguments, 0), capacity)
  return None


def _bytes(number: str, unit: str) -> int:
  return int(float(number) * _UNITS[unit])
