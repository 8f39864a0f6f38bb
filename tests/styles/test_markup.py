"""Tags in texts, and ordinary brackets, which stay text."""

import string

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

# Brackets that are spoken, wherever they stand.
ORDINARY = (
  '(see page 3)',
  '()',
  '( )',
  '(1)',
  '(图3)',
  '（见第2页）',
  '(he said)',
  '(a fast car)',
  '(fast, cheap)',
  '(F)',
  '(2024)',
  '(fast 2',
  'fast 2)',
  '[fast 2]',
  '(x1)',
  '(:',
)


def told(text, **how):
  """(text, style, pause) of each span."""
  spans = markup.parse(text, **how)
  return [(span.text, str(span.style), span.pause) for span in spans]


@pytest.mark.parametrize(
  'text, expected',
  [
    ('hello', [('hello', '', 0)]),
    ('(fast 2)hello', [('hello', '(快速2)', 0)]),
    (' （四川话） (RAP) 你好', [('你好', '(RAP)(四川话)', 0)]),
    ('(快速2，高兴1) hi', [('hi', '(高兴1)(快速2)', 0)]),
    ('("高兴1")你好', [('你好', '(高兴1)', 0)]),
    ('(fast 1)(fast 1) hi', [('hi', '(快速1)', 0)]),
    (
      'I am (sad 1) down, (fast 2)but quick',
      [
        ('I am ', '', 0),
        ('down, ', '(悲伤1)', 0),
        ('but quick', '(悲伤1)(快速2)', 0),
      ],
    ),
    (
      '(happy)(slow 1)a (normal) b (normal)(sad 1)c',
      [('a ', '(高兴2)(慢速1)', 0), ('b ', '', 0), ('c', '(悲伤1)', 0)],
    ),
    ('a(pause 3) b', [('a', '', 0), (' b', '', 3)]),
    ('(pause)(loud)a', [('a', '(大声2)', 2)]),
    ('你好(停顿1)，世界', [('你好', '', 0), ('，世界', '', 1)]),
    ('(fast 1) a (fast 1) b', [('a b', '(快速1)', 0)]),
  ],
)
def test_spans(text, expected):
  assert told(text) == expected


def test_tags_of_a_text_are_told_once():
  spans = markup.parse('(sad 1)(fast 1)a (pause 1)b (slow 1)c (pause 1)d')
  names = [str(tag) for tag in markup.tags_of(spans)]
  assert names == ['悲伤1', '快速1', '停顿1', '慢速1']
  assert not markup.tags_of(markup.parse('a'))


def test_a_style_may_hold_before():
  style = markup.style('(sad 1)')
  assert told('a (fast 1)b', style=style) == [
    ('a ', '(悲伤1)', 0),
    ('b', '(悲伤1)(快速1)', 0),
  ]


@pytest.mark.parametrize('bracket', ORDINARY)
def test_ordinary_brackets_are_text(bracket):
  for text in (f'{bracket} said he', f'He said {bracket} twice'):
    assert told(text) == [(text, '', 0)]
    assert markup.write(markup.parse(text)) == text


def test_a_name_with_a_number_is_text_behind_a_word():
  for bracket in ('(chapter 2)', '(part 1)', '(Vers 3)', '（步骤2）'):
    assert told(f'See {bracket}.') == [(f'See {bracket}.', '', 0)]


@pytest.mark.parametrize(
  'text, near',
  [
    ('(jolly 2) hello', 'which does not exist'),
    ('hi (fasst 2) you', r'\(fast 2\), the nearest'),
    ('(hihg pitch 2) hi', r'\(high pitch 2\), the nearest'),
    ('(sichuanes) hi', r'\(sichuanese\), the nearest'),
    ('(四川活)你好', r'\(四川话\), the nearest'),
    ('(快素2)你好', r'\(快速2\), the nearest'),
    ('(chapter 2) begins', r'`\\\(` is a bracket that is spoken'),
  ],
)
def test_misspelt_tags_are_refused(text, near):
  with pytest.raises(errors.UserError, match=near):
    markup.parse(text)
  escaped = text.replace('(', '\\(', 1)
  assert told(escaped) == [(text, '', 0)]


@pytest.mark.parametrize(
  'text, message',
  [
    ('(fast 6) hi', 'a level from 1 to 5'),
    ('hi (四川话2) you', 'it has no levels'),
    ('(fast 1)(slow 2) hi', 'both say the speed'),
    ('(fast 1, slow 2) hi', 'both say the speed'),
    ('hi (英文) (粤语) you', 'both say the language'),
    ('hi (pause 1)(pause 2) you', 'both say the pause'),
    ('hi (sad 1)', r'\(sad 1\) with no word behind it'),
    ('(sad 1)(normal)...', r'\(sad 1\)\(normal\) with no word behind it'),
    ('(sad 1)', 'no word behind it'),
    ('(sad 1) - (fast 1) hi', 'no word behind it'),
  ],
)
def test_what_cannot_be_meant(text, message):
  with pytest.raises(errors.UserError, match=message):
    markup.parse(text)


def test_a_change_is_no_contradiction():
  assert told('(fast 1) a (slow 2) b')[1] == ('b', '(慢速2)', 0)


def test_there_is_one_spelling():
  text = '（Happy 2）（fast level 1） News. (normal)And (pause)\\(fast 2) more.'
  spans = markup.parse(text)
  found = '(高兴2)(快速1)News. (正常)And (停顿2)\\(fast 2) more.'
  assert markup.write(spans) == found
  assert markup.parse(found) == spans
  assert markup.plain(spans) == 'News. And (fast 2) more.'
  # A model is told without our mark.
  assert markup.write(spans, escape=False) == found.replace('\\', '')


def test_parts_keep_their_styles():
  spans = markup.parse('(sad 1)One. (pause 2)Two (fast 1)and three.')
  whole = markup.plain(spans)
  assert whole == 'One. Two and three.'
  assert markup.write(markup.cut(spans, 0, 5)) == '(悲伤1)One. '
  two = markup.cut(spans, whole.index('Two'), len(whole))
  assert markup.write(two) == '(悲伤1)(停顿2)Two (快速1)and three.'
  # A pause is before its span, not inside it.
  assert markup.write(markup.cut(spans, 6, 8)) == '(悲伤1)wo'
  assert markup.cut(spans, 3, 3) == ()


@pytest.mark.parametrize(
  'text, expected',
  [
    ('(fast 2)', '(快速2)'),
    ('fast 2', '(快速2)'),
    ('（四川话）(RAP)', '(RAP)(四川话)'),
    ('sad 1, fast', '(悲伤1)(快速2)'),
    ('(normal)', ''),
  ],
)
def test_a_style_alone(text, expected):
  assert str(markup.style(text)) == expected


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'found nothing'),
    ('  ', 'found nothing'),
    ('(fast 2) hello', r'\(hello\), which does not exist'),
    ('(see page 3)', 'which does not exist'),
    ('()', 'which does not exist'),
    ('(fast 1)(slow 1)', 'both say the speed'),
    ('(pause 1)', 'pauses at their places'),
    ('(fast 9)', 'a level from 1 to 5'),
  ],
)
def test_a_style_that_is_none(text, message):
  with pytest.raises(errors.UserError, match=message):
    markup.style(text)


_LETTERS = st.text(string.ascii_lowercase + '你好。，. ()（）\\12', max_size=12)
_GROUPS = st.lists(
  st.sampled_from([*map(str, tags.every()), '正常']).map('({})'.format),
  max_size=3,
).map(''.join)


@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(st.lists(st.tuples(_GROUPS, _LETTERS), max_size=4))
def test_what_is_written_is_read_back(parts):
  text = ''.join(group + words for group, words in parts)
  try:
    spans = markup.parse(text)
  except errors.UserError:
    return
  written = markup.write(spans)
  assert markup.parse(written) == spans
  assert markup.write(markup.parse(written)) == written
