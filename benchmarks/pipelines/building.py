"""`build` from cached codes: tokens a second, and memory."""

import pathlib
import tempfile
import time

from benchmarks.pipelines import material
from benchmarks.pipelines import processes


def build(tiny: bool) -> dict:
  sizes = (50, 200) if tiny else (10_000, 40_000)
  found = []
  for utterances in sizes:
    with tempfile.TemporaryDirectory() as folder:
      material.make_corpus(pathlib.Path(folder), utterances)
      found.append(processes.run_part('build_one', tiny, folder))
  small, large = found
  told = large['tasks']
  tasks = {name: round(n / wall) for name, (n, wall, _) in told.items()}
  tokens, wall, cpu = map(sum, zip(*told.values()))
  growth = large['peak_megabytes'] / small['peak_megabytes']
  return {
    'utterances': sizes,
    'tokens': tokens,
    'tokens_per_second': round(tokens / wall),
    'tokens_per_cpu_second': round(tokens / cpu),
    'tokens_per_second_by_task': tasks,
    'megabytes_of_imports': [round(one['megabytes_before']) for one in found],
    'peak_megabytes': [round(one['peak_megabytes']) for one in found],
    'memory_growth': round(growth, 3),
    'must': {'tokens_per_second': 1e6, 'memory_growth': 1.1},
    'met': min(tasks.values()) >= 1e6 and growth <= 1.1,
  }


def build_one(tiny: bool, folder: str) -> dict:
  """Builds the tasks of one corpus in this process."""
  processes.one_core()
  from data_pipelines.rows import build as build_lib
  from data_pipelines.tasks import corpora  # noqa: F401, takes seconds: TensorFlow
  from data_pipelines.tasks import definitions

  root = pathlib.Path(folder)
  tasks = {
    one.name: one
    for one in definitions.speech(
      'bench', root / 'speech', root / 'codes', root / 'text.model'
    )
  }
  settings = build_lib.Settings(1024 if tiny else material.LENGTH)
  told, before = {}, processes.peak_megabytes()
  for name in ('continuation', 'interleaved', 'asr', 'tts'):
    task = {f'bench_{name}': tasks[f'bench_{name}']}
    begin = time.perf_counter(), time.process_time()
    made = build_lib.build(task, ['train'], root / 'rows', settings)
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    stats = made[f'bench_{name}/train']
    told[name] = round(stats['tokens'] * (1 - stats['padding'])), *seconds
  return {
    'tasks': told,
    'megabytes_before': before,
    'peak_megabytes': processes.peak_megabytes(),
  }
