"""How many of how many: what a figure was counted over, and what it leaves out.

A count is a JSON-able dict:

    scored    items that the figure holds
    of        items that there are
    unit      what an item is, plural
    left_out  reason → items; scored + left out = of
    cut       reason → items that are scored, but ended at a limit
"""

from typing import Any, Mapping, Sequence


def count(
  scored: int,
  of: int,
  unit: str,
  left_out: Mapping[str, int] | None = None,
  cut: Mapping[str, int] | None = None,
) -> dict[str, Any]:
  """A count; reasons without items are dropped."""
  return {
    'scored': int(scored),
    'of': int(of),
    'unit': unit,
    'left_out': {k: int(n) for k, n in (left_out or {}).items() if n},
    'cut': {k: int(n) for k, n in (cut or {}).items() if n},
  }


def sum_counts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The sum of several counts of one unit."""
  found = count(0, 0, parts[0]['unit'] if parts else '')
  for part in parts:
    for name in ('scored', 'of'):
      found[name] += part[name]
    for name in ('left_out', 'cut'):
      for reason, items in part[name].items():
        found[name][reason] = found[name].get(reason, 0) + items
  return found


def short_text(found: Mapping[str, Any]) -> str:
  """`58 of 60 utterances`."""
  return f'{found["scored"]:,} of {found["of"]:,} {found["unit"]}'


def describe(found: Mapping[str, Any]) -> str:
  """`58 of 60 utterances: 2 without codes; 1 cut at max_text_tokens=64`."""
  text = short_text(found)
  if found['left_out']:
    text += ': ' + _listed(found['left_out'])
  if found['cut']:
    text += '; ' + _listed(found['cut'])
  return text


def describe_steps(
  counted: Mapping[int, Mapping[str, Mapping[str, Any]]],
  left_out: Mapping[int, Mapping[str, str]],
) -> list[str]:
  """What people are told of several steps; equal steps are told once.

  Args:
    counted: Step → metric → count.
    left_out: Step → part → why the model cannot be scored on it.
  """
  told = {}
  for step, found in counted.items():
    for metric, one in found.items():
      told.setdefault(metric, {})[step] = describe(one)
  for step, found in left_out.items():
    for part, reason in found.items():
      told.setdefault(part, {})[step] = f'left out, {reason}'
  width = max(map(len, told), default=0)
  out = []
  for metric, by_step in told.items():
    groups: dict[str, list[int]] = {}
    for step, text in by_step.items():
      groups.setdefault(text, []).append(step)
    for text, steps in groups.items():
      which = ''
      if len(groups) > 1:
        which = f'step {", ".join(map(str, steps))}: '
      out.append(f'{metric.ljust(width)}  {which}{text}')
  return out


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
  """Reason → the figures that there are not for it."""
  found: dict[str, list[str]] = {}
  for name, reason in reasons.items():
    found.setdefault(reason, []).append(name)
  return found


def not_computed(reasons: Mapping[str, str]) -> list[str]:
  """A line for each reason, `figure, figure  not computed: reason`."""
  return [
    f'{", ".join(names)}  not computed: {reason}'
    for reason, names in by_reason(reasons).items()
  ]


def _listed(reasons: Mapping[str, int]) -> str:
  return ', '.join(f'{items:,} {reason}' for reason, items in reasons.items())
