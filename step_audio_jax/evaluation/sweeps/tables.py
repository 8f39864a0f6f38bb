"""Figures as tables for papers: `table.md` and `table.tex`.

A line a figure, a column a step, with 95 % intervals; behind them ours beside
what others publish of themselves, marked where they do not say how it is
scored.
"""

from typing import Mapping, Sequence

from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.sweeps import published as published_lib
from step_audio_jax.evaluation.sweeps import summary

MARK = '†'
_ARROWS = {'higher': '↑', 'lower': '↓'}
_TEX = {
  '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#',
  '_': r'\_', '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}', '↑': r'$\uparrow$', '↓': r'$\downarrow$',
  MARK: r'$^\dagger$', '–': '--', '→': r'$\rightarrow$',
}  # fmt: skip


def value(figure: family_lib.Figure | None, interval: bool = True) -> str:
  """A figure as people read it; fractions in percent."""
  if figure is None or figure.value is None:
    return '–'
  scale, digits = (100, '.2f') if figure.unit == '%' else (1, '.4g')
  text = f'{scale * figure.value:{digits}}'
  if not interval or figure.low is None or figure.high is None:
    return text
  low, high = scale * figure.low, scale * figure.high
  return f'{text} [{low:{digits}}, {high:{digits}}]'


def beside(
  figure: family_lib.Figure | None, one: published_lib.Published | None
) -> str:
  """`ours (published)`."""
  if one is None:
    return ''
  mark = MARK if one.doubt else ''
  theirs = '; '.join(f'{who} {x:g}{mark}' for who, x in one.values.items())
  return f'{value(figure, interval=False)} ({theirs})'


def cells(
  steps: Mapping[int, summary.Step],
  published: Mapping[str, published_lib.Published],
) -> tuple[list[str], list[list[str]]]:
  """Head and lines of the table.

  Args:
    steps: By number.
    published: Figure → what others say of themselves.
  """
  numbers = sorted(steps)
  shown = [steps[number].shown for number in numbers]
  names = list(dict.fromkeys(n for one in shown for n in one.figures))
  head = ['figure', 'unit', 'scored by', 'of']
  head += [f'step {number}' for number in numbers]
  head += ['ours (published)'] if published else []
  lines = []
  for name in names:
    figures = [one.figures.get(name) for one in shown]
    newest = next((f for f in reversed(figures) if f is not None), None)
    counted = next((o.counts[name] for o in shown[::-1] if name in o.counts), 0)
    of = f'{newest.of:,}' if newest else ''
    line = [
      f'{name} {_ARROWS[newest.better]}' if newest else name,
      newest.unit if newest else '',
      newest.by if newest else '',
      counts.short_text(counted) if counted else of,
      *map(value, figures),
    ]
    if published:
      line.append(beside(newest, published.get(name)))
    lines.append(line)
  return head, lines


def footnotes(
  published: Mapping[str, published_lib.Published],
  not_computed: Mapping[str, str],
  unreadable: Mapping[int, str],
) -> list[str]:
  """What has to be said below a table."""
  doubts = dict.fromkeys(one.doubt for one in published.values() if one.doubt)
  return [
    *(f'{MARK} {doubt}.' for doubt in doubts),
    *(f'{line}.' for line in counts.not_computed(not_computed)),
    *(f'step {step}: not scored: {why}.' for step, why in unreadable.items()),
  ]


def markdown(
  head: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
  """The table in Markdown."""

  def row(cells):
    safe = [cell.replace('|', '\\|') for cell in cells]
    return f'| {" | ".join(safe)} |'

  text = [row(head), row(['---'] * len(head)), *map(row, lines)]
  return '\n'.join([*text, '', *(f'{note}\n' for note in notes)]) + '\n'


def latex(
  head: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
  """The table in LaTeX, without any package."""

  def row(cells):
    return f'{" & ".join(map(_escape, cells))} \\\\'

  return '\n'.join(
    [
      f'\\begin{{tabular}}{{{"l" * 4}{"r" * (len(head) - 4)}}}',
      '\\hline',
      row(head),
      '\\hline',
      *map(row, lines),
      '\\hline',
      '\\end{tabular}',
      *(f'\n{_escape(note)}' for note in notes),
      '',
    ]
  )


def _escape(text: str) -> str:
  return ''.join(_TEX.get(letter, letter) for letter in text)
