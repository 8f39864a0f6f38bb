"""All figures of all steps of a run: `summary.json`.

Made of what is kept alone: two sweeps that kept the same have the same bytes,
whatever the order, the clock and the kills.
"""

import dataclasses
import pathlib
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.sweeps import intervals
from step_audio_jax.evaluation.sweeps import published as published_lib

NAME = 'summary.json'


class Step(NamedTuple):
  """A checkpoint as it is shown.

  Attributes:
    parts: That are kept of it.
    shown: Their figures, with intervals where there are rows.
    rows: Of each part, in the order of `parts`.
    names: Figure that the rows of each part make; '' of none.
    sounds: Folder that the sounds of each part lie in.
  """

  parts: Sequence[Mapping[str, Any]]
  shown: family_lib.Shown
  rows: Sequence[Sequence[Mapping[str, Any]]]
  names: Sequence[str]
  sounds: Sequence[str]


def with_intervals(
  shown: family_lib.Shown,
  rows: Mapping[str, Sequence[Mapping[str, Any]]],
  remembered: Callable[[str, Callable[[], Any]], Any] = lambda _, make: make(),
) -> family_lib.Shown:
  """Figures with the intervals that their rows tell.

  Args:
    shown: Figures.
    rows: Figure → rows that it is made of.
    remembered: Name and what makes a value → the value, or the one before.
  """
  figures = dict(shown.figures)
  for name, some in rows.items():
    figure, pair = figures.get(name), intervals.columns(some)
    if figure is None or figure.low is not None or pair is None:
      continue
    found = remembered(name, lambda pair=pair: intervals.interval(*pair))
    if found:
      low, high = found
      figures[name] = dataclasses.replace(figure, low=low, high=high)
  return shown._replace(figures=figures)


def build(
  run: pathlib.Path,
  steps: Mapping[int, Step],
  not_computed: Mapping[str, str],
  unreadable: Mapping[int, str],
  published: Mapping[str, published_lib.Published],
) -> dict[str, Any]:
  """The summary, JSON-able.

  Args:
    run: Run directory.
    steps: By number.
    not_computed: Figure → why there is none, whatever the step.
    unreadable: Step → why it is not scored.
    published: Figure → what others say of themselves.
  """
  return {
    'run': str(run),
    'convention': scoring.CONVENTION,
    'convention_version': scoring.VERSION,
    'steps': {
      str(number): _of_step(steps[number], not_computed)
      for number in sorted(steps)
    },
    'changes': changes(steps),
    'unreadable': {
      str(number): unreadable[number] for number in sorted(unreadable)
    },
    'published': {
      name: {'values': dict(one.values), 'doubt': one.doubt}
      for name, one in sorted(published.items())
    },
  }


def _of_step(step: Step, not_computed) -> dict[str, Any]:
  shown = step.shown
  there = {*shown.sections, *shown.figures}
  reasons = {**not_computed, **shown.not_computed}
  return {
    'model': step.parts[0]['model'] if step.parts else None,
    'figures': {
      name: dataclasses.asdict(figure) for name, figure in shown.figures.items()
    },
    'counts': dict(shown.counts),
    'judges': list(shown.judges),
    'not_computed': {n: r for n, r in reasons.items() if n not in there},
    'left_out': left_out(step),
    'parts': [
      {name: part[name] for name in ('task', 'name', 'condition')}
      for part in step.parts
    ],
  }


def changes(steps: Mapping[int, Step]) -> dict[str, dict[str, Any]]:
  """How the newest step differs from the one before it, by figure.

  Of the rows that both have; the page does so for any two steps.
  """
  numbers = sorted(steps)[-2:]
  if len(numbers) < 2:
    return {}
  first, second = (
    {name: rows for name, rows in zip(one.names, one.rows) if name}
    for one in map(steps.get, numbers)
  )
  found = {}
  for name in first.keys() & second.keys():
    told = intervals.compare(first[name], second[name])
    if told is not None:
      found[name] = {'from': numbers[0], 'to': numbers[1], **told}
  return {name: found[name] for name in sorted(found)}


def left_out(step: Step) -> dict[str, str]:
  """Part → why the model cannot be scored on it."""
  return {
    f'{part["task"]}/{part["name"]}': part['left_out']
    for part in step.parts
    if part['left_out']
  }
