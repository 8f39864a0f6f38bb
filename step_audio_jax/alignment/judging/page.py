"""What was found of a reward model: a page, and the same as Markdown."""

import html
from typing import Any, Mapping, Sequence

from step_audio_jax.evaluation.pages import page
from step_audio_jax.evaluation.pages import svg

_CATEGORIES = ('category', 'pairs', 'accuracy', '95 % interval')
_AUDIT = ('change', 'pairs', 'shift', '95 % interval', 'verdicts', 'wrong now',
          'right now')  # fmt: skip
_HEARD = ('category', 'pairs', 'preferred', '95 % interval', 'others',
          '95 % interval', 'verdicts')  # fmt: skip
_LISTENS = (
  'Scores less those of the same answers behind silence that is as long: 0 for '
  'who does not listen. The last column is the share of verdicts that are '
  'others behind silence.'
)
_UNITS = (
  'Shifts are in standard deviations of all scores as they are, positive where '
  'scores rise; the last columns count pairs whose verdict changed, and those '
  'that became wrong or right by it.'
)


def document(found: Mapping[str, Any]) -> str:
  """The page of what `judge` found."""
  pairs, sure = found['pairs'], found['calibration']
  body = (
    f'<h1>{html.escape(found["run"])}</h1>'
    f'<p class="quiet">Scores of {pairs["pairs"]:,} pairs, '
    f'{html.escape(found["source"])}.</p><div class="tiles">'
    + page.tile(_percent(pairs['accuracy']), 'pairs whose preferred answer '
                'scores higher, ' + _interval(pairs, _percent))
    + page.tile(_percent(sure['ece']), 'expected calibration error')
    + page.tile(f'{sure["loss"]:.3f}', 'mean -log sigmoid of the difference')
    + page.tile(
      _percent(found['lengths']['longer_scores_higher']),
      'longer answers that score higher; people preferred '
      + _percent(found['lengths']['longer_is_preferred']),
    )
    + '</div><div class="charts">'
    + _reliability(sure['bins'])
    + '</div>'
  )  # fmt: skip
  for title, head, rows, note in _tables(found):
    body += f'<h2>{title}</h2>{page.table(head, rows)}'
    if note:
      body += f'<p class="quiet">{note}</p>'
  return page.page(f'{found["run"]}: reward model', body)


def markdown(found: Mapping[str, Any]) -> str:
  """The same figures and tables."""
  pairs, sure = found['pairs'], found['calibration']
  lines = [
    f'# {found["run"]}',
    '',
    f'{pairs["pairs"]} pairs, {found["source"]}: '
    f'{_percent(pairs["accuracy"])} right ({_interval(pairs, _percent)}), '
    f'calibration error {_percent(sure["ece"])}, loss {sure["loss"]:.4f}.',
  ]
  for title, head, rows, note in _tables(found):
    lines += ['', f'## {title}', '', *table(head, rows)]
    if note:
      lines += ['', note]
  return '\n'.join(lines) + '\n'


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
  """Lines of a Markdown table."""
  lines = [head, ['---'] * len(head), *rows]
  return [
    '| ' + ' | '.join(str(cell).replace('|', r'\|') for cell in cells) + ' |'
    for cells in lines
  ]


def _tables(found):
  """(title, head, rows, note) of each; cells are texts and whole numbers."""
  if len(found['categories']) > 1:
    yield (
      'By category',
      _CATEGORIES,
      [
        [
          name or 'none',
          one['pairs'],
          _percent(one['accuracy']),
          _interval(one, _percent),
        ]
        for name, one in found['categories'].items()
      ],
      '',
    )
  if found['audit']:
    yield (
      'What else moves scores',
      _AUDIT,
      [
        [
          one['change'],
          one['pairs'],
          _signed(one['shift']),
          _interval(one, _signed),
          one['changed'],
          one['to_wrong'],
          one['to_right'],
        ]
        for one in found['audit']
      ],
      _UNITS,
    )
  if found['heard']:
    yield (
      'Whether questions are heard',
      _HEARD,
      [
        [
          name or 'none',
          one['pairs'],
          _signed(one['chosen']['gap']),
          _interval(one['chosen'], _signed),
          _signed(one['rejected']['gap']),
          _interval(one['rejected'], _signed),
          _percent(one['turned']),
        ]
        for name, one in found['heard'].items()
      ],
      _LISTENS,
    )


def _reliability(bins: Sequence[Mapping[str, Any]]) -> str:
  some = [one for one in bins if one['pairs']]
  sure = [one['confidence'] for one in some]
  return svg.line_chart(
    [
      svg.Series('right as often as sure', [0.5, 1.0], [50.0, 100.0]),
      svg.Series('verdicts', sure, [100 * one['accuracy'] for one in some]),
    ],
    title='Reliability',
    x_label='confidence',
    y_label='% right',
    dots=True,
  )


def _percent(value: float | None) -> str:
  return '–' if value is None else f'{100 * value:.1f} %'


def _signed(value: float | None) -> str:
  return '–' if value is None else f'{value:+.3f}'


def _interval(one: Mapping[str, Any], shown) -> str:
  if one['low'] is None:
    return '–'
  return f'{shown(one["low"])} to {shown(one["high"])}'
