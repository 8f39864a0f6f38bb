"""A sweep for people: `RUN/evaluation/index.html`.

Curves, a table that sorts and searches, every utterance with its sound, and
the differences between two checkpoints. One file without outside resources;
sounds lie beside it. Rows are JSON inside of it, which is parsed and drawn
when it is looked at (`script`), so that thousands of them cost nothing before.
"""

import html
import json
import os
import pathlib
import re
from typing import Any, Mapping, Sequence
import urllib.parse

from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.pages import page as page_lib
from step_audio_jax.evaluation.sweeps import charts
from step_audio_jax.evaluation.sweeps import intervals
from step_audio_jax.evaluation.sweeps import published as published_lib
from step_audio_jax.evaluation.sweeps import results
from step_audio_jax.evaluation.sweeps import script
from step_audio_jax.evaluation.sweeps import summary
from step_audio_jax.evaluation.sweeps import tables
from step_audio_jax.storage import files

MOST_ROWS = 5000  # of a part on the page; the files have all
_TEXTS = ('hypothesis', 'raw', 'heard', 'transcript')


def page(
  run: pathlib.Path,
  steps: Mapping[int, summary.Step],
  notes: Sequence[str],
  *,
  not_computed: Mapping[str, str],
  unreadable: Mapping[int, str],
  published: Mapping[str, published_lib.Published],
) -> str:
  """The document.

  Args:
    run: Run directory.
    steps: What is shown of each.
    notes: What is to be said about them.
    not_computed: Figure → why there is none.
    unreadable: Step → why it is not scored.
    published: Figure → what others say of themselves.
  """
  figures = {
    number: {
      name: {'value': f.value, 'unit': f.unit, 'better': f.better}
      for name, f in step.shown.figures.items()
    }
    for number, step in steps.items()
  }
  judges = [
    f'The stranger: {judge}.'
    for judge in (steps[max(steps)].shown.judges if steps else ())
  ]
  passed = [
    f'Step {number} was passed over: {why}.'
    for number, why in unreadable.items()
  ]
  joined, marks = charts.stages(run, figures)
  body = [
    f'<h1>{html.escape(run.name)}</h1>'
    f'<p class="quiet">Checkpoints scored: {len(steps)}. Rates in percent with '
    'their 95 % intervals; ↑ higher is better, ↓ lower.</p>',
    *(f'<p>{html.escape(note)}</p>' for note in (*judges, *notes, *passed)),
    _ways(steps),
    charts.draw(figures),
  ]
  if joined:
    body.append(
      '<h2>Over the stages</h2><p class="quiet">Steps of the runs before this '
      'one come first.</p>' + charts.draw(joined, marks, 'steps of all stages')
    )
  body.append(_all_figures(steps, published))
  body.append(_counted(steps, not_computed))
  body += _utterances(steps, run / results.FOLDER)
  return page_lib.page(
    f'{run.name}: evaluation',
    ''.join(body),
    f'<link rel="icon" href="data:,"><style>{script.STYLE}</style>',
  )


def _ways(steps) -> str:
  """Links to what is below: curves may be many."""
  places = [('figures', 'All figures')]
  if any(rows for step in steps.values() for rows in step.rows):
    places += [('utterances', 'Utterances'), ('differences', 'Differences')]
  links = (f'<a href="#{place}">{name}</a>' for place, name in places)
  return f'<nav aria-label="sections">{" · ".join(links)}</nav>'


def _all_figures(steps, published) -> str:
  head, lines = tables.cells(steps, published)
  kinds = [' class=n' if name.startswith('step ') else '' for name in head]

  def row(cells, tag):
    return ''.join(
      f'<{tag}{kind}>{html.escape(cell)}</{tag}>'
      for cell, kind in zip(cells, kinds, strict=True)
    )

  doubts = dict.fromkeys(one.doubt for one in published.values() if one.doubt)
  return (
    '<h2 id="figures">All figures</h2><p><label>Search '
    '<input type="search" id="find-figure" aria-controls="figure-table">'
    '</label></p><div class="scroll"><table id="figure-table"><thead><tr>'
    + row(head, 'th')
    + '</tr></thead><tbody>'
    + ''.join(f'<tr>{row(line, "td")}</tr>' for line in lines)
    + '</tbody></table></div>'
    + ''.join(
      f'<p class="quiet">{tables.MARK} {html.escape(doubt)}.</p>'
      for doubt in doubts
    )
  )


def _counted(steps, not_computed) -> str:
  told = counts.describe_steps(
    {number: step.shown.counts for number, step in steps.items()},
    {number: summary.left_out(step) for number, step in steps.items()},
  )
  told += counts.not_computed(not_computed)
  over = [line.split('  ', 1) for line in told]
  return '<h2>Scored, of how many</h2>' + page_lib.table(
    ['metric', 'scored'], [[n, t.strip()] for n, t in over]
  )


def _utterances(
  steps: Mapping[int, summary.Step], folder: pathlib.Path
) -> list[str]:
  """Rows as data, and the places where the script draws them.

  Args:
    steps: By number.
    folder: Where the page lies.
  """
  parts, data = {}, []
  for number in sorted(steps):
    step = steps[number]
    for part, rows, name, sounds in zip(
      step.parts, step.rows, step.names, step.sounds, strict=True
    ):
      if rows:
        label = f'{part["task"]}/{part["name"]}'
        one = parts.setdefault(
          label, {'label': label, 'steps': [], 'ids': {}, 'items': []}
        )
        figure = step.shown.figures.get(name)
        one['lower'] = figure is None or figure.better == 'lower'
        # Marks are told as they were given.
        one['percent'] = (figure is None or figure.unit == '%') and all(
          row.get('points', 0) <= 1 for row in rows
        )
        one['steps'].append(number)
        place = list(parts).index(label)
        packed = _packed(one, rows, sounds, folder)
        data.append(_data(f'rows-{place}-{number}', packed))
  if not parts:
    return [script.tag(False)]
  index = [
    {name: one[name] for name in ('label', 'steps', 'lower', 'percent')}
    for one in parts.values()
  ]
  for place, one in enumerate(parts.values()):
    data.append(_data(f'items-{place}', one['items']))
  return [script.PLACES, _data('parts', index), *data, script.tag(True)]


def _packed(part, rows, sounds, folder) -> list[list[Any]]:
  """Rows as short lists: [item, sum, of, text, sound]."""
  found = []
  for row in rows[:MOST_ROWS]:
    name = str(row.get('id', len(found)))
    if name not in part['ids']:
      part['ids'][name] = len(part['items'])
      part['items'].append([name, row.get('language', ''), _wanted(row)])
    text = next((row[key] for key in _TEXTS if row.get(key)), '')
    sound = ''
    if row.get('wav'):
      sound = urllib.parse.quote(f'{sounds}/{row["wav"]}')
    elif row.get('recording') and not files.is_address(folder):
      path = urllib.parse.quote(os.path.relpath(row['recording'], folder))
      start, end = row['recorded']
      sound = f'{path}#t={start:g},{end:g}'
    worth, of = intervals.pair(row) or (None, 1)
    place = part['ids'][name]
    found.append([place, worth, of, str(text), sound])
  return found


def _wanted(row: Mapping[str, Any]) -> str:
  """What was asked, and what is right."""
  right = row.get('reference') or ' / '.join(row.get('references', ()))
  asked = row.get('asked', '')
  return f'{asked} → {right}' if asked and asked != right else right


def _data(name: str, value: Any) -> str:
  text = json.dumps(value, ensure_ascii=False, separators=(',', ':'))
  # Nothing in a text may end the element, or open a comment.
  text = re.sub('[<>&]', lambda found: f'\\u{ord(found[0]):04x}', text)
  return f'<script type="application/json" id="{name}">{text}</script>'
