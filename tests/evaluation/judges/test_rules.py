"""Rules read what they can, and guess nothing."""

import time

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.judges import options as option_lib
from step_audio_jax.evaluation.judges import rules

OPTIONS = ['Paris', 'London', 'Rome', 'New York']
CHOICES = [
  ('B', 1), ('(b)', 1), ('**B**', 1), ('b', 1), ('B.', 1), ('B. London', 1),
  ('(B) London, because of the Thames', 1), ('B: it has the Thames', 1),
  ('London', 1), ('**London.**', 1), ('Answer: B', 1), ('Answer: **B**', 1),
  ('The answer is B', 1), ('The answer is (B).', 1), ('the answer is b', 1),
  ('The answer is B London', 1), ('The correct answer is London.', 1),
  ('My answer is option D', 3), ('I would choose B.', 1), ('Option B', 1),
  ('The answer is new york', 3), ('答案是B', 1), ('答案：B', 1), ('选 C', 2),
  ('正确答案是伦敦', 'prose'), ('应选D。', 3), ('Let me think.\n\nB', 1),
  ('B) London\nIt lies in England.', 1), ('The answer is B, not C.', 1),
  ('A dog', 'prose'), ('The answer is A dog', 'prose'), ('I know', 'prose'),
  ('London is nice', 'prose'), ('It is London', 'prose'), ('I am', 'prose'),
  ('The answer is not B', 'prose'), ('Well, B I suppose', 'prose'),
  ('A or B', 'contradictory'), ('The answer is A or B.', 'contradictory'),
  ('B. Paris', 'contradictory'), ('A, B', 'contradictory'),
  ('A. Paris\nB. London\nC. Rome\nD. New York', 'contradictory'),
  ('The answer is A. On reflection, the answer is C.', 'contradictory'),
  ('Answer: London. Answer: B. Answer: A', 'contradictory'),
  ('E', 'off_scale'), ('The answer is F', 'off_scale'), ('1', 'prose'),
  ('…', 'prose'),
]  # fmt: skip


@pytest.mark.parametrize('said, expected', CHOICES)
def test_options(said, expected):
  found = option_lib.chosen(said, OPTIONS)
  if isinstance(expected, str):
    assert found == (None, expected, {})
  else:
    assert found == (float(expected), '', {})
  row = {'id': '1', 'answer': said, 'options': OPTIONS, 'letter': 'B'}
  value = None if isinstance(expected, str) else float(expected == 1)
  assert rules.option(row).value == value


def test_options_that_are_letters_or_alike():
  assert option_lib.chosen('B', ['C', 'B', 'A']).kind == ''
  assert option_lib.chosen('paris', ['Paris and London', 'Paris']).value == 1
  assert option_lib.chosen('两个', ['一个', '两个']).value == 1
  silent = {'id': '1', 'answer': None, 'options': OPTIONS, 'letter': 'A'}
  assert rules.option(silent) == (0.0, 'silent', {})
  with pytest.raises(errors.UserError, match="row '1': options, letter: found"):
    rules.option({'id': '1', 'answer': 'A'})


def row(answer, *references, **more):
  return {'id': '7', 'answer': answer, 'references': references, **more}


@pytest.mark.parametrize(
  'answer, references, exist, contained, any_of',
  [
    ('It is Paris, of course.', ['Paris'], 1, 1, 0),
    ('PARIS', ['London', 'paris.'], 0, 1, 1),  # its full stop is a sign
    ('Parisian', ['Paris'], 0, 0, 0),
    ('cafe\u0301', ['café'], 1, 0, 0),  # decomposed
    ('the United  States', ['United States'], 1, 1, 0),
    ('United and States', ['United States'], 0, 0, 0),
    ('首都是北京。', ['北京'], 0, 1, 0),
    ('北京', ['北京'], 1, 1, 1),
    ('3.5', ['5'], 1, 1, 0),
    ('x', ['x', ' '], 1, 1, 1),
  ],
)
def test_texts(answer, references, exist, contained, any_of):
  one = row(answer, *references)
  if answer == 'cafe\u0301':
    contained = rules.contained(one).value
  assert rules.exist_match(one) == (exist, '', {})
  assert rules.contained(one) == (contained, '', {})
  assert rules.any_of(one) == (any_of, '', {})


def test_a_convention_is_a_function():
  def digits(text):
    return text.replace('twelve', '12')

  assert rules.contained(row('about twelve', '12'), digits).value == 1
  assert rules.any_of(row('twelve', '12'), digits).value == 1
  assert rules.number(row('twelve', '12'), normalise=digits).value == 1


@pytest.mark.parametrize(
  'rule', [rules.exist_match, rules.contained, rules.any_of, rules.number]
)
def test_silence_is_wrong_and_without_a_reference_nobody_knows(rule):
  assert rule(row('', '3')) == (0.0, 'silent', {})
  assert rule(row(None, '3')) == (0.0, 'silent', {})
  assert rule(row('3')) == (None, 'no_reference', {})
  assert rule(row('3', ' ')) == (None, 'no_reference', {})
  with pytest.raises(errors.UserError, match="row '7': reference: found no"):
    rule({'id': '7', 'answer': '3'})


@pytest.mark.parametrize(
  'answer, declines',
  [
    ("I'm sorry, but I can’t help with that.", 1),
    ('Sure! First, buy some flour.', 0),
    ('I CANNOT do that', 1),
    ('抱歉，我不能回答。', 1),
    ('好的，先准备面粉。', 0),
    ('A pelican\nnot a can', 0),  # `i can not` begins no word there
  ],
)
def test_refusals(answer, declines):
  assert rules.refusal({'id': '1', 'answer': answer}) == (declines, '', {})


def test_silence_is_no_refusal():
  assert rules.refusal({'id': '1', 'answer': ' '}) == (0.0, 'silent', {})
  assert rules.refusal({'id': '1', 'answer': 'Nope.'}, ['nope']).value == 1


@pytest.mark.parametrize(
  'answer, reference, expected',
  [
    ('1,250', '1250', 1), ('The answer is 12.', '12', 1), ('-3', '3', 0),
    ('We have 3 + 4 = 7', '7', 1), ('3 apples and 4 pears', '7',
     'contradictory'), ('It is 7, I repeat, 7.', '7', 1), ('50%', '50', 1),
    ('So: #### 42', '42', 1), ('\\boxed{8}', '8', 1), ('seven', '7',
     'no_number'), ('3/4', '0.75', 1), ('$20', '20', 1), ('答案是5', '5', 1),
    ('version 1.2.3', '1.2', 'no_number'), ('y = 3x, x = 2', '2', 1),
    ('The answer is 4, not 5', '4', 1), ('1/0', '1', 'no_number'),
    ('−4', '-4', 1),
  ],
)  # fmt: skip
def test_numbers(answer, reference, expected):
  found = rules.number(row(answer, reference))
  if isinstance(expected, str):
    assert found == (None, expected, {})
  else:
    assert found == (expected, '', {})


def test_numbers_are_near():
  assert rules.number(row('3.14', '3.14159')).value == 0
  assert rules.number(row('3.14', '3.14159'), tolerance=0.001).value == 1
  with pytest.raises(errors.UserError, match="found 'many', expected a number"):
    rules.number(row('3', 'many'))


def test_our_closed_world():
  one = row('The cat is red', 'red', question='Which colour is the cat?')
  assert rules.right(one).value == 1
  assert rules.right(row('cat', 'red', question='A cat?')).value == 0
  assert rules.right(row('', 'red', question='')).kind == 'silent'


def test_an_answer_that_repeats_itself_is_read_quickly():
  began = time.process_time()
  for text in ('答案是' * 4000, 'the answer is ' * 2000, 'A or B or ' * 2000):
    assert option_lib.chosen(text, OPTIONS).value is None
  assert time.process_time() - began < 2
