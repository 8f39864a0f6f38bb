"""A part of SSML becomes tags; the rest is refused by name and place."""

import time

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.styles import markup
from step_audio_jax.styles import ssml


def written(inside, **attributes):
  more = ''.join(f' {k}="{v}"' for k, v in attributes.items())
  return markup.write(ssml.parse(f'<speak{more}>{inside}</speak>').spans)


def test_a_document():
  text = """<?xml version="1.0"?>
  <!-- said at noon -->
  <speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis"
         xml:lang="en-GB">
    Come <prosody rate="fast" pitch="+2st">on.</prosody>
    <break time="700ms"/> No (great) hurry,
    <lang xml:lang="fr-x">x</lang>
  </speak>"""
  with pytest.raises(errors.UserError, match='line 7, column 5: <lang xml:la'):
    ssml.parse(text)
  found = ssml.parse(text.replace('fr-x', 'zh-CN'))
  assert found.language == 'en'
  assert markup.plain(found.spans) == 'Come on. No (great) hurry, x'
  assert markup.write(found.spans) == (
    'Come (快速2)(高音2)on. (正常)(停顿3)No (great) hurry, (中文)x'
  )
  assert markup.parse(markup.write(found.spans)) == found.spans


@pytest.mark.parametrize(
  'attribute, value, tag',
  [
    *[('rate', v, t) for v, t in (
      ('100%', ''), ('medium', ''), ('default', ''), ('1', ''), ('+0%', ''),
      ('125%', '(快速2)'), ('+25%', '(快速2)'), ('1.25', '(快速2)'),
      ('80%', '(慢速2)'), ('-20%', '(慢速2)'), ('176%', '(快速5)'),
      ('57%', '(慢速5)'), ('x-slow', '(慢速5)'), ('slow', '(慢速2)'),
      ('fast', '(快速2)'), ('x-fast', '(快速5)'),
    )],
    *[('pitch', v, t) for v, t in (
      ('+0st', ''), ('+2st', '(高音2)'), ('-2.6st', '(低音3)'),
      ('+12.3%', '(高音2)'), ('-20%', '(低音4)'), ('low', '(低音2)'),
      ('x-high', '(高音5)'),
    )],
    *[('volume', v, t) for v, t in (
      ('+4dB', '(大声2)'), ('-9.9dB', '(小声5)'), ('+.5dB', ''),
      ('x-soft', '(小声5)'), ('loud', '(大声2)'),
    )],
  ],
)  # fmt: skip
def test_prosody(attribute, value, tag):
  told = written(f'<prosody {attribute}="{value}">one two</prosody>')
  assert told == f'{tag}one two'


def test_levels_are_the_nearest_that_are_made():
  for value, axis in ((1.3, 'rate'), (0.65, 'rate')):
    (span,) = ssml.parse(
      f'<speak><prosody rate="{value}">a</prosody></speak>'
    ).spans
    made = recipes.of(span.style).rate
    rates = [recipes.RATE**level for level in range(-5, 6)]
    assert made == min(rates, key=lambda r: abs(r / value - 1)), axis


def test_what_is_relative_adds_up_and_ends():
  told = written(
    'a <prosody rate="112%" volume="+2dB">b <prosody rate="112%" '
    'pitch="high">c</prosody> d <prosody rate="default">e</prosody></prosody> f'
  )
  assert told == (
    'a (快速1)(大声1)b (快速2)(高音2)c (正常)(快速1)(大声1)d '
    '(正常)(大声1)e (正常)f'
  )


@pytest.mark.parametrize(
  'attributes, level',
  [
    ('', 3), ('strength="none"', 0), ('strength="x-strong"', 5),
    ('time="250ms"', 1), ('time="0.5s"', 2), ('time="1s"', 4),
    ('time="1500ms"', 5), ('time="0s"', 0), ('time="700ms" strength="weak"', 3),
  ],
)  # fmt: skip
def test_breaks(attributes, level):
  spans = ssml.parse(f'<speak>one<break {attributes}/> two</speak>').spans
  assert max(span.pause for span in spans) == level
  assert markup.plain(spans) == 'one two'


def test_of_two_breaks_the_longer_one_holds():
  told = written('one <break/>, <break strength="weak"/>two <break/>three')
  assert told == 'one , (停顿3)two (停顿3)three'


def test_what_looks_like_tags_is_said():
  spans = ssml.parse('<speak>(fast 2) &lt;b&gt; &amp; &#65; x</speak>').spans
  assert markup.plain(spans) == '(fast 2) <b> & A x'
  assert markup.parse(markup.write(spans)) == spans
  assert written('<![CDATA[a <b>]]>') == 'a <b>'


LAUGHS = '<!DOCTYPE speak [<!ENTITY a "ha">' + ''.join(
  f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip('abcdefgh', 'bcdefghi')
)


@pytest.mark.parametrize(
  'text, message',
  [
    ('<speak>a <emphasis>b</emphasis></speak>',
     'line 1, column 10: <emphasis>: not supported, expected one of <speak>, '),
    ('<speak><voice name="x">b</voice></speak>', '<voice>: not supported'),
    ('<speak><audio src="file:///etc/passwd"/></speak>', '<audio>: not supp'),
    ('<speak><mstts:express-as/></speak>', '<mstts:express-as>: not supported'),
    ('<speak><prosody contour="x">b</prosody></speak>',
     '<prosody contour>: not supported, expected rate, pitch, volume'),
    ('<speak>\n<prosody rate="300%">b</prosody></speak>',
     "line 2, column 1: <prosody rate>: found '300%', expected 57% to 176%"),
    ('<speak><prosody rate="-100%">b</prosody></speak>', "found '-100%'"),
    ('<speak><prosody rate="quick">b</prosody></speak>', "found 'quick'"),
    ('<speak><prosody rate="140%"><prosody rate="140%">b</prosody></prosody>'
     '</speak>', "found '140%'"),
    ('<speak><prosody pitch="200Hz">b</prosody></speak>', "found '200Hz'"),
    ('<speak><prosody pitch="90%">b</prosody></speak>', "found '90%'"),
    ('<speak><prosody volume="silent">b</prosody></speak>', "found 'silent'"),
    ('<speak><prosody volume="50">b</prosody></speak>', "found '50'"),
    ('<speak>a<break time="9s"/> b</speak>', "<break time>: found '9s', exp"),
    ('<speak>a<break time="-1s"/> b</speak>', "<break time>: found '-1s'"),
    ('<speak>a<break strength="big"/> b</speak>', "found 'big', expected one"),
    ('<speak>a<break>b</break></speak>', '<break>: found text in it'),
    ('<speak>a<break/></speak>', '<break>: found with no word behind it'),
    ('<speak>a<lang>b</lang></speak>', '<lang>: xml:lang is missing'),
    ('<speak xml:lang="qqqq">a</speak>', "<speak xml:lang>: found 'qqqq'"),
    ('<speak> , <break strength="none"/>… </speak>', 'found no word'),
    ('<speak/>', 'found no word'),
    ('<speak>a', 'line 1, column 9: no element found'),
    ('<speak>a</prosody>', 'line 1, column 11: mismatched tag'),
    ('<speak>&nbsp;a</speak>', 'line 1, column 8: undefined entity'),
    ('<speak>a\ud800</speak>', 'not well-formed'),
    ('<speak><speak>a</speak></speak>', '<speak>: found inside <speak>'),
    ('<prosody>a</prosody>', '<prosody>: found without <speak>'),
    ('<!DOCTYPE speak SYSTEM "file:///etc/passwd"><speak>a</speak>',
     'found a document type, expected none'),
    (f'{LAUGHS}]><speak>&i;</speak>', 'found a document type'),
    ('<?xml-stylesheet href="x"?><speak>a</speak>', 'found an instruction'),
    ('<speak>' + '<prosody>' * 40 + 'a', 'more than 32 in each other'),
    ('<speak>' + 'a' * 10**6 + '</speak>', 'found 1000015 characters'),
  ],
)  # fmt: skip
def test_what_is_not_supported(text, message):
  began = time.monotonic()
  with pytest.raises(errors.UserError) as caught:
    ssml.parse(text)
  told = str(caught.value)
  assert message in told and told.startswith('ssml: ') and told.endswith('.')
  assert told.count('\n') == 0 and len(told) < 200
  assert time.monotonic() - began < 2


def test_what_begins_as_a_document():
  for text in ('<speak>', ' \n<speak version="1.0">', '<?xml version="1.0"?>\n'
               '<!-- a --><speak>'):  # fmt: skip
    assert ssml.is_ssml(text)
  for text in ('speak', '<speaker>', 'He said <speak>', '<p>', ''):
    assert not ssml.is_ssml(text)


_INSIDE = st.recursive(
  st.text('ab (fast2)<&,é红\n', max_size=12).map(
    lambda text: text.replace('&', '&amp;').replace('<', '&lt;')
  ),
  lambda inner: st.builds(
    '{}{}{}'.format,
    inner,
    st.builds(
      '<prosody rate="{}%" pitch="{}st">{}</prosody>'.format,
      st.integers(90, 112),
      st.integers(-1, 1),
      inner,
    )
    | st.sampled_from(['<break/>', '<break time="1s"/>']),
    inner,
  ),
  max_leaves=6,
)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(_INSIDE)
def test_tags_say_what_the_document_says(inside):
  try:
    spans = ssml.parse(f'<speak>{inside}</speak>').spans
  except errors.UserError as error:
    assert 'word' in str(error)
    return
  assert markup.parse(markup.write(spans)) == spans
