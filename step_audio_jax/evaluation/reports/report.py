"""The `report` door: runs in order in, report.html and report.json out."""

import sys
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.evaluation import evaluate as evaluate_lib
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import stranger
from step_audio_jax.evaluation.reports import aligned
from step_audio_jax.evaluation.reports import facts
from step_audio_jax.evaluation.reports import page
from step_audio_jax.storage import files


def report(
  *,
  runs: Sequence[str],
  output: str,
  title: str = 'Training report',
  stage_runs: Sequence[str] = (),
  asr_split: str = 'test',
  stage_split: str = '',
  unseen_split: str = 'test_unseen_voice',
  tts_split: str = 'test',
  rows: str | None = None,
  row_prefix: str = '',
  row_split: str = 'train',
  manifest: str | None = None,
  players: int = 6,
  timing: str | None = None,
  answers: str | None = None,
  judged: str | None = None,
  samples: str | None = None,
  policies: Sequence[str] = (),
  targets: Mapping[str, float] | None = None,
  remarks: Sequence[str] = (),
  dry_run: bool = False,
) -> dict[str, Any]:
  """Collects runs and their scores into one page and one JSON file.

  Args:
    runs: Run directories in the order in which they were trained; scores are
      taken from the newest scored checkpoint of each.
    output: Folder of `report.html` and `report.json`.
    title: Headline.
    stage_runs: Names (last part of the path) of the runs whose ASR makes
      `asr_cer_by_stage`; empty means those that begin with "stage".
    asr_split: Split of seen voices, for the figures of the last run.
    stage_split: Split of `asr_cer_by_stage`; empty means `asr_split`. A test
      split that only the last run meets goes with 'dev' here.
    unseen_split: Split of a voice that training never heard.
    tts_split: Split of the TTS round trip.
    rows: Folder of built rows, for the padding; None leaves it out.
    row_prefix: Before each source's name there.
    row_split: Split that was trained on.
    manifest: Corpus folder, for the audio players; None leaves them out.
    players: Utterances with a player, of each of the two ASR splits.
    timing: JSON file {started, commands: [{name, seconds, command}],
      wall_seconds, peak_memory_bytes}; None leaves it out.
    answers: What the `answer` door wrote; None leaves it out.
    judged: Folder that the `judge` door wrote; None leaves it out.
    samples: What the `sample` door wrote of two runs; None leaves it out.
    policies: Those runs, before and behind the training of the policy.
    targets: Key of the report → its limit, the most, or the least where more
      is better; colours the figures.
    remarks: Sentences for the head of the page.
    dry_run: Write nothing.

  Returns:
    The content of report.json. Error rates, shares and padding are fractions
    (0.05 is 5 %).

  Raises:
    UserError: A run directory or a file that is named does not exist.
  """
  for run in runs:
    if not files.is_dir(run):
      raise errors.UserError(
        f'{run}: no such run directory; report needs the runs in order.'
      )
  if samples is not None and len(set(policies)) != 2:
    raise errors.UserError(
      f'report: policies are {", ".join(policies) or "none"}, expected two '
      'runs, before and behind the training of the policy.'
    )
  folder = files.check_writable(output, 'output', folder=True)
  origins.compare(runs)
  clock = facts.timing(timing)
  stages, results = [], []
  for run in runs:
    result, curve = facts.newest_result(run), facts.curve(run)
    results.append(result)
    losses = curve.get('loss', ([], []))
    stages.append(
      {
        'name': files.path(run).name,
        'run': str(run),
        'steps': losses[0][-1] if losses[0] else 0,
        'loss': losses[1][-1] if losses[1] else None,
        'scored_step': result.get('step'),
        'asr_cer': facts.cer(result, 'asr', stage_split or asr_split),
        'asr_cer_unseen_voice': facts.cer(result, 'asr', unseen_split),
        'tts_cer': facts.cer(result, 'tts', stage_split or tts_split),
        'caption_exact': result.get('captions', {}).get('exact'),
        'counts': result.get('counts', {}),
        'left_out': result.get('left_out', {}),
        'perplexity': {
          stream: figures['perplexity']
          for stream, figures in result.get('perplexity', {})
          .get('all', {})
          .items()
        },
        'text_perplexity': facts.text_perplexity(result, f'{row_prefix}text'),
        'shares': facts.shares(run),
        **facts.vocabulary_origin(run),
      }
    )
  in_stages = [
    s
    for s in stages
    if (
      s['name'] in stage_runs if stage_runs else s['name'].startswith('stage')
    )
  ]
  tables = [s['shares'] for s in stages]
  gaps = [line['error_rows'] for table in tables for line in table]
  values = {
    'wall_seconds': clock.get('wall_seconds'),
    'peak_memory_bytes': clock.get('peak_memory_bytes'),
    'asr_cer': _last(results, 'asr', asr_split),
    'asr_cer_by_stage': [s['asr_cer'] for s in in_stages],
    'asr_cer_unseen_voice': _last(results, 'asr', unseen_split),
    'tts_cer': _last(results, 'tts', tts_split),
    'sound_cer': _last(results, 'sound', tts_split),
    **_sound(results, tts_split),
    **facts.strangers(results, tts_split),
    **facts.answered(answers),
    **aligned.figures(judged, samples, policies),
    'forgetting': facts.forgetting(stages),
    'share_error_rows': max(gaps, default=None),
    'padding': (
      facts.padding(tables, rows, prefix=row_prefix, split=row_split)
      if rows is not None
      else None
    ),
    'counts': {
      key: found
      for key, task, split in (
        ('asr_cer', 'asr', asr_split),
        ('asr_cer_unseen_voice', 'asr', unseen_split),
        ('tts_cer', 'tts', tts_split),
        ('sound_cer', 'sound', tts_split),
        *((task, task, tts_split) for task in stranger.TASKS),
      )
      if (found := _count(results, task, split))
    },
    'remarks': [*remarks, *facts.corpus_notes(manifest)],
    'notes': facts.comparability_warnings(
      [(s['name'], s['run'], r) for s, r in zip(stages, results)]
    ),
    'title': title,
    'stage_split': stage_split or asr_split,
    'stages': stages,
    'commands': clock.get('commands', []),
    'targets': dict(targets or {}),
  }
  if dry_run:
    return values
  text = page.render(
    values,
    runs,
    splits=(asr_split, unseen_split, tts_split),
    manifest=manifest,
    players=players,
    policy=policies[-1] if policies else None,
  )
  with files.atomic(folder / 'report.html', 'w') as handle:
    handle.write(text)
  files.write_json(folder / 'report.json', values)
  return {**values, 'page': str(folder / 'report.html')}


def _sound(results, split: str) -> dict[str, str | None]:
  """Who spoke in the last run that has sound, and where it lies."""
  for result in reversed(results):
    if split in result.get('sound', {}):
      return {
        'vocoder': result['sound'][split]['vocoder'],
        'sound_folder': str(
          evaluate_lib.sound_folder(result['run'], result['step'])
        ),
      }
  return {'vocoder': None, 'sound_folder': None}


def _last(results, task: str, split: str) -> float | None:
  """The error rate of the last run that was scored on a split."""
  rates = (facts.cer(result, task, split) for result in reversed(results))
  return next((rate for rate in rates if rate is not None), None)


def _count(results, task: str, split: str) -> dict[str, Any] | None:
  """How many of how many the error rate of `_last` holds."""
  for result in reversed(results):
    if facts.cer(result, task, split) is not None:
      return result.get('counts', {}).get(f'{task}_cer/{split}')
  return None


def _main(fv) -> dict[str, Any]:
  result = cli.configure(fv, report)(
    **({'dry_run': True} if fv.dry_run else {})
  )
  for key, text in page.FIGURES.items():
    value = result.get(key)
    if value is not None:
      counted = result['counts'].get(key)
      over = f'  over {counts.describe(counted)}' if counted else ''
      print(f'{text:<44}{page.format_figure(key, value)}{over}')
  for line in counts.not_computed(result['not_computed']):
    print(line)
  for judge in result['judges']:
    print(f'the stranger: {judge}')
  for note in (*result['remarks'], *result['notes']):
    print(f'note: {note}', file=sys.stderr)
  if fv.dry_run:
    print(cli.operative_text())
  else:
    print(f'report: {result["page"]}')
  return result


DOOR = cli.Door(
  summary=(
    'Draws finished runs and their scores as one self-contained page, '
    'report.html, and writes the figures to report.json.\n\nexample: '
    'python -m step_audio_jax report --gin_file=gin/eval/report.gin '
    '--gin.OUTPUT=\'"runs/mine"\' --gin.RUNS=\'["runs/mine/stage1"]\''
  ),
  main=_main,
)
