"""What a row adds to the figure that its part is known by.

Scorers write rows for readers. Those that make a rate say so under `scores`,
by convention; those that are right or wrong, or get marks, have them under the
figure's name or the judge's. Here all become `errors` of `units`, or `points`,
so that checkpoints can be compared row by row.
"""

from typing import Any, Mapping


def comparable(
  row: Mapping[str, Any], name: str, figure: Mapping[str, Any]
) -> dict[str, float]:
  """`errors` and `units`, or `points`; empty where the row has neither.

  Args:
    row: Of a benchmark.
    name: Of the figure, `wer/whisper` where it is of a convention.
    figure: Its fields.
  """
  if 'points' in row or 'errors' in row:
    return {}
  scores = row.get('scores')
  if isinstance(scores, Mapping):
    counts = scores.get(name.rpartition('/')[2])
    return _of_convention(counts, figure) if counts else {}
  value = row.get(name)
  if value is None and isinstance(row.get('judge'), Mapping):
    parts = row['judge'].get('parts') or {}
    value = next(iter(parts.values()), row['judge'].get('value'))
  if isinstance(value, (bool, int, float)):
    return {'points': float(value)}
  return {}


def _of_convention(counts, figure) -> dict[str, float]:
  if str(figure.get('by', '')).partition(', heard')[0].endswith('macro'):
    rate = counts.get('rate')
    return {} if rate is None else {'points': rate}
  kinds = ('substitutions', 'deletions', 'insertions')
  counted = counts.get('counted', True)
  edits = {kind: counts.get(kind, 0) for kind in kinds}
  return {
    **edits,
    'errors': sum(edits.values()) if counted else 0,
    'units': counts.get('length', 0) if counted else 0,
  }
