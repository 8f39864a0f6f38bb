"""`inspect --style`: how a corpus, or a recording, is spoken, by meters.

Lines whose text is marked (`manifest.Utterance.marked`) are grouped by the
level of each axis of tags, those without tags at level 0, and each axis is told
by its meter: medians, whether they rise with the level, and how many pooled
standard errors lie between neighbours (`styles.separation`). A line that is
marked on two axes is compared on neither.

People differ more than levels do. So where every speaker of an axis has lines
without tags, what is compared is the difference from the speaker's own median
of these, above the median of all speakers'.
"""

import collections
import dataclasses
import html
import pathlib
from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io
from step_audio_jax.audio.meters import measure as measure_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.pages import page
from step_audio_jax.evaluation.pages import svg
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import separation as separation_lib

AXES = tuple(measure_lib.METERS)
Levels = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Spoken:
  """What was measured of one line.

  Attributes:
    speaker: Who speaks.
    levels: The level of each axis; 0 where no tag is of it.
    measured: All meters.
  """

  speaker: str | None
  levels: Levels
  measured: measure_lib.Measured


def levels_of(marked: str | None) -> dict[str, int] | None:
  """The level of each axis in a marked text.

  Of pauses it is that of the longest.

  Returns:
    None where the style changes within the text: no level is that of all.
  """
  spans = markup.parse(marked or '')
  if len({span.style for span in spans}) > 1:
    return None
  found = {axis: spans[0].style.level(axis) for axis in AXES}
  return found | {'pause': max(span.pause for span in spans)}


def measure_file(path: pathlib.Path) -> dict[str, Any]:
  """Measures one recording and prints its meters."""
  wave_S, rate = io.read_audio(path)
  measured = measure_lib.measure(wave_S, rate).to_json()
  for name, value in measured.items():
    if name != 'notes':
      print(f'{name:<16}{_shown(value):>14}')
  for note in measured['notes']:
    print(f'note: {note}')
  return measured


def measure_corpus(path: pathlib.Path, most: int | None = None) -> list[Spoken]:
  """Measures the speech of a corpus.

  Args:
    path: Its folder.
    most: Lines, at most; None for all.

  Raises:
    UserError: There is no speech in it, or a recording is wrong.
  """
  found = []
  lines = (u for u in manifest.stream(path, kind='speech') if u.audio)
  for utterance in progress.bar(lines, label='meters', unit='utt'):
    if most is not None and len(found) >= most:
      break
    levels = levels_of(utterance.marked)
    if levels is None:
      continue
    try:
      wave_S, rate = io.read_audio(
        utterance.audio_path(path), **utterance.part()
      )
      measured = measure_lib.measure(
        wave_S, rate, utterance.text, utterance.words
      )
    except errors.UserError as error:
      raise errors.UserError(f'{path}: {utterance.id}: {error}') from error
    found.append(Spoken(utterance.speaker, levels, measured))
  if not found:
    raise errors.UserError(
      f'{path}: no speech with recordings in it, in one style each; expected '
      'some to measure.'
    )
  return found


def compare(spoken: list[Spoken]) -> dict[str, Any]:
  """What is known of each axis that has levels, and of what has none.

  Returns:
    'axes': axis → meter, unit, whether speakers were set off, and
    `Separation.to_json`, or why there is none; 'neutral': quartiles of the
    meters of lines without tags.
  """
  axes = {}
  for axis, meter in measure_lib.METERS.items():
    groups = collections.defaultdict(list)
    for one in spoken:
      if not any(one.levels[other] for other in AXES if other != axis):
        groups[one.levels[axis]].append(one)
    if set(groups) - {0}:
      axes[axis] = _axis(axis, meter, groups)
  neutral = [one for one in spoken if not any(one.levels.values())]
  return {
    'measured': len(spoken),
    'mixed': sum(sum(map(bool, one.levels.values())) > 1 for one in spoken),
    'axes': axes,
    'neutral': {
      meter: _quartiles(neutral, meter) for meter in measure_lib.UNITS
    },
  }


def _axis(axis, meter, groups) -> dict[str, Any]:
  unit = measure_lib.UNITS[meter]
  if meter == 'rate':
    kinds = {one.measured.unit for group in groups.values() for one in group}
    unit = f'{" or ".join(sorted(kinds))} / s'
  base = _bases(groups, meter)
  values = {}
  for level, group in groups.items():
    pairs = [(one.speaker, getattr(one.measured, meter)) for one in group]
    values[level] = [
      None if value is None else value - base.get(speaker, 0.0)
      for speaker, value in pairs
    ]
  result = {'meter': meter, 'unit': unit, 'by_speaker': bool(base)}
  try:
    return result | separation_lib.separation(values, axis).to_json()
  except errors.UserError as error:
    return result | {'why': str(error)}


def _bases(groups, meter) -> dict[str | None, float]:
  """What each speaker is above the median of all; {} if one is not known."""
  without = collections.defaultdict(list)
  for one in groups.get(0, ()):
    if (value := getattr(one.measured, meter)) is not None:
      without[one.speaker].append(value)
  speakers = {one.speaker for group in groups.values() for one in group}
  if len(speakers) < 2 or speakers - set(without):
    return {}
  medians = {who: float(np.median(some)) for who, some in without.items()}
  middle = float(np.median(list(medians.values())))
  return {who: value - middle for who, value in medians.items()}


def _quartiles(spoken, meter) -> list[float] | None:
  values = [getattr(one.measured, meter) for one in spoken]
  values = [value for value in values if value is not None]
  if not values:
    return None
  return [float(f'{v:.5g}') for v in np.percentile(values, (25, 50, 75))]


def show(result: Mapping[str, Any]) -> None:
  """Prints what `compare` found."""
  for meter, quartiles in result['neutral'].items():
    told = 'not computed'
    if quartiles:
      told = '{:g} ({:g} to {:g})'.format(*(quartiles[k] for k in (1, 0, 2)))
    unit = measure_lib.UNITS[meter]
    print(f'without tags, {meter}: {told} {unit}'.rstrip())
  for axis, told in result['axes'].items():
    if why := told.get('why'):
      print(f'{axis}: not compared: {why}')
      continue
    print(f'{axis}: {told["meter"]}, {_verdict(told)}')
    steps = [None, *told['steps']]
    for k, level in enumerate(told['levels']):
      step = f'{steps[k]:+.1f} standard errors' if steps[k] is not None else ''
      print(
        f'  {level:>+3} {told["counts"][k]:>6} lines {told["medians"][k]:>10g} '
        f'{told["unit"]}  {step}'.rstrip()
      )


def write(target: str, title: str, result: Mapping[str, Any]) -> None:
  """Writes the page: a chart for each axis, and the numbers."""
  charts, tables = [], []
  for axis, told in result['axes'].items():
    if 'why' in told:
      tables.append(f'<p class="quiet">{html.escape(told["why"])}</p>')
      continue
    places = list(range(len(told['levels'])))
    names = [f'{level:+d}' if level else '0' for level in told['levels']]
    low, high = zip(*told['quartiles'])
    charts.append(
      svg.line_chart(
        [
          svg.Series('median', places, told['medians']),
          svg.Series('upper quartile', places, high),
          svg.Series('lower quartile', places, low),
        ],
        title=f'{axis}: {_verdict(told)}',
        x_label='level',
        y_label=f'{told["meter"]} {told["unit"]}'.strip(),
        dots=True,
        x_names=names,
      )
    )
    tables.append(f'<h2>{html.escape(axis)}</h2>')
    tables.append(
      page.table(
        ('level', 'lines', 'median', 'from the level below, standard errors'),
        [
          (int(level), count, median, step)
          for level, count, median, step in zip(
            told['levels'],
            told['counts'],
            told['medians'],
            [None, *told['steps']],
          )
        ],
      )
    )
  body = f'<h1>{html.escape(title)}</h1>'
  body += f'<div class="charts">{"".join(charts)}</div>{"".join(tables)}'
  with files.atomic(target, 'w') as handle:
    handle.write(page.page(title, body))


def _verdict(told: Mapping[str, Any]) -> str:
  """Whether the levels can be told apart, in words."""
  if told['separate']:
    return 'levels separate'
  return 'levels in order, too close' if told['ordered'] else 'not in order'


def _shown(value: Any) -> str:
  return 'not computed' if value is None else str(value)
