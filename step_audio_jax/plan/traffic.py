"""HBM traffic of single operations, estimated.

Operands and results that lie in HBM; of slices and of updates in place only
what is touched. What lies in the chip's own memory costs nothing.
"""

from step_audio_jax.plan import hlo
from step_audio_jax.plan import messages

# Instructions that move nothing: views, bookkeeping, ends of what began.
_FREE = frozenset(
  """parameter constant tuple get-tuple-element bitcast while conditional call
  after-all partition-id replica-id opt-barrier send send-done recv recv-done
  copy-done async-start async-update async-done all-gather-done all-reduce-done
  collective-permute-done domain add-dependency iota broadcast""".split()
)
_FREE_CALLS = ('AllocateBuffer', 'ConcatBitcast', 'Sharding')


def operation_bytes(
  module: hlo.Module,
  computation: hlo.Computation,
  instruction: hlo.Instruction,
) -> float:
  """HBM bytes that one operation outside of fusions reads and writes."""
  opcode = instruction.opcode
  if opcode in _FREE:
    # A broadcast or iota only writes.
    return _hbm(instruction.arrays) if opcode in ('broadcast', 'iota') else 0.0
  if opcode == 'custom-call' and any(
    name in instruction.text for name in _FREE_CALLS
  ):
    return 0.0
  operands = [
    computation.instructions[name]
    for name in instruction.operands
    if name in computation.instructions
  ]
  if opcode == 'fusion':
    inner = module.computations[instruction.called[0]]
    if inner.root.text.find('AsyncCollectiveDone') >= 0:
      return 0.0
    read = sum(
      _read(module, inner, inner.parameters[i], 0)
      for i, operand in enumerate(operands)
      if i in inner.parameters and _hbm(operand.arrays)
    )
    return read + _written(inner, instruction)
  if opcode in ('dynamic-slice', 'gather'):
    return (1 if _hbm(operands[0].arrays) else 0) * instruction.bytes + _hbm(
      instruction.arrays
    )
  if opcode == 'dynamic-update-slice':
    return _hbm(operands[1].arrays) + (
      operands[1].bytes if _hbm(instruction.arrays) else 0.0
    )
  if opcode == 'copy-start':
    return _hbm(operands[0].arrays) + _hbm(instruction.arrays[:1])
  if opcode.endswith('-start'):
    result = max(instruction.arrays, key=lambda a: a.bytes)
    return sum(_hbm(o.arrays) for o in operands) + _hbm((result,))
  return sum(_hbm(o.arrays) for o in operands) + _hbm(instruction.arrays)


def _hbm(arrays) -> float:
  return sum(array.bytes for array in arrays if array.space == 0)


def _read(module, computation, name, depth) -> float:
  """Bytes of a value that the instructions of a fusion read."""
  full = computation.instructions[name].bytes
  total = 0.0
  for user in computation.users.get(name, ()):
    first = bool(user.operands) and user.operands[0] == name
    if user.opcode in ('dynamic-slice', 'gather') and first:
      total += user.bytes
    elif user.opcode == 'dynamic-update-slice' and first:
      continue  # written in place
    elif user.opcode == 'bitcast':
      total += _read(module, computation, user.name, depth)
    elif user.opcode == 'fusion' and depth < 4:
      inner = module.computations[user.called[0]]
      for i, operand in enumerate(user.operands):
        if operand == name and i in inner.parameters:
          total += _read(module, inner, inner.parameters[i], depth + 1)
          if _value(inner, inner.root).name == inner.parameters[i]:
            # Seen in another shape: who reads that reads this.
            total += _read(module, computation, user.name, depth)
    elif user.opcode in ('tuple', 'get-tuple-element') or (
      user.opcode.removesuffix('-start') in messages.KINDS
    ):
      continue  # passed on; a message counts where it starts
    else:
      total += full
    if total >= full:
      return full
  return total


def _written(inner: hlo.Computation, fusion: hlo.Instruction) -> float:
  """Bytes of HBM that a fusion writes; messages count where they start."""
  root = inner.root
  names = root.operands if root.opcode == 'tuple' else (root.name,)
  total = 0.0
  for name, array in zip(names, fusion.arrays):
    if array.space:
      continue
    value = _value(inner, inner.instructions[name])
    if value.opcode == 'dynamic-update-slice':
      total += inner.instructions[value.operands[1]].bytes
    elif value.opcode not in ('parameter', *messages.KINDS):
      total += array.bytes
  return total


def _value(
  computation: hlo.Computation, value: hlo.Instruction
) -> hlo.Instruction:
  """What is seen through bitcasts."""
  while value.opcode == 'bitcast' and (
    value.operands[0] in computation.instructions
  ):
    value = computation.instructions[value.operands[0]]
  return value
