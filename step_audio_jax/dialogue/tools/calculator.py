"""A demonstration tool: what an expression comes to, exactly.

    sum      = product (("+" | "-") product)*
    product  = signed (("*" | "x" | "of" | "/" | "//" | "%") signed)*
    signed   = ("+" | "-") signed | power
    power    = postfix ("^" signed)?                 right to left
    postfix  = atom ("!" | "%")*                     "%" where nothing follows
    atom     = number | name | name "(" sum ("," sum)* ")" | "(" sum ")"

Numbers are fractions of whole numbers, so that 0.1 + 0.2 is 0.3; a root that
is none of a fraction, and functions of real numbers, are rounded, which is
said. Nothing is evaluated but this grammar, and no number grows beyond
`_BITS`.
"""

import dataclasses
import decimal
from fractions import Fraction
import math
import re
from typing import Callable, Mapping, NamedTuple

from step_audio_jax import errors
from step_audio_jax.dialogue.tools import registry

_LONGEST = 500  # characters
_DEPTH = 50  # brackets and signs in each other
_BITS = 4096  # of a numerator or a denominator
_DIGITS = 40  # of a decimal fraction that is written out
_ROUNDED = 12  # digits of what is rounded
_FACTORIAL = 400

_EXPONENT = r'(?:[eE][+-]?\d+)?'
_REST = (
  rf'\d+(?:\.\d*)?{_EXPONENT}|\.\d+{_EXPONENT})'
  r'|(?P<name>[A-Za-z]+)|(?P<sign>\*\*|//|[-+*/%^!(),]))'
)
# Between the brackets of a function a comma parts numbers; elsewhere it parts
# thousands.
_TOKEN = re.compile(rf'\s*(?:(?P<number>{_REST}', re.ASCII)
_WITH_THOUSANDS = re.compile(
  r'\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d*)?'
  rf'{_EXPONENT}|{_REST}',
  re.ASCII,
)
# What people and models write for signs.
_SIGNS = {
  '×': '*', '·': '*', '∙': '*', '⋅': '*', '÷': '/', '∕': '/', '−': '-',
  '–': '-', '²': '^2', '³': '^3', '√': 'sqrt', 'π': ' pi ', '\u3000': ' ',
}  # fmt: skip
# As wide as a Chinese character.
_SIGNS |= {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


class Number(NamedTuple):
  """A value, and whether it was never rounded."""

  value: Fraction
  exact: bool = True


def _refuse(found: str, expected: str) -> errors.UserError:
  return errors.UserError(f'expression: found {found}, expected {expected}.')


def tool() -> registry.Tool:
  """The tool `calculator`."""

  async def calculator(expression: str) -> str:
    return calculate(expression)

  return registry.Tool(
    'calculator',
    'Works out an arithmetic expression exactly.',
    calculator,
    {
      'type': 'object',
      'properties': {
        'expression': {
          'type': 'string',
          'description': 'Such as 2 * (3 + 4.5) ^ 2 or 15% of 80; knows '
          f'{", ".join((*_CONSTANTS, *_FUNCTIONS))}.',
        }
      },
      'required': ['expression'],
      'additionalProperties': False,
    },
  )


def calculate(expression: str) -> str:
  """What an expression comes to, as a model can say it.

  Raises:
    UserError: It is none, has no value, or is too large.
  """
  if len(expression) > _LONGEST:
    raise _refuse(f'{len(expression)} characters', f'at most {_LONGEST}')
  text = ''.join(_SIGNS.get(one, one) for one in expression)
  return _written(_Parser(text).parse())


def _written(number: Number) -> str:
  value, exact = number
  if value.denominator == 1 and exact:
    digits = str(value.numerator)
    return digits if len(digits) <= _DIGITS else f'about {_rounded(value)}'
  if exact:
    rest = value.denominator
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    fives = 0
    while rest % 5 == 0:
      rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest == 1 and places <= _DIGITS:
      scaled = str(abs(value.numerator) * 10**places // value.denominator)
      scaled = scaled.zfill(places + 1)
      if len(scaled) <= _DIGITS + 1:
        sign = '-' if value < 0 else ''
        return f'{sign}{scaled[:-places]}.{scaled[-places:]}'
    ratio = f'{value.numerator}/{value.denominator}'
    if len(ratio) <= _DIGITS:
      return f'about {_rounded(value)} (exactly {ratio})'
  return f'about {_rounded(value)}'


def _rounded(value: Fraction) -> str:
  with decimal.localcontext(prec=_ROUNDED, Emin=-99999, Emax=99999):
    found = decimal.Decimal(value.numerator) / decimal.Decimal(
      value.denominator
    )
    return (
      f'{found.normalize():f}' if -6 < found.adjusted() < 15 else f'{found}'
    )


class _Parser:
  """Reads one expression from left to right."""

  def __init__(self, text: str):
    self._tokens: list[tuple[str, str]] = []
    place, brackets = 0, []  # whether each is a function's
    while text[place:].strip():
      token = _TOKEN if any(brackets) else _WITH_THOUSANDS
      match = token.match(text, place)
      if match is None:
        raise _refuse(f'{text[place:].strip()[0]!r}', 'numbers and signs')
      kind, found = match.lastgroup, match[match.lastgroup]
      if found == '(':
        brackets.append(self._tokens[-1:] and self._tokens[-1][0] == 'name')
      elif found == ')':
        brackets = brackets[:-1]
      self._tokens.append((kind, found))
      place = match.end()
    self._at = self._depth = self._arguments = 0

  def parse(self) -> Number:
    if not self._tokens:
      raise _refuse('nothing', 'numbers and signs')
    found = self._sum()
    if self._at < len(self._tokens):
      raise _refuse(f'{self._next!r} behind a number', 'a sign between them')
    return found

  @property
  def _next(self) -> str:
    ahead = self._at < len(self._tokens)
    return self._tokens[self._at][1] if ahead else ''

  def _take(self, *signs: str) -> str:
    """The next token if it is one of these."""
    found = self._next
    if found and found in signs:
      self._at += 1
      return found
    return ''

  def _deeper(self, read: Callable[[], Number]) -> Number:
    self._depth += 1
    if self._depth > _DEPTH:
      raise _refuse(
        f'more than {_DEPTH} brackets and signs in each other', 'fewer'
      )
    found = read()
    self._depth -= 1
    return found

  def _sum(self) -> Number:
    found = self._product()
    while sign := self._take('+', '-'):
      found = _apply(sign, found, self._product())
    return found

  def _product(self) -> Number:
    found = self._signed()
    while sign := self._take('*', '/', '//', '%', 'of', 'x'):
      found = _apply(sign, found, self._signed())
    return found

  def _signed(self) -> Number:
    if self._take('+'):
      return self._deeper(self._signed)
    if self._take('-'):
      found = self._deeper(self._signed)
      return found._replace(value=-found.value)
    return self._power()

  def _power(self) -> Number:
    base = self._postfix()
    if self._take('^', '**'):
      return _power(base, self._deeper(self._signed))
    return base

  def _postfix(self) -> Number:
    found = self._atom()
    while True:
      if self._take('!'):
        found = _factorial(found)
      elif self._next == '%' and not self._begins(self._at + 1):
        self._at += 1
        found = found._replace(value=found.value / 100)
      else:
        return found

  def _begins(self, place: int) -> bool:
    """Whether a number begins at a place: the % in front of it divides."""
    if place >= len(self._tokens):
      return False
    kind, text = self._tokens[place]
    return (
      kind == 'number'
      or text == '('
      or (kind == 'name' and text not in ('of', 'x'))
    )

  def _atom(self) -> Number:
    if self._at == len(self._tokens):
      raise _refuse('an end', 'a number')
    kind, text = self._tokens[self._at]
    self._at += 1
    if kind == 'number':
      return _number(text)
    if kind == 'name':
      return self._named(text)
    if text == '(':
      found = self._deeper(self._sum)
      self._close()
      return found
    raise _refuse(f'{text!r}', 'a number')

  def _close(self) -> None:
    if not self._take(')'):
      raise _refuse(f'{self._next!r}' if self._next else 'an end', '")"')

  def _named(self, text: str) -> Number:
    name = text.lower()
    if name in _CONSTANTS:
      return Number(Fraction(_CONSTANTS[name]), exact=False)
    if name not in _FUNCTIONS:
      known = ', '.join((*_CONSTANTS, *_FUNCTIONS))
      raise _refuse(f'{text!r:.40}', f'one of {known}')
    function = _FUNCTIONS[name]
    if name == 'sqrt' and self._next != '(':  # the sign of a root has none
      return _checked(function.run(self._deeper(self._postfix)))
    if not self._take('('):
      raise _refuse(f'{name} without brackets', f'{name}(…)')
    given = [self._deeper(self._sum)]
    while self._take(','):
      given.append(self._deeper(self._sum))
    self._close()
    if not function.least <= len(given) <= function.most:
      least, most = function.least, function.most
      count = f'{least}' if least == most else f'{least} to {most}'
      raise _refuse(f'{len(given)} numbers in {name}', count)
    return _checked(function.run(*given))


def _number(text: str) -> Number:
  mantissa, _, exponent = text.replace(',', '').lower().partition('e')
  if len(mantissa) > 400 or len(exponent) > 5 or abs(int(exponent or 0)) > 400:
    raise _refuse('a number that is too long', 'at most 400 digits')
  whole, _, part = mantissa.partition('.')
  value = Fraction(int((whole + part) or '0'), 10 ** len(part))
  return _checked(Number(value * Fraction(10) ** int(exponent or 0)))


def _checked(number: Number) -> Number:
  """Refuses what grows without end."""
  value = number.value
  bits = max(value.numerator.bit_length(), value.denominator.bit_length())
  if bits > _BITS:
    raise _refuse('a number that is too large', f'at most {_BITS} bits')
  return number


def _apply(sign: str, left: Number, right: Number) -> Number:
  a, b, exact = left.value, right.value, left.exact and right.exact
  if sign in ('/', '//', '%') and not b:
    raise _refuse('a division by zero', 'another number')
  if sign == '+':
    found = a + b
  elif sign == '-':
    found = a - b
  elif sign in ('*', 'of', 'x'):
    found = a * b
  elif sign == '/':
    found = a / b
  elif sign == '//':
    found = Fraction(a // b)
  else:
    found = a % b
  return _checked(_shortened(Number(found, exact)))


def _shortened(number: Number) -> Number:
  """What was rounded needs no more digits than it is known to."""
  if number.exact or not number.value:
    return number
  with decimal.localcontext(prec=30, Emin=-99999, Emax=99999):
    found = decimal.Decimal(number.value.numerator) / decimal.Decimal(
      number.value.denominator
    )
    return Number(Fraction(found), exact=False)


def _power(base: Number, exponent: Number) -> Number:
  a, b = base.value, exponent.value
  if not a and b < 0:
    raise _refuse('a division by zero', 'another number')
  if b.denominator == 1:
    bits = max(a.numerator.bit_length(), a.denominator.bit_length())
    if a not in (0, 1, -1) and abs(b) * (bits - 1) > _BITS:
      raise _refuse('a number that is too large', f'at most {_BITS} bits')
    if a in (1, -1):  # of any power
      b = b % 2
    return _checked(
      _shortened(Number(a ** int(b), base.exact and exponent.exact))
    )
  if a < 0:
    raise _refuse('a root of a negative number', 'a positive one')
  if b in (Fraction(1, 2), Fraction(-1, 2)) and a:
    root = _root(base)
    return root if b > 0 else Number(1 / root.value, root.exact)
  return _real(lambda x, y: x**y if x else decimal.Decimal(0), base, exponent)


def _root(number: Number) -> Number:
  value = number.value
  if value < 0:
    raise _refuse('a root of a negative number', 'a positive one')
  parts = [math.isqrt(n) for n in (value.numerator, value.denominator)]
  root = Fraction(*parts)
  if root * root == value:
    return Number(root, number.exact)
  return _real(lambda x: x.sqrt(), number)


def _real(function, *given: Number) -> Number:
  """A function of decimal numbers, rounded."""
  with decimal.localcontext(prec=30, Emin=-99999, Emax=99999):
    try:
      numbers = [
        decimal.Decimal(n.value.numerator)
        / decimal.Decimal(n.value.denominator)
        for n in given
      ]
      found = function(*numbers)
    except (decimal.DecimalException, OverflowError) as error:
      raise _refuse('no finite number', 'another number') from error
    if not found.is_finite() or found and abs(found.adjusted()) > 1200:
      raise _refuse('a number that is too large', f'at most {_BITS} bits')
    return Number(Fraction(found), exact=False)


def _float(function: Callable[[float], float]) -> Callable[[Number], Number]:
  """A function of `math`."""

  def run(number: Number) -> Number:
    try:
      found = function(float(number.value))
    except (ValueError, OverflowError) as error:
      raise _refuse('no finite number', 'another number') from error
    return Number(Fraction(found).limit_denominator(10**15), exact=False)

  return run


def _log(number: Number, base: Number | None = None) -> Number:
  if number.value <= 0 or base and (base.value <= 0 or base.value == 1):
    raise _refuse('a logarithm that does not exist', 'a positive number')
  if base is None:
    return _real(lambda x: x.log10(), number)
  return _real(lambda x, y: x.ln() / y.ln(), number, base)


def _ln(number: Number) -> Number:
  if number.value <= 0:
    raise _refuse('a logarithm that does not exist', 'a positive number')
  return _real(lambda x: x.ln(), number)


def _round(number: Number, places: Number = Number(Fraction(0))) -> Number:
  if places.value.denominator != 1 or abs(places.value) > 100:
    raise _refuse('places that cannot be', 'a whole number to 100')
  scale = Fraction(10) ** int(places.value)
  # Halves go up, as in school.
  whole = math.floor(abs(number.value) * scale + Fraction(1, 2))
  sign = -1 if number.value < 0 else 1
  return Number(sign * whole / scale, number.exact)


def _factorial(number: Number) -> Number:
  value = number.value
  if value.denominator != 1 or not 0 <= value <= _FACTORIAL:
    raise _refuse('such a factorial', f'a whole number 0 to {_FACTORIAL}')
  return _checked(Number(Fraction(math.factorial(int(value))), number.exact))


def _each(function) -> Callable[..., Number]:
  """A function of values that rounds nothing."""

  def run(*given: Number) -> Number:
    found = function(*(one.value for one in given))
    return Number(Fraction(found), all(one.exact for one in given))

  return run


@dataclasses.dataclass(frozen=True)
class _Function:
  """A function, and how many numbers it takes."""

  run: Callable[..., Number]
  least: int = 1
  most: int = 1


_CONSTANTS: Mapping[str, str] = {
  'pi': '3.14159265358979323846264338327950288',
  'e': '2.71828182845904523536028747135266250',
}
_FUNCTIONS: Mapping[str, _Function] = {
  'sqrt': _Function(_root),
  'abs': _Function(_each(abs)),
  'round': _Function(_round, 1, 2),
  'floor': _Function(_each(math.floor)),
  'ceil': _Function(_each(math.ceil)),
  'min': _Function(_each(min), 1, 20),
  'max': _Function(_each(max), 1, 20),
  'exp': _Function(lambda x: _real(lambda y: y.exp(), x)),
  'ln': _Function(_ln),
  'log': _Function(_log, 1, 2),
  'sin': _Function(_float(math.sin)),
  'cos': _Function(_float(math.cos)),
  'tan': _Function(_float(math.tan)),
}
