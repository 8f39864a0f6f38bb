r"""Whether a policy that is killed anywhere ends with the same bits.

    python benchmarks/alignment/kills.py --quickstart=runs/quickstart \
      --output=/tmp/kills

Trains a policy of the quick start (`gin/quickstart/ppo.gin`) once in peace, and
once more while it kills itself with SIGKILL in the middle of a rollout, of the
scoring and of an update, `--kills` times each, at steps that differ, and is
started again with the same command. Prints one JSON line: whether parameters,
optimizer and metrics are equal to the bit, and how often it was killed where.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.alignment import behind  # noqa: E402

PHASES = ('rollout', 'judge', 'update')
_DIE = 'STEP_AUDIO_JAX_DIES_AT'


def dying() -> None:
  """Runs the door, and dies where the environment says."""
  from step_audio_jax import __main__ as doors
  from step_audio_jax.alignment.policy import trainer
  from step_audio_jax.commands import cli

  phase, at = os.environ[_DIE].split(':')
  seen = {'step': -1}

  class Dying(trainer.PolicyTrainer):
    """Dies in a phase of a step."""

    def _compiled_step(self):
      step = super()._compiled_step()
      for name in ('_update', '_update_at_once'):
        setattr(self, name, self._fatal(getattr(self, name)))
      return step

    def _fatal(self, update):
      def updating(*arguments):
        done = update(*arguments)
        self._die('update')
        return done

      return updating

    def rollout(self, variables, prompts, step):
      seen['step'] = step
      found = super().rollout(variables, prompts, step)
      self._die('rollout')
      return found

    def judge(self, rollout, step):
      found = super().judge(rollout, step)
      self._die('judge')
      return found

    def _die(self, here):
      if here == phase and seen['step'] == int(at):
        os.kill(os.getpid(), signal.SIGKILL)

  trainer.PolicyTrainer = Dying
  sys.exit(cli.dispatch('step_audio_jax', doors.DOORS, sys.argv))


def command(args: argparse.Namespace, folder: pathlib.Path) -> list[str]:
  """`train`, as the recipe runs it."""
  return [
    *behind.command(
      args.quickstart,
      folder,
      args.gin_file,
      ('reward', 'sft'),
      STEPS=args.steps,
      BATCH_SIZE=16,
      WARMUP=2,
      STALENESS=args.staleness,
      BUCKETS=args.buckets,
    ),
    '--gin.loop.LoopConfig.checkpoint_every=2',
    f'--gin.loop.LoopConfig.keep={args.steps}',
  ]


def peace(args, folder) -> None:
  """Never killed."""
  subprocess.run(
    [sys.executable, '-m', 'step_audio_jax', *command(args, folder)],
    check=True,
    stdout=subprocess.DEVNULL,
  )


def war(args, folder) -> dict[str, int]:
  """Killed at every phase, `--kills` times; how often it was."""
  killed = dict.fromkeys(PHASES, 0)
  places = [
    (phase, n * (args.steps - 1) // max(1, args.kills - 1))
    for n in range(args.kills)
    for phase in PHASES
  ]
  for phase, step in sorted(places, key=lambda place: place[1]):
    run = subprocess.run(
      [sys.executable, __file__, *command(args, folder)],
      env={**os.environ, _DIE: f'{phase}:{step}'},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
    )
    if run.returncode == -signal.SIGKILL:
      killed[phase] += 1
    elif run.returncode:
      raise SystemExit(run.stderr[-2000:])
  peace(args, folder)
  return killed


def bits(folder: pathlib.Path) -> dict[str, bytes]:
  """All arrays of the last checkpoint, and the metrics without times."""
  import jax
  import numpy as np

  from step_audio_jax.training.checkpoints import checkpoints
  from step_audio_jax.training.checkpoints import stored

  del checkpoints
  variables, _ = stored.open_variables(str(folder))
  flat = jax.tree_util.tree_flatten_with_path(variables)[0]
  found = {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in flat
  }
  for number, line in enumerate((folder / 'metrics.jsonl').open()):
    told = json.loads(line)
    times = ('throughput', 'time')
    kept = {k: v for k, v in told.items() if not k.startswith(times)}
    found[f'metrics {number}'] = json.dumps(kept, sort_keys=True).encode()
  return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--quickstart', required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--gin_file', default='gin/quickstart/ppo.gin')
  parser.add_argument('--kills', type=int, default=10)
  parser.add_argument('--steps', type=int, default=20)
  parser.add_argument('--staleness', type=int, default=0)
  parser.add_argument('--buckets', type=int, default=1)
  args = parser.parse_args()
  shutil.rmtree(args.output, ignore_errors=True)
  peace(args, args.output / 'peace')
  killed = war(args, args.output / 'war')
  one, two = bits(args.output / 'peace'), bits(args.output / 'war')
  differ = sorted(k for k in one | two if one.get(k) != two.get(k))
  print(
    json.dumps(
      {
        'benchmark': 'policy_kills',
        'killed': killed,
        'equal': not differ,
        'compared': len(one),
        'differ': differ[:5],
      }
    )
  )
  if differ:
    raise SystemExit(1)


if __name__ == '__main__':
  if os.environ.get(_DIE):
    dying()
  else:
    main()
