"""Rules: what they reward and what not."""

import math

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.rewards import rules
from step_audio_jax.alignment.rewards import sample as sample_lib


def said(text, expected='blue', question='what colour is the cup', **more):
  fields = {'language': 'en', 'ids': np.arange(4), 'stopped': True} | more
  return sample_lib.Sample(
    id='q', question=question, expected=expected, text=text, **fields
  )


def score(rule, text, **more):
  (found,) = rule([said(text, **more)])
  return found


@pytest.mark.parametrize(
  'text, loose, exact',
  [
    ('blue', 1, 1),
    ('Blue.', 1, 1),
    ('the cup is blue', 1, 0),
    ('the cup', 0, 0),
    ('', 0, 0),
  ],
)
def test_right(text, loose, exact):
  assert score(rules.Right(), text) == loose
  assert score(rules.Right(exact=True), text) == exact


def test_right_cannot_tell_without_a_reference():
  assert math.isnan(score(rules.Right(), 'blue', expected=''))


def test_brief():
  rule = rules.Brief(most=3)
  assert score(rule, 'a b c') == 1
  assert score(rule, 'a b c d e f') == 0.5
  assert score(rule, '') == 0
  assert score(rule, '杯子是蓝色的') == 0.5
  with pytest.raises(errors.UserError, match='most is 0, expected at least 1'):
    rules.Brief(most=0)


def test_on_topic():
  rule = rules.OnTopic(spared=('the', 'is'))
  assert score(rule, 'the cup is blue') == 1
  assert score(rule, 'blue elephants') == 0.5
  assert score(rule, 'elephants') == 0
  assert score(rule, '') == 0


def test_in_language():
  rule = rules.InLanguage()
  assert score(rule, 'blue, 3!') == 1
  assert score(rule, '蓝色') == 0
  assert score(rule, '蓝色', language='zh') == 1
  assert score(rule, '蓝色 ok', language='zh') == 0.5
  assert score(rule, '42') == 0


def test_of_form():
  rule = rules.OfForm(r'[A-D]')
  assert score(rule, 'B') == 1
  assert score(rule, 'B.') == 0
  with pytest.raises(errors.UserError, match='expected a regular expression'):
    rules.OfForm('(')


@pytest.mark.parametrize(
  'text, heard',
  [
    ("Sorry, I didn't hear you.", 0),
    ('I could not quite catch that', 0),
    ('Can you repeat that again?', 0),
    ('抱歉，我没听清楚', 0),
    ('请再说一遍', 0),
    ('I hear a dog', 1),
    ('blue', 1),
    ('我听到一只狗', 1),
  ],
)
def test_heard(text, heard):
  assert score(rules.Heard(), text) == heard


def test_unrepeated():
  rule = rules.Unrepeated(length=2)
  assert score(rule, 'a b c d') == 1
  assert score(rule, 'a b a b a b') == pytest.approx(2 / 5)
  assert score(rule, 'a') == 1
  spoken = rules.Unrepeated(length=1, spoken=True)
  assert score(spoken, '', ids=np.array([5, 5, 5, 7])) == 0.5


def test_every_rule_is_between_nothing_and_one():
  texts = ['', 'blue', '蓝', 'a ' * 40, '!?', "I didn't hear that"]
  for name, rule in rules.RULES.items():
    it = rule('.*') if name == 'of_form' else rule()
    for text in texts:
      assert 0 <= score(it, text) <= 1, (name, text)
