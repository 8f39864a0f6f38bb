"""Curves of every figure over the steps of a run, and over its stages."""

import pathlib
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.evaluation.pages import svg
from step_audio_jax.evaluation.sweeps import results
from step_audio_jax.evaluation.sweeps import summary
from step_audio_jax.storage import files

Figures = Mapping[str, Mapping[str, Any]]  # name → value, unit, better
_ALL = 'perplexity/all/'
_MOST_STAGES = 16


def groups(figures: Figures) -> dict[str, list[str]]:
  """Title → names of the figures that are drawn together.

  Error rates of one kind, the streams of one source of rows, and the figures
  of one benchmark that have one unit.
  """
  found: dict[str, list[str]] = {}
  streams = [
    f'{_ALL}{s}' for s in perplexity.STREAMS if f'{_ALL}{s}' in figures
  ]
  for name, figure in figures.items():
    first, _, rest = name.partition('/')
    if '_cer/' in name or name == 'caption_cer':
      title = 'Character error rate'
    elif name.startswith(_ALL):
      if name not in streams:
        continue
      title = 'Perplexity'
    elif first == 'perplexity':
      title = f'Perplexity of {rest.rpartition("/")[0]}'
    else:
      # Percents are told at the axis.
      unit = figure['unit'].removeprefix('%')
      title = f'{first}, {unit}' if unit else first
    found.setdefault(title, []).append(name)
  if streams:
    found['Perplexity'] = streams
  # More lines than colours are two charts.
  return {
    title if not n else f'{title}, {n // svg.COLOURS + 1}':
      names[n : n + svg.COLOURS]
    for title, names in found.items()
    for n in range(0, len(names), svg.COLOURS)
  }  # fmt: skip


def draw(
  figures: Mapping[int, Figures],
  marks: Sequence[tuple[float, str]] = (),
  x_label: str = 'step',
) -> str:
  """Charts of all figures.

  Args:
    figures: x → figures.
    marks: (x, name) of vertical lines.
    x_label: Below the axis.
  """
  known: dict[str, Mapping[str, Any]] = {}
  for one in figures.values():
    known.update(one)
  drawn = []
  for title, names in groups(known).items():
    percent = known[names[0]]['unit'] == '%'
    lines = []
    for name in names:
      points = [
        (x, one[name]['value'])
        for x, one in sorted(figures.items())
        if name in one and one[name]['value'] is not None
      ]
      scale = 100.0 if percent else 1.0
      lines.append(
        svg.Series(
          _short(name, title),
          [x for x, _ in points],
          [scale * y for _, y in points],
        )
      )
    drawn.append(
      svg.line_chart(
        lines,
        title=title,
        x_label=x_label,
        y_label='%' if percent else '',
        log_y=title.startswith('Perplexity'),
        marks=marks,
        dots=True,
      )
    )
  return f'<div class="charts">{"".join(drawn)}</div>'


def _short(name: str, title: str) -> str:
  if title.startswith('Perplexity'):
    return name.rpartition('/')[2]
  if name == 'caption_cer':
    return 'captions'
  if title.startswith('Character'):
    return name.replace('_cer/', ' ')
  return name.partition('/')[2] or name


def stages(
  run: pathlib.Path, mine: Mapping[int, Figures]
) -> tuple[dict[int, Figures], list[tuple[float, str]]]:
  """Figures of a run behind those of the runs that it came from.

  A run came from the first of its `init_from` that is a run and was scored.
  Steps add up: a stage begins where the one before it ended.

  Args:
    run: Run directory.
    mine: Its figures by step.

  Returns:
    (figures by sum of steps, where each stage begins), empty where no run
    before it was scored.
  """
  chain = [(run.name, mine)]
  place, seen = run, {str(run)}
  while len(chain) < _MOST_STAGES:
    before = _before(place)
    if before is None or str(before) in seen:
      break
    seen.add(str(before))
    found = _summary(before)
    if not found:
      break
    chain.insert(0, (before.name, found))
    place = before
  if len(chain) == 1:
    return {}, []
  joined, marks, start = {}, [], 0
  for name, figures in chain:
    marks.append((float(start), name))
    joined |= {start + step: one for step, one in figures.items()}
    start += max(figures, default=0)
  return joined, marks


def _before(run: pathlib.Path) -> pathlib.Path | None:
  path = run / 'config.json'
  try:
    config = files.read_json(path) if files.is_file(path) else {}
    named = config.get('init_from') or ()
  except (errors.UserError, AttributeError):
    return None
  for one in named:
    place = files.path(one)
    if files.is_file(place / 'config.json'):
      return place
  return None


def _summary(run: pathlib.Path) -> dict[int, Figures]:
  path = run / results.FOLDER / summary.NAME
  try:
    found = files.read_json(path) if files.is_file(path) else {'steps': {}}
    return {int(n): one['figures'] for n, one in found['steps'].items()}
  except (errors.UserError, KeyError, TypeError, ValueError):
    return {}
