"""The registry, averages, and what becomes of rows that do not count."""

import dataclasses
import math
import pathlib
import re

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation import conventions
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import plain
from step_audio_jax.evaluation.conventions import scorer
from step_audio_jax.evaluation.metrics import scoring
from tests.evaluation.conventions import goldens

NAMES = tuple(conventions.CONVENTIONS)
words = st.lists(st.sampled_from(['a', 'bc', '你', ',']), max_size=5)
texts = words.map(' '.join)
triples = st.lists(
  st.tuples(texts, texts, st.sampled_from(['en', 'zh'])), max_size=5
)


def test_names_are_found_and_others_told():
  assert {
    *('plain', 'qwen2audio', 'kimi', 'ultraeval', 'wenet', 'seed-tts'),
    *('open-asr', 'whisper', 'kaldi'),
  } <= set(NAMES)
  assert conventions.find('kimi').average == 'micro'
  assert conventions.find('seed-tts').average == 'macro'
  with pytest.raises(errors.UserError, match="'kimmi'.*did you mean 'kimi'"):
    conventions.find('kimmi')
  with pytest.raises(errors.UserError, match='expected one of plain'):
    conventions.score('nobody', [])
  with pytest.raises(ValueError, match='median'):
    dataclasses.replace(conventions.find('kimi'), average='median')


def test_the_page_has_all_of_them():
  page = pathlib.Path(__file__).parents[3] / 'docs' / 'conventions.md'
  text = page.read_text(encoding='utf-8')
  averages = {}
  for line in text.splitlines():
    if line.startswith('| `'):
      cells = line.split('|')
      for name in re.findall('`(.+?)`', cells[1]):
        averages[name] = cells[4].strip()
  assert averages == {
    name: convention.average
    for name, convention in conventions.CONVENTIONS.items()
  }


@hypothesis.given(triples)
@hypothesis.settings(deadline=None)
def test_plain_is_what_evaluations_count(lines):
  rows = [(str(i), *line) for i, line in enumerate(lines)]
  for name, mode in (('plain', 'character'), ('plain-words', 'word')):
    want = scoring.corpus_errors(lines, mode)
    found = conventions.score(name, rows)
    assert found.totals == want
    assert found.rate == (want.rate if want.reference else None)
    assert found.version == plain.VERSION == scoring.VERSION


def test_micro_sums_and_macro_averages():
  rows = [
    ('a', 'one', 'two', 'en'),
    ('b', 'the cat sat down', 'the cat sat down now', 'en'),
  ]
  micro = conventions.score('kaldi', rows)
  assert micro.rate == pytest.approx(2 / 5)
  macro = conventions.score('seed-tts', rows)
  assert macro.rate == pytest.approx((1 + 1 / 4) / 2)
  assert [row.rate for row in macro.rows] == [1.0, 0.25]
  assert macro.totals.astuple() == (5, 1, 0, 1)


def test_every_row_comes_back_and_what_does_not_count_has_a_reason():
  rows = [
    ('a', 'the cat', 'the cat', 'en'),
    ('b', 'the cat', None, 'en'),
    ('c', None, 'the cat', 'en'),
    ('a', 'the cat', 'a dog', 'en'),
    ('d', '', 'the cat', 'en'),
    ('e', 'chat noir', 'chat', 'tok_pisin'),
    ('f', 'the cat', 'null', 'en'),
    ('g', '猫', '猫', 'ja'),
  ]
  kimi = conventions.score('kimi', rows)
  assert [row.id for row in kimi.rows] == [row[0] for row in rows]
  assert kimi.excluded == {
    'no hypothesis': 1,
    'no reference': 1,
    'the id was there before': 1,
    'the hypothesis is null': 1,
    'language ja is not covered': 1,
  }
  # An empty reference counts by its insertions; it has no rate of its own.
  assert kimi.totals.astuple() == (4, 0, 1, 2)
  assert kimi.rate == pytest.approx(3 / 4)
  empty = kimi.rows[4]
  assert empty.counted and empty.rate is None and empty.insertions == 2
  assert empty.reason == 'the reference is empty'
  told = kimi.as_dict()
  assert (told['rows'], told['counted']) == (8, 3)
  assert sum(told['excluded'].values()) == 5

  seed = conventions.score('seed-tts', rows)
  assert seed.excluded['the reference is empty'] == 1
  assert seed.excluded['language tpi is not covered'] == 1
  assert seed.rate == pytest.approx(1 / 2)  # `null` is a word here


@pytest.mark.parametrize(
  'row, told',
  [
    (
      ('b', math.nan, 'x', 'en'),
      "'b': reference: found nan, expected a te",
    ),
    (('b', 'x', 3, 'en'), "'b': hypothesis: found 3, expected a text or None"),
    (('b', 'x', b'y', 'en'), "'b': hypothesis: found b'y'"),
    (('b', 'x', 'y', None), "'b': language: found None, expected a text."),
    (
      ('b', 'x', 'y'),
      "utterance 2: found ('b', 'x', 'y'), expected (id, r",
    ),
    ('abcd', "utterance 2: found 'abcd', expected (id, reference"),
  ],
)
def test_what_is_no_utterance_is_one_sentence(row, told):
  with pytest.raises(errors.UserError, match=re.escape(told)):
    conventions.score('plain', [('a', 'x', None, 'en'), row])


def test_nothing_to_score_has_a_reason():
  assert conventions.score('wenet', []).reason == 'no utterance'
  scored = conventions.score('wenet', [('a', '', 'b', 'en')])
  assert scored.rate is None
  assert scored.reason == 'no utterance has a reference'
  assert scored.totals.insertions == 1
  none = conventions.score('seed-tts', [('a', '', '', 'zh')])
  assert none.rate is None and none.excluded


def test_tags_of_any_form_and_of_nobody():
  rows = [
    ('a', '我有12只', '我有十二只', 'zh_CN'),
    ('b', '我有12只', '我有十二只', 'cmn-Hans'),
    ('c', 'it is', "it's", 'English'),
  ]
  scored = conventions.score('qwen2audio', rows)
  assert scored.rate == 0 and scored.totals.reference == 5 + 5 + 2
  assert conventions.score('qwen2audio', [('a', 'x y', 'x', 'xx')]).rate == 0.5


def test_many_conventions_and_many_processes_are_as_one(monkeypatch):
  rows = goldens.utterances()
  alone = conventions.score('wenet', rows)
  monkeypatch.setattr(scorer, '_CHUNK', 150)
  both = conventions.score_all(
    ['wenet', conventions.find('kaldi'), 'wenet'], iter(rows), processes=2
  )
  assert list(both) == ['wenet', 'kaldi']
  assert both['wenet'] == alone
  assert math.isclose(
    alone.rate, sum(r.errors for r in alone.rows) / alone.totals.reference
  )


def test_a_convention_of_a_user():
  """Letters alone, lower case; found by nobody's name, scored all the same."""

  def letters(reference, hypothesis_, language):
    texts = [
      ''.join(filter(str.isalpha, text)).lower()
      for text in (reference, hypothesis_)
    ]
    return base.Pair(*texts, *texts)

  mine = dataclasses.replace(
    conventions.find('plain'), name='letters', read=letters
  )
  scored = conventions.score(mine, [('a', 'A b, c!', 'a-B-d', 'en')])
  assert (scored.convention, scored.rate) == ('letters', 1 / 3)
