r"""Ingests a made corpus of a million utterances: seconds and memory.

    python benchmarks/pipelines/ingest.py
    python benchmarks/pipelines/ingest.py --format=kaldi
    python benchmarks/pipelines/ingest.py --lines=100000 \
      --recordings=100000 --open

A NeMo manifest, a Kaldi directory with segments, or a WenetSpeech.json of
`--lines` utterances is written (durations and texts as ragged as
LibriSpeech's, three bad ones in a thousand), over a hundred recordings, and
`data_pipelines ingest` reads it in a process of its own on one core.
`--trust_durations` is given, as for any corpus of that size; with `--open`
each recording's header is read. Prints one JSON line.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any, Iterator
import wave

import numpy as np

MUST = {'minutes': 2.0, 'gigabytes': 1.0}
WORDS = ('the', 'quick', 'cat', 'listens', 'to', 'every', 'word', 'again')
SECONDS = 35
RATE = 8000
SEGMENTS = 1000  # of one recording in a row, in WenetSpeech.json


def write_recordings(folder: pathlib.Path, count: int) -> list[str]:
  """Writes silent recordings; returns their names below `folder`."""
  (folder / 'wav').mkdir(parents=True)
  seconds = SECONDS if count <= 1000 else 1  # many are read, not measured
  names = [f'wav/{number}.wav' for number in range(count)]
  for name in names:
    with wave.open(str(folder / name), 'wb') as out:
      out.setparams((1, 2, RATE, 0, 'NONE', ''))
      out.writeframes(bytes(2 * RATE * seconds))
  return names


def utterances(
  lines: int, names: list[str]
) -> Iterator[tuple[str, str, float, str, str]]:
  """(id, recording, seconds, text, speaker), some of them bad."""
  rng = np.random.default_rng(0)
  longest = 30 if len(names) <= 1000 else 1
  for start in range(0, lines, 10_000):
    count = min(10_000, lines - start)
    seconds = rng.uniform(0.5, longest, count)
    sizes = rng.integers(2, 40, count)
    picks = rng.integers(0, len(WORDS), (count, 40))
    for k in range(count):
      number = start + k
      words = ' '.join(WORDS[i] for i in picks[k, : sizes[k]])
      duration, text = round(float(seconds[k]), 3), f'{words} {number}'
      name = names[number % len(names)]
      if number % 1000 == 7:
        duration = -2.0  # -1 ends where a Kaldi recording ends
      elif number % 1000 == 8:
        text = ''
      elif number % 1000 == 9:
        duration = float('nan')
      speaker = f'speaker-{number % 2000}'
      yield f'utterance-{number:08d}', name, duration, text, speaker


def write_nemo(folder: pathlib.Path, found: Iterator) -> pathlib.Path:
  """A manifest: one line an utterance."""
  path = folder / 'train_manifest.json'
  with open(path, 'w', encoding='utf-8') as out:
    for name, file, duration, text, speaker in found:
      row = {
        'id': name, 'audio_filepath': file, 'duration': duration,
        'text': text, 'speaker': speaker,
      }  # fmt: skip
      out.write(json.dumps(row) + '\n')
  return path


def write_kaldi(folder: pathlib.Path, found: Iterator) -> pathlib.Path:
  """Four tables that are joined."""
  paths = [folder / name for name in ('segments', 'text', 'utt2spk')]
  names = sorted(path.name for path in (folder / 'wav').iterdir())
  scp = ''.join(f'{name} wav/{name}\n' for name in names)
  (folder / 'wav.scp').write_text(scp, encoding='utf-8')
  with (
    open(paths[0], 'w', encoding='utf-8') as segments,
    open(paths[1], 'w', encoding='utf-8') as texts,
    open(paths[2], 'w', encoding='utf-8') as speakers,
  ):
    for name, file, duration, text, speaker in found:
      recording = pathlib.PurePosixPath(file).name
      segments.write(f'{name} {recording} 0 {duration}\n')
      texts.write(f'{name} {text}\n')
      speakers.write(f'{name} {speaker}\n')
  return folder


def write_wenetspeech(folder: pathlib.Path, found: Iterator) -> pathlib.Path:
  """One JSON object for all."""
  path = folder / 'WenetSpeech.json'
  with open(path, 'w', encoding='utf-8') as out:
    out.write('{"audios": [')
    for number in itertools.count():
      part = list(itertools.islice(found, SEGMENTS))
      if not part:
        break
      segments = [
        {'sid': name, 'begin_time': 0.0, 'end_time': duration, 'text': text,
         'subsets': ['L']}
        for name, _, duration, text, _ in part
      ]  # fmt: skip
      file = part[0][1]
      audio = {'aid': f'a{number}', 'path': file, 'segments': segments}
      out.write(('' if number == 0 else ',\n') + json.dumps(audio))
    out.write(']}')
  return path


WRITERS = {
  'nemo': write_nemo,
  'kaldi': write_kaldi,
  'wenetspeech': write_wenetspeech,
}


def measured(
  source: pathlib.Path, output: pathlib.Path, arguments: argparse.Namespace
) -> dict[str, Any]:
  r"""Ingests in a process of its own; what it said, seconds and memory."""
  core = min(os.sched_getaffinity(0))
  trust = [] if arguments.open else ['--trust_durations']
  begin = time.monotonic()
  done = subprocess.run(
    [
      sys.executable, '-m', 'data_pipelines', 'ingest', '--json',
      f'--format={arguments.format}', f'--source={source}',
      f'--output={output}', *trust,
    ],
    cwd=pathlib.Path(__file__).parents[2],
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
  return {
    **{key: told[key] for key in ('read', 'kept', 'quarantined')},
    'seconds': round(seconds, 1),
    'cpu_seconds': round(usage.ru_utime + usage.ru_stime, 1),
    'lines_per_second': round(told['read'] / seconds),
    'peak_gigabytes': round(usage.ru_maxrss * 1024 / 1e9, 3),
  }


def count_lines(path: pathlib.Path) -> int:
  with open(path, encoding='utf-8') as lines:
    return sum(1 for _ in lines)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--lines', type=int, default=1_000_000)
  parser.add_argument('--format', choices=WRITERS, default='nemo')
  parser.add_argument('--recordings', type=int, default=100)
  parser.add_argument(
    '--open', action='store_true', help='Read the headers of recordings.'
  )
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    source, output = pathlib.Path(folder, 'source'), pathlib.Path(folder, 'out')
    names = write_recordings(source, arguments.recordings)
    source = WRITERS[arguments.format](
      source, utterances(arguments.lines, names)
    )
    result = measured(source, output, arguments)
    kept = count_lines(output / 'manifest.jsonl')
    quarantined = count_lines(output / 'quarantine.jsonl')
  adds_up = (
    (result['kept'], result['quarantined']) == (kept, quarantined)
    and result['read'] == arguments.lines == kept + quarantined
    and quarantined
    == sum(n % 1000 in (7, 8, 9) for n in range(arguments.lines))
  )
  print(
    json.dumps(
      {
        'benchmark': 'ingest',
        'format': arguments.format,
        'recordings': arguments.recordings,
        'opened': arguments.open,
        **result,
        'counts_add_up': adds_up,
        'must': MUST,
        'met': adds_up
        and result['seconds'] <= 60 * MUST['minutes']
        and result['peak_gigabytes'] <= MUST['gigabytes'],
      }
    )
  )


if __name__ == '__main__':
  main()
