"""The shell of our HTML pages: one style, no outside resources."""

import html
from typing import Any, Sequence

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --card: #ffffff; --ink: #1d2129; --quiet: #667085;
  --grid: #e7e9ee; --rule: #d9dde5; --good: #18794e; --bad: #b42318;
  --c1: #2f6fde; --c2: #d9622b; --c3: #2a9d6f; --c4: #9a57c9; --c5: #c2a010;
  --c6: #5b6b7f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1b1e24; --ink: #e8eaee; --quiet: #98a2b3;
    --grid: #2a2f38; --rule: #333a45; --good: #5fcf96; --bad: #ff8b7b;
    --c1: #7aa7ff; --c2: #ff9a66; --c3: #5fd3a2; --c4: #c796f2; --c5: #e3c64a;
    --c6: #a3b1c4;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.1rem 4rem; max-width: 70rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
    "Noto Sans CJK SC", sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; }
p { max-width: 46rem; }
a { color: var(--c1); }
.quiet, small { color: var(--quiet); }
small { font-weight: 400; }
.tiles { display: grid; gap: .7rem; margin: 1.4rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(47%, 10.6rem), 1fr)); }
.tile { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: .75rem .9rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.4;
  white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .82rem; color: var(--quiet);
  line-height: 1.35; }
.tile.good b { color: var(--good); } .tile.bad b { color: var(--bad); }
.charts { display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
.chart { margin: 0; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: .8rem .9rem .5rem; min-width: 0; }
.chart.wide { grid-column: 1 / -1; }
.chart figcaption { font-weight: 600; font-size: .95rem; }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { fill: var(--quiet); font-size: 12px; }
.chart text.value { fill: var(--ink); font-size: 11px; }
.grid { stroke: var(--grid); } .mark { stroke: var(--rule);
  stroke-dasharray: 3 3; }
.limit { stroke: var(--bad); stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .2rem 0;
  font-size: .8rem; color: var(--quiet); min-height: 1.2rem; }
.key i { display: inline-block; width: .7rem; height: .7rem; margin-right:
  .35rem; border-radius: 3px; vertical-align: -1px; }
.scroll { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; font-size: .9rem; min-width: 60%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left;
  border-bottom: 1px solid var(--grid); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
td.n, th.n { text-align: right; }
.utterances { display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.utterance { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: .7rem .9rem; font-size: .92rem; }
.utterance audio { width: 100%; height: 34px; margin: .2rem 0 .4rem; }
.utterance dl { margin: 0; display: grid; grid-template-columns: auto 1fr;
  gap: .1rem .7rem; overflow-wrap: anywhere; }
.utterance dt { color: var(--quiet); } .utterance dd { margin: 0; }
.utterance img { width: 64px; height: 64px; image-rendering: pixelated;
  border-radius: 6px; float: left; margin: 0 .8rem .2rem 0; }
.wrong { color: var(--bad); text-decoration: underline;
  text-decoration-thickness: 1px; }
.gap { color: var(--bad); opacity: .8; }
@media (max-width: 40rem) { .chart text { font-size: 17px; }
  .chart text.value { font-size: 13px; } }
code, pre { font: .88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
}
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: .8rem 1rem; }
"""


def page(title: str, body: str, head: str = '') -> str:
  """A whole document.

  Args:
    title: Of its tab.
    body: HTML.
    head: More HTML for its head.
  """
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{html.escape(title)}</title><style>{STYLE}</style>{head}</head>'
    f'<body>{body}</body></html>\n'
  )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """A table; numbers (and None, as an empty cell) are set to the right."""
  numeric = [
    bool(rows) and all(isinstance(r[i], (int, float, type(None))) for r in rows)
    for i in range(len(head))
  ]

  def row(cells, tag):
    return ''.join(
      f'<{tag}{" class=n" if right else ""}>{_cell(cell)}</{tag}>'
      for cell, right in zip(cells, numeric, strict=True)
    )

  lines = ''.join(f'<tr>{row(cells, "td")}</tr>' for cells in rows)
  return (
    f'<div class="scroll"><table><thead><tr>{row(head, "th")}</tr></thead>'
    f'<tbody>{lines}</tbody></table></div>'
  )


def _cell(value: Any) -> str:
  if value is None:
    return ''
  if isinstance(value, float):
    return f'{value:,.2f}' if abs(value) < 1000 else f'{value:,.0f}'
  if isinstance(value, int):
    return f'{value:,}'
  return html.escape(str(value))


def tile(value: str, text: str, good: bool | None = None) -> str:
  """A figure with its meaning; green or red when `good` is known."""
  kind = '' if good is None else ' good' if good else ' bad'
  return (
    f'<div class="tile{kind}"><b>{html.escape(value)}</b>'
    f'<span>{html.escape(text)}</span></div>'
  )
