"""What a run, or a stage over built rows, is fed of each source.

Shares over any window of rows against those that were asked for, and the
passes over each source that a budget of tokens makes.
"""

import dataclasses
from fractions import Fraction
import json
import math
import pathlib
from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.corpus import epochs
from step_audio_jax.corpus import schedule as schedule_lib
from step_audio_jax.corpus import stages
from step_audio_jax.storage import files

_SOME_ROWS = 10_000  # the window where nothing else says one


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is drawn from.

  Attributes:
    schedule: The order of sources.
    sizes: Source → stored rows.
    row_length: Tokens of a row.
    budget: Tokens of the whole, or None.
    consumed: Source of every row that a run recorded, or None.
    note: On the budget, or ''.
  """

  schedule: schedule_lib.Schedule | schedule_lib.Curriculum
  sizes: Mapping[str, int]
  row_length: int
  budget: float | None
  consumed: np.ndarray | None = None
  note: str = ''


def of_run(run: pathlib.Path) -> Plan:
  """The plan of a run directory; what it recorded, where it is done.

  Raises:
    UserError: Its `config.json` says nothing of sources.
  """
  config = files.read_json(run / 'config.json')
  feed = config.get('feed') or {}
  sources = feed.get('sources')
  if not sources:
    raise errors.UserError(
      f'{run}/config.json: feed.sources is missing; expected a run that was '
      'fed from rows.'
    )
  names = [one['name'] for one in sources]
  phases = feed.get('phases') or [
    {'row': 0, 'shares': [one['share'] for one in sources]}
  ]
  mixtures = [
    (phase['row'], dict(zip(names, map(Fraction, phase['shares']))))
    for phase in phases
  ]
  order = schedule_lib.create(mixtures if len(mixtures) > 1 else mixtures[0][1])
  consumed = None
  if files.is_file(run / 'sources.npy'):
    with files.opened(run / 'sources.npy') as handle:
      consumed = np.load(handle, allow_pickle=False)
  return Plan(
    schedule=order,
    sizes={one['name']: one['rows'] for one in sources},
    row_length=feed['row_length'],
    budget=config['steps'] * feed['batch_size'] * feed['row_length'],
    consumed=consumed,
  )


def of_rows(
  rows: pathlib.Path,
  *,
  stage: str | None,
  ratios: str | None = None,
  prefix: str = '',
  split: str = 'train',
  batch_size: int = 1,
) -> Plan:
  """The plan of a stage over a folder of row folders.

  Args:
    rows: Holds `<prefix><task>/<split>`.
    stage: A key of `stages.STAGES`; None takes the ratios alone.
    ratios: JSON: {task: share}, or [[step, {task: share}], …].
    prefix: Before each task's name.
    split: Which split.
    batch_size: Rows of a step, where ratios change at steps.

  Raises:
    UserError: There is no such stage, a task has no rows, or row lengths
      differ.
  """
  mixture = _parsed(ratios)
  if stage is not None:
    mixture = stages.ratios(stage, mixture)
  elif not mixture:
    raise errors.UserError(
      '--stage: missing; expected a stage, or shares by --ratios.'
    )
  order = schedule_lib.create(mixture, batch_size)
  sizes, lengths = {}, {}
  for name in order.names:
    folder = rows / f'{prefix}{name}' / split
    stats = files.read_json(folder / 'stats.json')
    if not stats.get('rows'):
      raise errors.UserError(
        f'{folder}/stats.json: rows is {stats.get("rows")}, expected some; '
        f'the ratio names the task {name!r}.'
      )
    sizes[name], lengths[name] = stats['rows'], stats['length']
  if len(set(lengths.values())) > 1:
    raise errors.UserError(
      f'{rows}: row lengths differ between tasks ({lengths}); build them with '
      'one length.'
    )
  length = next(iter(lengths.values()))
  budget, note = stages.TOKEN_BUDGETS.get(stage), ''
  if budget and stage not in stages.PUBLISHED_BUDGETS:
    note = "; this project's own, not published"
  return Plan(order, sizes, length, budget, note=note)


def _parsed(ratios: str | None) -> Any:
  if not ratios:
    return {}
  try:
    value = files.parsed(ratios)
  except json.JSONDecodeError as error:
    raise errors.UserError(
      f'--ratios: found {ratios!r}, expected JSON: {error}.'
    ) from error
  if not isinstance(value, dict) and not schedule_lib.is_curriculum(value):
    raise errors.UserError(
      f'--ratios: found {ratios!r}, expected {{"task": share}}, or [[step, '
      '{"task": share}], …].'
    )
  return value


def print_table(
  plan: Plan,
  *,
  start: int = 0,
  stop: int | None = None,
  budget: float | None = None,
  most_epochs: float = epochs.MOST_EPOCHS,
) -> dict[str, Any]:
  """Prints the table; returns it.

  Args:
    plan: What is drawn from.
    start: First row of the window.
    stop: One past its last row; by default that of the run or the budget.
    budget: Tokens; by default the plan's.
    most_epochs: More passes over a source are warned of.

  Raises:
    UserError: The window is empty, or longer than what a run recorded.
  """
  note = plan.note if budget is None else ''
  budget = plan.budget if budget is None else budget
  if budget is not None and not 0 < budget < math.inf:
    raise errors.UserError(f'--budget: found {budget}, expected tokens > 0.')
  whole = None if budget is None else math.ceil(budget / plan.row_length)
  done = None if plan.consumed is None else len(plan.consumed)
  stop = (done or whole or _SOME_ROWS) if stop is None else stop
  if not 0 <= start < stop:
    raise errors.UserError(
      f'--start, --stop: found {start}, {stop}, expected rows with 0 <= start '
      '< stop.'
    )
  if done is not None and stop > done:
    raise errors.UserError(
      f'--stop: found {stop}, expected at most {done}, the rows that the run '
      'recorded.'
    )
  table = epochs.by_source(
    plan.schedule, plan.sizes, plan.row_length, start, stop, plan.consumed
  )
  result = {
    'window': [start, stop],
    'realised_from': 'schedule' if done is None else 'run',
    'budget_tokens': budget,
    'sources': table,
    'warnings': [],
  }
  if whole is not None:
    drawn = epochs.by_source(
      plan.schedule, plan.sizes, plan.row_length, 0, whole
    )
    for line, all_of_it in zip(table, drawn):
      line['budget_epochs'] = all_of_it['epochs']
    result['warnings'] = epochs.warnings(drawn, most_epochs)
  _print(result, plan, note)
  return result


def _print(result: dict[str, Any], plan: Plan, note: str) -> None:
  start, stop = result['window']
  print(
    f'rows {start:,}..{stop:,} of {plan.row_length:,} tokens, as the '
    f'{result["realised_from"]} has them'
  )
  print(
    f'{"source":<16}{"requested":>10}{"realised":>10}{"error, rows":>13}'
    f'{"rows":>16}{"stored":>12}{"epochs":>10}'
  )
  for line in result['sources']:
    epochs = line.get('budget_epochs')
    print(
      f'{line["source"]:<16}{100 * line["requested"]:>8.3f} %'
      f'{100 * line["realised"]:>8.3f} %{line["error_rows"]:>13.3f}'
      f'{line["rows"]:>16,}{line["stored_rows"]:>12,}'
      f'{"?" if epochs is None else format(epochs, ".2f"):>10}'
    )
  if result['budget_tokens'] is None:
    print('epochs: nothing says how long this stage is; say --budget')
  else:
    print(f'epochs: of {result["budget_tokens"]:,.0f} tokens{note}')
  for sentence in result['warnings']:
    print(f'warning: {sentence}')
