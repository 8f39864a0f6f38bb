"""The one table of accelerators: what a chip can do, which slices exist.

The meter of model-FLOP utilisation, the compiler for absent TPUs and the
launcher all read it. Peaks are dense bf16 and without sparsity, per chip, as
the makers publish them; `ici_bytes_per_second` counts one direction, all links
of a chip together.

Names of v4 and v5p slices count cores (two a chip), those of the others chips:
`v5p-1024` has 512 chips, `v5e-256` has 256.
"""

import dataclasses
import math
import re

from step_audio_jax import errors

GIB = 1024**3


@dataclasses.dataclass(frozen=True)
class Chip:
  """One generation of accelerators.

  Attributes:
    name: Ours, as in slice names.
    flops: Peak bf16 FLOP/s.
    hbm_bytes: Memory.
    hbm_bytes_per_second: Its bandwidth.
    ici_bytes_per_second: Bandwidth to the neighbours, one direction.
    kinds: What jax calls it (`Device.device_kind`, from its beginning).
    accelerator: Prefix of the cloud's accelerator type; '' if not on offer as
      a TPU VM.
    image: Runtime image of a TPU VM.
    cores_in_name: By how much a slice's name overcounts its chips.
    shapes: The slices, smallest first; () where there are none.
  """

  name: str
  flops: float
  hbm_bytes: int
  hbm_bytes_per_second: float
  ici_bytes_per_second: float
  kinds: tuple[str, ...]
  accelerator: str = ''
  image: str = ''
  cores_in_name: int = 1
  shapes: tuple[tuple[int, ...], ...] = ()


_PLANES = (
  *((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
)
_CUBES = (
  *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8)),
  *((4, 4, 12), (4, 8, 8), (4, 8, 12), (8, 8, 8), (8, 8, 12), (8, 8, 16)),
  *((8, 16, 16),),
)

CHIPS = {
  chip.name: chip
  for chip in (
    Chip(
      name='v4',
      flops=275e12,
      hbm_bytes=32 * GIB,
      hbm_bytes_per_second=1228e9,
      ici_bytes_per_second=300e9,
      kinds=('TPU v4',),
      accelerator='v4',
      image='tpu-ubuntu2204-base',
      cores_in_name=2,
      shapes=_CUBES,
    ),
    Chip(
      name='v5e',
      flops=197e12,
      hbm_bytes=16 * GIB,
      hbm_bytes_per_second=819e9,
      ici_bytes_per_second=200e9,
      kinds=('TPU v5 lite', 'TPU v5e'),
      accelerator='v5litepod',
      image='v2-alpha-tpuv5-lite',
      shapes=_PLANES,
    ),
    Chip(
      name='v5p',
      flops=459e12,
      hbm_bytes=95 * GIB,
      hbm_bytes_per_second=2765e9,
      ici_bytes_per_second=600e9,
      kinds=('TPU v5',),
      accelerator='v5p',
      image='v2-alpha-tpuv5',
      cores_in_name=2,
      shapes=(*_CUBES, (16, 16, 16), (16, 16, 24)),
    ),
    Chip(
      name='v6e',
      flops=918e12,
      hbm_bytes=32 * GIB,
      hbm_bytes_per_second=1640e9,
      ici_bytes_per_second=400e9,
      kinds=('TPU v6 lite', 'TPU v6e'),
      accelerator='v6e',
      image='v2-alpha-tpuv6e',
      shapes=_PLANES,
    ),
    Chip(
      name='tpu7x',
      flops=2307e12,
      hbm_bytes=192 * GIB,
      hbm_bytes_per_second=7380e9,
      ici_bytes_per_second=600e9,
      kinds=('TPU7x', 'TPU v7'),
    ),
    Chip(
      name='a100',
      flops=312e12,
      hbm_bytes=80 * GIB,
      hbm_bytes_per_second=2039e9,
      ici_bytes_per_second=300e9,
      kinds=('NVIDIA A100',),
    ),
    Chip(
      name='h100',
      flops=989e12,
      hbm_bytes=80 * GIB,
      hbm_bytes_per_second=3350e9,
      ici_bytes_per_second=450e9,
      kinds=('NVIDIA H100',),
    ),
    Chip(
      name='h200',
      flops=989e12,
      hbm_bytes=141 * 10**9,
      hbm_bytes_per_second=4800e9,
      ici_bytes_per_second=450e9,
      kinds=('NVIDIA H200',),
    ),
  )
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips that one request brings, joined by their own links.

  Attributes:
    chip: What it is made of.
    shape: Chips along each axis of the torus.
  """

  chip: Chip
  shape: tuple[int, ...]

  @property
  def chips(self) -> int:
    return math.prod(self.shape)

  @property
  def name(self) -> str:
    """Our name: `v5e-256`, `v5p-1024`."""
    return f'{self.chip.name}-{self.chips * self.chip.cores_in_name}'

  @property
  def accelerator_type(self) -> str:
    """The cloud's name: `v5litepod-256`, `v5p-1024`."""
    return f'{self.chip.accelerator}-{self.chips * self.chip.cores_in_name}'

  @property
  def topology(self) -> str:
    """The compiler's name: `v5e:16x16`, `v5p:8x8x8`."""
    return f'{self.chip.name}:{"x".join(map(str, self.shape))}'

  @property
  def chips_per_host(self) -> int:
    """Chips of one VM: 4, but up to 8 where a flat slice needs only one."""
    return self.chips if len(self.shape) == 2 and self.chips <= 8 else 4

  @property
  def hosts(self) -> int:
    """VMs, each of which runs one process."""
    return self.chips // self.chips_per_host


SLICES = {
  found.name: found
  for chip in CHIPS.values()
  for found in (Slice(chip, shape) for shape in chip.shapes)
}


def slice_of(name: str) -> Slice:
  """The slice called `name`, by our name or the cloud's.

  Raises:
    UserError: There is none; the sentence lists what the generation offers.
  """
  ours = re.sub(r'^v5litepod-', 'v5e-', name)
  if ours in SLICES:
    return SLICES[ours]
  chip = CHIPS.get(ours.partition('-')[0])
  offered = [n for n, s in SLICES.items() if s.chip is chip]
  if not offered:
    offered = sorted({f'{s.chip.name}-N' for s in SLICES.values()})
  raise errors.UserError(
    f'accelerator {name!r}: no such slice, expected {", ".join(offered)}.'
  )


def chip_of(device_kind: str) -> Chip | None:
  """The chip that jax calls `device_kind`; None if not in the table."""
  found = [
    (len(kind), chip)
    for chip in CHIPS.values()
    for kind in chip.kinds
    if device_kind.startswith(kind)
  ]
  return max(found, key=lambda item: item[0])[1] if found else None


def peak_flops(device_kind: str) -> float:
  """Peak bf16 FLOP/s of one device; 0 if it is not in the table.

  jax shows a v5p or v4 chip as one device, a tpu7x chip as two.
  """
  chip = chip_of(device_kind)
  if chip is None:
    return 0.0
  return chip.flops / (2 if chip.name == 'tpu7x' else 1)
