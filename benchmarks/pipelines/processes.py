"""One part of a measurement in a process of its own, and what it costs."""

import json
import os
import pathlib
import re
import subprocess
import sys

DOOR = pathlib.Path(__file__).with_name('data.py')


def one_core() -> None:
  """This process and its threads stay on one core."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def peak_megabytes() -> float:
  """Largest resident set of this process; getrusage counts its parent's."""
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) / 1024


def run_part(part: str, tiny: bool, *told: str):
  """What a part says, from a process of its own."""
  command = [sys.executable, str(DOOR), f'--child={part}', *told]
  done = subprocess.run(
    command + ['--tiny'] * tiny,
    env={**os.environ, 'PROGRESS': '0', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise SystemExit(f'{part}: {done.stderr[-3000:]}')
  return json.loads(done.stdout.splitlines()[-1])
