r"""One sweep over ten checkpoints against ten runs of one, side by side.

    python benchmarks/evaluation/sweep.py --steps=10 --rounds=3

Makes a tiny run, a corpus and rows, and scores all checkpoints twice in each
round: with one `evaluate --steps=all`, and with one `evaluate --steps=N` after
the other. Both are the public command in fresh processes, without compiled
programs of earlier ones, and go first by turns. Prints one JSON line: the
median of the ratios, their extremes, and whether all figures are the same.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.evaluation import material  # noqa: E402

GIN = 'gin/eval/sweep.gin'
_MUST = 3.0


def evaluate(given: dict[str, str], steps: str) -> dict[str, dict[str, float]]:
  """Results by step, of a process of its own."""
  macros = {name.upper(): given[name] for name in ('manifest', 'codes', 'rows')}
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'step_audio_jax', 'evaluate', '--json'),
      f'--gin_file={GIN}',
      f'--checkpoints={given["checkpoints"]}',
      f'--steps={steps}',
      '--gin.CAPTIONS=0',
      *(f'--gin.{name}={json.dumps(value)}' for name, value in macros.items()),
    ],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env={
      'JAX_PLATFORMS': 'cpu',
      'PROGRESS': '0',
      **os.environ,
      'JAX_ENABLE_COMPILATION_CACHE': 'false',
    },
  )
  return json.loads(done.stdout.splitlines()[-1])['results']


def sweep(given, steps):
  """All steps in one process."""
  del steps
  return evaluate(given, 'all')


def one_by_one(given, steps):
  """A process a step."""
  found = {}
  for step in range(1, steps + 1):
    found |= evaluate(given, str(step))
  return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--utterances', type=int, default=64)
  parser.add_argument('--rounds', type=int, default=3)
  args = parser.parse_args()
  ratios, seconds, same = [], {sweep: [], one_by_one: []}, True
  with tempfile.TemporaryDirectory() as folder:
    given = material.make(pathlib.Path(folder), args.steps, args.utterances)
    scored = pathlib.Path(given['checkpoints']) / 'evaluation'
    for turn in range(args.rounds):
      sides = [sweep, one_by_one]
      found, took = {}, {}
      for side in sides if turn % 2 == 0 else sides[::-1]:
        shutil.rmtree(scored, ignore_errors=True)
        begin = time.monotonic()
        found[side] = side(given, args.steps)
        took[side] = time.monotonic() - begin
        seconds[side].append(round(took[side], 1))
        print(f'{side.__name__}: {took[side]:.1f} s', file=sys.stderr)
      same &= found[sweep] == found[one_by_one]
      same &= len(found[sweep]) == args.steps
      ratios.append(took[one_by_one] / took[sweep])
  ratio = statistics.median(ratios)
  print(
    json.dumps(
      {
        'checkpoints': args.steps,
        'utterances': args.utterances,
        'rounds': args.rounds,
        'seconds_of_a_sweep': seconds[sweep],
        'seconds_one_by_one': seconds[one_by_one],
        'times_faster': round(ratio, 2),
        'extremes': [round(min(ratios), 2), round(max(ratios), 2)],
        'same_figures': same,
        'ok': same and ratio >= _MUST,
      }
    )
  )


if __name__ == '__main__':
  main()
