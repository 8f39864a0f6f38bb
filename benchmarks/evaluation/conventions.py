"""How long scoring takes, under several conventions at once.

    python -m benchmarks.evaluation.conventions

Pairs of ragged length, every second one Mandarin with numbers and Latin words,
the others English with numbers, contractions and British spelling; a hypothesis
has up to six wrong words. Prints one JSON line last: seconds, and processor
seconds of all processes, which is what counts where the machine is shared; and
those of each convention by itself on a few pairs, scaled to all. `--processes`
share the work.
"""

import argparse
import json
import random
import resource
import time

from step_audio_jax.evaluation import conventions

ENGLISH = (
  "the of and to in he was that his it with as had at but she for her don't "
  'not they on all we be from one two said twenty would there which when were '
  "this so no if out what up them then him it's could into about time some "
  'like very colour Dr. Mr. analyse , , . ? 42 $3.50 hundred and percent'
).split()
MANDARIN = [
  *(chr(0x4E00 + 7 * k) for k in range(2500)),
  *('，', '。', '2024年3月5日', '38个', '5%', 'GPU', 'iPhone ', '呃', '1280元'),
]


def pairs(count: int, seed: int = 0) -> list[conventions.Utterance]:
  """(id, reference, hypothesis, language) of each."""
  rng = random.Random(seed)
  found = []
  for i in range(count):
    language = 'en' if i % 2 else 'zh'
    words, space = (ENGLISH, ' ') if i % 2 else (MANDARIN, '')
    reference = rng.choices(words, k=rng.randint(3, 45))
    hypothesis = list(reference)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3, 6))):
      k = rng.randrange(len(hypothesis))
      hypothesis[k : k + 1] = rng.choices(words, k=rng.randint(0, 2)) or ['']
    found.append(
      (str(i), space.join(reference), space.join(hypothesis), language)
    )
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--pairs', type=int, default=100_000)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument(
    '--conventions',
    nargs='+',
    default=['qwen2audio', 'kimi', 'ultraeval', 'wenet'],
  )
  args = parser.parse_args()
  rows = pairs(args.pairs)
  began = time.monotonic()
  scored = conventions.score_all(args.conventions, rows, args.processes)
  seconds = time.monotonic() - began
  spent = [
    resource.getrusage(who)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  ]
  alone = {}
  for i, name in enumerate(args.conventions):
    few = pairs(2000, seed=i + 1)  # new texts: nothing is remembered
    began = time.process_time()
    conventions.score(name, few)
    alone[name] = (time.process_time() - began) / len(few) * len(rows)
  print(
    json.dumps(
      {
        'pairs': len(rows),
        'processes': args.processes,
        'seconds': round(seconds, 1),
        'cpu_seconds': round(sum(x.ru_utime + x.ru_stime for x in spent), 1),
        'alone_seconds': {k: round(v, 1) for k, v in alone.items()},
        'rates': {k: round(v.rate, 6) for k, v in scored.items()},
      }
    )
  )


if __name__ == '__main__':
  main()
