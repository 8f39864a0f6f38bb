"""Counts the work of a compiled program: FLOPs, bytes on wires, HBM traffic.

Everything is per chip and per run of the program, with loops counted as often
as they run (`hlo.Module.executed`).

Bytes on the wires count what one chip sends, as ring algorithms do it, for an
operand of b bytes in groups of n chips:

  all-gather          (n - 1) b           (b is the chip's own shard)
  all-reduce          2 (n - 1) / n b     (reduce-scatter, then all-gather)
  reduce-scatter      (n - 1) / n b
  all-to-all          (n - 1) / n b
  collective-permute  b, times the share of chips that send

Between slices (DCN) the same formulae hold with n the number of slices; the
TPU compiler writes those as host transfers of its multi-slice runtime.
"""

import dataclasses
import math
import re
from typing import Iterator, Mapping

import numpy as np

from step_audio_jax.plan import hlo

KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# Instructions that move nothing: views, bookkeeping, ends of what began.
_FREE = frozenset(
  """parameter constant tuple get-tuple-element bitcast while conditional call
  after-all partition-id replica-id opt-barrier send send-done recv recv-done
  copy-done async-start async-update async-done all-gather-done all-reduce-done
  collective-permute-done domain add-dependency iota broadcast""".split()
)
_FREE_CALLS = ('AllocateBuffer', 'ConcatBitcast', 'Sharding')
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_TARGET = re.compile(r'_xla_megascale_target="\{([^}]*)\}')
KERNEL = 'tpu_custom_call'


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of the program.

  Attributes:
    kind: One of `KINDS`.
    bytes: Sent by a chip each time.
    times: How often it runs.
    group: Partition ids of the first group; () where it crosses slices.
    network: 'ici' or 'dcn'.
    hidden: Whether the schedule runs other work beside it.
    operation: Where the program says it comes from.
  """

  kind: str
  bytes: float
  times: float
  group: tuple[int, ...]
  network: str
  hidden: bool
  operation: str

  @property
  def total(self) -> float:
    return self.bytes * self.times


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
  collectives: tuple[Collective, ...]
  hbm_bytes: float
  unknown_loops: tuple[str, ...]

  @property
  def flops(self) -> float:
    """Of the matrix products, without the kernels."""
    return sum(m.flops * m.times for m in self.matmuls)

  def bytes_by_kind(self, network: str | None = None) -> dict[str, float]:
    """Bytes that a chip sends, for every kind of collective."""
    totals = dict.fromkeys(KINDS, 0.0)
    for collective in self.collectives:
      if network in (None, collective.network):
        totals[collective.kind] += collective.total
    return totals


def count(text: str | hlo.Module, slices: int = 1) -> Counts:
  """Counts a program.

  Args:
    text: Of the compiled program, or what `hlo.parse` made of it.
    slices: Number of slices, where the program's partitions lie in several;
      slice after slice.
  """
  module = hlo.parse(text) if isinstance(text, str) else text
  matmuls: list[Matmul] = []
  collectives: list[Collective] = []
  traffic = 0.0
  for computation, times in module.executed():
    chains: set[str] = set()
    for found, where, fused in _all(module, computation):
      if found.opcode in ('dot', 'convolution'):
        flops = _flops(found, where)
        matmuls.append(Matmul(flops, times, found.operation))
      elif found.opcode == 'custom-call' and KERNEL in found.text:
        matmuls.append(_kernel(found, where, times))
      elif collective := _collective(
        module, found, where, fused, times, slices
      ):
        chain = found.attribute('chain_id')
        if chain is not None and fused:
          # One message, seen again in every fusion it runs beside.
          key = f'{chain} {found.attribute("channel_id")}'
          if key in chains:
            continue
          chains.add(key)
          collective = dataclasses.replace(collective, hidden=True)
        collectives.append(collective)
    traffic += times * sum(
      _traffic(module, computation, instruction)
      for instruction in computation.instructions.values()
    )
  unknown = [name for name, trips in module.loops().items() if trips is None]
  return Counts(tuple(matmuls), tuple(collectives), traffic, tuple(unknown))


def _all(
  module: hlo.Module, computation: hlo.Computation, fused: bool = False
) -> Iterator[tuple[hlo.Instruction, hlo.Computation, bool]]:
  """Instructions of a computation and of its fusions, where they stand."""
  for instruction in computation.instructions.values():
    yield instruction, computation, fused
    if instruction.opcode == 'fusion':
      for name in instruction.called:
        yield from _all(module, module.computations[name], True)


def _kernel(found, where, times) -> Matmul:
  return Matmul(
    0.0,
    times,
    found.operation,
    kernel=True,
    operands=tuple(_operands(found, where)),
    arrays=found.arrays,
    text=found.text,
  )


def _operands(instruction, computation) -> Iterator[hlo.Array]:
  for name in instruction.operands:
    if name in computation.instructions:
      yield from computation.instructions[name].arrays


def _collective(
  module, instruction, computation, fused, times, slices
) -> Collective | None:
  if instruction.opcode == 'send':
    return _between_slices(instruction, times)
  kind = instruction.opcode.removesuffix('-start')
  if kind == 'ragged-all-to-all':
    kind = 'all-to-all'
  if kind not in KINDS:
    return None
  operand = sum(array.bytes for array in _operands(instruction, computation))
  if kind == 'collective-permute':
    pairs = _pairs(instruction.attribute('source_target_pairs') or '')
    group = pairs[0] if pairs else ()
    moving = {p[0] for p in pairs if p[0] != p[1]}
    sent = operand * len(moving) / max(module.partitions, 1)
    groups = pairs
  else:
    groups = replica_groups(instruction.text, module.partitions)
    group = groups[0]
    n = max(len(group), 1)
    if kind == 'all-reduce' and fused and _is_scattered(computation):
      kind = 'reduce-scatter'
    sent = operand * {
      'all-gather': n - 1,
      'all-reduce': 2 * (n - 1) / n,
    }.get(kind, (n - 1) / n)
  if not sent:
    return None
  size = module.partitions // slices
  crosses = any(len({i // size for i in g}) > 1 for g in groups)
  return Collective(
    kind=kind,
    bytes=sent,
    times=times,
    group=tuple(group),
    network='dcn' if slices > 1 and crosses else 'ici',
    hidden=instruction.opcode.endswith('-start')
    or _under_async(module, computation),
    operation=instruction.operation,
  )


def _is_scattered(computation: hlo.Computation) -> bool:
  """Whether a fused all-reduce keeps only its own slice."""
  return 'scatter' in computation.name or any(
    i.opcode == 'dynamic-slice' for i in computation.instructions.values()
  )


def _under_async(module: hlo.Module, computation: hlo.Computation) -> bool:
  return any(
    instruction.opcode == 'async-start'
    and computation.name in instruction.called
    for other in module.computations.values()
    for instruction in other.instructions.values()
  )


def _between_slices(instruction, times) -> Collective | None:
  """A send to the multi-slice runtime, which does the rest."""
  kind = _TRANSFER.search(instruction.text)
  if not kind:
    return None
  kind = kind[1].lower().replace('_', '-')
  target = _TARGET.search(instruction.text)
  n = 1
  if target:
    n = sum(
      int(word.partition(':')[2] or word) - int(word.partition(':')[0]) + 1
      for word in target[1].split(',')
    )
  payload = instruction.arrays[0].bytes
  factor = {'all-reduce': 2 * (n - 1) / n, 'all-gather': n - 1.0}
  return Collective(
    kind=kind if kind in KINDS else 'collective-permute',
    bytes=payload * factor.get(kind, (n - 1) / n if kind in KINDS else 1.0),
    times=times,
    group=(),
    network='dcn',
    hidden=True,
    operation=instruction.operation,
  )


def _pairs(text: str) -> list[tuple[int, int]]:
  numbers = _integers(text)
  return list(zip(numbers[::2], numbers[1::2]))


def replica_groups(text: str, partitions: int) -> list[tuple[int, ...]]:
  """Groups of partition ids from the attributes of a collective.

  `{{0,1},{2,3}}` lists them; `[2,4]<=[4,2]T(1,0)` is iota(8) of shape (4, 2),
  transposed, as 2 rows of 4; `mesh['a'=4,'b'=2] {'b'}` is iota(8) of shape
  (4, 2), grouped along b; `{}` or nothing is one group of all.
  """
  text = text.partition('replica_groups=')[2]
  if text.startswith('mesh['):
    return _mesh_groups(text)
  if iota := re.match(rf'\[([\d,]+)\]<=({_IOTA})', text):
    groups = int(iota[1].split(',')[0]) if ',' in iota[1] else 1
    return _rows(_iota(iota[2]).reshape(groups, -1))
  if not text.startswith('{'):
    return [tuple(range(partitions))]
  listed = re.findall(r'\{([\d,]+)\}', text[: hlo.balanced(text, 0) + 1])
  return [tuple(int(n) for n in inner.split(',')) for inner in listed] or [
    tuple(range(partitions))
  ]


_IOTA = r'\[[\d,]+\](?:T\([\d,]+\))?'


def _iota(text: str) -> np.ndarray:
  """`[4,2]T(1,0)` → iota(8) of shape (4, 2), transposed."""
  shape, _, order = text.partition('T')
  ids = np.arange(math.prod(_integers(shape))).reshape(_integers(shape))
  return ids.transpose(_integers(order)) if order else ids


def _mesh_groups(text: str) -> list[tuple[int, ...]]:
  """`mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a','b':(1)2}`."""
  end = hlo.balanced(text, 4)
  axes = {
    name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", text[:end])
  }
  rest = text[end + 1 :]
  ids = np.arange(math.prod(axes.values()))
  if order := re.match(rf',? ?device_ids=\(({_IOTA})\)', rest):
    ids = _iota(order[1]).reshape(-1)
  start = rest.index('{')
  along = rest[start : hlo.balanced(rest, start)]
  shape, chosen = [], []
  parts = {
    name: (int(before or 1), int(size or 0))
    for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", along)
  }
  for name, size in axes.items():
    before, part = parts.get(name, (size, 1))
    part = part or size
    chosen.append(len(shape) + 1)
    shape += [before, part, size // (before * part)]
  chosen = [c for c in chosen if shape[c] > 1]
  others = [d for d in range(len(shape)) if d not in chosen]
  n = math.prod(shape[c] for c in chosen)
  return _rows(ids.reshape(shape).transpose(others + chosen).reshape(-1, n))


def _integers(text: str) -> list[int]:
  return [int(n) for n in re.findall(r'\d+', text)]


def _rows(ids: np.ndarray) -> list[tuple[int, ...]]:
  return [tuple(int(i) for i in row) for row in ids]


def _flops(instruction: hlo.Instruction, computation: hlo.Computation) -> float:
  """2 a multiply-add, of a dot or a convolution."""
  left, right = list(_operands(instruction, computation))[:2]
  out = instruction.arrays[0]
  if instruction.opcode == 'dot':
    axes = re.findall(
      r'\d+', instruction.attribute('lhs_contracting_dims') or ''
    )
    return 2.0 * out.elements * math.prod(left.dims[int(a)] for a in axes)
  labels = instruction.attribute('dim_labels')
  left_labels, rest = labels.split('_')
  right_labels, out_labels = rest.split('->')
  pairs = 1.0  # (output place, kernel place) pairs that meet an input
  for axis, window in enumerate(_window(instruction)):
    place = str(axis)
    pairs *= _meetings(
      left.dims[left_labels.index(place)],
      out.dims[out_labels.index(place)],
      window,
    )
  batch = out.dims[out_labels.index('b')]
  return (
    2.0
    * pairs
    * batch
    * out.dims[out_labels.index('f')]
    * right.dims[right_labels.index('i')]
  )


def _window(instruction: hlo.Instruction) -> Iterator[Mapping[str, tuple]]:
  """For every spatial axis: size, stride, pad, lhs_dilate, rhs_dilate."""
  text = instruction.attribute('window') or '{}'
  fields = dict(re.findall(r'(\w+)=([\dx_\-]+)', text))
  sizes = fields.get('size', '').split('x') if fields.get('size') else []
  for axis in range(len(sizes)):

    def get(name, default, axis=axis):
      words = fields.get(name, '').split('x')
      return words[axis] if fields.get(name) else default

    low = get('pad', '0_0').partition('_')[0]
    yield {
      'size': int(sizes[axis]),
      'stride': int(get('stride', '1')),
      'low': int(low),
      'lhs_dilate': int(get('lhs_dilate', '1')),
      'rhs_dilate': int(get('rhs_dilate', '1')),
    }


def _meetings(inputs: int, outputs: int, window: Mapping[str, int]) -> int:
  """How many (output, kernel) places of one axis read a real input."""
  out, kernel = np.ogrid[:outputs, : window['size']]
  place = out * window['stride'] + kernel * window['rhs_dilate'] - window['low']
  dilate = window['lhs_dilate']
  real = (place >= 0) & (place % dilate == 0) & (place // dilate < inputs)
  return int(real.sum())


def _traffic(module, computation, instruction) -> float:
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
  if opcode == 'dynamic-slice':
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
    if user.opcode == 'dynamic-slice' and first:
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
    elif user.opcode in ('tuple', 'get-tuple-element') or (
      user.opcode.removesuffix('-start') in KINDS
    ):
      continue  # passed on; a message counts where it starts
    else:
      total += full
    if total >= full:
      return full
  return total


def _written(inner: hlo.Computation, fusion: hlo.Instruction) -> float:
  """Bytes of HBM that a fusion writes."""
  root = inner.root
  names = root.operands if root.opcode == 'tuple' else (root.name,)
  total = 0.0
  for name, array in zip(names, fusion.arrays):
    if array.space:
      continue
    value = inner.instructions[name]
    while value.opcode == 'bitcast' and value.operands[0] in inner.instructions:
      value = inner.instructions[value.operands[0]]
    if value.opcode == 'dynamic-update-slice':
      total += inner.instructions[value.operands[1]].bytes
    elif value.opcode != 'parameter':
      total += array.bytes
  return total
