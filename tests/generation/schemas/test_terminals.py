"""Patterns, numbers and strings against Python's own."""

import datetime
import json
import math
import random
import re
import time
import uuid

import pytest

from step_audio_jax.chats import conversation as chats
from step_audio_jax.generation.schemas import characters
from step_audio_jax.generation.schemas import expressions
from step_audio_jax.generation.schemas import limits
from step_audio_jax.generation.schemas import scalars
from step_audio_jax.generation.schemas import terminals


def reads(terminal, text):
  """Whether a terminal accepts bytes, and that it never is in a dead end."""
  state = 0, 0
  for byte in text:
    state = terminal.step(*state, byte)
    if state is None:
      return False
  return terminal.label(*state) >= 0


def sample(made, rng, most=60):
  """A text of an automaton; None if it did not end."""
  state, out = 0, []
  for _ in range(most):
    if made.ends[state] and rng.random() < 0.3:
      return ''.join(out)
    kinds = [n for n, t in enumerate(made.next[state]) if t >= 0]
    if not kinds:
      return ''.join(out) if made.ends[state] else None
    kind = rng.choice(kinds)
    low, high = rng.choice(made.classes[kind])
    out.append(chr(rng.choice((low, high, rng.randint(low, high)))))
    state = made.next[state][kind]
  return None


PATTERNS = [
  r'^abc$',
  r'^[a-z]{2,4}$',
  r'^(foo|bar)+?$',
  r'ab',
  r'^a',
  r'z$|^\d+$',
  r'^(?:\+?\d{1,3}[- ])?\(?\d{3}\)?$',
  r'^[^"\\\n]*$',
  r'^\w+\s\S$',
  r'^.{0,3}$',
  r'^[\u4e00-\u9fff\-\]]+$',
  r'^(?<year>\d{4})-W(0[1-9]|[1-4]\d)$',
  r'^\D\W$',
  r'^x*(y|)z?$',
  r'^\$\{\w+\}\/\x41\t$',
]


@pytest.mark.parametrize('pattern', PATTERNS)
def test_what_a_pattern_gives_is_found_by_pythons(pattern):
  made = terminals.expression(pattern)
  ours = re.compile(pattern.replace('(?<', '(?P<').replace(r'\/', '/'))
  rng, met = random.Random(0), 0
  for _ in range(60):
    text = sample(made, rng)
    if text is not None:
      met += 1
      assert ours.search(text), text
      assert characters.accepts(made, text)
  assert met > 5


@pytest.mark.parametrize('pattern', PATTERNS)
def test_what_pythons_finds_is_accepted(pattern):
  made = terminals.expression(pattern)
  ours = re.compile(pattern.replace('(?<', '(?P<').replace(r'\/', '/'))
  rng = random.Random(1)
  letters = 'abcfoorz01 39-+()_"\\\n妈W${}/A\t'
  for _ in range(400):
    text = ''.join(rng.choices(letters, k=rng.randint(0, 6)))
    found = ours.search(text) is not None
    if text.endswith('\n'):  # there `$` of Python matches too much
      assert found or not characters.accepts(made, text)
    elif text.isascii() or not found:  # beyond it no two agree
      assert characters.accepts(made, text) == found, text


@pytest.mark.parametrize(
  ('pattern', 'why'),
  [
    (r'(a)\1', r'"\\1" is not supported'),
    (r'^(?=a)b', 'is not supported'),
    (r'(?<!a)b', 'is not supported'),
    (r'\p{L}', 'is not supported'),
    (r'\bword', 'is not supported'),
    (r'a^b', 'inside'),
    (r'(^a)', 'inside'),
    (r'a$b', 'before the end'),
    (r'(a', 'not closed'),
    (r'[a', 'not closed'),
    (r'[]', 'empty'),
    (r'[z-a]', 'backwards'),
    (r'a)', 'closes nothing'),
    (r'a{3,2}', 'no range'),
    (r'a{2000}', 'more than 1000'),
    (r'a**', 'two repetitions'),
    (r'*a', 'repeats nothing'),
    (r'a{,3}', 'no repetition'),
    ('(' * 60 + 'a' + ')' * 60, 'nested'),
    ('a' * 3000, 'characters'),
  ],
)
def test_what_is_not_supported_says_why(pattern, why):
  with pytest.raises(limits.Refused, match=why):
    terminals.expression(pattern)


@pytest.mark.parametrize(
  'pattern',
  [
    r'(a|b)*a(a|b){12}',
    r'((a{1,100}){1,100}){1,100}',
    r'(.*a){30}.*b.{20}$',
    r'(((((((x?){20}){20}){20}){20}){20}){20}){20}',
    r'^(a?){500}(b?){500}a{500}$',
    r'([\w]{0,200}){0,12}',
  ],
)
def test_what_explodes_is_refused_soon(pattern):
  began = time.process_time()
  with pytest.raises(limits.Refused):
    characters.automaton(expressions.whole(pattern))
  assert time.process_time() - began < 3


@pytest.mark.parametrize(
  ('least', 'most', 'pattern'),
  [(0, 4, None), (2, 3, None), (3, 7, '^(abc)*$'), (0, 5, '^a*b?$')],
)
def test_strings_are_counted_in_characters(least, most, pattern):
  made = terminals.expression(pattern) if pattern else terminals.ANYTHING
  terminal = terminals.string(made, least, most)
  for text in (
    '',
    'a',
    'ab',
    'abc',
    'abcabc',
    'aaaab',
    '妈妈',
    '😀\n"',
    'aaaaa',
  ):
    fits = least <= len(text) <= most
    fits &= pattern is None or re.search(pattern, text) is not None
    assert reads(terminal, chats.as_json(text).encode()) == fits, text


def test_no_count_and_no_pattern_runs_into_a_dead_end():
  terminal = terminals.string(terminals.expression('^(abc)*$'), 4, 8)
  rng, seen = random.Random(0), set()
  for _ in range(20):
    state, text = (0, 0), b''
    while True:
      options = [b for b in range(256) if terminal.step(*state, b)]
      if not options:
        break
      text += bytes([byte := rng.choice(options)])
      state = terminal.step(*state, byte)
    assert terminal.label(*state) == 0
    seen.add(text)
  assert seen == {b'"abcabc"'}
  assert terminals.string(terminals.expression('^(abc)*$'), 4, 5) is None


def test_a_string_has_one_text():
  terminal = terminals.string(terminals.ANYTHING, 0, 40)
  for text in ('\x00\x1f\x7f"\\\b\f\n\r\t/', 'é\u2028￿𐍈', ''):
    assert reads(terminal, chats.as_json(text).encode())
  for other in (rb'"\u0041"', rb'"\/"', rb'"\u000a"', b'"\n"', b'"\xff"'):
    assert not reads(terminal, other)
  # Bytes of surrogates, of too long a form, past the last character.
  for other in (b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"'):
    assert not reads(terminal, other)


@pytest.mark.parametrize(
  ('low', 'high', 'step'),
  [
    (0, 9, 1), (-7, 130, 1), (1, 1, 1), (95, 1205, 1), (-300, -45, 1),
    (-20, 20, 5), (7, 900, 60), (10, 9, 1), (0, 0, 1), (-1000, 999, 7),
  ],
)  # fmt: skip
def test_whole_numbers_are_exact(low, high, step):
  made = scalars.whole(low, high, step)
  for number in range(-1300, 1301):
    fits = low <= number <= high and number % step == 0
    assert characters.accepts(made, str(number)) == fits, number
  for text in ('-0', '00', '07', '+1', '1.0', '', '-'):
    assert not characters.accepts(made, text)


def test_whole_numbers_without_bounds():
  for number in (0, -1, 2**63 - 1, -(2**63), 10**18):
    assert characters.accepts(scalars.whole(None, None), str(number))
  assert not characters.accepts(scalars.whole(None, None), '1' * 20)
  assert characters.accepts(scalars.whole(10**12, None), str(10**12 + 5))
  assert not characters.accepts(scalars.whole(10**12, None), str(10**12 - 1))


def test_numbers_without_bounds_are_those_of_python():
  made, rng = scalars.number(None, None, False, False), random.Random(0)
  for _ in range(300):
    value = rng.choice((-1, 1)) * rng.random() * 10 ** rng.randint(-290, 290)
    assert characters.accepts(made, repr(value)), value
  for text in ('0', '-3', '0.5', '0.0001234567890123456', '1e-05', '-0.0'):
    assert characters.accepts(made, text)
  for _ in range(300):
    text = sample(made, rng)
    assert text is None or math.isfinite(json.loads(text))
  for text in ('1e999', '.5', '5.', '01.5', 'NaN', '1E5', '1e5'):
    assert not characters.accepts(made, text)


@pytest.mark.parametrize(
  ('low', 'high', 'low_open', 'high_open'),
  [
    (0, 1, False, False), (0, 1, True, True), (-1.5, 2.25, False, True),
    (0.1, 0.3, True, False), (-0.75, -0.5, True, True), (None, 0, False, True),
    (0, None, True, False), (-3, None, False, False),
    (None, -2.5, False, False),
    (12.5, 12.5, False, False), (99.95, 1000, True, False),
    (1e-20, 1e-3, False, False), (-180, 180, False, False),
    (1e300, None, False, False), (3, 2, False, False),
  ],
)  # fmt: skip
def test_numbers_keep_their_bounds(low, high, low_open, high_open):
  made = scalars.number(low, high, low_open, high_open)

  def fits(value):
    above = low is None or value > low or (value == low and not low_open)
    below = high is None or value < high or (value == high and not high_open)
    return above and below

  rng = random.Random(0)
  for _ in range(0 if made.is_empty else 200):
    text = sample(made, rng)
    assert text is None or fits(json.loads(text)), text
  for _ in range(400):
    value = round(
      rng.uniform(-4, 4) * 10 ** rng.randint(-1, 2), rng.randint(0, 4)
    )
    if value == 0:
      value = 0.0
    assert characters.accepts(made, f'{value:.6f}'.rstrip('0') + '0') == fits(
      value
    ), value
  for value in (low, high):
    if value is not None and abs(value) < 1e15 and 'e' not in repr(value):
      assert characters.accepts(made, repr(value)) == fits(value)


CHECKS = {
  'date': datetime.date.fromisoformat,
  'time': datetime.time.fromisoformat,
  'date-time': datetime.datetime.fromisoformat,
  'uuid': uuid.UUID,
}


@pytest.mark.parametrize('name', list(scalars.FORMATS))
def test_formats_give_what_they_are_called(name):
  made = terminals.expression(scalars.FORMATS[name])
  rng, seen = random.Random(0), 0
  for _ in range(150):
    text = sample(made, rng, most=200)
    if text is not None:
      seen += 1
      if name in CHECKS:
        CHECKS[name](text)
  assert seen > 5


@pytest.mark.parametrize(
  ('name', 'good', 'bad'),
  [
    ('date', ['2024-02-29', '2000-02-29', '1999-12-31'],
     ['2023-02-29', '1900-02-29', '2024-04-31', '0000-01-01', '2024-13-01']),
    ('time', ['08:30:00Z', '23:59:59.123+02:00'], ['24:00:00Z', '08:30:00']),
    ('date-time', ['2024-02-29T23:59:59Z'], ['2024-02-29 23:59:59Z']),
    ('email', ['a.b+c@x-y.example.org'], ['a@b', '@x.org', 'a..b@x.org']),
    ('uuid', ['3f2504e0-4f89-41d3-9a0c-0305e82c3301'], ['3f2504e0']),
    ('ipv4', ['0.0.0.0', '255.249.1.99'], ['256.1.1.1', '01.1.1.1']),
    ('hostname', ['localhost', 'a.example.org'], ['-a', 'a-.b']),
    ('duration', ['P1Y2M3D', 'PT5M', 'P2W'], ['P', 'PT', 'P1H']),
    ('uri', ['https://example.org/a?b=c'], ['ftp://a', 'https://']),
  ],
)  # fmt: skip
def test_formats(name, good, bad):
  made = terminals.expression(scalars.FORMATS[name])
  assert [characters.accepts(made, one) for one in good] == [True] * len(good)
  assert [characters.accepts(made, one) for one in bad] == [False] * len(bad)
