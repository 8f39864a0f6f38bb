"""A whole session in a real browser, by keyboard alone."""

import csv
import re
import time

from step_audio_jax.evaluation.listening import design as design_lib
from step_audio_jax.evaluation.listening import page as page_lib
from step_audio_jax.evaluation.listening import ratings
from tests import browser
from tests.evaluation.listening import made

# What is under the hand of the page's program, for tests.
TRIAL = 'trials[place]'


def hear(page, key):
  """Plays a sound to its end."""
  before = page.value('answer().heard.filter(Boolean).length')
  page.press(key)
  page.wait(f'answer().heard.filter(Boolean).length > {before}')


def session(page, rater, scores, stop=None):
  """Rates by keys; returns what was pressed, by trial."""
  page.write(rater)
  page.press('Enter')
  pressed = {}
  for count in range(page.value('trials.length')):
    if count == stop:
      return pressed
    one = page.value(TRIAL)
    if one['question'] == design_lib.MOS:
      hear(page, 'Space')
      digit = str(scores % 5 + 1)
      page.press(digit)
      pressed[one['trial']] = digit
    else:
      hear(page, 'ArrowLeft')
      hear(page, 'ArrowRight')
      digit = scores % 3 + 1
      page.press(str(digit))
      pressed[one['trial']] = ('a', 'same', 'b')[digit - 1]
    scores += 1
    page.press('Enter')
  return pressed


@browser.needed
def test_a_session_by_keyboard_alone(tmp_path):
  design = made.small()
  page_lib.write(design, tmp_path)
  saved = tmp_path / 'saved'
  saved.mkdir()
  with browser.start() as chromium:
    page = chromium.open(
      tmp_path / 'listen.html', width=390, height=844, downloads=saved
    )
    # Nothing is asked of who does not say who it is.
    page.press('Enter')
    assert 'name or a code' in page.value("at('welcome-told').textContent")
    pressed = session(page, 'Ada, "A"', 0, stop=3)
    # Unheard and unrated sounds hold it up, and it says so.
    page.press('Enter')
    assert page.value('place') == 3
    assert 'to its end' in page.value("at('told').textContent")
    hear(page, 'Space')
    page.press('Enter')
    assert page.value('place') == 3
    assert 'rating first' in page.value("at('told').textContent")
    assert page.unnamed() == []
    assert page.value('document.documentElement.scrollWidth <= innerWidth')
    # The browser is closed and opened: it goes on where it was.
    order = page.value('trials')
    page.reload()
    assert page.value("at('rater').value") == 'Ada, "A"'
    page.press('Enter')
    assert page.value('place') == 3 and page.value('trials') == order
    assert page.value('answer().heard[0]')
    page.press('4', 'ArrowRight', 'ArrowRight', 'ArrowLeft', 'Backspace')
    assert page.value('place') == 2
    assert page.value('answer().score') == pressed[order[2]['trial']]
    page.press('Enter')
    pressed[order[3]['trial']] = '4'
    page.press('Enter')
    scores = 4
    while page.value('screen') == 'trial':
      one = page.value(TRIAL)
      is_pair = one['question'] == design_lib.AB
      for key in ('ArrowLeft', 'ArrowRight') if is_pair else ('Space',):
        hear(page, key)
      digit = scores % (3 if is_pair else 5) + 1
      page.press(str(digit), 'Enter')
      pressed[one['trial']] = (
        ('a', 'same', 'b')[digit - 1] if is_pair else str(digit)
      )
      scores += 1
    assert 'All 10 are rated' in page.value("at('summary').textContent")
    page.press('Enter')
    (path,) = waited(saved)
    assert page.outside() == [] and page.faults == []
    # Another rater has another order, and sides are not all the same.
    other = page.value("drawn('Grace')")
    assert [one['trial'] for one in other] != [one['trial'] for one in order]
    sides = page.value(
      """[...'abcdefghij'].flatMap(name => drawn(name)).filter(one =>
        one.catch === 'degraded' && one.sounds.length > 1
      ).map(one => one.sounds[0])"""
    )
    assert len(set(sides)) == 2
    dark = chromium.open(tmp_path / 'listen.html', dark=True)
    colours = 'getComputedStyle(document.body).backgroundColor'
    assert dark.value(colours) != page.value(colours)
  assert re.fullmatch(r'ratings-Ada_A_-\w{8}\.csv', path.name)
  with open(path, newline='', encoding='utf-8') as handle:
    rows = list(csv.DictReader(handle))
  assert tuple(rows[0]) == ratings.COLUMNS
  assert {row['trial']: row['score'] for row in rows} == pressed
  assert {row['rater'] for row in rows} == {'Ada, "A"'}
  for place, (row, one) in enumerate(zip(rows, order, strict=True)):
    assert (row['place'], row['trial']) == (str(place + 1), one['trial'])
    assert row['sounds'].split() == one['sounds']
    assert row['page'] == design.page['page']
    assert (row['item'], row['catch']) == (one['item'], one['catch'])
    assert 0 < float(row['seconds']) < 60
    assert set(row['plays'].split()) == {'1'}
  read = ratings.read([path], design.key)
  assert read.given == 1 and not read.rows


def waited(folder):
  """Files that were saved, once they are whole."""
  end = time.monotonic() + 10
  while True:
    found = list(folder.glob('*.csv'))
    if found:
      return found
    assert time.monotonic() < end
    time.sleep(0.02)


@browser.needed
def test_sounds_may_lie_beside_the_page(tmp_path):
  page_lib.write(made.small(), tmp_path, embedded=False)
  sounds = {path.stem for path in (tmp_path / 'sounds').iterdir()}
  assert sounds == set(made.small().sounds)
  with browser.start() as chromium:
    page = chromium.open(tmp_path / 'listen.html')
    page.write('x')
    page.press('Enter')
    hear(page, 'Space')
    assert page.value('answer().plays') == [1]
    # Neighbours are different items, as far as two items allow.
    page.click('#scale button:nth-child(2)')
    assert page.value('answer().score') == '4'
    assert page.value('document.activeElement.id') == 'question'
    page.press('Enter')
    assert page.value('place') == 1
    assert page.outside() == [] and page.faults == []


def test_the_page_names_no_system(tmp_path):
  made_of = made.systems(tmp_path)
  design = design_lib.make(made_of, design_lib.DesignConfig(catches=1))
  text = page_lib.document(design)
  for secret in ('sekret', str(tmp_path), design.key['seed'], 'zh/b'):
    assert secret not in text and secret in str(design.key)
  # Nothing but the page's own parts is ever asked for.
  assert re.findall(r'(?:src|href)="([^"]*)', text) == ['data:,']
  assert '://' not in text
  assert "default-src 'none'" in text
