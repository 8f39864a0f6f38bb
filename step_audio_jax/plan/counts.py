"""Counts the work of a compiled program: FLOPs, bytes on wires, HBM traffic.

Everything is per chip and per run of the program, with loops counted as often
as they run (`hlo.Module.executed`).
"""

import dataclasses
from typing import Iterator

from step_audio_jax.plan import hlo
from step_audio_jax.plan import messages
from step_audio_jax.plan import products
from step_audio_jax.plan import traffic

KERNEL = 'tpu_custom_call'


@dataclasses.dataclass(frozen=True)
class Matmul:
  """One matrix product, or one call of a kernel (then `arrays` are its own).

  Attributes:
    flops: Of one execution; 0 for a kernel.
    times: How often it runs.
    operation: Where the program says it comes from.
    kernel: Whether it is a custom call.
    arrays: Operands and results of a kernel.
    text: Attributes of a kernel.
  """

  flops: float
  times: float
  operation: str
  kernel: bool = False
  operands: tuple[hlo.Array, ...] = ()
  arrays: tuple[hlo.Array, ...] = ()
  text: str = ''


@dataclasses.dataclass(frozen=True)
class Counts:
  """What one chip does in one run.

  Attributes:
    matmuls: Matrix products and kernels.
    collectives: Messages between chips.
    hbm_bytes: Read from and written to HBM, estimated: operands and results of
      every operation that lie in HBM; of slices only what is touched.
    unknown_loops: Loops that were counted once since their number of turns
      is not in the text.
  """

  matmuls: tuple[Matmul, ...]
  collectives: tuple[messages.Collective, ...]
  hbm_bytes: float
  unknown_loops: tuple[str, ...]

  @property
  def flops(self) -> float:
    """Of the matrix products, without the kernels."""
    return sum(m.flops * m.times for m in self.matmuls)

  def bytes_by_kind(self, network: str | None = None) -> dict[str, float]:
    """Bytes that a chip sends, for every kind of collective."""
    totals = dict.fromkeys(messages.KINDS, 0.0)
    for collective in self.collectives:
      if network in (None, collective.network):
        totals[collective.kind] += collective.total
    return totals


def count(
  text: str | hlo.Module, slices: int = 1, unknown: float = 1
) -> Counts:
  """Counts a program.

  Args:
    text: Of the compiled program, or what `hlo.parse` made of it.
    slices: Number of slices, where the program's partitions lie in several;
      slice after slice.
    unknown: How often a loop runs whose turns are not in the text.
  """
  module = hlo.parse(text) if isinstance(text, str) else text
  matmuls: list[Matmul] = []
  collectives: list[messages.Collective] = []
  moved = 0.0
  started = _started(module)
  for computation, times in module.executed(unknown):
    chains: set[tuple[str, str | None]] = set()
    for found, where, fused in _all(module, computation):
      if found.opcode in ('dot', 'convolution'):
        flops = products.flops(found, where)
        matmuls.append(Matmul(flops, times, found.operation))
      elif found.opcode == 'custom-call' and KERNEL in found.text:
        matmuls.append(_kernel(found, where, times))
      elif collective := messages.collective(
        module, found, where, fused=fused, times=times, slices=slices
      ):
        chain = found.attribute('chain_id')
        if chain is not None and fused:
          # One message, seen again in every fusion it runs beside, also in
          # those of loops that it outlasts.
          key = chain, found.attribute('channel_id')
          if key in chains or (key in started and not _starts(where)):
            continue
          chains.add(key)
          collective = dataclasses.replace(collective, hidden=True)
        collectives.append(collective)
    moved += times * sum(
      traffic.operation_bytes(module, computation, instruction)
      for instruction in computation.instructions.values()
    )
  unknown = [name for name, trips in module.loops().items() if trips is None]
  return Counts(tuple(matmuls), tuple(collectives), moved, tuple(unknown))


def _all(
  module: hlo.Module, computation: hlo.Computation, fused: bool = False
) -> Iterator[tuple[hlo.Instruction, hlo.Computation, bool]]:
  """Instructions of a computation and of its fusions, where they stand."""
  for instruction in computation.instructions.values():
    yield instruction, computation, fused
    if instruction.opcode == 'fusion':
      for name in instruction.called:
        yield from _all(module, module.computations[name], True)


def _starts(computation: hlo.Computation) -> bool:
  return 'AsyncCollectiveStart' in computation.root.text


def _started(module: hlo.Module) -> set[tuple[str | None, str | None]]:
  """(chain, channel) of the messages whose beginning the program marks."""
  return {
    (found.attribute('chain_id'), found.attribute('channel_id'))
    for computation in module.computations.values()
    if _starts(computation)
    for found in computation.instructions.values()
    if found.opcode in messages.KINDS
  }


def _kernel(found, where, times) -> Matmul:
  return Matmul(
    0.0,
    times,
    found.operation,
    kernel=True,
    operands=tuple(hlo.operand_arrays(found, where)),
    arrays=found.arrays,
    text=found.text,
  )
