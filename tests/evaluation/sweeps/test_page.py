"""The page of a sweep, in a real browser and without one."""

import json

import numpy as np
import pytest

from benchmarks.evaluation import report_page
from step_audio_jax.evaluation import statistics
from step_audio_jax.evaluation.sweeps import charts
from step_audio_jax.evaluation.sweeps import page as page_lib
from step_audio_jax.storage import files
from tests import browser

STEPS, UTTERANCES = 3, 1000


def at(name, what='textContent'):
  return f"document.getElementById('{name}').{what}"


FOCUS = 'document.activeElement'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  return report_page.write(folder, UTTERANCES, STEPS)


@pytest.fixture(scope='module')
def chromium():
  with browser.start() as found:
    yield found


def tab_to(page, name, most=40):
  """Tabs until an element has the focus."""
  for _ in range(most):
    page.press('Tab')
    if page.value(f'{FOCUS}.id') == name:
      return
  raise AssertionError(f'{name} is not reached')


@browser.needed
def test_it_loads_at_once_and_asks_nobody(made, chromium):
  page = chromium.open(made)
  loads = []
  for _ in range(3):
    page.reload()
    loads.append(
      page.value("performance.getEntriesByType('navigation')[0].duration")
    )
  assert min(loads) < 2000
  assert page.outside() == [] and page.faults == [] and page.unnamed() == []
  # Nothing of a sound is asked for before it is played.
  assert page.value("document.querySelectorAll('audio').length") == 0
  assert {url.partition(':')[0] for url in page.requests} <= {'file', 'data'}


@browser.needed
def test_a_keyboard_is_enough(made, chromium):
  page = chromium.open(made)
  shown = "[...document.querySelectorAll('#figure-table tbody tr')]"
  tab_to(page, 'find-figure')
  page.write('asr')
  assert page.value(f'{shown}.filter(x => !x.hidden).length') == 1
  page.press(*['Backspace'] * 3)
  # The heads of the table are buttons that sort.
  for _ in range(5):
    page.press('Tab')
  assert page.value(f'{FOCUS}.tagName') == 'BUTTON'
  assert page.value(f'getComputedStyle({FOCUS}).outlineStyle') == 'solid'
  page.press('Enter')
  first = f'{shown}[0].cells[4].textContent'
  assert page.value(f'parseFloat({first})') == pytest.approx(1 / 63 * 100, 0.01)
  page.press('Space')
  assert page.value(f'parseFloat({first})') == pytest.approx(60 / 63 * 100, 0.1)
  # The utterances: another part, a search, and arrows through the list.
  page.press('/')
  assert page.value(f'{FOCUS}.id') == 'find-row'
  page.write('u7')
  assert page.value(at('rows-count')) == '111 of 1,000 rows'
  page.press(*['Backspace'] * 2, *['Shift+Tab'] * 3)
  assert page.value(f'{FOCUS}.id') == 'part'
  page.press('ArrowDown')
  assert page.value(at('part', 'value')) == '1'
  page.press(*['Tab'] * 4)
  rows = at('rows', 'children.length')
  assert page.value(f'{FOCUS}.parentElement.id') == 'rows'
  assert page.value(rows) < 100  # drawn as it is looked at
  before = page.value(rows)
  page.press('End', 'ArrowDown')
  assert page.value(rows) > before
  assert page.value(f'{FOCUS} === {at("rows", f"children[{before}]")}')
  sound = page.value(f"{FOCUS}.querySelector('audio').getAttribute('src')")
  assert sound.startswith('300_sound/x/u')
  page.press('ArrowUp', 'Home')
  assert page.value(f'{FOCUS} === {at("rows", "firstElementChild")}')
  worst = page.value(f"parseFloat({FOCUS}.querySelector('b').textContent)")
  assert worst == 25  # one word of four
  assert '<wrong & "quoted">' in page.value(f'{FOCUS}.textContent')
  tab_to(page, 'which')
  page.wait(at('diff-told'))
  page.press('ArrowDown')
  assert page.value(at('which', 'value')) == 'worse'
  kinds = "[...new Set([...document.querySelectorAll('#diffs b')].map("
  assert page.value(f'{kinds}x => x.className))]') == ['worse']
  assert page.faults == []


@browser.needed
def test_two_steps_are_compared_on_the_rows_that_both_have(made, chromium):
  page = chromium.open(made)
  found = page.value(
    "(() => { const { rates, p, pairs } = compare('0', '100', '300');"
    ' return [rates, p, pairs.length]; })()'
  )
  (a, _), (b, _) = (
    report_page.made(UTTERANCES, STEPS)[step].rows for step in (100, 300)
  )
  units = sum(row['units'] for row in a)
  rates = [sum(row['errors'] for row in some) / units for some in (a, b)]
  assert found[0] == pytest.approx(rates) and found[2] == UTTERANCES
  assert found[1] == pytest.approx(1 / 2001)  # no draw is as far apart
  # Where the difference is small, as the same test says in Python.
  gains = [1] * 40 + [-1] * 30
  p = page.value(f'flips({json.dumps(gains)}, 10)')
  expected = statistics.sign_flip(gains, np.zeros(70), resamples=20000)
  assert p == pytest.approx(expected, abs=0.04)


def test_a_text_cannot_end_the_data(tmp_path):
  step = report_page.made(4, 1)[100]
  step.rows[0][0]['hypothesis'] = '</script><!-- &amp;'
  step.rows[0][1]['recording'] = str(tmp_path.parent / 'a b.wav')
  step.rows[0][1]['recorded'] = [1.5, 2.0]
  text = ''.join(page_lib._utterances({100: step}, tmp_path))
  assert '</script><!--' not in text
  data = text.split('id="rows-0-100">')[1].split('</script>')[0]
  assert json.loads(data)[0][3] == '</script><!-- &amp;'
  assert [row[4] for row in json.loads(data)[:2]] == [
    '',
    '../a%20b.wav#t=1.5,2',
  ]
  bare = step._replace(rows=[[], []])
  assert 'id="rows' not in ''.join(page_lib._utterances({100: bare}, tmp_path))


def test_stages_follow_one_another(tmp_path):
  figure = {'value': 0.5, 'unit': '%', 'better': 'lower'}
  for name, before, steps in (
    ('base', None, (5, 10)), ('sft', 'base', (20,)), ('policy', 'sft', ()),
  ):  # fmt: skip
    config = {'init_from': [str(tmp_path / before)] if before else []}
    files.write_json(tmp_path / name / 'config.json', config)
    if steps:
      files.write_json(
        tmp_path / name / 'evaluation/summary.json',
        {'steps': {str(n): {'figures': {'x/acc': figure}} for n in steps}},
      )
  found, marks = charts.stages(tmp_path / 'policy', {7: {'x/acc': figure}})
  assert sorted(found) == [5, 10, 30, 37]
  assert marks == [(0, 'base'), (10, 'sft'), (30, 'policy')]
  assert charts.stages(tmp_path / 'base', {5: {}}) == ({}, [])
  text = charts.draw(found, marks)
  assert text.count('<circle') == 4 and 'policy' in text


def test_every_figure_has_a_curve():
  names = [
    'asr_cer/dev', 'perplexity/all/text', 'perplexity/asr/text', 'caption_cer',
    *(f'qa/{n}' for n in range(8)), 'qa/mos',
  ]  # fmt: skip
  figures = {name: {'unit': '%'} for name in names}
  figures['qa/mos'] = {'unit': 'score'}
  found = charts.groups(figures)
  assert sorted(sum(found.values(), [])) == sorted(names)
  assert len(found['qa']) == 6 and found['qa, 2'] == ['qa/6', 'qa/7']
  assert found['qa, score'] == ['qa/mos']
  assert found['Character error rate'] == ['asr_cer/dev', 'caption_cer']
