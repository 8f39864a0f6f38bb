"""From counts to seconds, against numbers worked out by hand."""

import types

import pytest

from step_audio_jax.parallel import topology
from step_audio_jax.plan import counts
from step_audio_jax.plan import hlo
from step_audio_jax.plan import messages
from step_audio_jax.plan import roofline

FORWARD = 'jit(step)/jvp(M)/while/body/blocks/mlp/gate/dot_general'
BACKWARD = 'jit(step)/transpose(jvp(M))/while/body/checkpoint/blocks/'


def devices(found):
  """Chips in the order of a mesh whose last axis is the torus's last."""
  X, Y, Z = found.shape
  return [
    types.SimpleNamespace(coords=[x, y, z])
    for x in range(X)
    for y in range(Y)
    for z in range(Z)
  ]


def collective(**fields):
  return messages.Collective(
    **(
      dict(
        kind='all-gather',
        bytes=1e9,
        times=3,
        group=(0, 1),
        network='ici',
        hidden=False,
        operation='',
      )
      | fields
    )
  )


def predict(matmuls=(), collectives=(), hbm=0.0, shape='v5p:4x4x4'):
  found = topology.parse(shape)
  return roofline.roofline(
    counts.Counts(tuple(matmuls), tuple(collectives), hbm, ()),
    found,
    devices(found),
  )


def test_compute_is_slower_than_the_peak_by_the_documented_share():
  found = predict([counts.Matmul(459e12, 2, FORWARD)])
  assert found.compute == pytest.approx(2)
  assert found.step == pytest.approx(2 / roofline.MXU)
  assert found.executed_flops == 2 * 459e12
  assert 0.5 < roofline.MXU < 1


@pytest.mark.parametrize(
  ('group', 'links'),
  [
    ((0, 1, 2, 3), 2),  # a whole axis: a ring
    ((0, 1), 2),  # two neighbours: a step of a ring's message
    ((0, 1, 2), 1),  # part of an axis: a line
    (tuple(range(16)), 4),  # two axes
    (tuple(range(0, 64, 16)), 2),
    (tuple(range(64)), 6),
    ((0, 1, 16, 17), 2),  # parts of two axes
  ],
)
def test_links_of_a_group(group, links):
  found = predict(collectives=[collective(group=group)])
  # A link carries 100 GB/s in one direction.
  assert found.ici == pytest.approx(3 * 1e9 / (links * 100e9))
  assert found.ici_exposed == found.ici == found.step


def test_small_slices_have_no_rings():
  found = predict(collectives=[collective()], shape='v5p:2x2x2')
  assert found.ici == pytest.approx(3 * 1e9 / 100e9)


def test_what_runs_beside_work_takes_no_time_of_its_own():
  work = counts.Matmul(459e12 * roofline.MXU, 1, FORWARD)
  ring = (0, 1, 2, 3)
  beside = collective(bytes=50e9, hidden=True, group=ring)  # 0.75 s
  stops = collective(bytes=10e9, group=ring)  # 0.15 s
  assert predict([work], [beside]).step == pytest.approx(1)
  assert predict([work], [beside, stops]).step == pytest.approx(1.15)
  more = collective(bytes=100e9, hidden=True, group=ring)
  assert predict([work], [more, stops]).step == pytest.approx(1.65)
  slow = collective(bytes=6.25e9, times=4, network='dcn', group=(), hidden=True)
  found = predict([work], [beside, slow, stops])
  assert found.dcn == pytest.approx(4)
  assert found.step == pytest.approx(4.15)
  assert predict([work], hbm=2 * 2765e9).step == pytest.approx(2)


@pytest.mark.parametrize(
  ('name', 'products'),
  [('attention_forward', 2), ('attention_dq', 3), ('attention_dkv', 4)],
)
def test_flops_of_attention_kernels(name, products):
  B, G, R, T, D = 2, 3, 4, 2048, 128
  q = hlo.Array('bf16', (B, G, R, T, D))
  k = hlo.Array('bf16', (B, G, T, D))
  ids = hlo.Array('s32', (B, 2, T))
  kernel = counts.Matmul(
    0.0,
    88,
    f'{BACKWARD}attention/shard_map/{name}/pallas_call',
    kernel=True,
    operands=(ids, q, k, k),
    arrays=(q,),
  )
  square = products * 2 * B * G * R * T * T * D
  done = roofline.kernel_flops(kernel)
  assert done == square * (T + 512) / (2 * T)
  found = predict([kernel])
  assert found.executed_flops == 88 * done
  assert found.parts == {('attention', 'backward'): 88 * done}


def test_other_kernels_cost_nothing_that_is_known():
  kernel = counts.Matmul(0.0, 1, 'jit(f)/sort/pallas_call', kernel=True)
  assert roofline.kernel_flops(kernel) == 0


@pytest.mark.parametrize(
  ('operation', 'part', 'phase'),
  [
    (FORWARD, 'mlp', 'forward'),
    (f'{BACKWARD}mlp/down/dot_general', 'mlp', 'backward'),
    (
      'jit(step)/transpose(jvp(M))/checkpoint/rematted_computation/blocks/'
      'attention/q/dot_general',
      'attention projections',
      'recomputed',
    ),
    (f'{BACKWARD}attention/shard_map/dot_general', 'attention', 'backward'),
    ('jit(step)/jvp()/shard_map/NE,VE->NV/dot_general', 'head', 'forward'),
    ('jit(step)/jvp(M)/vision/dot_general', 'other', 'forward'),
  ],
)
def test_parts_and_phases(operation, part, phase):
  assert roofline.part(operation) == part
  assert roofline.phase(operation) == phase
  assert part in roofline.PARTS and phase in roofline.PHASES
