"""Expressions, and what is none."""

import ast
from fractions import Fraction
import math
import random

from hypothesis import given
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.tools import calculator

calculate = calculator.calculate


@pytest.mark.parametrize(
  'expression, value',
  [
    ('0.1 + 0.2', '0.3'),
    ('2 + 3 * 4', '14'),
    ('(2 + 3) * 4', '20'),
    ('2 ^ 3 ^ 2', '512'),
    ('2 ** -2', '0.25'),
    ('-2 ^ 2', '-4'),
    ('(-2)^2', '4'),
    ('--2', '2'),
    ('7 // 2', '3'),
    ('-7 // 2', '-4'),
    ('7 % 3', '1'),
    ('15% of 80', '12'),
    ('100 + 10%', '100.1'),
    ('50% * 3', '1.5'),
    ('1,234,567.5 * 2', '2469135'),
    ('max(1,234, 5)', '234'),
    ('max(3)', '3'),
    ('3 x 4', '12'),
    ('1.5e3', '1500'),
    ('.5', '0.5'),
    ('5!', '120'),
    ('1 / 3', 'about 0.333333333333 (exactly 1/3)'),
    ('1/3 * 3', '1'),
    ('sqrt(16/9)', 'about 1.33333333333 (exactly 4/3)'),
    ('sqrt(2)', 'about 1.41421356237'),
    ('√2 × √2', 'about 2'),
    ('2²', '4'),
    ('（３＋４）×２', '14'),
    ('6 ÷ 4', '1.5'),
    ('round(2.5)', '3'),
    ('round(-2.675, 2)', '-2.68'),
    ('pi', 'about 3.14159265359'),
    ('log(1000)', 'about 3'),
    ('log(8, 2)', 'about 3'),
    ('sin(0)', 'about 0'),
    ('8 ^ (1/3)', 'about 2'),
    ('0 ^ 0', '1'),
    ('4 ^ -0.5', '0.5'),
    ('2^100', '1267650600228229401496703205376'),
    ('2^1000', 'about 1.07150860719E+301'),
    ('1e-30', '0.000000000000000000000000000001'),
    ('(-1)^(2^1000)', '1'),
    ('0.000001/3', 'about 3.33333333333E-7 (exactly 1/3000000)'),
  ],
)
def test_values(expression, value):
  assert calculate(expression) == value


@pytest.mark.parametrize(
  'expression, told',
  [
    ('', 'found nothing'),
    ('  ', 'found nothing'),
    ('2 +', 'found an end, expected a number'),
    ('2 3', "'3' behind a number"),
    ('(2', r'expected "\)"'),
    ('2)', r"'\)' behind a number"),
    ('* 2', r"found '\*'"),
    ('1 / 0', 'division by zero'),
    ('1 % 0', 'division by zero'),
    ('0 ^ -1', 'division by zero'),
    ('9^9^9', 'too large'),
    ('9^(9^9)', 'too large'),
    ('1e999', 'too long'),
    ('9' * 450, 'too long'),
    ('1e99999999999999999999', 'too long'),
    ('exp(1e9)', 'no finite number|too large'),
    ('exp(9999)', 'too large'),
    ('tan(1e399)', 'no finite number'),
    ('401!', 'factorial'),
    ('2.5!', 'factorial'),
    ('5!!!', 'factorial'),
    ('sqrt(-1)', 'negative'),
    ('(-8)^(1/3)', 'negative'),
    ('log(0)', 'logarithm'),
    ('log(2, 1)', 'logarithm'),
    ('round(1, 0.5)', 'places'),
    ('sin()', 'expected a number'),
    ('sin(1, 2)', 'found 2 numbers in sin, expected 1'),
    ('sin 2', 'sin without brackets'),
    ('foo(2)', "found 'foo', expected one of pi, e, sqrt"),
    ('__import__("os")', "found '_'"),
    ('½', "found '½'"),
    ('(' * 60 + '1' + ')' * 60, 'in each other'),
    ('-' * 60 + '1', 'in each other'),
    ('1' + '^1' * 60, 'in each other'),
    ('1' * 501, 'at most 500'),
    ('\ud800', 'found'),
  ],
)
def test_what_has_no_value_is_told_in_one_sentence(expression, told):
  with pytest.raises(errors.UserError, match=told) as caught:
    calculate(expression)
  assert str(caught.value).startswith('expression: found ')
  assert len(str(caught.value)) < 200 and '\n' not in str(caught.value)


def test_random_expressions_are_those_of_python():
  """Python's own parser, over fractions, is the oracle."""
  rng = random.Random(1)

  def make(depth):
    if not depth or rng.random() < 0.2:
      return str(rng.randint(0, 20))
    left, right = make(depth - 1), make(depth - 1)
    sign = rng.choice(('+', '-', '*', '/', '//', '%', '**'))
    if sign == '**':
      right = str(rng.randint(0, 3))
    if sign == '%':  # with a sign behind it, it is one of a hundred
      right = f'({right})'
    found = f'{left} {sign} {right}'
    found = f'({found})' if rng.random() < 0.7 else found
    return f'-{found}' if rng.random() < 0.1 else found

  def value(node):
    match node:
      case ast.Expression(body):
        return value(body)
      case ast.Constant(number):
        return Fraction(number)
      case ast.UnaryOp(ast.USub(), inner):
        return -value(inner)
    a, b = value(node.left), value(node.right)
    match node.op:
      case ast.Add():
        return a + b
      case ast.Sub():
        return a - b
      case ast.Mult():
        return a * b
      case ast.Div():
        return a / b
      case ast.FloorDiv():
        return Fraction(a // b)
      case ast.Mod():
        return a % b
    assert abs(b) < 100
    return a ** int(b)

  compared = 0
  for _ in range(400):
    text = make(rng.randint(1, 4))
    try:
      expected = value(ast.parse(text, mode='eval'))
    except (ZeroDivisionError, AssertionError):
      continue
    found = calculate(text)
    ratio = found.partition('exactly ')[2].rstrip(')')
    if ratio or 'about' not in found:
      assert Fraction(ratio or found) == expected, text
      compared += 1
    else:
      assert math.isclose(float(found.split()[1]), expected, rel_tol=1e-11)
  assert compared > 200


@given(st.text('0123456789.+-*/^%!()ex, sqrtlogmaπ√²', max_size=60))
def test_any_text_has_a_value_or_a_sentence(text):
  try:
    assert len(calculate(text)) < 120
  except errors.UserError as error:
    assert len(str(error)) < 200
