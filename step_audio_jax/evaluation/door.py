"""The `evaluate` door: a run directory in, scores beside its checkpoints."""

import sys
from typing import Any, Mapping

from absl import flags

from step_audio_jax.commands import cli
from step_audio_jax.evaluation import evaluate as evaluate_lib
from step_audio_jax.evaluation.metrics import counts


def _define(fv) -> None:
  flags.DEFINE_string(
    'checkpoints', None, 'Run directory of `train`.', flag_values=fv
  )
  flags.DEFINE_string(
    'steps',
    None,
    "'last', 'all', numbers such as 10,20, or 'every:N', the multiples of N.",
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'watch',
    False,
    'Go on with checkpoints as the run writes them, until it is over or '
    'Ctrl-C.',
    flag_values=fv,
  )
  flags.DEFINE_float(
    'pause', None, 'Seconds between looks of --watch.', flag_values=fv
  )
  flags.DEFINE_bool(
    'overwrite', False, 'Score again what was scored before.', flag_values=fv
  )


def _main(fv) -> dict[str, Any]:
  given = {
    name: value
    for name, value in (
      ('checkpoints', fv.checkpoints),
      ('steps', fv.steps),
      ('watch', fv.watch or None),
      ('pause', fv.pause),
      ('overwrite', fv.overwrite or None),
      ('dry_run', fv.dry_run or None),
    )
    if value is not None
  }
  result = cli.configure(fv, evaluate_lib.evaluate)(**given)
  if fv.dry_run:
    for step, done in result['steps'].items():
      verb = 'keep the scores of' if done else 'score'
      print(
        f'would {verb} step {step} of {result["run"]}{_which(result, step)}'
      )
    _tell(result)
    print(cli.operative_text())
    return result
  print(table(result['results'], result['units']))
  print('\nscored, of how many:')
  print('\n'.join(counts.describe_steps(result['counts'], result['left_out'])))
  for line in counts.not_computed(result['not_computed']):
    print(line)
  for judge in result['judges']:
    print(f'the stranger: {judge}')
  print(f'\ncurves: {result["page"]}')
  _tell(result)
  return result


def _which(result: dict[str, Any], step: int) -> str:
  """The parts of a step, where some are kept and some are not."""
  kept, scored = result['kept'][step], result['scored'][step]
  if not kept or not scored:
    return ''
  return f': {", ".join(scored)}; and keep {", ".join(kept)}'


def _tell(result: dict[str, Any]) -> None:
  for note in result['notes']:
    print(f'note: {note}', file=sys.stderr)


def table(
  results: dict[int, dict[str, float]], units: Mapping[str, str] | None = None
) -> str:
  """Metrics as rows, steps as columns.

  Args:
    results: Step → metric → value.
    units: Metric → unit; '%' of a fraction, as of all that are not named but
      perplexities.
  """
  units = units or {}

  def unit(name):
    return units.get(name, '' if name.startswith('perplexity') else '%')

  names = list(dict.fromkeys(n for m in results.values() for n in m))
  # Perplexities by source and stream are for the page and the file.
  names = [n for n in names if not n.startswith('perplexity/') or '/all/' in n]
  lines = [['', *(f'step {step}' for step in results)]]
  for name in names:
    cells = (metrics.get(name) for metrics in results.values())
    lines.append([name, *(_show(unit(name), cell) for cell in cells)])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def _show(unit: str, value: float | None) -> str:
  if value is None:
    return ''
  if unit == '%':
    return f'{100 * value:.1f} %'
  return f'{value:.2f} {unit}'.rstrip()


DOOR = cli.Door(
  summary=(
    "Scores a run's checkpoints: perplexity of every stream, ASR and TTS "
    'character error rates, what a stranger understands, captions.\n\nWrites '
    'RUN/evaluation/<step>.json, and over all steps summary.json, table.md, '
    'table.tex, rows/, tensorboard/ and index.html beside them; what was '
    'scored on the same data, parameters and settings is kept.\n\nexample: '
    'python -m step_audio_jax evaluate --gin_file=gin/eval/speech_text.gin '
    '--checkpoints=runs/stage1 --steps=all'
  ),
  main=_main,
  define=_define,
)
