"""The one table of accelerators: what a chip can do, which slices exist.

The meter of model-FLOP utilisation, the compiler for absent TPUs and the
launcher all read it. Numbers are those of the makers' public pages (Google:
cloud.google.com/tpu/docs), per chip: dense bf16 peaks without sparsity,
`ici_bytes_per_second` in one direction over all links of a chip together (half
of Google's "bidirectional" number), `dcn_bytes_per_second` the chip's share of
its host's network cards.

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
    usable_hbm_bytes: What of it the compiler gives to a program.
    hbm_bytes_per_second: Its bandwidth.
    ici_bytes_per_second: Bandwidth to the neighbours, one direction.
    dcn_bytes_per_second: Bandwidth to other slices, one direction.
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
  usable_hbm_bytes: int
  hbm_bytes_per_second: float
  ici_bytes_per_second: float
  dcn_bytes_per_second: float
  kinds: tuple[str, ...]
  accelerator: str = ''
  image: str = ''
  cores_in_name: int = 1
  shapes: tuple[tuple[int, ...], ...] = ()


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
  return tuple(tuple(map(int, s.split('x'))) for s in text.split())


_PLANES = _shapes('1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16')
_CUBES = _shapes(
  '2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x4x12 4x8x8 4x8x12 8x8x8 8x8x12 8x8x16 '
  '8x16x16'
)
# Beyond one cube of 4x4x4 chips any shape made of cubes is offered, to here.
_CUBE, _LARGEST = 4, {'v4': 4096, 'v5p': 6144}


def _chips():
  """name, TFLOP/s, GiB, usable, GB/s of HBM, ICI, DCN, jax's names, rest."""
  v4 = dict(accelerator='v4', image='tpu-ubuntu2204-base', cores_in_name=2)
  v5e = dict(accelerator='v5litepod', image='v2-alpha-tpuv5-lite')
  v5p = dict(accelerator='v5p', image='v2-alpha-tpuv5', cores_in_name=2)
  v6e = dict(accelerator='v6e', image='v2-alpha-tpuv6e', shapes=_PLANES)
  v5p['shapes'] = _CUBES + _shapes('16x16x16 16x16x24')
  for name, flops, hbm, usable, speed, ici, dcn, kinds, more in (
    (
      *('v4', 275, 32, 30.75, 1228, 300, 6.25, ('TPU v4',)),
      v4 | {'shapes': _CUBES},
    ),
    (
      *('v5e', 197, 16, 15.75, 819, 200, 3.125, ('TPU v5 lite', 'TPU v5e')),
      v5e | {'shapes': _PLANES},
    ),
    ('v5p', 459, 95, 95.74, 2765, 600, 6.25, ('TPU v5',), v5p),
    (
      *('v6e', 918, 32, 31.25, 1640, 400, 12.5, ('TPU v6 lite', 'TPU v6e')),
      v6e,
    ),
    ('tpu7x', 2307, 192, 192, 7380, 600, 12.5, ('TPU7x', 'TPU v7'), {}),
    ('a100', 312, 80, 80, 2039, 300, 25, ('NVIDIA A100',), {}),
    ('h100', 989, 80, 80, 3350, 450, 50, ('NVIDIA H100',), {}),
    ('h200', 989, 131.3, 131.3, 4800, 450, 50, ('NVIDIA H200',), {}),
  ):
    yield Chip(
      name=name,
      flops=flops * 1e12,
      hbm_bytes=int(hbm * GIB),
      usable_hbm_bytes=int(usable * GIB),
      hbm_bytes_per_second=speed * 1e9,
      ici_bytes_per_second=ici * 1e9,
      dcn_bytes_per_second=dcn * 1e9,
      kinds=kinds,
      **more,
    )


CHIPS = {chip.name: chip for chip in _chips()}


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
  def links(self) -> tuple[int, ...]:
    """How many links lead from a chip along each axis of the torus.

    Two where the axis closes to a ring: every axis of a slice made of whole
    cubes, and the full length of a pod of v5e or v6e. One where it does not,
    since the chips at its ends have no more; none along an axis of one chip.
    """
    cubes = len(self.shape) == 3 and not any(n % _CUBE for n in self.shape)
    return tuple(
      0 if n == 1 else 2 if cubes or (len(self.shape) == 2 and n == 16) else 1
      for n in self.shape
    )

  @property
  def link_bytes_per_second(self) -> float:
    """Bandwidth of one link, one direction."""
    return self.chip.ici_bytes_per_second / (2 * len(self.shape))

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


def parse(topology: str) -> Slice:
  """The slice of a topology as the compiler writes it: `v5p:8x8x8`.

  Names that `slice_of` knows are taken too.

  Raises:
    UserError: There is no such generation, or it has no slice of that shape.
  """
  name, colon, text = topology.partition(':')
  if not colon:
    return slice_of(topology)
  chip = CHIPS.get({'v5litepod': 'v5e'}.get(name, name))
  if chip is None or not chip.shapes:
    raise errors.UserError(
      f'topology {topology!r}: no TPU generation {name!r}, expected '
      f'{", ".join(c.name for c in CHIPS.values() if c.shapes)}, as in '
      '"v5p:8x8x8".'
    )
  sizes = re.fullmatch(r'\d+(x\d+)*', text)
  shape = tuple(int(n) for n in text.split('x')) if sizes else ()
  cubes = (
    len(shape) == 3
    and len(chip.shapes[0]) == 3
    and shape == tuple(sorted(shape))
    and not any(n % _CUBE for n in shape)
    and 0 < math.prod(shape) <= _LARGEST[chip.name]
  )
  if shape not in chip.shapes and not cubes:
    offered = ', '.join('x'.join(map(str, s)) for s in chip.shapes)
    more = (
      f', or three multiples of {_CUBE} in ascending order up to '
      f'{_LARGEST[chip.name]} chips'
      if len(chip.shapes[0]) == 3
      else ''
    )
    raise errors.UserError(
      f'topology {topology!r}: {chip.name} has no slice of that shape, '
      f'expected {offered}{more}.'
    )
  return Slice(chip, shape)


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
