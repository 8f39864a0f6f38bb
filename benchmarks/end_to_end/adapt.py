r"""From a folder of recordings to a model that knows them, timed and scored.

    python benchmarks/end_to_end/adapt.py --source=recordings \
      --base=runs/quickstart

Runs `python -m tpu_launch adapt` in an empty folder and prints one JSON line:
character errors on the held-out splits, of an unseen voice where
`--held_out_speaker` names one, the seconds up to these figures (the ASR part)
and those of the whole way, which includes speech in the new voices and the
report.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

FIGURES = (
  'asr_cer',
  'asr_cer_unseen_voice',
  'tts_cer',
  'sound_cer',
  'wall_seconds',
  'peak_memory_bytes',
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--source', required=True)
  parser.add_argument('--base', default='runs/quickstart')
  parser.add_argument('--output', default='runs/benchmark_adapt')
  parser.add_argument('--held_out_speaker', action='append', default=[])
  parser.add_argument('--nospeech', action='store_true')
  arguments = parser.parse_args()
  output = pathlib.Path(arguments.output)
  shutil.rmtree(output, ignore_errors=True)
  words = [
    f'--source={arguments.source}',
    f'--output={output}',
    f'--base={arguments.base}',
    *(f'--held_out_speaker={name}' for name in arguments.held_out_speaker),
    *(['--nospeech'] if arguments.nospeech else []),
  ]
  subprocess.run(
    [sys.executable, '-m', 'tpu_launch', 'adapt', *words], check=True
  )
  report = json.loads((output / 'report.json').read_text())
  asr_seconds = 0.0
  for command in report['commands']:
    if command['name'] == 'evaluate':
      asr_seconds = command['began'] + command['seconds']
  print(
    json.dumps(
      {
        'benchmark': 'adapt',
        'held_out_speakers': arguments.held_out_speaker,
        'asr_seconds': round(asr_seconds, 1),
        **{name: report.get(name) for name in FIGURES},
        'seconds': {c['name']: c['seconds'] for c in report['commands']},
      }
    )
  )


if __name__ == '__main__':
  main()
