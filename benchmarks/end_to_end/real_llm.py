r"""How well a real language model hears after the recipe that gives it ears.

    python benchmarks/end_to_end/real_llm.py --run=runs/real

Reads what `python -m tpu_launch real` left in a folder, or runs it first in an
empty one (`--model`, `--voice` and, with less time, `--steps`), and prints one
JSON line: character errors of the voices of training and of the unseen one;
shares of the questions that are answered rightly when they are said, of those
whose subject was only ever heard in sentences, of second questions, of silence
that is refused, and when they are written; the same of the untouched model;
tokens that were trained and the time of each command. What is aimed at stands
beside it.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from tpu_launch.recipes import real

# Character errors at most; shares at least.
AIMS = {
  'asr_cer_unseen_voice': 0.15,
  'spoken_asked': 0.6,
  'spoken_heard_only': 0.4,
  'spoken_followed': 0.5,
  'silence_refused': 0.9,
  'written_of_untouched': 0.8,
}


def result(root: pathlib.Path) -> dict:
  """What a finished recipe left."""
  report = json.loads((root / 'report.json').read_text())
  told = json.loads((root / 'answers.json').read_text())
  found = {
    name: report.get(name)
    for name in ('asr_cer', 'asr_cer_unseen_voice', 'wall_seconds')
  }
  found |= real.figures(str(root))
  config = json.loads((pathlib.Path(told['run']) / 'config.json').read_text())
  rows = config['feed']['batch_size']
  found['steps'] = report['stages'][-1]['scored_step']
  found['tokens'] = found['steps'] * rows * real.ROW_LENGTH
  found['missed'] = [
    name
    for name, aim in AIMS.items()
    if found[name] is None
    or (found[name] > aim if name.startswith('asr') else found[name] < aim)
  ]
  found['seconds'] = {
    command['name']: command['seconds'] for command in report['commands']
  }
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--run', default='runs/benchmark_real')
  parser.add_argument('--model')
  parser.add_argument('--voice', action='append', default=[])
  parser.add_argument('--device', default='cpu')
  parser.add_argument('--steps', type=int, default=0)
  arguments = parser.parse_args()
  root = pathlib.Path(arguments.run)
  if arguments.model:
    words = [
      f'--output={root}',
      f'--model={arguments.model}',
      f'--device={arguments.device}',
      f'--steps={arguments.steps}',
      *(f'--voice={voice}' for voice in arguments.voice),
    ]
    subprocess.run(
      [sys.executable, '-m', 'tpu_launch', 'real', *words], check=True
    )
  print(json.dumps({'benchmark': 'real_llm', 'aims': AIMS, **result(root)}))


if __name__ == '__main__':
  main()
