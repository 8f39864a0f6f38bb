"""What judges say is a verdict of the form that was asked for, or none."""

import time

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax.evaluation.judges import library
from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import verdicts

HTML = '<!DOCTYPE html><html><body>yes [Correct] [[4]]</body></html>'
TRIPLE = next(one for one in library.PROMPTS if one.name == 'stepeval_360')
PARSERS = {
  'yes_no': parsing.yes_no(),
  'last': parsing.yes_no(parsing.LAST),
  'mark': parsing.right_wrong(),
  '1-5': parsing.score(1, 5),
  '1-10': parsing.score(1, 10, parsing.MARKED),
  'json': parsing.judgment(),
  'rubric': parsing.rubric(),
  'triple': TRIPLE.parser,
}

SAID = [
  ('yes_no', 'Yes', 1), ('yes_no', '**no**.', 0), ('yes_no', ' "YES" ', 1),
  ('yes_no', '<think>no, or yes?</think>\nYes', 1),
  ('yes_no', 'Yes, it is right.', 'prose'),
  ('yes_no', 'Yes. No.', 'contradictory'), ('yes_no', '', 'empty'),
  ('yes_no', '<think>yes</think>', 'empty'), ('yes_no', HTML, 'html'),
  ('yes_no', 'Yesterday', 'prose'), ('yes_no', '1', 'prose'),
  ('last', 'It names no city.\nResult: yes', 1),
  ('last', 'Same meaning.\n\n**No.**\n', 0),
  ('last', 'yes\nBut it is not in English.', 'prose'),
  ('last', 'Result: no\nOn a second look:\nResult: yes', 'contradictory'),
  ('last', HTML, 'html'), ('last', '\n', 'empty'),
  ('mark', 'It is the same, the score is [Correct].', 1),
  ('mark', 'Other town: [ incorrect ]', 0),
  ('mark', '[Correct] or [Incorrect]?', 'contradictory'),
  ('mark', 'The answer is correct.', 'prose'), ('mark', ' ', 'empty'),
  ('1-5', '4', 4), ('1-5', 'Score: **5**', 5), ('1-5', '[[3]]', 3),
  ('1-5', '4/5', 4), ('1-5', '2.', 2), ('1-5', '4.0', 4),
  ('1-5', '4/10', 'prose'), ('1-5', '6', 'off_scale'),
  ('1-5', '0', 'off_scale'), ('1-5', '-3', 'off_scale'),
  ('1-5', '.5', 'prose'), ('1-5', '4.5', 'off_scale'),
  ('1-5', '3 or 4', 'contradictory'), ('1-5', '9' * 5000, 'off_scale'),
  ('1-5', 'It is good, I say 4', 'prose'), ('1-5', 'four', 'prose'),
  ('1-5', HTML, 'html'), ('1-5', '', 'empty'),
  ('1-10', 'Helpful, not deep. Rating: [[7]]', 7), ('1-10', '[[10]]', 10),
  ('1-10', 'Rating: 7', 'prose'), ('1-10', '[[11]]', 'off_scale'),
  ('1-10', '[[7]] … no: [[6]]', 'contradictory'),
  ('1-10', '[[7]] I repeat [[7]]', 7), ('1-10', '[[7.5]]', 'off_scale'),
  ('json', '{"analysis": "same", "judgment": "correct"}', 1),
  ('json', '```json\n{"judgment": "Incorrect"}\n```', 0),
  ('json', 'Here:\n```\n{"judgment": "correct"}\n```\nDone.', 1),
  ('json', '{"judgment": "correct"} {"judgment": "incorrect"}', 'not_json'),
  ('json', '```\n{"judgment": "correct"}\n```\n```\n{"judgment": "incorrect"}'
           '\n```', 'contradictory'),
  ('json', '{"judgment": "correct", "judgment": "incorrect"}', 'contradictory'),
  ('json', '{"judgment": "correct", "judgment": "correct"}', 1),
  ('json', '{"judgment": "partly"}', 'off_scale'),
  ('json', '{"judgment": true}', 'off_scale'), ('json', '{}', 'no_field'),
  ('json', '["correct"]', 'not_json'), ('json', 'correct', 'not_json'),
  ('json', '"judgment": "correct"', 'not_json'),
  ('json', '[' * 10**5, 'not_json'), ('json', HTML, 'html'),
  ('rubric', '{"reason": "brief", "score": 3}', 3),
  ('rubric', '{"score": "3"}', 'off_scale'), ('rubric', '{"score": NaN}',
   'off_scale'), ('rubric', '{"score": true}', 'off_scale'),
  ('rubric', '{"score": 1e400}', 'off_scale'),
]  # fmt: skip


@pytest.mark.parametrize('name, said, expected', SAID)
def test_what_is_said(name, said, expected):
  found = PARSERS[name](said)
  if isinstance(expected, str):
    assert found == verdicts.Verdict(None, expected)
    assert expected in parsing.KINDS
  else:
    assert found == verdicts.Verdict(float(expected))


def test_three_values_at_once():
  found = TRIPLE.parser(
    '{"chat": 4, "relevance": "no", "factuality": "Yes", "reason": "[Correct]"}'
  )
  assert found.parts == {'factuality': 1, 'relevance': 0, 'chat': 4}
  assert found.value == 1 and found.part('chat') == 4 and not found.kind
  for said, kind in [
    ('{"chat": 4, "relevance": "no"}', 'no_field'),
    ('{"chat": 9, "relevance": "no", "factuality": "yes"}', 'off_scale'),
  ]:
    assert TRIPLE.parser(said) == verdicts.Verdict(None, kind)


@hypothesis.given(st.text(), st.sampled_from(sorted(PARSERS)))
@hypothesis.settings(max_examples=100, deadline=None)
def test_any_text_is_a_verdict_on_the_scale_or_a_kind(text, name):
  parser = PARSERS[name]
  found = parser(text)
  assert (found.value is None) == bool(found.kind)
  for part, scale in parser.scales.items():
    value = found.part(part)
    assert value is None or scale.low <= value <= scale.high


def test_rates_tell_both_denominators():
  some = [
    verdicts.Verdict(1.0),
    verdicts.Verdict(1.0),
    verdicts.Verdict(0.0, verdicts.NO_ANSWER),
    verdicts.Verdict(None, 'prose'),
  ]
  assert verdicts.rates(some) == {
    'over_all': 0.5,
    'over_parsed': pytest.approx(2 / 3),
    'of': 4,
    'parsed': 3,
    'kinds': {'silent': 1, 'prose': 1},
  }
  assert verdicts.rates(some, low=-1.0)['over_all'] == 0.25
  empty = verdicts.rates([])
  assert empty['over_all'] is None and empty['over_parsed'] is None


def test_long_and_repeated_text_is_read_quickly():
  # Each took longer with the square of its length, once.
  began = time.process_time()
  for text in ('<think>' * 4000, ' ' * 30000 + 'x', '[' * 30000):
    for parser in PARSERS.values():
      assert parser(text).value is None
  assert time.process_time() - began < 2
