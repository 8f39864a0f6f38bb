"""The quick start from nothing, against its targets.

    python benchmarks/end_to_end/quickstart.py --output=runs/benchmark

Runs `python -m tpu_launch quickstart` in an empty folder, as `make quickstart`
does after installation, and prints one JSON line with every figure of
report.json that has a target, and whether it was met.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time

from step_audio_jax.evaluation.reports import page

KEYS = (
  'wall_seconds',
  'peak_memory_bytes',
  'stranger_recordings',
  'stranger_codes',
  'stranger_tts',
  'judges',
  'not_computed',
  'asr_cer',
  'asr_cer_unseen_voice',
  'asr_cer_by_stage',
  'tts_cer',
  'sound_cer',
  'aqta_exact',
  'aqta_exact_unseen_voice',
  'aqta_exact_silenced',
  'aqta_chance',
  'tqta_exact',
  'forgetting',
  'rm_pair_accuracy',
  'rm_ece',
  'true_reward',
  'ppo_kl',
  'rollout_logprob_gap',
  'share_error_rows',
  'padding',
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output', default='runs/benchmark')
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  shutil.rmtree(arguments.output, ignore_errors=True)
  start = time.monotonic()
  subprocess.run(
    [
      sys.executable,
      '-m',
      'tpu_launch',
      'quickstart',
      f'--output={arguments.output}',
      f'--seed={arguments.seed}',
    ],
    check=True,
  )
  seconds = time.monotonic() - start
  report = json.loads(
    (pathlib.Path(arguments.output) / 'report.json').read_text()
  )
  stages = report['asr_cer_by_stage']
  met = {
    key: page.reached(key, report[key], limit)
    for key, limit in report['targets'].items()
    if report.get(key) is not None
  }
  met['asr_is_learnt_where_the_recipe_says'] = bool(
    stages[0] >= 0.6 and stages[2] < stages[1]
  )
  met['it_listens'] = (
    report['aqta_exact_silenced'] <= report['aqta_chance'] + 0.05
  )
  met['forgetting'] = all(
    ratio <= 1.2 for ratio in report['forgetting'].values()
  )
  print(
    json.dumps(
      {
        'benchmark': 'quickstart',
        'seed': arguments.seed,
        'measured_wall_seconds': round(seconds, 1),
        **{key: report.get(key) for key in KEYS},
        'met': met,
      }
    )
  )


if __name__ == '__main__':
  main()
