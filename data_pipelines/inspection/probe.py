"""`probe`: trains a classifier of how it is spoken, and asks it.

Lines of a corpus whose text is marked are the classes of an axis: `(happy 1)`
and `(happy 2)` are one, lines without a tag of the axis are `none`. What it is
worth is measured by speakers whom it has not heard (`style_probe.judged`).
"""

import collections
import os
from typing import Any, Mapping, NamedTuple

from absl import flags
import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.metrics import style_probe
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

NONE = 'none'  # class of lines without a tag
AXES = ('emotion', 'style', 'song', 'language', 'dialect', 'speed', 'pitch')


class Heard(NamedTuple):
  """Recordings of a corpus: figures (N, F), and of each class and speaker."""

  figures_NF: np.ndarray
  labels: list[str]
  speakers: list[str]


def hear(corpus: str | os.PathLike, axis: str, split: str | None) -> Heard:
  """What is spoken in a corpus, by the tags of an axis.

  Args:
    corpus: Its folder.
    axis: Of the tags.
    split: Of the lines; None for all.

  Raises:
    UserError: There are no such lines, one has no speaker, or a recording is
      wrong.
  """
  rows, labels, speakers = [], [], []
  lines = manifest.stream(corpus, kind='speech')
  for line in progress.bar(lines, label='figures', unit='utt'):
    if line.audio is None or split not in (None, line.split):
      continue
    label = _class_of(line.marked, axis)
    if label is None:
      continue
    try:
      if not line.speaker:
        raise errors.UserError('speaker: missing, expected who it is.')
      wave_S, _ = io.read_audio(line.audio_path(corpus), **line.part())
      rows.append(style_probe.figures(wave_S))
    except errors.UserError as error:
      raise errors.UserError(f'{corpus}: {line.id}: {error}') from error
    labels.append(label)
    speakers.append(line.speaker)
  if not rows:
    raise errors.UserError(
      f'{corpus}: no speech with recordings in it'
      f'{f" in the split {split!r}" if split else ""}, expected some.'
    )
  return Heard(np.stack(rows), labels, speakers)


def _class_of(marked: str | None, axis: str) -> str | None:
  """The class of a text; None where the style changes within it."""
  spans = markup.parse(marked or '')
  if len({span.style for span in spans}) > 1:
    return None
  tag = spans[0].style.of(axis)
  return tag.name if tag else NONE


def _train(fv) -> dict[str, Any]:
  files.check_writable(fv.output, '--output')
  heard = hear(fv.corpus, fv.axis, fv.split)
  told = style_probe.judged(*heard)
  told |= {
    'axis': fv.axis,
    'corpus': digests.of_file(manifest.path_of(fv.corpus)),
    'trained_on': dict(collections.Counter(heard.labels)),
  }
  print(
    f'{fv.axis}: right about {told["accuracy"]:.1%} of {told["recordings"]} '
    f'recordings by {told["speakers"]} speakers whom it had not heard (95 %: '
    f'{told["low"]:.1%} to {told["high"]:.1%}), by chance {told["chance"]:.1%}'
  )
  for name, share in told['right'].items():
    print(f'  {_english(name):<16}{share:>7.1%}')
  if told['low'] <= told['chance']:
    print('this is no better than chance; what the probe says is worth nothing')
  if not fv.dry_run:
    probe = style_probe.fit(heard.figures_NF, heard.labels)
    _told(probe, told).save(fv.output)
  return told


def _told(probe, told) -> style_probe.Probe:
  return style_probe.Probe(
    *(probe.classes, probe.mean_F, probe.scale_F, probe.weights_FC),
    *(probe.bias_C, told),
  )


def _ask(fv) -> dict[str, Any]:
  probe = style_probe.Probe.load(fv.probe)
  if not files.is_dir(fv.path):
    wave_S, _ = io.read_audio(fv.path)
    (found_C,) = probe.probabilities(style_probe.figures(wave_S)[None])
    found = dict(zip(probe.classes, found_C.round(4).tolist()))
    for name, share in sorted(found.items(), key=lambda pair: -pair[1]):
      print(f'{_english(name):<16}{share:>7.1%}')
    return {'probabilities': found}
  axis = probe.told.get('axis')
  if axis not in AXES:
    raise errors.UserError(
      f'{fv.probe}: told.axis: found {axis!r}, expected one of '
      f'{", ".join(AXES)}.'
    )
  heard = hear(fv.path, axis, fv.split)
  best_N = probe.probabilities(heard.figures_NF).argmax(1)
  counts: dict[str, collections.Counter] = {}
  for label, best in zip(heard.labels, best_N):
    heard_as = counts.setdefault(label, collections.Counter())
    heard_as[probe.classes[best]] += 1
  right = sum(found[label] for label, found in counts.items())
  share = right / len(heard.labels)
  print(f'{axis}: as marked in {share:.1%} of {len(heard.labels)} recordings')
  for label, found in counts.items():
    shown = ', '.join(f'{_english(k)} {n}' for k, n in found.most_common())
    print(f'  {_english(label):<16}heard as {shown}')
  return {
    'as_marked': round(share, 4),
    'heard_as': {label: dict(found) for label, found in counts.items()},
  }


def _english(name: str) -> str:
  known = {entry.name: entry.english for entry in tags.NAMES}
  return known.get(name, name)


def _define(fv: flags.FlagValues) -> None:
  def text(name, help_text):
    flags.DEFINE_string(name, None, help_text, flag_values=fv)

  text('corpus', 'Trains on this: a corpus with marked texts.')
  flags.DEFINE_enum(
    'axis', 'emotion', AXES, 'Of the tags that are classes.', flag_values=fv
  )
  text('output', 'The file that a trained probe is written to, .json.')
  text('probe', 'Asks this one, as --output wrote it.')
  text('path', 'What --probe is asked about: a recording, or a corpus.')
  text('split', 'Only lines of this split.')


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  given = [
    name for name in ('corpus', 'output', 'probe', 'path') if fv[name].value
  ]
  if given == ['corpus', 'output']:
    return _train(fv)
  if given == ['probe', 'path']:
    return _ask(fv)
  shown = ', '.join(f'--{name}' for name in given) or 'none of them'
  raise errors.UserError(
    f'probe: found {shown}, expected --corpus and --output to train, or '
    '--probe and --path to ask.'
  )


DOOR = cli.Door(
  summary="""Trains a classifier of how it is spoken, and asks it.

    python -m data_pipelines probe --corpus=data/tagged --axis=emotion \\
      --output=emotions.json
    python -m data_pipelines probe --probe=emotions.json --path=recording.wav
    python -m data_pipelines probe --probe=emotions.json --path=data/spoken

For what no meter of the signal tells (docs/voice_control.md). How often it is
right is told of speakers whom it has not heard, with chance beside it.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
