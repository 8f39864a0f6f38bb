r"""A training run that is killed again and again, beside one that is not.

    python benchmarks/resume.py --kills=5 --output=/tmp/resume -- \\
      --gin_file=gin/quickstart/stage1.gin '--gin.ROWS="…"' …

What stands behind `--` are the flags of `python -m step_audio_jax train`,
without RUN_DIR. The run is made once in peace and once with SIGKILL at random
moments, started again with the same command each time. Prints one JSON line:
whether the last log line and every parameter are equal to the bit.
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np

from step_audio_jax.training import checkpoints
from step_audio_jax.training import transfer


def command(run_dir: pathlib.Path, flags: list[str]) -> list[str]:
  return [
    sys.executable,
    '-m',
    'step_audio_jax',
    'train',
    *flags,
    f'--gin.RUN_DIR={json.dumps(str(run_dir))}',
  ]


def steps_done(run_dir: pathlib.Path) -> int:
  try:
    lines = (run_dir / 'metrics.jsonl').read_text().splitlines()
    return json.loads(lines[-1])['step'] if lines else 0
  except (OSError, json.JSONDecodeError):
    return 0


def kill_at(run_dir: pathlib.Path, flags: list[str], step: int) -> bool:
  """Runs until `step` is logged, then kills; False if the run ended first."""
  process = subprocess.Popen(command(run_dir, flags))
  while process.poll() is None:
    if steps_done(run_dir) >= step:
      time.sleep(random.random())
      process.send_signal(signal.SIGKILL)
      process.wait()
      return True
    time.sleep(0.05)
  if process.returncode:
    raise SystemExit(f'the run failed with status {process.returncode}')
  return False


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=5)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('flags', nargs='+')
  arguments = parser.parse_args()
  random.seed(arguments.seed)
  calm, killed = arguments.output / 'calm', arguments.output / 'killed'
  for run_dir in (calm, killed):
    shutil.rmtree(run_dir, ignore_errors=True)
  subprocess.run(command(calm, arguments.flags), check=True)
  steps = steps_done(calm)
  places = sorted(random.randrange(1, steps) for _ in range(arguments.kills))
  kills = [p for p in places if kill_at(killed, arguments.flags, p)]
  subprocess.run(command(killed, arguments.flags), check=True)
  left, right = (
    transfer.flatten(checkpoints.load_variables(d)[0]) for d in (calm, killed)
  )
  ends = [
    json.loads((d / 'metrics.jsonl').read_text().splitlines()[-1])
    for d in (calm, killed)
  ]
  print(
    json.dumps(
      {
        'benchmark': 'resume',
        'steps': steps,
        'killed_after_step': kills,
        'final_loss': [end['loss'] for end in ends],
        'loss_bit_equal': ends[0]['loss'] == ends[1]['loss'],
        'parameters_bit_equal': left.keys() == right.keys()
        and all(np.array_equal(left[k], right[k]) for k in left),
      }
    )
  )


if __name__ == '__main__':
  main()
