"""Numbers of the calculator: fractions of whole numbers, of bounded size.

What is no fraction, roots and functions of real numbers, is rounded to 30
digits, and remembers it.
"""

import dataclasses
import decimal
from fractions import Fraction
import math
from typing import Callable, Mapping, NamedTuple

from step_audio_jax import errors

_BITS = 4096  # of a numerator or a denominator
_DIGITS = 40  # of a decimal fraction that is written out
_ROUNDED = 12  # digits of what is rounded
_FACTORIAL = 400


class Number(NamedTuple):
  """A value, and whether it was never rounded."""

  value: Fraction
  exact: bool = True


def refuse(found: str, expected: str) -> errors.UserError:
  """An error in one sentence."""
  return errors.UserError(f'expression: found {found}, expected {expected}.')


def written(number: Number) -> str:
  """A number as a model can say it."""
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
  with _digits(_ROUNDED):
    found = _decimal(value)
    return (
      f'{found.normalize():f}' if -6 < found.adjusted() < 15 else f'{found}'
    )


def _digits(count: int):
  """Decimal numbers of so many digits, for a block."""
  return decimal.localcontext(prec=count, Emin=-99999, Emax=99999)


def _decimal(value: Fraction) -> decimal.Decimal:
  return decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)


def read(text: str) -> Number:
  """A number as it is written.

  Raises:
    UserError: It is too long.
  """
  mantissa, _, exponent = text.replace(',', '').lower().partition('e')
  if len(mantissa) > 400 or len(exponent) > 5 or abs(int(exponent or 0)) > 400:
    raise refuse('a number that is too long', 'at most 400 digits')
  whole, _, part = mantissa.partition('.')
  value = Fraction(int((whole + part) or '0'), 10 ** len(part))
  return checked(Number(value * Fraction(10) ** int(exponent or 0)))


def checked(number: Number) -> Number:
  """Refuses what grows without end."""
  value = number.value
  bits = max(value.numerator.bit_length(), value.denominator.bit_length())
  if bits > _BITS:
    raise refuse('a number that is too large', f'at most {_BITS} bits')
  return number


def applied(sign: str, left: Number, right: Number) -> Number:
  """What a sign makes of two numbers.

  Raises:
    UserError: It divides by zero, or grows too large.
  """
  a, b, exact = left.value, right.value, left.exact and right.exact
  if sign in ('/', '//', '%') and not b:
    raise refuse('a division by zero', 'another number')
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
  return checked(_shortened(Number(found, exact)))


def _shortened(number: Number) -> Number:
  """What was rounded needs no more digits than it is known to."""
  if number.exact or not number.value:
    return number
  with _digits(30):
    found = _decimal(number.value)
    return Number(Fraction(found), exact=False)


def power(base: Number, exponent: Number) -> Number:
  """A power, with a root where the exponent is a fraction.

  Raises:
    UserError: There is none, or it grows too large.
  """
  a, b = base.value, exponent.value
  if not a and b < 0:
    raise refuse('a division by zero', 'another number')
  if b.denominator == 1:
    bits = max(a.numerator.bit_length(), a.denominator.bit_length())
    if a not in (0, 1, -1) and abs(b) * (bits - 1) > _BITS:
      raise refuse('a number that is too large', f'at most {_BITS} bits')
    if a in (1, -1):  # of any power
      b = b % 2
    return checked(
      _shortened(Number(a ** int(b), base.exact and exponent.exact))
    )
  if a < 0:
    raise refuse('a root of a negative number', 'a positive one')
  if b in (Fraction(1, 2), Fraction(-1, 2)) and a:
    root = _root(base)
    return root if b > 0 else Number(1 / root.value, root.exact)
  return _real(lambda x, y: x**y if x else decimal.Decimal(0), base, exponent)


def _root(number: Number) -> Number:
  value = number.value
  if value < 0:
    raise refuse('a root of a negative number', 'a positive one')
  parts = [math.isqrt(n) for n in (value.numerator, value.denominator)]
  root = Fraction(*parts)
  if root * root == value:
    return Number(root, number.exact)
  return _real(lambda x: x.sqrt(), number)


def _real(function, *given: Number) -> Number:
  """A function of decimal numbers, rounded."""
  with _digits(30):
    try:
      numbers = [_decimal(n.value) for n in given]
      found = function(*numbers)
    except (decimal.DecimalException, OverflowError) as error:
      raise refuse('no finite number', 'another number') from error
    if not found.is_finite() or found and abs(found.adjusted()) > 1200:
      raise refuse('a number that is too large', f'at most {_BITS} bits')
    return Number(Fraction(found), exact=False)


def _float(function: Callable[[float], float]) -> Callable[[Number], Number]:
  """A function of `math`."""

  def run(number: Number) -> Number:
    try:
      found = function(float(number.value))
    except (ValueError, OverflowError) as error:
      raise refuse('no finite number', 'another number') from error
    return Number(Fraction(found).limit_denominator(10**15), exact=False)

  return run


def _log(number: Number, base: Number | None = None) -> Number:
  if number.value <= 0 or base and (base.value <= 0 or base.value == 1):
    raise refuse('a logarithm that does not exist', 'a positive number')
  if base is None:
    return _real(lambda x: x.log10(), number)
  return _real(lambda x, y: x.ln() / y.ln(), number, base)


def _ln(number: Number) -> Number:
  if number.value <= 0:
    raise refuse('a logarithm that does not exist', 'a positive number')
  return _real(lambda x: x.ln(), number)


def _round(number: Number, places: Number = Number(Fraction(0))) -> Number:
  if places.value.denominator != 1 or abs(places.value) > 100:
    raise refuse('places that cannot be', 'a whole number to 100')
  scale = Fraction(10) ** int(places.value)
  # Halves go up, as in school.
  whole = math.floor(abs(number.value) * scale + Fraction(1, 2))
  sign = -1 if number.value < 0 else 1
  return Number(sign * whole / scale, number.exact)


def factorial(number: Number) -> Number:
  """The factorial of a whole number.

  Raises:
    UserError: It is none, or too large.
  """
  value = number.value
  if value.denominator != 1 or not 0 <= value <= _FACTORIAL:
    raise refuse('such a factorial', f'a whole number 0 to {_FACTORIAL}')
  return checked(Number(Fraction(math.factorial(int(value))), number.exact))


def _each(function) -> Callable[..., Number]:
  """A function of values that rounds nothing."""

  def run(*given: Number) -> Number:
    found = function(*(one.value for one in given))
    return Number(Fraction(found), all(one.exact for one in given))

  return run


@dataclasses.dataclass(frozen=True)
class Function:
  """A function, and how many numbers it takes."""

  run: Callable[..., Number]
  least: int = 1
  most: int = 1


CONSTANTS: Mapping[str, str] = {
  'pi': '3.14159265358979323846264338327950288',
  'e': '2.71828182845904523536028747135266250',
}
FUNCTIONS: Mapping[str, Function] = {
  'sqrt': Function(_root),
  'abs': Function(_each(abs)),
  'round': Function(_round, 1, 2),
  'floor': Function(_each(math.floor)),
  'ceil': Function(_each(math.ceil)),
  'min': Function(_each(lambda *given: min(given)), 1, 20),
  'max': Function(_each(lambda *given: max(given)), 1, 20),
  'exp': Function(lambda x: _real(lambda y: y.exp(), x)),
  'ln': Function(_ln),
  'log': Function(_log, 1, 2),
  'sin': Function(_float(math.sin)),
  'cos': Function(_float(math.cos)),
  'tan': Function(_float(math.tan)),
}
