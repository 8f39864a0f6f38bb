"""How long `import step_audio_jax` takes, and what it drags in.

    python benchmarks/end_to_end/import_time.py

Prints one JSON line: the median of fresh interpreters, with an empty
interpreter beside it, and which heavy packages were loaded.
"""

import json
import statistics
import subprocess
import sys
import time

HEAVY = ('tensorflow', 'seqio', 'apache_beam', 'torch', 'jax')
REPEATS = 7


def seconds(code: str) -> float:
  start = time.perf_counter()
  subprocess.run([sys.executable, '-c', code], check=True)
  return time.perf_counter() - start


def main() -> None:
  pairs = [
    (seconds('pass'), seconds('import step_audio_jax')) for _ in range(REPEATS)
  ]
  loaded = subprocess.run(
    [
      sys.executable,
      '-c',
      'import sys, step_audio_jax; '
      f'print(*[m for m in {HEAVY!r} if m in sys.modules])',
    ],
    check=True,
    capture_output=True,
    text=True,
  ).stdout.split()
  print(
    json.dumps(
      {
        'benchmark': 'import_time',
        'seconds': round(statistics.median(b - a for a, b in pairs), 3),
        'interpreter_seconds': round(statistics.median(a for a, _ in pairs), 3),
        'heavy_modules': loaded,
      }
    )
  )


if __name__ == '__main__':
  main()
