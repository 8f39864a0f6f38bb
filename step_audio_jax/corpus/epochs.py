"""How much a schedule shows of each source: shares, tokens, epochs.

Rows have one length, so a share of rows is a share of tokens. Everything is
counted by the schedule itself, in constant time whatever the budget.
"""

from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax.corpus import schedule as schedule_lib

MOST_EPOCHS = 4.0  # more passes over the same rows deserve a word


def by_source(
  schedule: schedule_lib.Schedule | schedule_lib.Curriculum,
  sizes: Mapping[str, int],
  row_length: int,
  start: int,
  stop: int,
  consumed: np.ndarray | None = None,
) -> list[dict[str, Any]]:
  """What rows start..stop of the stream show of each source.

  Args:
    schedule: The order of sources.
    sizes: Source → stored rows.
    row_length: Tokens of a row.
    start: First row of the window.
    stop: One past its last row.
    consumed: Source id of every row from 0 on, (rows,) with rows >= stop, as
      a run recorded them; by default those of the schedule.

  Returns:
    One dict a source: source; requested and realised, shares of the window;
    rows and tokens in it; error_rows = rows - requested rows; stored_rows;
    epochs, the passes over them in the window; unseen, the first rows of the
    phases that name the source and are over before it is drawn once.
  """
  window = stop - start
  rows = _rows(schedule, start, stop, consumed)
  unseen = _unseen(schedule, start, stop, consumed)
  late, early = schedule.expected(stop), schedule.expected(start)
  return [
    {
      'source': name,
      'requested': float((late[name] - early[name]) / max(window, 1)),
      'realised': rows[name] / max(window, 1),
      'rows': rows[name],
      'tokens': rows[name] * row_length,
      'error_rows': float(rows[name] - late[name] + early[name]),
      'stored_rows': sizes[name],
      'epochs': rows[name] / sizes[name],
      'unseen': unseen[name],
    }
    for name in schedule.names
  ]


def _rows(schedule, start, stop, consumed) -> dict[str, int]:
  """Source → how many of rows start..stop come from it."""
  if consumed is None:
    late, early = schedule.counts(stop), schedule.counts(start)
    return {name: late[name] - early[name] for name in schedule.names}
  found = np.bincount(consumed[start:stop], minlength=len(schedule.names))
  return dict(zip(schedule.names, found.tolist()))


def _unseen(schedule, start, stop, consumed) -> dict[str, list[int]]:
  found = {name: [] for name in schedule.names}
  ends = [*(phase.start for phase in schedule.phases[1:]), stop]
  for phase, end in zip(schedule.phases, ends):
    first, last = max(start, phase.start), min(stop, end)
    if first >= last:
      continue
    rows = _rows(schedule, first, last, consumed)
    for name, share in zip(schedule.names, phase.shares):
      if share and not rows[name]:
        found[name].append(first)
  return found


def warnings(
  found: Sequence[Mapping[str, Any]], most: float = MOST_EPOCHS
) -> list[str]:
  """Sentences on sources that repeat too often, or are never drawn.

  Args:
    found: Of `by_source`.
    most: Passes over a source's rows; more are told.
  """
  often = [
    f'{line["source"]}: {line["rows"]:,} rows are drawn from '
    f'{line["stored_rows"]:,}, which is {line["epochs"]:.1f} epochs, more '
    f'than {most:g}; build more rows for it or lower its share.'
    for line in found
    if line['epochs'] > most
  ]
  total = sum(line['rows'] for line in found)
  never = [
    f'{line["source"]}: none of the {total:,} rows is drawn from it, its '
    f'share of {line["requested"]:.3g} is less than a row; train for longer, '
    'raise its share, or give it weight 0.'
    for line in found
    if line['unseen'] and not line['rows']
  ]
  short = [
    f'{line["source"]}: no row is drawn from it in the phase that begins with '
    f'row {row:,}, which is too short for its share.'
    for line in found
    if line['rows']
    for row in line['unseen']
  ]
  return often + never + short
