r"""Plans every size of Step-1 on every slice of the table; writes the golden.

    python benchmarks/training/plan_table.py --output=tests/golden/plan_hbm.json

Each row is `python -m step_audio_jax plan` in a process of its own, one after
another: its wall seconds and its largest memory are measured as well. Rows that
the output file already holds are left as they are, so a run that was stopped
goes on; `--again` makes them anew, `--only=TEXT` picks rows by name. With
`--golden=FILE` HBM is compared to that table, 3 % either way. Prints one JSON
line: what was reached, and which limits were missed.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

# The rows are compiled by processes of their own; none looks for a TPU here.
os.environ['JAX_PLATFORMS'] = 'cpu'

import jax  # noqa: E402

from step_audio_jax.parallel import xla_flags
from step_audio_jax.storage import files

# Limits of a 130B row on two cores, and of the row that MaxText was tried on:
# one row of 8,192 tokens per shard of 64, tensor 8, everything recomputed.
SECONDS, HOST_GIB = 300, 8.0
TOLERANCE = 0.03
MAXTEXT = {'total_gib': 10.2, 'seconds': 160}
# A row of 32,768 tokens leaves no room for what the feed-forward computes.
LONG_REMAT = (
  *('query', 'key', 'value', 'attention_out', 'attention_lse'),
  'attention_projected',
)
KEPT = (
  *('fits', 'parameters', 'chips', 'mesh', 'batch_size', 'length', 'remat'),
  *('microbatches', 'hbm_gib_per_chip', 'compile_seconds', 'predicted_mfu'),
  *('predicted_step_seconds', 'roofline_seconds', 'ici_exposed_seconds'),
  *('collective_bytes_per_chip', 'executed_flops_per_chip'),
  *('model_flops_per_chip', 'tokens_per_step'),
)


def rows() -> dict[str, list[str]]:
  """Name → flags of the plan."""
  found = {
    '130b 8192 v5p:8x8x8 one row a shard': [
      *('--gin_file=gin/pretrain/step1_130b.gin', '--topology=v5p:8x8x8'),
      *('--gin.BATCH_SIZE=64', '--gin.TENSOR=8', "--gin.REMAT='full'"),
      '--gin.MICROBATCHES=1',
    ]
  }
  for length, batch in ((8192, 512), (32768, 128)):
    for topology, slices in (
      ('v5p:8x8x8', 1),
      ('v5p:8x16x16', 1),
      ('v5p:8x8x8', 2),
    ):
      # The same rows a chip on more chips: 4M tokens a step on 512.
      more = (4 if topology == 'v5p:8x16x16' else 1) * slices
      name = f'130b {length} {topology}'
      flags = [
        *('--gin_file=gin/pretrain/step1_130b.gin', f'--topology={topology}'),
        *(f'--gin.LENGTH={length}', f'--gin.BATCH_SIZE={batch * more}'),
      ]
      if length > 8192:
        flags += [f'--gin.REMAT={LONG_REMAT}', '--gin.MICROBATCHES=2']
      if slices > 1:
        flags.append(f'--slices={slices}')
        name += f' {slices} slices'
      found[name] = flags
  for topology, batch in (
    ('v5e:4x8', 128),
    ('v5p:2x2x2', 128),
    ('v6e:4x4', 128),
  ):
    found[f'3b 8192 {topology}'] = [
      *('--gin_file=gin/pretrain/step1_3b.gin', f'--topology={topology}'),
      f'--gin.BATCH_SIZE={batch}',
    ]
  return found


def measured(flags: list[str]) -> dict:
  """Facts of one plan, its wall seconds and its largest memory.

  Raises:
    SystemExit: The plan was refused or failed.
  """
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  began = time.monotonic()
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'JAX_PLATFORMS')
  }
  process = subprocess.Popen(
    [sys.executable, '-m', 'step_audio_jax', 'plan', *flags, '--json'],
    stdout=subprocess.PIPE,
    text=True,
    env=environment,
  )
  out, _ = process.communicate()
  seconds = time.monotonic() - began
  if process.returncode:
    raise SystemExit(f'{flags}: status {process.returncode}')
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  facts = json.loads(out.splitlines()[-1])
  return {
    **{name: facts.get(name) for name in KEPT},
    'flags': flags,
    'seconds': round(seconds, 1),
    'cpu_seconds': round(
      used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1
    ),
    'host_memory_gib': facts['host_memory_gib'],
  }


def missed(table: dict, timed: bool = True) -> list[str]:
  """Limits that rows do not keep, in words.

  Args:
    table: Name → row.
    timed: Whether seconds count; they are of the machine and what else it did.
  """
  told = []
  for name, row in table.items():
    if not row['fits']:
      told.append(f'{name}: does not fit')
    if row['host_memory_gib'] > HOST_GIB:
      told.append(f'{name}: {row["host_memory_gib"]} GiB of host memory')
    if timed and name.startswith('130b') and row['seconds'] > SECONDS:
      told.append(f'{name}: {row["seconds"]} s')
    if name.endswith('one row a shard'):
      if row['hbm_gib_per_chip']['total'] > MAXTEXT['total_gib']:
        told.append(f'{name}: {row["hbm_gib_per_chip"]["total"]} GiB a chip')
      if timed and row['seconds'] > MAXTEXT['seconds']:
        told.append(f'{name}: {row["seconds"]} s')
  return told


def drifted(table: dict, golden: dict) -> list[str]:
  """Rows whose HBM is not what another table says, in words."""
  told = []
  for name in sorted(set(table) & set(golden)):
    for kind in ('arguments', 'temporaries', 'total'):
      found = table[name]['hbm_gib_per_chip'][kind]
      expected = golden[name]['hbm_gib_per_chip'][kind]
      if abs(found - expected) > TOLERANCE * expected:
        told.append(f'{name}: {found} GiB of {kind}, expected {expected}')
  return told


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--golden', type=pathlib.Path)
  parser.add_argument('--only', default='')
  parser.add_argument('--again', action='store_true')
  arguments = parser.parse_args()
  table = {}
  if arguments.output.exists():
    table = files.read_json(arguments.output)['rows']
  for name, flags in rows().items():
    if arguments.only not in name:
      continue
    if name in table and table[name]['flags'] == flags and not arguments.again:
      continue
    print(name, file=sys.stderr, flush=True)
    table[name] = measured(flags)
    files.write_json(
      arguments.output,
      {
        'command': 'python benchmarks/training/plan_table.py',
        'cores': os.cpu_count(),
        'jax': jax.__version__,
        'xla_flags': xla_flags.libtpu_init_args('v5p'),
        'rows': {n: table[n] for n in rows() if n in table},
      },
    )
  told = missed(table)
  if arguments.golden:
    told += drifted(table, files.read_json(arguments.golden)['rows'])
  print(
    json.dumps(
      {
        'benchmark': 'plan_table',
        'rows': len(table),
        'of': len(rows()),
        'hbm_gib': {
          n: r['hbm_gib_per_chip']['total'] for n, r in table.items()
        },
        'predicted_mfu': {n: r['predicted_mfu'] for n, r in table.items()},
        'seconds': {n: r['seconds'] for n, r in table.items()},
        'missed': told,
      }
    )
  )


if __name__ == '__main__':
  main()
