r"""A training run that is killed again and again, beside one that is not.

    python benchmarks/training/kills.py --kills=20 --output=/tmp/kills -- \
      --gin_file=gin/quickstart/stage1.gin '--gin.ROWS="…"' …

What stands behind `--` are the flags of `python -m step_audio_jax train`,
without RUN_DIR. The run is made once in peace and once with SIGKILL, started
again with the same command each time. Half of the kills come at random
moments, half while a checkpoint is being written; a SIGTERM, which the run
answers by saving and leaving, comes last. With `--processes=2` it runs
under `python -m tpu_launch run`, a random worker is killed, and the launcher
has to end the others. Prints one JSON line: whether every parameter and every
log line is equal to the bit, and how long the longest end took.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np

from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.transfer import transfer

# How long a launcher may take to end what a dead worker left behind.
PATIENCE_SECONDS = 60
# And a run to log the step that it is killed at.
_MOST_SECONDS = 1800


def command(run_dir: pathlib.Path, flags: list[str], processes: int):
  """The command that makes, or continues, a run."""
  door = ['step_audio_jax', 'train']
  if processes > 1:
    door = [
      'tpu_launch',
      'run',
      '--name=kills',
      f'--state_dir={run_dir.parent}',
      f'--processes={processes}',
    ]
  macro = f'--gin.RUN_DIR={json.dumps(str(run_dir))}'
  return [sys.executable, '-m', *door, *flags, macro]


def log_lines(run_dir: pathlib.Path) -> list[dict]:
  """The log lines, without what a clock says; those that are whole."""
  try:
    text = (run_dir / 'metrics.jsonl').read_text()
  except OSError:
    return []
  lines = map(json.loads, text[: text.rfind('\n') + 1].splitlines())
  return [
    {k: v for k, v in line.items() if 'throughput' not in k} for line in lines
  ]


def traces(run_dir: pathlib.Path) -> set[tuple[str, int]]:
  """The log and the half-written checkpoints; new ones have new inodes."""
  found = set()
  for path in [
    run_dir / 'metrics.jsonl',
    *(run_dir / 'checkpoints').glob('*tmp*'),
  ]:
    try:
      found.add((path.name, path.stat().st_ino))
    except OSError:  # gone meanwhile
      continue
  return found


def worker(process: subprocess.Popen, run_dir: pathlib.Path, processes: int):
  """The id of a random process that trains; None before there is one."""
  if processes == 1:
    return process.pid
  try:
    job = json.loads((run_dir.parent / 'kills' / 'job.json').read_text())
  except (OSError, json.JSONDecodeError):
    return None
  (supervisor, _), *workers = job['processes']
  alive = supervisor == process.pid and len(workers) == processes
  return random.choice(workers)[0] if alive else None


def strike(run_dir, flags, processes, step, number, in_a_save=False):
  """Runs until `step` is logged, then sends a signal to a worker.

  Returns:
    (whether a checkpoint was half-written, seconds until all had ended, exit
    status), or None if the run ended first.
  """
  old = traces(run_dir)

  def new():
    return {name for name, _ in traces(run_dir) - old}

  process = subprocess.Popen(command(run_dir, flags, processes))
  begin = time.monotonic()
  while process.poll() is None:
    if time.monotonic() - begin > _MOST_SECONDS:
      process.kill()
      raise SystemExit(f'step {step} was not logged in {_MOST_SECONDS} s')
    time.sleep(0.002)
    lines = log_lines(run_dir) if 'metrics.jsonl' in new() else []
    if not lines or lines[-1]['step'] < step:
      continue
    if in_a_save and new() == {'metrics.jsonl'}:
      continue
    if not in_a_save and number == signal.SIGKILL:
      time.sleep(0.5 * random.random())
    pid = worker(process, run_dir, processes)
    if pid and process.poll() is None:
      os.kill(pid, number)
      start = time.monotonic()
      status = process.wait(PATIENCE_SECONDS)
      half = new() > {'metrics.jsonl'}
      return half, time.monotonic() - start, status
  if process.returncode:
    raise SystemExit(f'the run failed with status {process.returncode}')
  return None


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--processes', type=int, default=1)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument(
    '--calm', type=pathlib.Path, help='A run in peace that is there already.'
  )
  parser.add_argument('flags', nargs='+')
  arguments = parser.parse_args()
  random.seed(arguments.seed)
  begin = time.monotonic()
  processes, flags = arguments.processes, arguments.flags
  calm = arguments.calm or arguments.output / 'calm'
  killed = arguments.output / 'killed'
  shutil.rmtree(arguments.output, ignore_errors=True)
  arguments.output.mkdir(parents=True)
  if not arguments.calm:
    subprocess.run(command(calm, flags, processes), check=True)
  steps = log_lines(calm)[-1]['step']
  places = sorted(
    random.randrange(1, max(2, int(0.8 * steps)))
    for _ in range(arguments.kills)
  )
  ends = [
    strike(killed, flags, processes, step, signal.SIGKILL, i % 2 == 1)
    for i, step in enumerate(places)
  ]
  term = strike(killed, flags, processes, places[-1], signal.SIGTERM)
  subprocess.run(command(killed, flags, processes), check=True)
  done = [end for end in ends if end]
  left, right = (
    transfer.flatten(checkpoints.load_variables(d)[0]) for d in (calm, killed)
  )
  lines = [log_lines(d) for d in (calm, killed)]
  print(
    json.dumps(
      {
        'benchmark': 'kills',
        'processes': processes,
        'steps': steps,
        'kills': len(done),
        'killed_in_a_save': sum(half for half, _, _ in done),
        'killed_after_step': places,
        'longest_end_seconds': round(max(seconds for _, seconds, _ in done), 2),
        'sigterm_status': term and term[2],
        'sigterm_seconds': term and round(term[1], 2),
        'final_loss': [ends[-1]['loss'] for ends in lines],
        'log_bit_equal': lines[0] == lines[1],
        'parameters_bit_equal': left.keys() == right.keys()
        and all(np.array_equal(left[k], right[k]) for k in left),
        'seconds': round(time.monotonic() - begin, 1),
      }
    )
  )


if __name__ == '__main__':
  main()
