"""What a model wrote is said only if it is words of the right kind."""

import re

import pytest

from data_pipelines.factory.texts import checks as checks_lib
from step_audio_jax import errors

RULES = checks_lib.Rules(longest=60)


def fault(text, language='en', given=None, rules=RULES):
  checks = checks_lib.Checks(rules)
  return checks.fault(checks.clean(text), language, given)


@pytest.mark.parametrize(
  'text, language, given',
  [
    ('The dog sleeps (all day) in the sun.', 'en', 'A dog is asleep all day.'),
    ('“Where are you going?”', 'en', None),
    ('我们明天去 Paris 看朋友。', 'zh', 'We visit friends in Paris tomorrow.'),
    ('Мы идём домой', 'ru', None),
    ('यह एक क्ष\u200dत्रिय है', 'hi', None),
    ("I'm sorry I was late, he said.", 'en', None),
    ('Tlhe quick 3 birds at 5:30', 'tlh', None),
  ],
)
def test_what_can_be_said(text, language, given):
  assert fault(text, language, given) == ''


@pytest.mark.parametrize(
  'text, language, given, message',
  [
    ('Sure! Here it is:\nThe dog sleeps.', 'en', None, 'found 2 lines'),
    ('The dog\x07 sleeps', 'en', None, r'control character U\+0007 at 7'),
    ('The dog\u202e sleeps', 'en', None, r'control character U\+202E'),
    ('The \ufdd2dog', 'en', None, r'control character U\+FDD2'),
    ('3 + 4 = 7', 'en', None, "found '3 . 4 = 7', expected words"),
    ('', 'en', None, "found '', expected words"),
    ('a ' * 40, 'en', None, 'found 79 characters, expected at most 60'),
    ("I'm sorry, but I can't help with that.", 'en', None, 'no refusal'),
    ('As an AI language model I have no cat', 'en', None, "'As an AI'"),
    ('抱歉，我无法完成。', 'zh', None, 'no refusal'),
    ('The **dog** sleeps', 'en', None, r"found '\*' in"),
    ('see https://a.org', 'en', None, "found 'https://'"),
    ('a <|EOT|> b', 'en', None, "found '<'"),
    ('(fasst 2) The dog', 'en', None, r'found \(fasst 2\), which does not e'),
    ('(fast 2) The dog', 'en', None, r'found \(fast 2\), expected words with'),
    ('Собака спит', 'en', None, 'found 0 of 10 letters in the script Latn'),
    ('The dog sleeps', 'zh', None, "0 of 12 letters in the script Hans"),
    ('the d', 'en', 'A dog is asleep all day long', 'found 0.18 times the let'),
    ('那只狗整天都在睡觉', 'zh', 'a dog', 'found 6.8 times the letters'),
  ],
)  # fmt: skip
def test_what_can_not(text, language, given, message):
  told = fault(text, language, given)
  assert re.search(message, told), told
  assert told.endswith('.') and '\n' not in told and told.isprintable()


def test_pieces_of_the_model_are_no_words():
  rules = checks_lib.Rules(marks='%')
  for text, message in (
    ('a <|EOT|> b', r'control piece <|EOT|>'),
    ('a <audio_3> b', r'found <audio_k> pieces'),
  ):
    assert message in fault(text, rules=rules)


def test_quotes_around_a_text_are_none_of_it():
  clean = checks_lib.Checks(RULES).clean
  assert clean(' "The dog."\n') == 'The dog.'
  assert clean('“The dog.”') == 'The dog.'
  assert clean('"Yes" and "no"') == '"Yes" and "no"'
  assert clean('e\u0301') == '\u00e9'


def test_bad_rules():
  for settings, message in (
    ({'longest': 0}, 'longest is 0'),
    ({'ratio': (2.0, 1.0)}, 'ratio: found'),
    ({'script': 2.0}, 'script: found 2.0'),
    ({'refusals': ('(',)}, 'expected a regular expression'),
  ):
    with pytest.raises(errors.UserError, match=message):
      checks_lib.Rules(**settings)
