r"""How far a policy's true reward rises, behind a finished quick start.

    python benchmarks/alignment/closed_world.py \
      --quickstart=runs/quickstart --output=/tmp/closed --seeds=0,1,2

Trains policies of the quick start's SFT (`gin/quickstart/grpo.gin`, or
`ppo.gin` with its reward model), one a seed, lets them answer the questions and
requests that nothing was learnt of, and prints one JSON line a seed: the true
reward (right, brief, on topic and not deaf at once) before and behind, its
standard error over prompts, the divergence, the share of the time that rollouts
took, and seconds.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.alignment import behind  # noqa: E402
from step_audio_jax.evaluation.reports import aligned  # noqa: E402
from step_audio_jax.evaluation.reports import facts  # noqa: E402
from tpu_launch.recipes import quickstart  # noqa: E402


def run(program: str, *words: str) -> None:
  """A door, as the recipe runs it."""
  subprocess.run(
    [sys.executable, '-m', program, *words],
    check=True,
    stdout=subprocess.DEVNULL,
  )


def measure(args: argparse.Namespace, seed: int) -> dict:
  """Figures of a policy of one seed."""
  root, folder = args.quickstart, args.output / f'{args.algorithm}-{seed}'
  names = ['reward', 'sft'] if args.algorithm == 'ppo' else ['sft']
  began = time.monotonic()
  run(
    'step_audio_jax',
    *behind.command(
      root, folder, f'gin/quickstart/{args.algorithm}.gin', names, SEED=seed
    ),
  )
  seconds = time.monotonic() - began
  runs, samples = (f'{root}/sft', str(folder)), f'{folder}.jsonl'
  run(
    'step_audio_jax',
    'sample',
    *(f'--run={one}' for one in runs),
    f'--corpus={root}/data/speech',
    f'--codes={root}/codes/speech',
    f'--splits={",".join((*quickstart.ASKED, *quickstart.REQUESTED))}',
    f'--rules={quickstart.RULES}',
    '--count=4',
    f'--output={samples}',
  )
  found = aligned.figures(None, samples, runs)
  shares = facts.curve(folder).get('time/rollout_share', ([], []))[1]
  return {
    'benchmark': 'closed_world',
    'algorithm': args.algorithm,
    'seed': seed,
    'true_reward': found['true_reward'],
    'kl': found['ppo_kl'],
    'rollout_logprob_gap': found['rollout_logprob_gap'],
    'rollout_share': sum(shares) / max(1, len(shares)),
    'seconds': round(seconds, 1),
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--quickstart', required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--algorithm', choices=['ppo', 'grpo'], default='grpo')
  parser.add_argument('--seeds', default='0,1,2')
  args = parser.parse_args()
  shutil.rmtree(args.output, ignore_errors=True)
  for seed in map(int, args.seeds.split(',')):
    print(json.dumps(measure(args, seed)), flush=True)


if __name__ == '__main__':
  main()
