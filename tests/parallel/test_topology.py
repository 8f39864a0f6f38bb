"""The table of accelerators, against the published names and sizes."""

import pytest

from step_audio_jax import errors
from step_audio_jax.parallel import topology


@pytest.mark.parametrize(
  ('name', 'accelerator_type', 'compiler', 'chips', 'hosts'),
  [
    ('v4-8', 'v4-8', 'v4:2x2x1', 4, 1),
    ('v4-384', 'v4-384', 'v4:4x4x12', 192, 48),
    ('v5e-1', 'v5litepod-1', 'v5e:1x1', 1, 1),
    ('v5e-8', 'v5litepod-8', 'v5e:2x4', 8, 1),
    ('v5e-16', 'v5litepod-16', 'v5e:4x4', 16, 4),
    ('v5e-256', 'v5litepod-256', 'v5e:16x16', 256, 64),
    ('v5p-8', 'v5p-8', 'v5p:2x2x1', 4, 1),
    ('v5p-1024', 'v5p-1024', 'v5p:8x8x8', 512, 128),
    ('v5p-12288', 'v5p-12288', 'v5p:16x16x24', 6144, 1536),
    ('v6e-4', 'v6e-4', 'v6e:2x2', 4, 1),
    ('v6e-256', 'v6e-256', 'v6e:16x16', 256, 64),
  ],
)
def test_published_slices(name, accelerator_type, compiler, chips, hosts):
  found = topology.slice_of(name)
  assert found.name == name
  assert found.accelerator_type == accelerator_type
  assert found.topology == compiler
  assert (found.chips, found.hosts) == (chips, hosts)
  assert topology.slice_of(accelerator_type) is found


def test_names_are_unique_and_hosts_are_whole():
  count = sum(len(chip.shapes) for chip in topology.CHIPS.values())
  assert len(topology.SLICES) == count
  for found in topology.SLICES.values():
    assert found.hosts * found.chips_per_host == found.chips


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    ('TPU v4', 'v4'),
    ('TPU v5 lite', 'v5e'),
    ('TPU v5', 'v5p'),
    ('TPU v5p', 'v5p'),
    ('TPU v6 lite', 'v6e'),
    ('TPU7x', 'tpu7x'),
    ('NVIDIA H200', 'h200'),
    ('NVIDIA H100 80GB HBM3', 'h100'),
    ('NVIDIA A100-SXM4-80GB', 'a100'),
  ],
)
def test_chips_by_the_name_jax_gives(kind, name):
  assert topology.chip_of(kind).name == name
  assert topology.peak_flops(kind) > 1e14


def test_a_chip_that_is_not_in_the_table():
  assert topology.chip_of('cpu') is None
  assert topology.peak_flops('cpu') == 0


def test_balance_of_published_chips():
  # FLOPs per byte at which a matmul stops waiting for memory.
  for name, balance in {'v4': 224, 'v5e': 240, 'v5p': 166, 'v6e': 560}.items():
    chip = topology.CHIPS[name]
    found = chip.flops / chip.hbm_bytes_per_second
    assert found == pytest.approx(balance, rel=0.01)


@pytest.mark.parametrize(
  ('name', 'told'),
  [
    ('v5e-12', 'expected v5e-1, v5e-4, v5e-8, v5e-16'),
    ('v9-8', 'expected v4-N, v5e-N, v5p-N, v6e-N'),
    ('', 'no such slice'),
  ],
)
def test_unknown_slices_list_the_known_ones(name, told):
  with pytest.raises(errors.UserError, match=told):
    topology.slice_of(name)


@pytest.mark.parametrize(
  ('text', 'name', 'links'),
  [
    ('v5p:8x8x8', 'v5p-1024', (2, 2, 2)),
    ('v5p:2x2x2', 'v5p-16', (1, 1, 1)),
    ('v5p:2x2x1', 'v5p-8', (1, 1, 0)),
    ('v5p:4x4x20', 'v5p-640', (2, 2, 2)),  # not in the list, but of cubes
    ('v4:4x4x4', 'v4-128', (2, 2, 2)),
    ('v5e:4x8', 'v5e-32', (1, 1)),
    ('v5e:16x16', 'v5e-256', (2, 2)),
    ('v5litepod:8x16', 'v5e-128', (1, 2)),
    ('v6e:4x4', 'v6e-16', (1, 1)),
    ('v6e-16', 'v6e-16', (1, 1)),
  ],
)
def test_parse_topologies(text, name, links):
  found = topology.parse(text)
  assert found.name == name
  assert found.links == links


@pytest.mark.parametrize('name', sorted(topology.SLICES))
def test_parse_is_the_inverse_of_the_compilers_name(name):
  found = topology.SLICES[name]
  assert topology.parse(found.topology) == found


@pytest.mark.parametrize(
  ('text', 'told'),
  [
    ('v5p:8x8', 'v5p has no slice of that shape, expected 2x2x1, .*multiples'),
    ('v5p:8x8x4', 'ascending'),
    ('v5p:4x4x6', 'multiples of 4'),
    ('v5p:16x24x24', 'up to 6144 chips'),
    ('v5p:0x4x4', 'no slice'),
    ('v5e:4x6', 'expected 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16.$'),
    ('v5e:', 'no slice'),
    ('v5p:8x8x8x', 'no slice'),
    ('h100:8', "no TPU generation 'h100', expected v4, v5e, v5p, v6e"),
    ('v9:2x2', 'no TPU generation'),
    ('v9', 'no such slice'),
  ],
)
def test_parse_says_what_there_is(text, told):
  with pytest.raises(errors.UserError, match=told):
    topology.parse(text)


def test_bandwidth_of_one_link():
  # Google's "bidirectional bandwidth per chip" is 1200, 400 and 800 GB/s.
  for name, shape, published in (
    ('v5p', (4, 4, 4), 1200e9),
    ('v5e', (4, 4), 400e9),
    ('v6e', (4, 4), 800e9),
  ):
    found = topology.Slice(topology.CHIPS[name], shape)
    links = 2 * len(shape)
    assert found.link_bytes_per_second * links * 2 == published
