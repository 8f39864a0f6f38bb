"""Messages between chips: what a program sends, how far and how much.

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

import numpy as np

from step_audio_jax.plan import hlo

KINDS = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_TARGET = re.compile(r'_xla_megascale_target="\{([^}]*)\}')


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


def collective(
  module: hlo.Module,
  instruction: hlo.Instruction,
  computation: hlo.Computation,
  *,
  fused: bool,
  times: float,
  slices: int,
) -> Collective | None:
  """What an instruction sends; None if nothing."""
  if instruction.opcode == 'send':
    return _between_slices(instruction, times)
  kind = instruction.opcode.removesuffix('-start')
  if kind == 'ragged-all-to-all':
    kind = 'all-to-all'
  if kind not in KINDS:
    return None
  operand = sum(
    array.bytes for array in hlo.operand_arrays(instruction, computation)
  )
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
  listed = re.findall(r'\{([\d,]+)\}', text[: hlo.closing_bracket(text, 0) + 1])
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
  end = hlo.closing_bracket(text, 4)
  axes = {
    name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", text[:end])
  }
  rest = text[end + 1 :]
  ids = np.arange(math.prod(axes.values()))
  if order := re.match(rf',? ?device_ids=\(({_IOTA})\)', rest):
    ids = _iota(order[1]).reshape(-1)
  start = rest.index('{')
  along = rest[start : hlo.closing_bracket(rest, start)]
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
