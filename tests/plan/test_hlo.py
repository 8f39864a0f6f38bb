"""The reader of compiled programs, on text written by hand and by XLA."""

import pytest

from step_audio_jax.plan import hlo

LOOP = """HloModule toy, is_scheduled=true, num_partitions=4

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %p = (s32[]{{:T(128)}}, f32[8]{{0:T(256)}}) parameter(0)
  %i = s32[]{{:T(128)}} get-tuple-element(%p), index=0
  %step = s32[] constant({step})
  %next = s32[] {add}(%i, %step)
  %x = f32[8]{{0:T(256)S(1)}} get-tuple-element(%p), index=1
  %y = f32[8]{{0}} multiply(%x, %x), metadata={{op_name="jit(f)/while/mul"}}
  ROOT %out = (s32[], f32[8]{{0}}) tuple(%next, %y)
}}

%condition (p: (s32[], f32[8])) -> pred[] {{
  %p = (s32[], f32[8]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %stop = s32[] constant({stop})
  ROOT %lt = pred[] compare({sides}), direction={direction}
}}

ENTRY %main (a: f32[8]) -> f32[8] {{
  %a = f32[8]{{0}} parameter(0)
  %start = s32[] constant({start})
  %copied = s32[]{{:T(128)}} copy(%start)
  %init = (s32[], /*index=1*/f32[8]{{0}}) tuple(%copied, %a)
  %loop = (s32[], f32[8]{{0}}) while(%init), condition=%condition, body=%body
  ROOT %r = f32[8]{{0}} get-tuple-element(%loop), index=1
}}
"""


def loop(start=0, stop=7, step=1, direction='LT', sides='%i, %stop', add='add'):
  text = LOOP.format(
    start=start, stop=stop, step=step, direction=direction, sides=sides, add=add
  )
  return hlo.parse(text)


@pytest.mark.parametrize(
  ('fields', 'trips'),
  [
    ({}, 7),
    ({'start': 1}, 6),  # a first turn was peeled off
    ({'step': 2}, 4),
    ({'direction': 'LE'}, 8),
    ({'direction': 'GT', 'sides': '%stop, %i'}, 7),
    ({'direction': 'NE'}, 7),
    ({'start': 9, 'stop': 2, 'step': -1, 'direction': 'GT'}, 7),
    ({'start': 9, 'stop': 2, 'direction': 'GE', 'add': 'subtract'}, 8),
    ({'start': 7}, 0),
    ({'direction': 'EQ'}, None),
    ({'sides': '%i, %i'}, 0),
    ({'add': 'multiply'}, None),
    ({'step': 0}, None),
  ],
)
def test_turns_of_a_loop(fields, trips):
  assert loop(**fields).loops() == {'loop': trips}


def test_what_a_loop_runs_is_counted_as_often():
  module = loop(stop=5)
  times = {c.name: n for c, n in module.executed()}
  assert times == {'main': 1, 'body': 5, 'condition': 5} or times == {
    'main': 1,
    'body': 5,
  }


def test_shapes_spaces_operands_and_attributes():
  module = loop()
  assert module.partitions == 4
  body = module.computations['body']
  x, y = body.instructions['x'], body.instructions['y']
  assert x.arrays == (hlo.Array('f32', (8,), 1),)
  assert y.arrays == (hlo.Array('f32', (8,), 0),)
  assert y.operands == ('x', 'x') and y.bytes == 32
  assert y.operation == 'jit(f)/while/mul'
  assert x.attribute('index') == '1' and x.attribute('body') is None
  assert body.root.name == 'out' and body.parameters == {0: 'p'}
  assert [i.name for i in body.users['x']] == ['y', 'y']
  assert len(body.instructions['p'].arrays) == 2


@pytest.mark.parametrize(
  ('dtype', 'dims', 'size'),
  [
    ('bf16', (3, 5), 30),
    ('pred', (), 1),
    ('s4', (6,), 3),
    ('f8e4m3fn', (7,), 7),
    ('token', (), 0),
  ],
)
def test_bytes_of_arrays(dtype, dims, size):
  assert hlo.Array(dtype, dims).bytes == size


def test_a_known_trip_count_is_believed():
  text = LOOP.format(
    start=0, stop=3, step=1, direction='LT', sides='%i, %stop', add='multiply'
  ).replace(
    'body=%body', 'body=%body, backend_config={"known_trip_count":{"n":"11"}}'
  )
  assert hlo.parse(text).loops() == {'loop': 11}


def test_brackets_within_strings_do_not_count():
  assert hlo.closing_bracket('(a "(" {b}) tail', 0) == 10
  assert hlo.closing_bracket(r'{"x\"}"}', 0) == 7
  with pytest.raises(ValueError, match='unbalanced'):
    hlo.closing_bracket('(a ")" {b}', 0)


def test_text_without_an_entry():
  with pytest.raises(ValueError, match='no ENTRY'):
    hlo.parse('HloModule empty\n')
