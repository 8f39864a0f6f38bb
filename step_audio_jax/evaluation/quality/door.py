"""The `measure` door: recordings in, figures of their sound out."""

import dataclasses
from typing import Any, Mapping

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import files

_NAMES = ('quality.jsonl', 'quality.json', 'quality.md')


def paired(
  found: Mapping[str, Any], references: Mapping[str, Any]
) -> list[Any]:
  """Recordings with those of the same name as their references."""
  return [
    dataclasses.replace(one, reference=references[name].path)
    if name in references
    else one
    for name, one in found.items()
  ]


def markdown(told: Mapping[str, Any]) -> str:
  """The summary as a table."""
  lines = [
    '| figure | mean | 95 % interval | deviation | n | not computed |',
    '|' + '---|' * 6,
  ]
  for name, one in told['figures'].items():
    mean, low, high, deviation = (
      f'{one[key]:.4g}' if one['n'] else ''
      for key in ('mean', 'low', 'high', 'deviation')
    )
    sure = f'{low} to {high}' if one['n'] else ''
    lacking = '; '.join(
      f'{count}: {reason}' for reason, count in one['not_computed'].items()
    )
    lines.append(
      f'| {name} | {mean} | {sure} | {deviation} | {one["n"]} | {lacking} |'
    )
  left_out = ''.join(
    f'; left out: {count}, {reason}'
    for reason, count in told['left_out'].items()
  )
  lines.append(
    f'\n{told["measured"]} of {told["recordings"]} recordings, '
    f'{told["seconds"]:.1f} s{left_out}'
  )
  return '\n'.join(lines) + '\n'


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  from step_audio_jax.evaluation.memory import identity
  from step_audio_jax.evaluation.quality import batch
  from step_audio_jax.evaluation.quality import quality
  from step_audio_jax.evaluation.quality import sources

  folder = files.check_writable(fv.output, '--output', folder=True)
  groups = tuple(fv.groups or quality.GROUPS)
  quality.check_groups(groups)
  found = sources.read(fv.audio, '--audio')
  matched = list(found.values())
  if fv.reference:
    references = sources.read(fv.reference, '--reference')
    if not set(found) & set(references):
      raise errors.UserError(
        f'--reference={fv.reference}: found no recording of a name that '
        f'--audio={fv.audio} has, expected the same names in both.'
      )
    matched = paired(found, references)
  lone = sum(one.reference is None for one in matched)
  facts = {
    'recordings': len(matched),
    'with_reference': len(matched) - lone,
    'groups': list(groups),
    'output': str(folder),
  }
  if fv.dry_run:
    print(
      f'would measure {len(matched)} recordings, {len(matched) - lone} of '
      f'them against a reference, into {folder}'
    )
    return {'dry_run': True, **facts}
  rows = batch.measure_files(
    matched, groups=groups, speaker=fv.speaker, processes=fv.processes
  )
  told = {**batch.summary(rows), 'speaker': None}
  if fv.speaker:
    memory = identity.DigestCache(folder)
    told['speaker'] = {'path': fv.speaker, 'digest': memory.tree(fv.speaker)}
  files.make_folder(folder)
  files.write_jsonl(folder / _NAMES[0], rows)
  files.write_json(folder / _NAMES[1], told)
  text = markdown(told)
  with files.atomic(folder / _NAMES[2], 'w') as handle:
    handle.write(text)
  print(text, end='')
  return facts | told


def _define(fv: flags.FlagValues) -> None:
  for name, help_text in (
    (
      'audio',
      'Folder of recordings, or a JSONL file of rows with `wav` and '
      'optionally `id`, `text`, `codes`, `reference_wav`.',
    ),
    ('output', 'Folder that gets quality.jsonl, quality.json, quality.md.'),
  ):
    flags.DEFINE_string(name, None, help_text, flag_values=fv, required=True)
  for name, help_text in (
    ('reference', 'Where recordings of the same names are that they are to be '
     'like, as --audio.'),
    ('speaker', 'Whose speaker encoder compares voices: a run of '
     'gin/decoder/speaker.gin, or a speech decoder that has one.'),
  ):  # fmt: skip
    flags.DEFINE_string(name, None, help_text, flag_values=fv)
  flags.DEFINE_list(
    'groups',
    None,
    'Only these figures: levels, voice, dnsmos, intelligibility, spectrum, '
    'pitch, speaker; by default all.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'processes', 1, 'That share the work.', lower_bound=1, flag_values=fv
  )


DOOR = cli.Door(
  summary="""Measures recordings without people: levels, pitch, DNSMOS; against
references STOI, mel and F0 distances, speaker similarity.

    python -m step_audio_jax measure --audio=out/wavs --reference=data/wavs \\
      --speaker=runs/decoder --output=out/quality

What cannot be computed is told with the reason, and never replaced.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
