r"""What it saves to give short prompts and answers fewer places.

    python benchmarks/alignment/widths.py --quickstart=runs/quickstart \
      --output=/tmp/widths

Trains a policy of the quick start (`gin/quickstart/grpo.gin`) with all rows
padded alike, and with several widths, over the same prompts. Prints one JSON
line: seconds of the processors and of the wall for a step, and what those of
the padded one are divided by that, over the steps in which neither compiled;
places that a row had in the mean; and how far the losses of the first steps are
apart.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import sys
import time

import jax

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.alignment import behind  # noqa: E402
from step_audio_jax import __main__ as doors  # noqa: E402
from step_audio_jax.alignment.policy import trainer  # noqa: E402
from step_audio_jax.commands import cli  # noqa: E402


class Timed(trainer.PolicyTrainer):
  """Tells what each step took, without anything in flight behind it."""

  seen: list[dict] = []

  def _learn(self, *given):
    programs = self._programs()
    processors, wall = time.process_time(), time.monotonic()
    found = super()._learn(*given)
    jax.block_until_ready(found)
    self.seen.append(
      {
        'processors': time.process_time() - processors,
        'wall': time.monotonic() - wall,
        'compiled': self._programs() > programs,
        'loss': float(found[2]['loss'][0] / found[2]['loss'][1]),
        'places': self._last,
      }
    )
    return found

  def _programs(self):
    """How many updates were compiled, of whatever kind the run has."""
    return sum(x._cache_size() for x in (self._update, self._update_at_once))

  def _draw(self, *given):
    found = super()._draw(*given)
    self._last = found[0].rollout.tokens.shape[1]
    return found


def steps_of(args: argparse.Namespace, buckets: int) -> list[dict]:
  """What the steps of a run took."""
  folder = args.output / str(buckets)
  shutil.rmtree(folder, ignore_errors=True)
  Timed.seen = []
  words = behind.command(
    args.quickstart,
    folder,
    args.gin_file,
    ('sft',),
    STEPS=args.steps,
    BATCH_SIZE=args.batch,
    ANSWER=args.answer,
    BUCKETS=buckets,
  )
  words = ['step_audio_jax', *words]
  if cli.dispatch('step_audio_jax', doors.DOORS, words):
    raise SystemExit(1)
  return Timed.seen


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--quickstart', required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--gin_file', default='gin/quickstart/grpo.gin')
  parser.add_argument('--steps', type=int, default=12)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--answer', type=int, default=16)
  parser.add_argument('--buckets', type=int, default=4)
  args = parser.parse_args()
  trainer.PolicyTrainer = Timed
  padded, fitted = steps_of(args, 1), steps_of(args, args.buckets)
  both = [
    (one, two)
    for one, two in zip(padded, fitted, strict=True)
    if not one['compiled'] and not two['compiled']
  ]
  told = {'benchmark': 'widths', 'steps': len(both), 'buckets': args.buckets}
  for name in ('processors', 'wall', 'places'):
    old, new = (statistics.mean(pair[i][name] for pair in both) for i in (0, 1))
    told[name] = {'padded': old, 'fitted': new, 'times': old / new}
  told['losses_apart'] = max(
    abs(one['loss'] - two['loss']) for one, two in zip(padded[:2], fitted[:2])
  )
  print(json.dumps(told))


if __name__ == '__main__':
  main()
