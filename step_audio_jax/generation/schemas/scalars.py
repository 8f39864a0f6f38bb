r"""Numbers and formats as automata.

Whole numbers have at most 19 digits and are compared exactly. Other numbers are
written as Python writes a float (`1e-05`, `1.5e+16`). Where they have bounds
they have no exponent, no negative zero, and at most 15 digits: of so many no
two become one float, so that a bound holds behind rounding as well.
"""

import decimal
import functools

from step_audio_jax.generation.schemas import characters
from step_audio_jax.generation.schemas import limits
from step_audio_jax.generation.schemas import terminals

Number = int | float
_WHOLE_DIGITS, _DIGITS = 19, 15
_LARGEST = 10**_WHOLE_DIGITS - 1
_STEPS = 1000  # the largest divisor
_MULTIPLES = 10**9  # none larger, where no bound is set

# As `repr` writes them; a float is finite up to 1.79e308.
_NUMBER = (
  r'^-?(?:0|[1-9]\d{0,18})(?:\.\d{1,20})?$'
  r'|^-?[1-9](?:\.\d{1,17})?e(?:\+(?:1[6-9]|[2-9]\d|[12]\d\d|30[0-7])'
  r'|-(?:0[5-9]|[1-9]\d|[12]\d\d|30[0-7]))$'
)
_YEAR = r'(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])'
_LEAP = (
  r'(?:\d\d(?:0[48]|[2468][048]|[13579][26])'
  r'|(?:0[48]|[2468][048]|[13579][26])00)'
)
_DATE = (
  rf'(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])'
  r'|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))'
  rf'|{_LEAP}-02-29)'
)
_TIME = (
  r'(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?'
  r'(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)'
)
_LABEL = r'[A-Za-z0-9](?:[A-Za-z0-9-]{0,20}[A-Za-z0-9])?'
_HOST = rf'{_LABEL}(?:\.{_LABEL}){{0,4}}'
_BYTE = r'(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)'
_ATOM = r'[A-Za-z0-9_+-]{1,32}'
_COUNT = r'[1-9]\d{0,4}'
# Each is a part of what the format allows.
FORMATS = {
  'date': f'^{_DATE}$',
  'time': f'^{_TIME}$',
  'date-time': f'^{_DATE}T{_TIME}$',
  'duration': (
    rf'^P(?:{_COUNT}W|{_COUNT}Y(?:{_COUNT}M(?:{_COUNT}D)?)?'
    rf'|{_COUNT}M(?:{_COUNT}D)?|{_COUNT}D(?:T{_COUNT}H)?'
    rf'|T(?:{_COUNT}H(?:{_COUNT}M(?:{_COUNT}S)?)?|{_COUNT}M(?:{_COUNT}S)?'
    rf'|{_COUNT}S))$'
  ),
  'uuid': r'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
  'email': rf'^{_ATOM}(?:\.{_ATOM}){{0,3}}@{_LABEL}(?:\.{_LABEL}){{1,3}}$',
  'hostname': f'^{_HOST}$',
  'ipv4': rf'^{_BYTE}(?:\.{_BYTE}){{3}}$',
  'ipv6': r'^[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}$',
  'uri': rf'^https?://{_HOST}(?:/[A-Za-z0-9._~/?&=+-]*)?$',
}
# Formats of OpenAPI that say how wide a number is: their bounds.
WIDTHS = {
  'int32': (-(2**31), 2**31 - 1),
  'int64': (-(2**63), 2**63 - 1),
  'float': (None, None),
  'double': (None, None),
}


def _same_length(low: str, high: str) -> str:
  """Digits from `low` to `high`, which are as many."""
  if low == high:
    return low
  if low[0] == high[0]:
    return low[0] + _same_length(low[1:], high[1:])
  rest = len(low) - 1
  first, last, parts = int(low[0]), int(high[0]), []
  if low[1:].strip('0'):
    parts.append(low[0] + _same_length(low[1:], '9' * rest))
    first += 1
  if high[1:].strip('9'):
    parts.append(high[0] + _same_length('0' * rest, high[1:]))
    last -= 1
  if first <= last:
    parts.append(rf'[{first}-{last}]\d{{{rest}}}')
  return f'(?:{"|".join(parts)})'


def _natural(low: int, high: int) -> str:
  """Whole numbers from `low` to `high`, not negative."""
  parts = []
  for digits in range(len(str(low)), len(str(high)) + 1):
    first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
    last = min(high, 10**digits - 1)
    parts.append(_same_length(str(first), str(last)))
  return f'(?:{"|".join(parts)})'


@functools.lru_cache(256)
def whole(low: int | None, high: int | None, step: int = 1):
  """Whole numbers from `low` to `high` that `step` divides.

  Raises:
    Refused: `step` is too large, or there are too many states.
  """
  most = _LARGEST if step == 1 else _MULTIPLES - 1
  low = -most if low is None else max(low, -_LARGEST)
  high = max(most, low) if high is None else min(high, _LARGEST)
  parts = []
  if low < 0 and low <= high:
    parts.append(f'^-{_natural(max(1, -high), -low)}$')
  if high >= 0 and low <= high:
    parts.append(f'^{_natural(max(0, low), high)}$')
  if not parts:
    return characters.Automaton((), (), ())
  found = terminals.expression('|'.join(parts))
  return found if step == 1 else characters.both(found, _multiples(step))


def _multiples(step: int) -> characters.Automaton:
  if step > _STEPS:
    raise limits.Refused(f'{step} is more than {_STEPS}')
  classes = tuple(((c, c),) for c in (*range(48, 58), 45))
  rows = tuple(
    (*((10 * rest + digit) % step for digit in range(10)), 0)
    for rest in range(step)
  )
  return characters.Automaton(
    classes, rows, tuple(rest == 0 for rest in range(step))
  )


def _parts(bound: decimal.Decimal) -> tuple[int, str]:
  """Digits before and behind the point of what is not negative."""
  before, _, behind = f'{bound:f}'.partition('.')
  return int(before), behind.rstrip('0')


def _above(digits: str, is_open: bool) -> str:
  """Digits behind a point that make at least so much."""
  if not digits:
    return r'\d*[1-9]\d*' if is_open else r'\d*'
  first = int(digits[0])
  more = rf'[{first + 1}-9]\d*|' if first < 9 else ''
  return f'(?:{more}{first}{_above(digits[1:], is_open)})'


def _below(digits: str, is_open: bool) -> str | None:
  """Digits behind a point that make at most so much; None where none do."""
  if not digits:
    return None if is_open else '0*'
  first = int(digits[0])
  parts = ['']
  if first:
    parts.append(rf'[0-{first - 1}]\d*')
  rest = _below(digits[1:], is_open)
  if rest is not None:
    parts.append(f'{first}{rest}')
  return f'(?:{"|".join(parts)})'


_UNSIGNED = r'\d+(?:\.\d+)?'


def _from(bound: decimal.Decimal, is_open: bool) -> str:
  """What is not negative and at least so much."""
  before, behind = _parts(bound)
  larger = rf'{_natural(before + 1, 10**_DIGITS)}(?:\.\d+)?'
  same = rf'{before}\.{_above(behind, is_open)}'
  if not behind and not is_open:
    same += f'|{before}'
  return f'(?:{larger}|{same})'


def _to(bound: decimal.Decimal, is_open: bool) -> str | None:
  """What is not negative and at most so much."""
  before, behind = _parts(bound)
  parts = []
  if before:
    parts.append(rf'{_natural(0, before - 1)}(?:\.\d+)?')
  rest = _below(behind, is_open)
  if rest is not None:
    parts.append(rf'{before}(?:\.{rest})?')
  return f'(?:{"|".join(parts)})' if parts else None


def _bounded_base() -> str:
  parts = [r'0(?:\.\d{1,14})?']
  for digits in range(1, _DIGITS + 1):
    behind = _DIGITS - digits
    point = rf'\.\d{{1,{behind}}}' if behind else r'\.0'
    parts.append(rf'[1-9]\d{{{digits - 1}}}(?:{point})?')
  some = '|'.join(parts)
  nonzero = '|'.join([r'0\.0{0,13}[1-9]\d{0,13}', *parts[1:]])
  return f'^(?:{some})$|^-(?:{nonzero})$'


def _cut(
  bound: Number, way: str, is_open: bool
) -> tuple[decimal.Decimal, bool]:
  """A bound with so few digits as numbers have; whether it is open."""
  exact = decimal.Decimal(bound if isinstance(bound, int) else repr(bound))
  if abs(exact) >= 10**_DIGITS:
    return exact, is_open
  with decimal.localcontext(prec=2 * _DIGITS + 2):
    cut = exact.quantize(decimal.Decimal(1).scaleb(-_DIGITS), way)
  return cut, is_open and cut == exact


@functools.lru_cache(256)
def number(
  low: Number | None, high: Number | None, low_open: bool, high_open: bool
) -> characters.Automaton:
  """Numbers between two bounds, either of which may be left out."""
  if low is None and high is None:
    return terminals.expression(_NUMBER)
  found = terminals.expression(_bounded_base())
  largest = decimal.Decimal(10**_DIGITS)
  none = characters.Automaton((), (), ())
  if low is not None:
    low, low_open = _cut(low, decimal.ROUND_CEILING, low_open)
    if low >= largest:
      return none
    if low >= 0:
      pattern = f'^{_from(low, low_open)}$'
    else:
      rest = _to(min(-low, largest), low_open)
      pattern = f'^{_UNSIGNED}$|^-{rest}$'
    found = characters.both(found, terminals.expression(pattern))
  if high is not None:
    high, high_open = _cut(high, decimal.ROUND_FLOOR, high_open)
    if high <= -largest:
      return none
    if high < 0:
      pattern = f'^-{_from(-high, high_open)}$'
    else:
      rest = _to(min(high, largest), high_open)
      pattern = f'^-{_UNSIGNED}$' + (f'|^{rest}$' if rest else '')
    found = characters.both(found, terminals.expression(pattern))
  return found
