"""Charts: well-formed, to scale, and honest about what is missing."""

import math
import xml.etree.ElementTree

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax.evaluation.pages import svg

NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, 0.0])


def parse(figure):
  return xml.etree.ElementTree.fromstring(figure)


def points(root):
  return [
    [tuple(map(float, pair.split(','))) for pair in line.get('points').split()]
    for line in root.iter('polyline')
  ]


@hypothesis.given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_round_few_and_inside(low, width):
  found = svg.ticks(low, low + width)
  assert 2 <= len(found) <= 6
  assert found[0] >= low - 1e-6 and found[-1] <= low + width + 1e-6
  step = found[1] - found[0]
  mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
  assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-3


@pytest.mark.parametrize(
  'low, high, expected',
  [
    (1.0, 10.0, [1, 2, 5, 10]),
    (3.0, 40.0, [5, 10, 20]),
    (1.0, 1e6, [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
  ],
)
def test_log_ticks(low, high, expected):
  assert svg.log_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
  'value, expected',
  [(1200, '1.2k'), (0.5, '0.5'), (2e6, '2M'), (0, '0'), (-3000, '-3k')],
)
def test_labels(value, expected):
  assert svg.label(value) == expected


def test_points_are_to_scale():
  root = parse(
    svg.line_chart(
      [svg.Series('a', [0, 1, 4], [0.0, 5.0, 10.0])], title='t', height=240
    )
  )
  ((first, second, third),) = points(root)
  # x: a quarter of the way; y: half of the way, upwards.
  assert second[0] - first[0] == pytest.approx(
    (third[0] - first[0]) / 4, abs=0.2
  )
  assert first[1] - second[1] == pytest.approx(
    (first[1] - third[1]) / 2, abs=0.2
  )
  assert first[1] > third[1]


def test_log_scale_gives_equal_steps_for_equal_factors():
  root = parse(
    svg.line_chart(
      [svg.Series('a', [0, 1, 2, 3], [1.0, 10.0, 100.0, 0.0])],
      title='t',
      log_y=True,
    )
  )
  ((a, b, c),) = points(root)  # zero has no place on a log axis
  assert a[1] - b[1] == pytest.approx(b[1] - c[1], abs=0.2)


def test_lines_break_where_there_is_no_number():
  y = [1.0, 2.0, math.nan, 3.0, 4.0, math.inf, 5.0]
  root = parse(svg.line_chart([svg.Series('a', range(7), y)], title='t'))
  assert [len(piece) for piece in points(root)] == [2, 2, 1]
  # A point alone would be an invisible line: it gets a dot.
  assert len(list(root.iter('circle'))) == 1


@hypothesis.given(
  st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8), st.booleans()
)
def test_any_numbers_give_a_chart_inside_its_box(pairs, log_y):
  figure = svg.line_chart(
    [svg.Series('a', [x for x, _ in pairs], [y for _, y in pairs])],
    title='t',
    log_y=log_y,
    height=200,
    width=300,
  )
  for piece in points(parse(figure)):
    for x, y in piece:
      assert -0.1 <= x <= 300.1 and -0.1 <= y <= 200.1


def test_names_are_escaped_and_legend_is_complete():
  figure = svg.line_chart(
    [svg.Series('<a&b>', [0, 1], [1, 2]), svg.Series('none', [], [])],
    title='"x" < y',
    marks=[(0, '<m>')],
  )
  root = parse(figure)
  assert 'none' not in figure
  assert root.find('figcaption').text == '"x" < y'
  assert '<a&b>' in ''.join(root.find('div').itertext())


def test_marks_that_are_close_do_not_share_a_line():
  figure = svg.line_chart(
    [svg.Series('a', [0, 1000], [1, 2])],
    title='t',
    marks=[(0, 'first'), (10, 'second'), (20, 'third'), (600, 'far')],
  )
  height = {t.text: float(t.get('y')) for t in parse(figure).iter('text')}
  assert height['first'] < height['second'] < height['third']
  assert height['far'] == height['first']


def test_bars_are_to_scale_with_gaps_for_none():
  figure = svg.bar_chart(
    ['s1', 's2'],
    [('seen', [80.0, 20.0]), ('unseen', [None, 40.0])],
    title='t',
    limit=10.0,
  )
  root = parse(figure)
  heights = [float(bar.get('height')) for bar in root.iter('rect')]
  assert len(heights) == 3
  assert heights[0] == pytest.approx(4 * heights[1], abs=0.3)
  assert heights[2] == pytest.approx(2 * heights[1], abs=0.3)
  assert any(line.get('class') == 'limit' for line in root.iter('line'))


def test_strips_are_to_scale_below_one_another():
  whole = svg.Stretch(0, 40, 0, '<a> & b')
  lower = svg.Stretch(10, 20, 7, 'half', 0.5, 1.0)
  root = parse(
    svg.strips([('ids', [whole, lower]), ('learnt', [])], 40, title='row')
  )
  first, all_of_it, half, second = root.iter('rect')

  def box(rect):
    return [float(rect.get(n)) for n in ('x', 'y', 'width', 'height')]

  left, top, width, height = box(first)
  assert box(all_of_it) == pytest.approx([left, top, width, height], abs=0.1)
  assert box(half) == pytest.approx(
    [left + width / 4, top + height / 2, width / 4, height / 2], abs=0.1
  )
  assert box(second)[1] >= top + height  # a strip without stretches is there
  tips = [t.text for t in root.iter('title')]
  assert '<a> & b: 0..40' in tips and 'half: 10..20' in tips
  # Colours begin again behind the last one.
  assert half.get('style') == f'fill:var(--c{7 % svg.COLOURS + 1})'
  names = [t.text for t in root.iter('text')]
  assert names[:2] == ['ids', 'learnt'] and {'0', '40'} <= set(names)


@pytest.mark.parametrize(
  'chart',
  [
    lambda: svg.line_chart([], title='<t>'),
    lambda: svg.line_chart([svg.Series('a', [1], [math.nan])], title='<t>'),
    lambda: svg.bar_chart(['a'], [('b', [None])], title='<t>'),
    lambda: svg.bar_chart([], [], title='<t>'),
  ],
)
def test_nothing_to_draw_is_said(chart):
  root = parse(chart())
  assert root.tag == 'p' and root.text == '<t>: nothing to draw yet.'


def test_named_places_on_the_x_axis():
  figure = svg.line_chart(
    [svg.Series('a', [1, 2], [3.0, 4.0])],
    title='t',
    x_names=['text', 'stage1', 'stage2'],
    dots=True,
  )
  texts = [t.text for t in parse(figure).iter('text')]
  assert {'text', 'stage1', 'stage2'} <= set(texts)
  assert 'a: 3 at stage1' in figure
