r"""What the tokenizer's modes cost: agreement, memory of an hour, live chunks.

    python benchmarks/tokenizers/tokenizer_modes.py \
      --tokenizer=runs/quickstart/tokenizer

* agreement: equal semantic codes, in percent, of overlapping windows and of
  live blocks with those of 30 s pieces, on minutes of espeak speech and on
  single sentences; of live linguistic codes with offline ones: 100;
* memory: peak resident set of `encode_file` for 5 and for 60 minutes, each in
  a fresh process, and its speed;
* live: median seconds of a 240 ms chunk in the first and in the tenth minute,
  and how many functions were compiled after warm-up, which must be none.

Needs the `data` extra (espeak-ng). Prints one JSON line last.
"""

import argparse
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import soundfile
import soxr

from data_pipelines.synthesis.voices import espeak
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import dual_stream
from step_audio_jax.tokenizers.speech import linguistic_stream
from step_audio_jax.tokenizers.speech import semantic_stream

RATE, CHUNK = 16000, 3840
SENTENCES = (
  'The old bridge over the river was closed for the whole winter.',
  'Please bring two chairs and a small table into the garden.',
  'Nobody knew why the train had stopped between the stations.',
  'She counted seven boats, four of them red, on the quiet lake.',
  'Tomorrow the museum opens at nine and closes at half past five.',
)
VOICES = ('en-us+m1', 'en-us+f2', 'en-us+m3', 'en-us+f4')
# (left, block, right) of live semantic codes, in codes of 40 ms.
BLOCKS = (
  (150, 12, 12),
  (150, 12, 0),
  (150, 12, 25),
  (150, 24, 12),
  (75, 12, 12),
  (300, 12, 12),
  (700, 12, 25),
)

# Prints codes, seconds and the peak resident set of its own process, in
# bytes; that of getrusage would start with its parent's.
CHILD = """
import re, sys, time
from step_audio_jax.tokenizers.speech import dual
tokenizer = dual.DualTokenizer.load(sys.argv[1])
begin = time.perf_counter()
pair = tokenizer.encode_file(sys.argv[2])
seconds = time.perf_counter() - begin
text = open('/proc/self/status').read()
peak = int(re.search(r'VmHWM:\\s+(\\d+) kB', text)[1]) * 1024
print(len(pair[0]), len(pair[1]), seconds, peak)
"""


def sentence(number: int) -> np.ndarray:
  """A sentence at 16 kHz; voice, rate and pitch go round with the number."""
  said = espeak.speak(
    SENTENCES[number % len(SENTENCES)],
    voice=VOICES[number // 2 % len(VOICES)],
    rate=140 + 7 * (number % 9),
    pitch=35 + 5 * (number % 7),
    seed=number,
  )
  samples = said.samples
  return soxr.resample(samples, said.sample_rate, RATE)


def speech(seconds: float) -> np.ndarray:
  """Sentences one after the other."""
  parts, number = [], 0
  while sum(map(len, parts)) < seconds * RATE:
    parts += [sentence(number), np.zeros(RATE // 5, np.float32)]
    number += 1
  return np.concatenate(parts)[: int(seconds * RATE)]


def agreement(tokenizer, wave: np.ndarray) -> dict[str, float]:
  """Percent of equal codes with the offline ones."""
  peak = np.abs(wave).max()
  linguistic, pieces = tokenizer.encode_stream([wave], peak=peak)
  _, overlap = tokenizer.encode_stream([wave], peak=peak, mode='overlap')
  live = linguistic_stream.LinguisticStream(tokenizer.linguistic, peaks=[peak])
  raw = linguistic_stream.LinguisticStream(tokenizer.linguistic)
  out = {
    'overlap': _equal(pieces, overlap),
    'live linguistic': _equal(linguistic, live.push(wave, final=True)),
    'live linguistic, peak unknown': _equal(
      linguistic, raw.push(wave, final=True)
    ),
  }
  for left, block, right in BLOCKS:
    stream = semantic_stream.SemanticStream(
      tokenizer.semantic, peaks=[peak], left=left, block=block, right=right
    )
    codes = stream.push(wave, final=True)
    out[f'live {left}+{block}+{right}'] = _equal(pieces, codes)
    if (left, block, right) == BLOCKS[0]:
      raw = semantic_stream.SemanticStream(tokenizer.semantic)
      out['live, peak unknown'] = _equal(pieces, raw.push(wave, final=True))
  return out


def sentences(tokenizer, count: int = 40) -> dict[str, float]:
  """As `agreement`, for single sentences: signals as live ones are."""
  pieces, found = [], {sizes: [] for sizes in BLOCKS}
  for number in range(count):
    wave = sentence(number)
    peak = np.abs(wave).max()
    pieces.append(tokenizer.encode_stream([wave], peak=peak)[1])
    for (left, block, right), codes in found.items():
      stream = semantic_stream.SemanticStream(
        tokenizer.semantic, peaks=[peak], left=left, block=block, right=right
      )
      codes.append(stream.push(wave, final=True))
  whole = np.concatenate(pieces)
  return {
    f'live {left}+{block}+{right}': _equal(whole, np.concatenate(codes))
    for (left, block, right), codes in found.items()
  }


def _equal(one, two) -> float:
  if len(one) != len(two):
    raise SystemExit(f'{len(one)} and {len(two)} codes')
  return round(100 * float((one == two).mean()), 2)


class Compilations(logging.Handler):
  """Counts what JAX says it compiles."""

  count = 0

  def emit(self, record):
    self.count += 'Compiling' in record.getMessage()


def live(tokenizer, wave: np.ndarray) -> dict[str, float]:
  """Cost of a chunk of a dual stream, early and late."""
  stream = dual_stream.DualStream(tokenizer)
  stream.warm_up()
  counter = Compilations()
  logging.getLogger('jax').addHandler(counter)
  logging.getLogger('jax').propagate = False
  seconds = []
  with jax.log_compiles(True):
    for begin in range(0, len(wave), CHUNK):
      start = time.perf_counter()
      stream.push(wave[begin : begin + CHUNK])
      seconds.append(time.perf_counter() - start)
    stream.push([], final=True)
  minute = 60 * RATE // CHUNK
  return {
    'first_minute_ms': round(1000 * float(np.median(seconds[:minute])), 2),
    'last_minute_ms': round(1000 * float(np.median(seconds[-minute:])), 2),
    'compilations': counter.count,
  }


def memory(folder: str, wave: np.ndarray, minutes: int) -> dict[str, float]:
  """Peak resident set of `encode_file` for a file of `minutes`."""
  with tempfile.TemporaryDirectory() as scratch:
    path = pathlib.Path(scratch) / 'long.wav'
    with soundfile.SoundFile(path, 'w', RATE, 1) as handle:
      for _ in range(minutes * 60 * RATE // len(wave)):
        handle.write(wave)
    done = subprocess.run(
      [sys.executable, '-c', CHILD, folder, str(path)],
      stdout=subprocess.PIPE,
      text=True,
      check=True,
      env=os.environ,
    )
  one, two, seconds, peak = done.stdout.splitlines()[-1].split()
  return {
    'minutes': minutes,
    'linguistic': int(one),
    'semantic': int(two),
    'real_time': round(minutes * 60 / float(seconds), 1),
    'peak_mb': round(int(peak) / 2**20),
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--tokenizer', default='runs/quickstart/tokenizer')
  parser.add_argument('--seconds', type=float, default=300.0)
  parser.add_argument('--minutes', type=int, nargs='*', default=[5, 60])
  parser.add_argument('--live_seconds', type=float, default=600.0)
  args = parser.parse_args()
  tokenizer = dual.DualTokenizer.load(args.tokenizer)
  wave = speech(args.seconds)
  result = {'tokenizer': args.tokenizer, 'seconds': args.seconds}
  result['agreement'] = agreement(tokenizer, wave)
  result['agreement_sentences'] = sentences(tokenizer)
  print(json.dumps(result), flush=True)
  if args.live_seconds:
    long = np.resize(wave, int(args.live_seconds * RATE))
    result['live'] = live(tokenizer, long)
  result['memory'] = [memory(args.tokenizer, wave, m) for m in args.minutes]
  print(json.dumps(result))


if __name__ == '__main__':
  main()
