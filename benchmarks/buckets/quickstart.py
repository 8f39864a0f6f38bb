"""The whole quick start with every path in a bucket, beside one on this disk.

    python benchmarks/buckets/quickstart.py

The recipe of `python -m tpu_launch quickstart`, with a small corpus and a few
steps of every training, once into a folder and once into a bucket of an
emulator of Google Cloud Storage: data, codes, rows, runs, tokenizer, decoder,
scores and report. All figures of both `report.json` have to be equal to the
last digit, but for times, memory and what a store counts. Needs the `test`
extra. Prints one JSON line.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time

# Run as a script, the folder of the script is all that is looked in; here it
# has a `google.py`.
sys.path[0] = str(pathlib.Path(__file__).parents[2])

from benchmarks.buckets import servers  # noqa: E402
from step_audio_jax.storage import files  # noqa: E402
from tpu_launch.recipes import following  # noqa: E402
from tpu_launch.recipes import quickstart  # noqa: E402

MUST = 'the same scores, to the last digit'
BUCKET = 'quickstart'
SMALL = (
  *('--train=60', '--dev=8', '--test=8', '--unseen=4', '--images=24'),
  '--text_lines=300',
)
# Codebooks start after so many steps.
BRIEF = {
  'train semantic': ('--gin.STEPS=24', '--gin.START=10'),
  'train centroids': ('--gin.STEPS=24',),
}
# Times, memory, what a store counts, and the commands in the order of lanes.
_OTHER = (
  *('seconds', 'memory', 'throughput', 'store/', 'bytes', 'speed', 'began'),
  '/commands/',
)


def commands(root: str, steps: int):
  """The quick start's commands, made small."""
  for part in quickstart.commands(root):
    small = []
    for command in part:
      more: tuple[str, ...] = ()
      if command.name == 'synthesize':
        more = SMALL
      elif command.trains:
        more = (f'--gin.STEPS={steps}', *BRIEF.get(command.name, ()))
      small.append(dataclasses.replace(command, words=command.words + more))
    yield small


def figures(value, root: str, name: str = ''):
  """(name, value) of all that a report tells and that should be equal."""
  if isinstance(value, dict):
    for key, one in value.items():
      yield from figures(one, root, f'{name}/{key}')
  elif isinstance(value, list):
    for place, one in enumerate(value):
      yield from figures(one, root, f'{name}/{place}')
  elif not any(word in name for word in _OTHER):
    yield name, value.replace(root, '') if isinstance(value, str) else value


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--steps', type=int, default=4)
  parser.add_argument('--output', help='Of the one on this disk.')
  arguments = parser.parse_args()
  seconds, told = [], []
  with servers.gcs([BUCKET]) as server, tempfile.TemporaryDirectory() as made:
    os.environ.update(server.environment)
    for root in (arguments.output or made, f'gs://{BUCKET}/quickstart'):
      begin = time.monotonic()
      following.follow(commands(root, arguments.steps), root)
      seconds.append(round(time.monotonic() - begin, 1))
      report = files.read_json(files.path(root) / 'report.json')
      told.append(dict(figures(report, root)))
    objects = len(list(files.list_files(f'gs://{BUCKET}')))
  here, there = told
  differ = sorted(
    name
    for name in here.keys() | there.keys()
    if here.get(name) != there.get(name)
  )
  print(
    json.dumps(
      {
        'benchmark': 'bucket_quickstart',
        'figures': len(here),
        'different': len(differ),
        'differ': [(n, here.get(n), there.get(n)) for n in differ[:20]],
        'objects': objects,
        'seconds_on_disk': seconds[0],
        'seconds_in_a_bucket': seconds[1],
        'met': not differ,
        'must': MUST,
      }
    )
  )


if __name__ == '__main__':
  main()
