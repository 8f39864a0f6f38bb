"""How much speech `make` makes in a second, with our own recogniser as gate."""

import json
import os
import pathlib
import resource
import subprocess
import threading
import time
from typing import Any, Sequence

import numpy as np

from benchmarks.making import kills

RECIPE = """
from __gin__ import dynamic_registration
from data_pipelines.factory.gates import ears
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.gates import speech
from data_pipelines.factory.making import items

items.Recipe.gates = @line.Gates()
line.Gates.gates = (@sound.Duration(), @sound.Clipping(), @speech.Recognised())
speech.Recognised.transcribe = @ears.Own()
ears.Own.run = '{run}'
ears.Own.tokenizer = '{tokenizer}'
"""


def timed(argv: Sequence[str], output: pathlib.Path, cache: str) -> dict:
  """Runs a door; what it took, and when the first recording stood.

  Args:
    argv: The door.
    output: Corpus folder that it makes.
    cache: Folder of what XLA compiled.
  """
  first: list[float] = []
  done = threading.Event()
  environment = {
    **os.environ,
    'PROGRESS': '0',
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  begin = time.monotonic()

  def watch():
    while not done.wait(0.05):
      if kills.recordings(output):
        first.append(time.monotonic() - begin)
        return

  thread = threading.Thread(target=watch)
  thread.start()
  try:
    run = subprocess.run(argv, capture_output=True, text=True, env=environment)
  finally:
    done.set()
    thread.join()
  wall = time.monotonic() - begin
  if run.returncode:
    raise SystemExit(f'make failed: {run.stderr[-2000:]}')
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  cpu = sum(
    getattr(after, name) - getattr(before, name)
    for name in ('ru_utime', 'ru_stime')
  )
  return {
    'told': json.loads(run.stdout.splitlines()[-1]),
    'wall_seconds': round(wall, 2),
    'cpu_seconds': round(cpu, 2),
    'first_recording_seconds': round(first[0], 2) if first else None,
  }


def measure(folder: pathlib.Path, flags: Sequence[str]) -> dict[str, Any]:
  """Makes what lies in `folder` twice: nothing compiled, and all of it.

  Args:
    folder: `texts`, `tests` and `recipe.gin`; `cold` and `warm` are made.
    flags: Of the door.
  """
  found, cache = {}, str(folder / 'compiled')
  for name in ('cold', 'warm'):
    output = folder / name
    told = timed(kills.command(output, folder, flags), output, cache)
    said = told.pop('told')
    kept = said['seconds']
    lines = _lines(output / 'quarantine.jsonl')
    left = sum(one['scores'].get('duration') or 0.0 for one in lines)
    scores = [
      one['gates']['cer']['score']
      for one in _lines(output / 'provenance.jsonl')[1:]
    ]
    found[name] = {
      **told,
      'kept': said['kept'],
      'gates': said['gates'],
      'audio_seconds_kept': kept,
      'audio_seconds_said': round(kept + left, 3),
      'mean_cer_kept': round(float(np.mean(scores)), 4),
      'times_real_time': round(kept / told['wall_seconds'], 2),
      'times_real_time_said': round((kept + left) / told['wall_seconds'], 2),
      'times_real_time_by_cpu': round(2 * kept / told['cpu_seconds'], 2),
    }
  left, right = (kills.contents(folder / name) for name in ('cold', 'warm'))
  return {
    **found,
    'compile_wall_seconds': round(
      found['cold']['wall_seconds'] - found['warm']['wall_seconds'], 2
    ),
    'compile_cpu_seconds': round(
      found['cold']['cpu_seconds'] - found['warm']['cpu_seconds'], 2
    ),
    'same_bytes': left == right,
    'cores': len(os.sched_getaffinity(0)),
    'load_average': os.getloadavg(),
  }


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  return [json.loads(x) for x in path.read_text(encoding='utf-8').splitlines()]
