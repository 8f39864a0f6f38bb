"""From what a program does to how long it could take: a prediction.

Four rooflines, each alone: executed FLOPs over the chip's peak, HBM traffic,
messages inside a slice (ICI), messages between slices (DCN), over their
bandwidths. The predicted step puts them together:

  matmuls = executed FLOPs / (peak x MXU)
  step    = max(matmuls, HBM, ICI beside work, DCN) + ICI that stops the chip

A message runs beside work if the compiler's schedule says so (asynchronous
collectives, and those fused with matmuls); the others stop the chip. A message
uses the links of the torus axes that its group spans, both directions where
the axis is a ring that the group fills; one message at a time.

`MXU` is the one number that is not computed: the share of the peak that large
matmuls reach between messages, fitted to published rows (docs/plan.md).
"""

import dataclasses
from typing import Any, Sequence

import numpy as np

from step_audio_jax.parallel import topology
from step_audio_jax.plan import counts as counts_lib

MXU = 0.85
# Matrix products of (T x D) by (D x S) size in each of the attention kernels.
_PRODUCTS = {
  'attention_forward': 2,
  'attention_dq': 3,
  'attention_dkv': 4,
}
_BLOCK = 512
PARTS = ('mlp', 'attention projections', 'attention', 'head', 'other')
PHASES = ('forward', 'recomputed', 'backward')


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Predicted seconds of one step on one chip.

  Attributes:
    compute: Executed FLOPs at the chip's peak.
    hbm: HBM traffic.
    ici: All messages inside a slice, one after another.
    ici_exposed: Those of them that stop the chip.
    dcn: Messages between slices.
    step: All together.
    executed_flops: Of one chip.
    parts: (part, phase) → FLOPs.
  """

  compute: float
  hbm: float
  ici: float
  ici_exposed: float
  dcn: float
  step: float
  executed_flops: float
  parts: dict[tuple[str, str], float]


def roofline(
  counts: counts_lib.Counts, found: topology.Slice, devices: Sequence[Any]
) -> Roofline:
  """Predicts a step.

  Args:
    counts: Of the compiled program.
    found: One slice.
    devices: In the order of the program's partitions (of the first slice).
  """
  chip = found.chip
  parts: dict[tuple[str, str], float] = {}
  for matmul in counts.matmuls:
    flops = kernel_flops(matmul) if matmul.kernel else matmul.flops
    key = part(matmul.operation), phase(matmul.operation)
    parts[key] = parts.get(key, 0.0) + flops * matmul.times
  executed = sum(parts.values())
  coordinates = np.array([device.coords for device in devices])
  ici = exposed = dcn = 0.0
  for collective in counts.collectives:
    if collective.network == 'dcn':
      dcn += collective.total / chip.dcn_bytes_per_second
      continue
    links = _links(found, coordinates[list(collective.group)])
    seconds = collective.total / (links * found.link_bytes_per_second)
    ici += seconds
    exposed += 0.0 if collective.hidden else seconds
  compute = executed / chip.flops
  hbm = counts.hbm_bytes / chip.hbm_bytes_per_second
  step = max(compute / MXU, hbm, ici - exposed, dcn) + exposed
  return Roofline(compute, hbm, ici, exposed, dcn, step, executed, parts)


def _links(found: topology.Slice, coordinates: np.ndarray) -> int:
  """Links of a chip that a ring over these chips can use at once."""
  links = 0
  for axis, size in enumerate(found.shape):
    extent = len(set(coordinates[:, axis].tolist()))
    if extent > 1:
      # A pair of neighbours in a ring is one step of a message around it.
      whole = extent == size or len(coordinates) == 2
      links += found.links[axis] if whole else 1
  return max(links, 1)


def kernel_flops(kernel: counts_lib.Matmul) -> float:
  """FLOPs of one call of an attention kernel, of causal rows.

  Queries (…, T, D) and keys (…, S, D) are found among the operands: the
  largest of bfloat16 or float32 and the next smaller with the same D. Blocks
  above the diagonal are skipped, so (T + block) / 2 T of the square is done.
  """
  name = next((n for n in _PRODUCTS if n in kernel.operation), None)
  if name is None:
    return 0.0
  arrays = [
    a for a in kernel.operands if a.dtype in ('bf16', 'f32') and len(a.dims) > 3
  ]
  q = max(arrays, key=lambda a: a.elements)
  keys = [a for a in arrays if a.dims[-1] == q.dims[-1] and a is not q]
  T = q.dims[-2]
  S = min(keys, key=lambda a: a.elements).dims[-2] if keys else T
  done = min(1.0, (T + _BLOCK) / (2 * T)) if T == S else 1.0
  return _PRODUCTS[name] * 2.0 * q.elements * S * done


def part(operation: str) -> str:
  """Which part of the model an operation belongs to."""
  if 'pallas_call' in operation or '/attention/shard_map' in operation:
    return 'attention'
  if '/attention/' in operation:
    return 'attention projections'
  if '/mlp/' in operation:
    return 'mlp'
  if '/blocks/' not in operation and 'shard_map' in operation:
    return 'head'
  return 'other'


def phase(operation: str) -> str:
  """Forward, recomputed by remat, or backward."""
  if 'rematted_computation' in operation:
    return 'recomputed'
  return 'backward' if 'transpose(' in operation else 'forward'
