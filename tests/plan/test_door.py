"""The `plan` door: what it reads, says and refuses; nothing is compiled."""

import json
import pathlib

import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from step_audio_jax.parallel import topology
from step_audio_jax.plan import door
from step_audio_jax.plan import search
from step_audio_jax.plan import step

STEP1_3B = 'gin/pretrain/step1_3b.gin'
FLAGS = [f'--gin_file={STEP1_3B}', '--topology=v5p:2x2x2']
FACTS = {
  'topology': 'v5p:2x2x2',
  'slices': 1,
  'chips': 8,
  'parameters': 3_529_706_496,
  'mesh': {'replica': 1, 'fsdp': 8, 'context': 1, 'tensor': 1},
  'batch_size': 128,
  'length': 8192,
  'tokens_per_step': 2**20,
  'microbatches': 1,
  'remat': 'full',
  'model_flops_per_chip': 3e15,
  'fits': True,
  'hbm_gib_per_chip': {
    'arguments': 5.0,
    'temporaries': 60.0,
    'total': 65.0,
    'capacity': 95.74,
  },
  'compile_seconds': 61.2,
  'host_memory_gib': 1.5,
  'executed_flops_per_chip': 4e15,
  'collective_bytes_per_chip': {'all-gather': 3e10, 'all-reduce': 0.0},
  'roofline_seconds': {'compute': 8.7, 'hbm': 1.0, 'ici': 0.2, 'dcn': 0.0},
  'ici_exposed_seconds': 0.1,
  'predicted_step_seconds': 9.8,
  'predicted_mfu': 0.667,
  'executed_flops_by_part': {
    'mlp, forward': 1e15,
    'mlp, recomputed': 1e15,
    'mlp, backward': 2e15,
  },
}
TOO_LARGE = {
  **{n: v for n, v in FACTS.items() if not n.startswith('predicted')},
  'fits': False,
  'hbm_gib_per_chip': {
    'arguments': 5.0,
    'temporaries': 195.0,
    'total': 200.0,
    'capacity': 95.74,
  },
}


def run(*words):
  return cli.run('python -m step_audio_jax plan', door.DOOR, [*FLAGS, *words])


def test_json_and_table(monkeypatch, capsys):
  monkeypatch.setattr(step, 'plan', lambda parts, target: FACTS)
  assert run('--json') == 0
  *lines, last = capsys.readouterr().out.splitlines()
  assert json.loads(last) == FACTS
  text = '\n'.join(lines)
  for words in (
    '3,529,706,496 parameters on 8 chips (1 x v5p:2x2x2), mesh fsdp 8',
    '5.00 GiB arguments + 60.00 temporaries = 65.00 of 95.74 GiB: fits',
    'predicted MFU 66.7 %',
    'all-gather                    30.00 GB',
  ):
    assert words in text
  assert 'all-reduce' not in text
  mlp = next(line for line in lines if line.startswith('  mlp'))
  assert mlp.split() == ['mlp', '25.0%', '25.0%', '50.0%']


def test_a_run_that_is_too_large_is_refused_with_the_nearest_that_fits(
  monkeypatch, capsys, tmp_path
):
  monkeypatch.setattr(step, 'plan', lambda parts, target: TOO_LARGE)
  tried = []

  def compiled(self, candidate):
    tried.append(candidate)
    return FACTS if len(tried) > 1 else {'fits': False}

  monkeypatch.setattr(search.Compilations, 'run', compiled)
  assert run(f'--cache={tmp_path}') == 2
  err = capsys.readouterr().err
  assert err.startswith(
    'error: plan: 3,529,706,496 parameters with 128 rows of 8192 tokens on '
    '1 x v5p:2x2x2 need 200.00 GiB a chip (5.00 arguments + 195.00 '
    'temporaries), expected at most 95.74; the nearest that fits needs 65.00: '
    '--gin.TENSOR='
  )
  assert err.rstrip().endswith('--gin.BATCH_SIZE=128.')
  assert len(tried) == 2 and tried[0] != tried[1]
  assert run('--nonearest') == 2
  assert capsys.readouterr().err.rstrip().endswith('expected at most 95.74.')


def test_fewer_rows_or_a_larger_slice_when_nothing_else_helps(
  monkeypatch, capsys
):
  monkeypatch.setattr(step, 'plan', lambda parts, target: TOO_LARGE)

  def compiled(self, candidate):
    larger = '--topology=v5p:2x4x4' in self._target
    return FACTS if larger else {'fits': False}

  monkeypatch.setattr(search.Compilations, 'run', compiled)
  assert run() == 2
  assert '--topology=v5p:2x4x4 --gin.TENSOR=' in capsys.readouterr().err
  monkeypatch.setattr(
    search.Compilations, 'run', lambda self, candidate: {'fits': False}
  )
  assert run() == 2
  assert 'no slice of v5p is large enough' in capsys.readouterr().err


def test_search_says_what_it_would_compile(capsys):
  assert run('--search', '--dry_run', '--compilations=3', '--json') == 0
  *lines, last = capsys.readouterr().out.splitlines()
  found = json.loads(last)
  assert len(found['chosen']) == len(lines) == 3 < found['candidates']
  assert all('--gin.TENSOR=' in flags for flags in found['chosen'])


def test_search_prints_its_table(monkeypatch, capsys):
  monkeypatch.setattr(search.Compilations, 'run', lambda self, c: FACTS)
  assert run('--search', '--compilations=2', '--json') == 0
  out = capsys.readouterr().out
  assert len(json.loads(out.splitlines()[-1])['results']) == 2
  assert '65.00         66.7 %' in out


@pytest.mark.parametrize(
  ('words', 'told'),
  [
    (['--topology=v5p:3x3x3'], 'v5p has no slice of that shape'),
    (['--gin.NO_SUCH=1'], 'nothing reads the macro NO_SUCH'),
    (['--gin.BATCH_SIZE=%gin.REQUIRED'], 'BATCH_SIZE is required'),
  ],
)
def test_bad_input(capsys, words, told):
  assert run(*words) == 2
  err = capsys.readouterr().err
  assert told in err and err.count('\n') == 1


ROOT = pathlib.Path(__file__).parents[2]
RUNS = sorted(
  path.name for path in (ROOT / 'gin/sft').glob('*.gin') if '_' in path.name
)


@pytest.mark.parametrize('name', RUNS)
def test_every_run_of_sft_can_be_planned_without_any_file(name):
  found = step.configure([f'gin/sft/{name}'], [])
  assert found['feed'].length == 8192
  vocabulary = found['objective'].describe()['vocabulary']
  text, table = vocabulary['text_size'], vocabulary['table_size']
  if 'step1' in name:
    assert (text, table) == (65536, 74752)
  else:
    assert text == gin_files.macros()['TEXT_ROWS'] + 68
    assert table == -(-(text + 5120) // 128) * 128


def test_a_text_model_whose_rows_nobody_knows_is_asked_for(tmp_path):
  path = tmp_path / 'mine.gin'
  path.write_text("include 'gin/sft/qwen25_7b_aqta.gin'\nTEXT_ROWS = None\n")
  with pytest.raises(errors.UserError, match='TEXT_MODEL is required'):
    step.configure([str(path)], [])


def test_a_gin_file_without_a_run(tmp_path):
  path = tmp_path / 'empty.gin'
  path.write_text('BATCH_SIZE = 4\nLENGTH = 8\n', encoding='utf-8')
  with pytest.raises(errors.UserError):
    step.configure([str(path)], [])


def test_what_a_run_is_planned_with():
  found = step.configure([STEP1_3B], ['LENGTH = 4096', 'BATCH_SIZE = 16'])
  assert (found['feed'].batch_size, found['feed'].length) == (16, 4096)
  config = step.transformer_of(found['objective'])
  assert config.parameters == 3_529_706_496
  assert found['config'].steps == 1000
  assert 'ROWS' in gin_files.macros()
  assert step.transformer_of(object()) is None
  target = step.Target(topology.parse('v5p:8x8x8'), 2)
  assert target.chips == 1024 and target.name == '2 x v5p:8x8x8'
