"""Ingests a made manifest of a million utterances: seconds and memory.

    python benchmarks/ingest.py

A NeMo manifest of `--lines` lines is written (ids, durations and texts as
ragged as LibriSpeech's, three bad lines in a thousand), over a hundred linked
recordings, and `data_pipelines ingest` reads it in a process of its own on one
core. `--trust_durations` is given, as for any corpus of that size; without it
each recording's header is opened. Prints one JSON line.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import wave

import numpy as np

MUST = {'minutes': 2.0, 'gigabytes': 1.0}
WORDS = ('the', 'quick', 'cat', 'listens', 'to', 'every', 'word', 'again')
RECORDINGS = 100


def write(folder: pathlib.Path, lines: int) -> pathlib.Path:
  """A manifest and its recordings."""
  rng = np.random.default_rng(0)
  (folder / 'wav').mkdir(parents=True)
  for number in range(RECORDINGS):
    with wave.open(str(folder / 'wav' / f'{number}.wav'), 'wb') as out:
      out.setparams((1, 2, 8000, 0, 'NONE', ''))
      out.writeframes(bytes(2 * 8000 * 35))
  path = folder / 'train_manifest.json'
  with open(path, 'w', encoding='utf-8') as out:
    for start in range(0, lines, 10_000):
      count = min(10_000, lines - start)
      seconds = rng.uniform(1, 30, count)
      sizes = rng.integers(2, 40, count)
      picks = rng.integers(0, len(WORDS), (count, 40))
      for k in range(count):
        number = start + k
        text = ' '.join(WORDS[i] for i in picks[k, : sizes[k]])
        row = {
          'id': f'utterance-{number:08d}',
          'audio_filepath': f'wav/{number % RECORDINGS}.wav',
          'duration': round(float(seconds[k]), 3),
          'text': f'{text} {number}',
          'speaker': f'speaker-{number % 2000}',
        }
        if number % 1000 == 7:
          row['duration'] = -1.0
        elif number % 1000 == 8:
          row['text'] = ''
        elif number % 1000 == 9:
          row['audio_filepath'] = '../../etc/passwd'
        out.write(json.dumps(row) + '\n')
  return path


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--lines', type=int, default=1_000_000)
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    source = write(folder / 'source', arguments.lines)
    core = min(os.sched_getaffinity(0))
    begin = time.monotonic()
    done = subprocess.run(
      [
        sys.executable, '-m', 'data_pipelines', 'ingest', '--format=nemo',
        f'--source={source}', f'--output={folder}/out', '--trust_durations',
        '--json',
      ],
      cwd=pathlib.Path(__file__).parents[1],
      env={**os.environ, 'PROGRESS': '0'},
      preexec_fn=lambda: os.sched_setaffinity(0, {core}),
      capture_output=True,
      text=True,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    if done.returncode:
      raise SystemExit(done.stderr)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout.splitlines()[-1])
    with open(folder / 'out' / 'quarantine.jsonl', encoding='utf-8') as lines:
      quarantined = sum(1 for _ in lines)
  gigabytes = usage.ru_maxrss * 1024 / 1e9
  counts = {key: told[key] for key in ('read', 'kept', 'quarantined')}
  adds_up = (
    counts['read'] == arguments.lines == counts['kept'] + quarantined
    and counts['quarantined'] == quarantined
  )
  result = {
    'benchmark': 'ingest',
    **counts,
    'counts_add_up': adds_up,
    'seconds': round(seconds, 1),
    'cpu_seconds': round(usage.ru_utime + usage.ru_stime, 1),
    'lines_per_second': round(arguments.lines / seconds),
    'peak_gigabytes': round(gigabytes, 3),
    'must': MUST,
    'met': adds_up
    and seconds <= 60 * MUST['minutes']
    and gigabytes <= MUST['gigabytes'],
  }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
