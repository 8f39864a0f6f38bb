"""The compiler for absent TPUs: real ones, on programs small enough to test."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from step_audio_jax import errors
from step_audio_jax.parallel import topology
from step_audio_jax.plan import absent

ROOT = pathlib.Path(__file__).parents[2]
GIB = 2**30

# Two layers of each size of Step-1, narrow, on the smallest slice of four
# chips; one process a generation, for one process has one set of flags.
CUT = """
import json, sys
from step_audio_jax.commands import gin_files
from step_audio_jax import vocabulary
from step_audio_jax.parallel import topology
from step_audio_jax.plan import door, step

gin_files.gin.external_configurable(vocabulary.Vocabulary)
small = [
  'transformer.TransformerConfig.layers = 2',
  'transformer.TransformerConfig.width = 256',
  'transformer.TransformerConfig.head_dim = 128',
  'transformer.TransformerConfig.mlp_width = 512',
  'transformer.TransformerConfig.vocab_size = 512',
  'vocabulary.Vocabulary.text_size = 256',
  'vocabulary.Vocabulary.table_size = 512',
  'vocabulary.Vocabulary.linguistic_size = 64',
  'vocabulary.Vocabulary.semantic_size = 128',
  'objectives.NextToken.vocabulary = @vocabulary.Vocabulary()',
  'BATCH_SIZE = 4', 'LENGTH = 256', 'MICROBATCHES = 1',
]
sizes = {
  '130b': ['transformer.TransformerConfig.heads = 8',
           'transformer.TransformerConfig.kv_heads = 2', 'TENSOR = 2'],
  '3b': ['transformer.TransformerConfig.heads = 4',
         'transformer.TransformerConfig.kv_heads = 1'],
}
target = step.Target(topology.parse(sys.argv[1]))
for size in sys.argv[2:]:
  parts = step.configure(
    [f'gin/pretrain/step1_{size}.gin'], small + sizes[size]
  )
  facts = step.plan(parts, target)
  facts['table'] = door.table(facts)
  print(json.dumps(facts))
"""


def test_messages_of_the_compiler():
  message = (
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (7.53G) exceeds available HBM (6.84G).'
  )
  found = absent.out_of_memory_bytes(message, 3 * GIB, 95 * GIB)
  assert found.arguments == 3 * GIB and found.capacity == 95 * GIB
  assert found.temporaries == pytest.approx(7.53 * GIB, rel=1e-6)
  message = (
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in '
    'memory space hbm. Used 20.51G of 15.75G hbm. Exceeded hbm capacity by '
    '4.76G.'
  )
  found = absent.out_of_memory_bytes(message, 3 * GIB, 16 * GIB)
  assert not found.fits and found.gib() == {
    'arguments': 3.0,
    'temporaries': 17.51,
    'total': 20.51,
    'capacity': 15.75,
  }
  small = absent.out_of_memory_bytes(
    'RESOURCE_EXHAUSTED Used 512.0M of 1.0G hbm', 0, GIB
  )
  assert small.total == 512 * 2**20 and small.fits
  assert (
    absent.out_of_memory_bytes('INTERNAL: Used 2G of 1G hbm', 0, GIB) is None
  )
  assert absent.out_of_memory_bytes('RESOURCE_EXHAUSTED: quota', 0, GIB) is None


def test_libtpu_is_asked_for(monkeypatch):
  monkeypatch.setattr(absent.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(
    errors.UserError, match=r"libtpu.*pip install -e '.\[tpu\]"
  ):
    absent.devices(topology.parse('v5p:2x2x1'))


def test_slices_are_checked(monkeypatch):
  monkeypatch.setattr(absent.importlib.util, 'find_spec', lambda name: object())
  with pytest.raises(errors.UserError, match='--slices=0'):
    absent.devices(topology.parse('v5p:2x2x1'), 0)


def test_one_chip_is_a_slice():
  """Its host has not the four that the compiler takes for granted."""
  pytest.importorskip('libtpu')
  code = """
from step_audio_jax.parallel import topology
from step_audio_jax.plan import absent
found = absent.devices(topology.parse('v5e:1x1'))
print(len(found), found[0].device_kind)
"""
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.stdout.split('\n')[0] == '1 TPU v5 lite', done.stderr[-3000:]
  assert not done.stderr  # nothing of hosts that are not there


def in_a_process(slice_, *sizes):
  """Facts of cuts of models, planned for a slice in a process of its own."""
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')
  }
  done = subprocess.run(
    [sys.executable, '-c', CUT, slice_, *sizes],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env=environment,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  lines = [line for line in done.stdout.splitlines() if line.startswith('{')]
  return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
  ('slice_', 'sizes', 'capacity'),
  [
    ('v5p:2x2x1', ('130b',), 95.74),
    ('v5e:2x2', ('3b',), 15.75),
    ('v6e:2x2', ('3b',), 31.25),
  ],
)
def test_cuts_of_step1_compile_for_every_generation(slice_, sizes, capacity):
  pytest.importorskip('libtpu')
  found = in_a_process(slice_, *sizes)
  assert len(found) == len(sizes)
  for size, facts in zip(sizes, found):
    assert facts['fits'] and facts['chips'] == 4
    assert facts['hbm_gib_per_chip']['capacity'] == capacity
    assert 0 < facts['hbm_gib_per_chip']['total'] < 1
    assert 'loops_counted_once' not in facts
    assert facts['dcn_bytes_per_chip'] == 0
    assert facts['ici_bytes_per_chip'] > 0
    parts = facts['executed_flops_by_part']
    # The program executes what the model asks for, and what remat adds.
    ratio = facts['executed_flops_per_chip'] / facts['model_flops_per_chip']
    assert 1 <= ratio < 2.5
    forward = parts['mlp, forward']
    E, F, L, tokens = 256, 512, 2, 4 * 256
    assert forward == L * 3 * 2 * tokens * E * F / 4
    assert parts['mlp, backward'] == 2 * forward
    heads, groups = (8, 2) if size == '130b' else (4, 1)
    T, D = 256, 128
    products = {'forward': 2, 'backward': 7}
    for phase, count in products.items():
      square = L * count * 2 * 4 * heads * T * T * D / 4
      assert square / 2 <= parts[f'attention, {phase}'] <= square
    projections = L * 2 * tokens * E * D * (2 * heads + 2 * groups) / 4
    assert parts['attention projections, forward'] == pytest.approx(
      projections, rel=0.35
    )
    roofline = facts['roofline_seconds']
    assert set(roofline) == {'compute', 'hbm', 'ici', 'dcn'}
    assert facts['predicted_step_seconds'] >= max(roofline['compute'], 1e-9)
    assert 0 < facts['predicted_mfu'] < 1
    assert f'mesh fsdp {2 if size == "130b" else 4}' in facts['table']
    assert 'predicted MFU' in facts['table']
