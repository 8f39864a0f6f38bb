"""Results of a listening page as Markdown and as a page."""

import html
from typing import Any, Mapping

from step_audio_jax.evaluation.pages import page
from step_audio_jax.evaluation.pages import svg

_MOS = ('system', 'MOS', '95 % interval', 'ratings', 'raters', 'items')
_APART = ('first', 'second', 'difference', '95 % interval', 'sure')
_AB = ('first', 'second', 'first better', 'second better', 'no difference',
       'share of first', '95 % interval', 'p')  # fmt: skip
_HOW = (
  'Intervals are bootstrapped over raters and items together; p is the exact '
  'two-sided binomial test of the answers that had a preference. Catch trials '
  'take no part.'
)


def tables(found: Mapping[str, Any]) -> list[tuple[str, tuple, list[list]]]:
  """(title, head, rows) of all that was asked."""
  out = []
  if 'mos' in found:
    told = found['mos']
    rows = [
      [name, _text(one['mean']), _interval(one), one['ratings'],
       one['raters'], one['items']]
      for name, one in told['systems'].items()
    ]  # fmt: skip
    out.append(('Mean opinion scores', _MOS, rows))
    rows = [
      [one['first'], one['second'], _text(one['difference'], '+.2f'),
       _interval(one), 'yes' if one['sure'] else 'no']
      for one in told['differences']
    ]  # fmt: skip
    if rows:
      out.append(('Differences of mean opinion scores', _APART, rows))
  if 'ab' in found:
    rows = [
      [one['first'], one['second'], one['first_wins'], one['second_wins'],
       one['same'], _text(one['share']), _interval(one), f'{one["p"]:.2g}']
      for one in found['ab']['pairs']
    ]  # fmt: skip
    out.append(('Preferences', _AB, rows))
  return out


def notes(found: Mapping[str, Any]) -> list[str]:
  """What stands below the tables, a sentence each."""
  raters = found['raters']
  lines = [f'{raters["kept"]} of {raters["given"]} raters count.']
  for rater, reason in raters['excluded'].items():
    failed = ', '.join(found['catch']['failed'].get(rater, ()))
    lines.append(
      f'{rater} is left out: {reason}{f" ({failed})" if failed else ""}.'
    )
  lines += [
    f'{rater} has {count} trials without an answer.'
    for rater, count in raters['missing'].items()
  ]
  lines += [
    f'{count} rows are no ratings: {reason}.'
    for reason, count in found['rows'].items()
  ]
  lines += [
    f'{name} was not read: {reason}.' for name, reason in found['files'].items()
  ]
  lines += [
    f"Krippendorff's alpha ({kind}): {_text(found[question][name])}."
    for question, name, kind in (
      ('mos', 'alpha_ordinal', 'MOS, ordinal'),
      ('mos', 'alpha_interval', 'MOS, interval'),
      ('ab', 'alpha_nominal', 'preferences, nominal'),
    )
    if question in found
  ]
  if 'ab' in found:
    lines.append(
      f'The sound offered first was preferred in a share of '
      f'{_text(found["ab"]["side_a"])}; a sound was told apart from itself '
      f'{found["catch"]["same_told_apart"]} times.'
    )
  return [*lines, _HOW]


def markdown(found: Mapping[str, Any]) -> str:
  """Tables and notes."""
  parts = []
  for title, head, rows in tables(found):
    parts.append(f'**{title}**\n')
    parts.append('| ' + ' | '.join(head) + ' |')
    parts.append('|' + '---|' * len(head))
    parts += ['| ' + ' | '.join(map(_cell, row)) + ' |' for row in rows]
    parts.append('')
  return '\n'.join([*parts, *(f'* {line}' for line in notes(found))]) + '\n'


def document(found: Mapping[str, Any], title: str = 'Listening test') -> str:
  """The page of results."""
  raters = found['raters']
  body = (
    f'<h1>{html.escape(title)}</h1><p class="quiet">Page '
    f'<code>{html.escape(found["page"][:12])}</code>, '
    f'{raters["kept"]} of {raters["given"]} raters.</p>'
  )
  if 'mos' in found:
    systems = found['mos']['systems']
    body += '<div class="charts">' + svg.bar_chart(
      list(systems),
      [('mean', [one['mean'] for one in systems.values()])],
      title='Mean opinion score',
      y_label='1 to 5',
    )
    shares = [one['scores'] for one in systems.values()]
    body += svg.bar_chart(
      list(systems),
      [
        (f'rated {score}', [one[score - 1] for one in shares])
        for score in range(1, 6)
      ],
      title='Ratings',
      y_label='how many',
    )
    body += '</div>'
  for name, head, rows in tables(found):
    body += f'<h2>{html.escape(name)}</h2>{page.table(head, rows)}'
  lines = ''.join(f'<li>{html.escape(line)}</li>' for line in notes(found))
  return page.page(title, f'{body}<h2>Who rated what</h2><ul>{lines}</ul>')


def _text(value: float | None, form: str = '.2f') -> str:
  return 'not defined' if value is None else format(value, form)


def _interval(one: Mapping[str, Any]) -> str:
  if one['low'] is None:
    return 'not defined'
  return f'{one["low"]:.2f} to {one["high"]:.2f}'


def _cell(value: Any) -> str:
  return str(value).replace('|', '\\|').replace('\n', ' ')
