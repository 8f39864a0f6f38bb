"""The committed table of plans: every row, every limit."""

import copy
import importlib.util
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/golden/plan_hbm.json'


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location(
    'plan_table', ROOT / 'benchmarks/training/plan_table.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def table():
  return json.loads(GOLDEN.read_text(encoding='utf-8'))['rows']


def test_rows_of_the_table(script):
  names = list(script.rows())
  for length in (8192, 32768):
    for where in ('v5p:8x8x8', 'v5p:8x16x16', 'v5p:8x8x8 2 slices'):
      assert f'130b {length} {where}' in names
  for where in ('v5e:4x8', 'v5p:2x2x2', 'v6e:4x4'):
    assert f'3b 8192 {where}' in names
  assert '130b 8192 v5p:8x8x8 one row a shard' in names


def test_the_golden_has_every_row_as_the_script_makes_it(script, table):
  assert {n: r['flags'] for n, r in table.items()} == script.rows()


def test_every_row_keeps_the_limits(script, table):
  assert script.missed(table, timed=False) == []
  for row in table.values():
    gib = row['hbm_gib_per_chip']
    assert gib['total'] <= gib['capacity']
    assert gib['total'] == pytest.approx(
      gib['arguments'] + gib['temporaries'], abs=0.002
    )


def test_sizes_of_the_models(table):
  sizes = {'130b': 131_946_590_208, '3b': 3_529_706_496}
  for name, row in table.items():
    assert row['parameters'] == sizes[name.split()[0]]


def test_predicted_mfu_of_the_pod(table):
  row = table['130b 8192 v5p:8x8x8']
  assert row['chips'] == 512 and row['tokens_per_step'] == 2**22
  assert row['predicted_mfu'] >= 0.6


def row(total, seconds=10.0, fits=True, host=1.0):
  return {
    'fits': fits,
    'hbm_gib_per_chip': {
      'arguments': 1.0,
      'temporaries': total - 1.0,
      'total': total,
    },
    'seconds': seconds,
    'host_memory_gib': host,
  }


@pytest.mark.parametrize(
  ('name', 'fields', 'told'),
  [
    ('130b 8192 x', {'seconds': 299.0}, []),
    ('130b 8192 x', {'seconds': 301.0}, ['130b 8192 x: 301.0 s']),
    ('3b 8192 x', {'seconds': 301.0}, []),
    ('3b 8192 x', {'host': 8.5}, ['3b 8192 x: 8.5 GiB of host memory']),
    ('3b 8192 x', {'fits': False}, ['3b 8192 x: does not fit']),
    ('130b y one row a shard', {}, ['130b y one row a shard: 11.0 GiB a chip']),
  ],
)
def test_missed_limits_are_told(script, name, fields, told):
  assert script.missed({name: row(11.0, **fields)}) == told


def test_drift(script):
  golden = {'a': row(10.0), 'b': row(5.0)}
  found = copy.deepcopy(golden)
  found['a']['hbm_gib_per_chip']['temporaries'] = 9.2
  assert script.drifted(found, golden) == []
  found['a']['hbm_gib_per_chip']['temporaries'] = 9.3
  assert script.drifted(found, golden) == [
    'a: 9.3 GiB of temporaries, expected 9.0'
  ]
