"""Systems of short sounds, pages over them, and raters who are made."""

import csv
import functools
import io
import pathlib
import tempfile

import numpy as np
import soundfile

from step_audio_jax.evaluation.listening import design
from step_audio_jax.evaluation.listening import ratings
from step_audio_jax.evaluation.quality import sources

RATE = 8000
SECONDS = 0.12


def systems(folder, names=('reference', 'sekret'), items=('a', 'zh/b')):
  """Writes recordings; each system and item has a tone of its own."""
  for n, name in enumerate(names):
    for m, item in enumerate(items):
      path = folder / name / f'{item}.wav'
      path.parent.mkdir(parents=True, exist_ok=True)
      t = np.arange(round(SECONDS * RATE)) / RATE
      hz = 200 + 50 * n + 20 * m
      soundfile.write(path, 0.1 * (n + 1) * np.sin(2 * np.pi * hz * t), RATE)
  return {name: sources.read(folder / name) for name in names}


@functools.cache
def small(questions=design.QUESTIONS, items=2, catches=1):
  """A design of two systems."""
  with tempfile.TemporaryDirectory() as folder:
    names = [f'item{n}' for n in range(items)]
    found = systems(pathlib.Path(folder), items=names)
    config = design.DesignConfig(questions=questions, catches=catches, seed=7)
    return design.make(found, config)


def answers(key, rater, score_of, *, swap=False):
  """Rows of a rater who gives `score_of(name, trial)` to each trial."""
  rows = []
  for place, (name, trial) in enumerate(key['trials'].items()):
    score = score_of(name, trial)
    if score is None:
      continue
    sounds = trial['sounds'][::-1] if swap else trial['sounds']
    if swap and score in ('a', 'b'):
      score = 'b' if score == 'a' else 'a'
    rows.append(
      {
        'page': key['page'],
        'rater': rater,
        'place': place + 1,
        'trial': name,
        'item': trial['item'],
        'sounds': ' '.join(sounds),
        'question': trial['question'],
        'score': score,
        'seconds': '2.5',
        'plays': ' '.join('1' for _ in sounds),
        'catch': trial['catch'],
      }
    )
  return rows


def attentive(key, opinions):
  """Scores of who listens; `opinions` of systems decide."""

  def score_of(name, trial):
    owners = [key['sounds'][one] for one in trial['sounds']]
    heard = [
      1 if one['system'] is None else opinions[one['system']] for one in owners
    ]
    if trial['question'] == design.MOS:
      return str(heard[0])
    if heard[0] == heard[1]:
      return 'same'
    return 'a' if heard[0] > heard[1] else 'b'

  return score_of


def save(path, rows):
  """Writes rows as a page saves them."""
  text = io.StringIO()
  writer = csv.DictWriter(text, ratings.COLUMNS, lineterminator='\r\n')
  writer.writeheader()
  writer.writerows(rows)
  path.write_text(text.getvalue(), encoding='utf-8')
  return path
