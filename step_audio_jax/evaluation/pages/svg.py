"""Charts as inline SVG, by hand: lines and bars, nothing else.

Colours are CSS variables (`--c1` … `--c6`, `--ink`, `--grid`), so that one page
serves light and dark. Every point tells its value on hover (`<title>`).
"""

import dataclasses
import html
import math
from typing import Sequence

COLOURS = 6
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 46, 12, 14, 34


@dataclasses.dataclass(frozen=True)
class Series:
  """One line of a chart; it breaks where y is not finite."""

  name: str
  x: Sequence[float]
  y: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Stretch:
  """A coloured part of a strip.

  Attributes:
    start: Where it begins, in the unit of the strip.
    stop: Where it ends.
    colour: Which one, from 0.
    tip: Told on hover.
    top: Part of the strip's height that it takes, from 0 (above) …
    bottom: … to 1.
  """

  start: float
  stop: float
  colour: int
  tip: str
  top: float = 0.0
  bottom: float = 1.0


def ticks(low: float, high: float, most: int = 5) -> list[float]:
  """At most `most` + 1 round numbers that span low..high from inside.

  Steps are 1, 2 or 5 times a power of ten.
  """
  if not high > low:
    return [low]
  raw = (high - low) / most
  power = 10.0 ** math.floor(math.log10(raw))
  step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """1, 2 and 5 times powers of ten inside low..high (both positive)."""
  found = []
  for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high))):
    found += [m * 10.0**power for m in (1, 2, 5)]
  found.append(10.0 ** math.ceil(math.log10(high)))
  found = [t for t in found if low * 0.999 <= t <= high * 1.001]
  tens = [t for t in found if math.log10(t) % 1 < 1e-9]
  return tens if len(found) > 7 and len(tens) > 1 else found


def label(value: float) -> str:
  """A number for an axis: 1200 → '1.2k', 0.5 → '0.5'."""
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:g}{unit}'
  return f'{value:g}'


def line_chart(
  series: Sequence[Series],
  *,
  title: str,
  x_label: str = '',
  y_label: str = '',
  log_y: bool = False,
  height: int = 240,
  marks: Sequence[tuple[float, str]] = (),
  dots: bool = False,
  x_names: Sequence[str] = (),
  width: int = _WIDTH,
) -> str:
  """Lines over a common x axis, with a legend.

  Args:
    series: The lines; the n-th has colour n.
    title: Accessible name of the chart.
    x_label: Below the axis.
    y_label: Above the axis.
    log_y: Logarithmic y; values of zero or less are left out.
    height: Units of the view box, as `width`.
    marks: (x, name) of vertical lines; the name stands right of its line.
    dots: Draw the points too; for few points.
    x_names: Names of x = 0, 1, … instead of numbers; the axis shows them all.
    width: Units of the view box.

  Returns:
    `<figure>`; an empty chart says that there is nothing to draw.
  """
  kept = [(n, s.name, _pieces(s, log_y)) for n, s in enumerate(series)]
  kept = [item for item in kept if item[2]]
  if not kept:
    return f'<p class="quiet">{html.escape(title)}: nothing to draw yet.</p>'
  flat = [point for _, _, pieces in kept for piece in pieces for point in piece]
  xs, ys = [x for x, _ in flat], [y for _, y in flat]
  x_low, x_high = _span(min(xs), max(xs))
  if x_names:
    x_low, x_high = -0.5, len(x_names) - 0.5
  y_low, y_high = min(ys), max(ys)
  if log_y:
    y_low, y_high = math.log10(y_low), math.log10(y_high)
  elif y_low >= 0 and y_low < 0.5 * y_high:
    y_low = 0.0
  y_low, y_high = _span(y_low, y_high, 0.04)

  def across(x):
    return _LEFT + (x - x_low) / (x_high - x_low) * (width - _LEFT - _RIGHT)

  def up(y):
    y = math.log10(y) if log_y else y
    share = (y - y_low) / (y_high - y_low)
    return height - _BOTTOM - share * (height - _TOP - _BOTTOM)

  parts = []
  y_ticks = log_ticks(10**y_low, 10**y_high) if log_y else ticks(y_low, y_high)
  for value in y_ticks:
    y = up(value)
    parts.append(_line('grid', _LEFT, y, width - _RIGHT, y))
    parts.append(_text(_LEFT - 6, y + 4, label(value), 'end'))
  named = list(enumerate(x_names))
  for value, name in named or [(t, label(t)) for t in ticks(x_low, x_high, 6)]:
    parts.append(_text(across(value), height - _BOTTOM + 16, name))
  end, row = -1.0, 0
  for x, name in marks:
    # Names that would run into the one before go a line lower.
    row = row + 1 if across(x) < end else 0
    end = max(end, across(x) + 8 * len(name))
    parts.append(_line('mark', across(x), _TOP, across(x), height - _BOTTOM))
    parts.append(_text(across(x) + 4, _TOP + 8 + 15 * row, name, 'start'))
  if x_label:
    parts.append(_text((_LEFT + width) / 2, height - 4, x_label))
  for n, name, pieces in kept:
    colour = f'var(--c{n % COLOURS + 1})'
    for piece in pieces:
      path = ' '.join(f'{across(x):.1f},{up(y):.1f}' for x, y in piece)
      parts.append(
        f'<polyline class="line" style="stroke:{colour}" points="{path}"/>'
      )
      for x, y in piece if dots or len(piece) == 1 else ():
        where = x_names[int(x)] if x_names else label(x)
        tip = html.escape(f'{name}: {y:.4g} at {where}')
        parts.append(
          f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" '
          f'style="fill:{colour}"><title>{tip}</title></circle>'
        )
  legend = [(n, name) for n, name, _ in kept]
  return _figure(title, y_label, width, height, parts, legend)


def bar_chart(
  groups: Sequence[str],
  series: Sequence[tuple[str, Sequence[float | None]]],
  *,
  title: str,
  y_label: str = '',
  height: int = 240,
  limit: float | None = None,
  width: int = _WIDTH,
) -> str:
  """Bars in groups with their values on top; None leaves a gap.

  `limit` draws a dashed line at that value.
  """
  values = [v for _, some in series for v in some if _finite(v)]
  if not values:
    return f'<p class="quiet">{html.escape(title)}: nothing to draw yet.</p>'
  y_high = max([*values, limit or 0.0, 1e-9]) * 1.12

  def up(y):
    share = min(y / y_high, 1.0)
    return height - _BOTTOM - share * (height - _TOP - _BOTTOM)

  parts = []
  for value in ticks(0.0, y_high, 5):
    parts.append(_line('grid', _LEFT, up(value), width - _RIGHT, up(value)))
    parts.append(_text(_LEFT - 6, up(value) + 4, label(value), 'end'))
  if limit is not None:
    parts.append(_line('limit', _LEFT, up(limit), width - _RIGHT, up(limit)))
  place = (width - _LEFT - _RIGHT) / len(groups)
  thick = min(34.0, 0.8 * place / len(series))
  for g, group in enumerate(groups):
    middle = _LEFT + (g + 0.5) * place
    parts.append(_text(middle, height - _BOTTOM + 16, group))
    for n, (name, some) in enumerate(series):
      if not _finite(some[g]):
        continue
      x = middle + (n - len(series) / 2) * thick
      y = up(some[g])
      tip = html.escape(f'{group}, {name}: {some[g]:.2f}')
      parts.append(
        f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{thick - 2:.1f}" '
        f'height="{height - _BOTTOM - y:.1f}" rx="2" '
        f'style="fill:var(--c{n % COLOURS + 1})"><title>{tip}</title></rect>'
      )
      parts.append(_text(x + thick / 2, y - 4, f'{some[g]:.1f}', extra='value'))
  legend = [(n, name) for n, (name, _) in enumerate(series)]
  return _figure(title, y_label, width, height, parts, legend)


def strips(
  tracks: Sequence[tuple[str, Sequence[Stretch]]],
  length: float,
  *,
  title: str,
  width: int = 2 * _WIDTH,
  thick: int = 22,
) -> str:
  """Strips of coloured stretches, one below the other, over 0..length.

  Args:
    tracks: (name, stretches) of each strip.
    length: Where the axis ends.
    title: Accessible name of the chart.
    width: Units of the view box.
    thick: Height of a strip.
  """
  left, gap = 1.6 * _LEFT, 6
  height = _TOP + len(tracks) * (thick + gap) + _BOTTOM
  scale = (width - left - _RIGHT) / max(length, 1)
  parts = []
  for number, (name, stretches) in enumerate(tracks):
    y = _TOP + number * (thick + gap)
    parts.append(_text(left - 6, y + 0.7 * thick, name, 'end'))
    parts.append(
      f'<rect x="{left:.1f}" y="{y}" width="{length * scale:.1f}" '
      f'height="{thick}" style="fill:var(--grid)"/>'
    )
    for one in stretches:
      tip = html.escape(f'{one.tip}: {one.start:g}..{one.stop:g}')
      parts.append(
        f'<rect x="{left + one.start * scale:.2f}" '
        f'y="{y + one.top * thick:.1f}" '
        f'width="{(one.stop - one.start) * scale:.2f}" '
        f'height="{(one.bottom - one.top) * thick:.1f}" '
        f'style="fill:var(--c{one.colour % COLOURS + 1})">'
        f'<title>{tip}</title></rect>'
      )
  for value in ticks(0, length, 8):
    x = left + value * scale
    parts.append(_text(x, height - _BOTTOM + 14, label(value)))
  return _figure(title, '', width, height, parts, [])


def _pieces(series: Series, log_y: bool) -> list[list[tuple[float, float]]]:
  """Runs of points that can be drawn."""
  pieces: list = [[]]
  for x, y in zip(series.x, series.y, strict=True):
    if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y):
      pieces[-1].append((float(x), float(y)))
    elif pieces[-1]:
      pieces.append([])
  return [piece for piece in pieces if piece]


def _finite(value) -> bool:
  return value is not None and math.isfinite(value)


def _span(low, high, margin=0.0):
  """A range that is never empty."""
  if high == low:
    low, high = low - 0.5, high + 0.5
  return low, high + margin * (high - low)


def _line(kind, x1, y1, x2, y2) -> str:
  return (
    f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
    f'y2="{y2:.1f}"/>'
  )


def _text(x, y, text, anchor='middle', extra='') -> str:
  kind = f' class="{extra}"' if extra else ''
  return (
    f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
    f'{html.escape(str(text))}</text>'
  )


def _figure(title, y_label, width, height, parts, legend) -> str:
  keys = ''.join(
    f'<span class="key"><i style="background:var(--c{n % COLOURS + 1})"></i>'
    f'{html.escape(name)}</span>'
    for n, name in legend
  )
  unit = f' <small>{html.escape(y_label)}</small>' if y_label else ''
  return (
    f'<figure class="chart"><figcaption>{html.escape(title)}{unit}</figcaption>'
    f'<div class="legend">{keys}</div>'
    f'<svg viewBox="0 0 {width} {height}" role="img" '
    f'aria-label="{html.escape(title)}">{"".join(parts)}</svg></figure>'
  )
