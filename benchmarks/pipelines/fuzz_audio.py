"""Reads made audio files that are not what their headers say.

    python benchmarks/pipelines/fuzz_audio.py
    python benchmarks/pipelines/fuzz_audio.py --cases=20000 --first=100000

See `audio_cases`: what is read is what was written, or it is told. Prints one
JSON line; `silent` must be 0, and the cases that are not are listed with the
number that makes each again.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import sys
import time

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.pipelines import audio_cases  # noqa: E402


@contextlib.contextmanager
def quiet():
  """Without what libmpg123 prints of damaged frames."""
  kept = os.dup(2)
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def run(first: int, cases: int) -> dict:
  """Outcomes of `cases` cases from `first` on."""
  audio_cases.hear_nothing()
  outcomes = collections.defaultdict(collections.Counter)
  silent = []
  begin = time.perf_counter()
  with quiet():
    for seed in range(first, first + cases):
      one = audio_cases.case(seed)
      outcome, _, why = audio_cases.judge(one, seed).partition(': ')
      outcomes[one.form][outcome] += 1
      if outcome == 'silent':
        silent.append({'case': seed, 'why': why, 'made': one.done})
  total = sum(outcomes.values(), collections.Counter())
  return {
    'benchmark': 'fuzz_audio',
    'cases': cases,
    'first': first,
    **{name: total[name] for name in ('silent', 'told', 'equal')},
    'by_container': {k: dict(v) for k, v in sorted(outcomes.items())},
    'seconds': round(time.perf_counter() - begin, 1),
    'must': {'silent': 0},
    'met': not silent,
    'silent_cases': silent[:50],
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--cases', type=int, default=2000)
  parser.add_argument('--first', type=int, default=0)
  arguments = parser.parse_args()
  result = run(arguments.first, arguments.cases)
  print(json.dumps(result))
  sys.exit(not result['met'])


if __name__ == '__main__':
  main()
