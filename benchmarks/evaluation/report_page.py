r"""The page of a sweep in a real browser, by keyboard alone.

    python benchmarks/evaluation/report_page.py --utterances=1000 --steps=10

Makes a sweep of so many utterances and checkpoints, heard and spoken, opens
its page in Chromium, goes through it with keys, and prints one JSON line: how
long it takes to load and to compare two checkpoints, what it asks the network
for, and how large it is.
"""

import argparse
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from typing import Any

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from step_audio_jax.evaluation.families import family  # noqa: E402
from step_audio_jax.evaluation.metrics import counts  # noqa: E402
from step_audio_jax.evaluation.sweeps import page as page_lib  # noqa: E402
from step_audio_jax.evaluation.sweeps import published  # noqa: E402
from step_audio_jax.evaluation.sweeps import summary  # noqa: E402

_WORDS = 'a the red blue cat dog sees hears small big ball house'.split()
_LOADS = 5


def rows(count: int, errors: float, seed: int, sound: bool) -> list[dict]:
  """Rows of made utterances, of which a share is misheard by one word."""
  texts, wrong = random.Random(0), random.Random(seed)
  found = []
  for n in range(count):
    words = texts.choices(_WORDS, k=texts.randint(4, 12))
    heard = list(words)
    if wrong.random() < errors:
      heard[wrong.randrange(len(heard))] = '<wrong & "quoted">'
    found.append(
      {
        'id': f'u{n}',
        'language': 'en',
        'reference': ' '.join(words),
        'hypothesis': ' '.join(heard),
        'errors': sum(a != b for a, b in zip(words, heard, strict=True)),
        'units': len(words),
        **({'wav': f'x/u{n}.wav'} if sound else {}),
      }
    )
  return found


def made(utterances: int, steps: int) -> dict[int, summary.Step]:
  """What is shown of a sweep, made without a model; it gets better."""
  found = {}
  for number in range(1, steps + 1):
    parts: list[dict[str, Any]] = []
    table, figures, counted = [], {}, {}
    for task in ('asr', 'tts'):
      share = 0.9 - 0.7 * number / steps
      some = rows(utterances, share, number, task == 'tts')
      name = f'{task}_cer/dev'
      parts.append({'task': task, 'name': 'dev', 'left_out': ''})
      table.append(some)
      rate = sum(r['errors'] for r in some) / sum(r['units'] for r in some)
      figures[name] = family.Figure(rate, better='lower', of=utterances)
      counted[name] = counts.count(utterances, utterances, 'utterances')
    for n in range(60):
      figures[f'benchmark{n}/accuracy'] = family.Figure(
        (n + number) / (60 + steps), of=100
      )
    shown = summary.with_intervals(
      family.Shown({}, figures, counted),
      {'asr_cer/dev': table[0], 'tts_cer/dev': table[1]},
    )
    found[100 * number] = summary.Step(
      parts,
      shown,
      table,
      ['asr_cer/dev', 'tts_cer/dev'],
      [f'{100 * number}_sound'] * 2,
    )
  return found


def write(folder: pathlib.Path, utterances: int, steps: int) -> pathlib.Path:
  """The page of such a sweep."""
  text = page_lib.page(
    folder / 'run',
    made(utterances, steps),
    ['a note'],
    not_computed={'similarity': 'no model is named'},
    unreadable={7: 'cut off'},
    published={
      'benchmark3/accuracy': published.Published({'others': 12.5}, 'unknown')
    },
  )
  path = folder / 'index.html'
  path.write_text(text, encoding='utf-8')
  return path


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--utterances', type=int, default=1000)
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--output', help='keeps the page in this folder')
  args = parser.parse_args()
  # It drives the browser of the tests.
  from tests import browser

  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.output or temporary)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    path = write(folder, args.utterances, args.steps)
    making = time.monotonic() - begin
    with browser.start() as chromium:
      page = chromium.open(path)
      loads = []
      for _ in range(_LOADS):
        page.reload()
        loads.append(
          page.value("performance.getEntriesByType('navigation')[0].duration")
        )
      page.press('/')
      page.write('u7')
      found = page.value("document.getElementById('rows-count').textContent")
      begin = time.monotonic()
      page.value("document.getElementById('diff-part').focus()")
      told = page.wait("document.getElementById('diff-told').textContent")
      comparing = time.monotonic() - begin
      outside, faults = page.outside(), page.faults
      unnamed = page.unnamed()
    print(
      json.dumps(
        {
          'utterances': args.utterances,
          'steps': args.steps,
          'megabytes': round(path.stat().st_size / 1e6, 2),
          'seconds_to_make': round(making, 2),
          'seconds_to_load': [round(x / 1000, 3) for x in sorted(loads)],
          'median_seconds_to_load': round(statistics.median(loads) / 1000, 3),
          'seconds_to_compare': round(comparing, 3),
          'searched': found,
          'compared': told,
          'requests_outside': outside,
          'faults': faults,
          'controls_without_a_name': unnamed,
        }
      )
    )


if __name__ == '__main__':
  main()
