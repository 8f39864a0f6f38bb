"""Work and messages of programs, against counts made by hand."""

import re

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from step_audio_jax.plan import counts
from step_audio_jax.plan import hlo
from step_audio_jax.plan import messages

HEAD = 'HloModule m, num_partitions=8\n\n'
SUM = """%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

"""


def entry(*lines, before=''):
  body = '\n'.join(f'  {line}' for line in lines)
  return (
    f'{HEAD}{SUM}{before}ENTRY %main (x: f32[64]) -> f32[64] {{\n{body}\n}}\n'
  )


@pytest.mark.parametrize(
  ('text', 'groups'),
  [
    ('replica_groups={{0,1},{2,3}}, x', [(0, 1), (2, 3)]),
    ('replica_groups={}', [(0, 1, 2, 3, 4, 5, 6, 7)]),
    ('', [(0, 1, 2, 3, 4, 5, 6, 7)]),
    ('replica_groups=[2,4]<=[8]', [(0, 1, 2, 3), (4, 5, 6, 7)]),
    ('replica_groups=[2,4]<=[4,2]T(1,0)', [(0, 2, 4, 6), (1, 3, 5, 7)]),
    ('replica_groups=[8]<=[8]', [(0, 1, 2, 3, 4, 5, 6, 7)]),
    (
      'replica_groups=[4,2]<=[2,2,2]T(2,0,1), dimensions={0}',
      [(0, 2), (4, 6), (1, 3), (5, 7)],
    ),
    (
      "replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}",
      [(0, 1), (2, 3), (4, 5), (6, 7)],
    ),
    ("replica_groups=mesh['a'=4,'b'=2] {'a'}", [(0, 2, 4, 6), (1, 3, 5, 7)]),
    (
      "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}",
      [(0, 4), (1, 5), (2, 6), (3, 7)],
    ),
    ("replica_groups=mesh['a'=8] {'a':(2)2}", [(0, 2), (1, 3), (4, 6), (5, 7)]),
    ("replica_groups=mesh['a'=8] {'a':(1)4}", [(0, 2, 4, 6), (1, 3, 5, 7)]),
  ],
)
def test_replica_groups(text, groups):
  assert messages.replica_groups(text, 8) == groups


@pytest.mark.parametrize(
  ('line', 'kind', 'sent'),
  [
    ('f32[256] all-gather(%x), replica_groups=[2,4]<=[8]', 'all-gather', 768),
    (
      'f32[64] all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%sum',
      'all-reduce',
      384,
    ),
    (
      'f32[16] reduce-scatter(%x), replica_groups=[2,4]<=[8], to_apply=%sum',
      'reduce-scatter',
      192,
    ),
    ('f32[64] all-to-all(%x), replica_groups=[4,2]<=[8]', 'all-to-all', 128),
    (
      'f32[64] collective-permute(%x), source_target_pairs={{0,1},{1,0}}',
      'collective-permute',
      64,
    ),
    (
      '(f32[64]{0}, f32[256]{0}) all-gather-start(%x), '
      'replica_groups=[2,4]<=[8]',
      'all-gather',
      768,
    ),
  ],
)
def test_bytes_on_the_wire(line, kind, sent):
  text = entry('%x = f32[64]{0} parameter(0)', f'ROOT %y = {line}')
  found = counts.count(text)
  (collective,) = found.collectives
  assert (collective.kind, collective.total) == (kind, sent)
  assert collective.network == 'ici'
  assert collective.hidden == ('-start' in line)
  assert found.bytes_by_kind()[kind] == sum(found.bytes_by_kind().values())


def test_a_group_of_one_sends_nothing():
  text = entry(
    '%x = f32[64]{0} parameter(0)',
    'ROOT %y = f32[64] all-gather(%x), replica_groups=[8,1]<=[8]',
  )
  assert counts.count(text).collectives == ()


def test_groups_that_cross_slices_use_the_network_between_them():
  text = entry(
    '%x = f32[64]{0} parameter(0)',
    '%a = f32[64] all-reduce(%x), replica_groups={{0,4},{1,5}}, to_apply=%sum',
    'ROOT %b = f32[64] all-reduce(%a), replica_groups=[2,4]<=[8], '
    'to_apply=%sum',
  )
  found = counts.count(text, slices=2)
  assert found.bytes_by_kind('dcn')['all-reduce'] == 256
  assert found.bytes_by_kind('ici')['all-reduce'] == 384
  assert counts.count(text).bytes_by_kind('dcn')['all-reduce'] == 0


def test_transfers_of_the_multi_slice_runtime():
  text = entry(
    '%x = f32[64]{0} parameter(0)',
    '%t = token[] after-all()',
    '%s = (f32[64]{0}, u32[], token[]) send(%x, %t), is_host_transfer=true, '
    'frontend_attributes={_xla_host_transfer_handler_name="xla_megascale",'
    '_xla_megascale_target="{1,2,5:6}x{0:7}",'
    '_xla_megascale_transfer_type="ALL_REDUCE"}',
    'ROOT %d = token[] send-done(%s)',
  )
  (collective,) = counts.count(text).collectives
  assert (collective.kind, collective.network) == ('all-reduce', 'dcn')
  assert collective.total == pytest.approx(256 * 2 * 3 / 4)


CHAIN = """%begin (p: f32[64]) -> (f32[64], f32[256]) {{
  %p = f32[64]{{0}} parameter(0)
  %g = f32[256]{{0}} all-gather(%p), channel_id=3, {groups}
  ROOT %c = (f32[64]{{0}}, f32[256]{{0}}) custom-call(%g), {start}
}}

%beside (p: f32[64], q: f32[256], a: f32[4,5], b: f32[5,6]) -> f32[4,6] {{
  %p = f32[64]{{0}} parameter(0)
  %q = f32[256]{{0}} parameter(1)
  %g = f32[256]{{0}} all-gather(%p), channel_id=3, {groups}
  %a = f32[4,5]{{1,0}} parameter(2)
  %b = f32[5,6]{{1,0}} parameter(3)
  ROOT %d = f32[4,6]{{1,0}} dot(%a, %b), lhs_contracting_dims={{1}}, \
rhs_contracting_dims={{0}}
}}

%end (p: f32[64], q: f32[256]) -> f32[256] {{
  %p = f32[64]{{0}} parameter(0)
  %q = f32[256]{{0}} parameter(1)
  %g = f32[256]{{0}} all-gather(%p), channel_id=3, {groups}
  ROOT %c = f32[256]{{0}} custom-call(%p, %q, %g), {done}
}}

%scatter (p: f32[64]) -> f32[16] {{
  %p = f32[64]{{0}} parameter(0)
  %z = s32[] constant(0)
  %r = f32[64]{{0}} all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%sum
  ROOT %s = f32[16]{{0}} dynamic-slice(%r, %z), dynamic_slice_sizes={{16}}
}}

""".format(
  groups='replica_groups=[2,4]<=[8], dimensions={0}, '
  'frontend_attributes={chain_id="0"}',
  start='custom_call_target="AsyncCollectiveStart"',
  done='custom_call_target="AsyncCollectiveDone"',
)


def test_a_message_beside_matmuls_is_counted_once():
  text = entry(
    '%x = f32[64]{0} parameter(0)',
    '%a = f32[4,5]{1,0} constant(0)',
    '%b = f32[5,6]{1,0} constant(0)',
    '%s = (f32[64]{0}, f32[256]{0}) fusion(%x), kind=kCustom, calls=%begin',
    '%q = f32[256]{0} get-tuple-element(%s), index=1',
    '%m = f32[4,6]{1,0} fusion(%x, %q, %a, %b), kind=kOutput, calls=%beside',
    '%e = f32[256]{0} fusion(%x, %q), kind=kCustom, calls=%end',
    'ROOT %o = f32[16]{0} fusion(%x), kind=kCustom, calls=%scatter',
    before=CHAIN,
  )
  found = counts.count(text)
  gather, scatter = found.collectives
  assert (gather.kind, gather.total, gather.hidden) == ('all-gather', 768, True)
  # An all-reduce that keeps its slice only is a reduce-scatter.
  assert (scatter.kind, scatter.total) == ('reduce-scatter', 192)
  assert not scatter.hidden
  assert found.flops == 2 * 4 * 5 * 6


def test_a_message_that_outlasts_an_inner_loop_is_counted_once():
  inner = """%body (p: (s32[], f32[64], f32[256])) -> (s32[], f32[256]) {
  %p = (s32[], f32[64]{0}, f32[256]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %one = s32[] constant(1)
  %n = s32[] add(%i, %one)
  %x = f32[64]{0} get-tuple-element(%p), index=1
  %q = f32[256]{0} get-tuple-element(%p), index=2
  %a = f32[4,5]{1,0} constant(0)
  %b = f32[5,6]{1,0} constant(0)
  %m = f32[4,6]{1,0} fusion(%x, %q, %a, %b), kind=kOutput, calls=%beside
  ROOT %t = (s32[], f32[64]{0}, f32[256]{0}) tuple(%n, %x, %q)
}

%test (p: (s32[], f32[64], f32[256])) -> pred[] {
  %p = (s32[], f32[64]{0}, f32[256]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %k = s32[] constant(8)
  ROOT %lt = pred[] compare(%i, %k), direction=LT
}

"""
  text = entry(
    '%x = f32[64]{0} parameter(0)',
    '%s = (f32[64]{0}, f32[256]{0}) fusion(%x), kind=kCustom, calls=%begin',
    '%q = f32[256]{0} get-tuple-element(%s), index=1',
    '%z = s32[] constant(0)',
    '%i = (s32[], f32[64]{0}, f32[256]{0}) tuple(%z, %x, %q)',
    '%w = (s32[], f32[64]{0}, f32[256]{0}) while(%i), condition=%test, '
    'body=%body',
    'ROOT %e = f32[256]{0} fusion(%x, %q), kind=kCustom, calls=%end',
    before=CHAIN + inner,
  )
  found = counts.count(text)
  (gather,) = found.collectives
  assert gather.total == 768
  assert found.flops == 8 * 2 * 4 * 5 * 6


@pytest.mark.parametrize(
  ('shape', 'kernel', 'strides', 'padding', 'dilation', 'reverse'),
  [
    ((2, 9, 3), (4, 3, 5), (1,), 'VALID', (1,), False),
    ((2, 9, 3), (4, 3, 5), (2,), [(3, 1)], (1,), False),
    ((1, 6, 2), (3, 2, 4), (1,), [(2, 2)], (2,), True),
    ((2, 5, 6, 3), (2, 3, 3, 4), (1, 2), [(1, 0), (2, 2)], (1, 1), False),
  ],
)
def test_flops_of_convolutions(
  shape, kernel, strides, padding, dilation, reverse
):
  # An input of ones over a kernel of ones counts its multiply-adds.
  labels = (
    ('NWC', 'WIO', 'NWC') if len(shape) == 3 else ('NHWC', 'HWIO', 'NHWC')
  )

  def convolve(x, w):
    w = jnp.flip(w, 0) if reverse else w
    return lax.conv_general_dilated(
      x,
      w,
      strides,
      padding,
      lhs_dilation=dilation,
      dimension_numbers=labels,
      precision='highest',
    )

  x, w = jnp.ones(shape), jnp.ones(kernel)
  text = jax.jit(convolve).lower(x, w).compiler_ir('hlo').as_hlo_text()
  text = text.replace('ENTRY main', 'ENTRY %main')
  expected = 2 * float(convolve(x, w).sum())
  module = hlo.parse(_with_percent_signs(text))
  assert counts.count(module).flops == expected


def _with_percent_signs(text):
  # The text before compilation leaves the signs out.
  names = set(re.findall(r'^\s*(?:ROOT )?([\w.\-]+) = ', text, re.MULTILINE))
  lines = []
  for line in text.splitlines():
    if ' = ' in line and line.startswith(' '):
      for name in sorted(names, key=len, reverse=True):
        line = re.sub(
          rf'(?<![\w.%\-]){re.escape(name)}(?![\w.\-(])', f'%{name}', line
        )
    lines.append(line)
  return '\n'.join(lines)


def test_a_gather_within_a_scan_counts_seven_times():
  mesh = jax.make_mesh(
    (4, 2), ('fsdp', 'tensor'), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )

  def gathered(x, w):
    whole = lax.all_gather(w, 'fsdp', axis=0, tiled=True)
    return jnp.tanh(x @ whole), None

  def run(x, w):
    return lax.psum(lax.scan(gathered, x, w)[0].sum(), ('fsdp', 'tensor'))

  step = jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(P('fsdp'), P(None, 'fsdp')),
    out_specs=P(),
    check_vma=False,
  )
  x, w = jnp.ones((12, 32)), jnp.ones((7, 32, 32))
  found = counts.count(jax.jit(step).lower(x, w).compile().as_text())
  assert not found.unknown_loops
  assert found.bytes_by_kind()['all-gather'] == 7 * 3 * (8 * 32 * 4)
  assert found.bytes_by_kind()['all-reduce'] == pytest.approx(2 * 7 / 8 * 4)
  assert found.flops == 7 * 2 * 3 * 32 * 32


def test_flops_of_nested_scans():
  def body(x, _):
    return lax.scan(lambda y, _: (jnp.sin(y) @ y, None), x, length=3)[0], 0

  def run(x):
    return lax.scan(body, x, length=5)[0]

  text = jax.jit(run).lower(jnp.ones((16, 16))).compile().as_text()
  found = counts.count(text)
  assert found.flops == 15 * 2 * 16**3


def test_hbm_traffic_touches_only_what_is_used():
  fused = """%update (c: f32[100,64], r: f32[64], i: s32[]) -> f32[100,64] {
  %c = f32[100,64]{1,0} parameter(0)
  %r = f32[64]{0} parameter(1)
  %i = s32[] parameter(2)
  %z = s32[] constant(0)
  %u = f32[1,64]{1,0} bitcast(%r)
  ROOT %d = f32[100,64]{1,0} dynamic-update-slice(%c, %u, %i, %z)
}

%take (c: f32[100,64], i: s32[]) -> f32[1,64] {
  %c = f32[100,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %d = f32[1,64]{1,0} dynamic-slice(%c, %i, %z), dynamic_slice_sizes={1,64}
}

"""
  text = entry(
    '%x = f32[64]{0} parameter(0)',
    '%c = f32[100,64]{1,0} constant(0)',
    '%i = s32[]{:S(2)} constant(3)',
    '%t = f32[1,64]{1,0} fusion(%c, %i), kind=kLoop, calls=%take',
    '%u = f32[100,64]{1,0} fusion(%c, %x, %i), kind=kLoop, calls=%update',
    '%v = f32[64]{0:S(1)} negate(%x)',
    'ROOT %o = f32[64]{0} negate(%v)',
    before=fused,
  )
  row = 64 * 4
  # take: read, write; update: read row, write row; two negations through VMEM.
  assert counts.count(text).hbm_bytes == (2 + 2 + 1 + 1) * row


def test_weights_that_a_product_reads_in_another_shape_are_read():
  fused = """%seen (k: f32[64,64]) -> f32[4096] {
  %k = f32[64,64]{1,0} parameter(0)
  ROOT %b = f32[4096]{0} bitcast(%k)
}

%product (x: f32[64], w: f32[64,64]) -> f32[64] {
  %x = f32[64]{0} parameter(0)
  %w = f32[64,64]{1,0} parameter(1)
  %f = f32[4096]{0} fusion(%w), kind=kLoop, calls=%seen
  %s = f32[64,64]{1,0} bitcast(%f)
  ROOT %d = f32[64]{0} dot(%x, %s), lhs_contracting_dims={0}
}

%rows (t: f32[100,64], i: s32[2]) -> f32[2,64] {
  %t = f32[100,64]{1,0} parameter(0)
  %i = s32[2]{0:S(1)} parameter(1)
  ROOT %g = f32[2,64]{1,0} gather(%t, %i), slice_sizes={1,64}
}

"""
  text = entry(
    '%x = f32[64]{0:S(1)} parameter(0)',
    '%w = f32[64,64]{1,0} constant(0)',
    '%t = f32[100,64]{1,0} constant(0)',
    '%i = s32[2]{0:S(1)} constant({1, 2})',
    '%g = f32[2,64]{1,0:S(1)} fusion(%t, %i), kind=kLoop, calls=%rows',
    'ROOT %o = f32[64]{0:S(1)} fusion(%x, %w), kind=kOutput, calls=%product',
    before=fused,
  )
  assert counts.count(text).hbm_bytes == (64 * 64 + 2 * 64) * 4


def test_a_loop_of_unknown_length_is_told():
  def run(x):
    return lax.while_loop(lambda c: c.sum() < 5, lambda c: c @ c + 1, x)

  text = jax.jit(run).lower(np.ones((4, 4), np.float32)).compile().as_text()
  found = counts.count(text)
  assert len(found.unknown_loops) == 1
  assert found.flops == 2 * 4**3
