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
_WHOLE_DIGITS = 19
_MULTIPLES = 9  # digits of those
_STEPS = 1000  # the largest divisor
_BEYOND, _CUT = decimal.Decimal(10**20), 30

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


# Of few digits, and without a negative zero.
_BOUNDED = '|'.join(
  [
    r'^0(?:\.\d{1,14})?$',
    r'^-0\.0{0,13}[1-9]\d{0,13}$',
    *(rf'^-?[1-9]\d{{{n}}}(?:\.\d{{1,{14 - n}}})?$' for n in range(14)),
    r'^-?[1-9]\d{14}$',
  ]
)
_CHARACTERS = '0123456789-.'
_CLASSES = tuple(((ord(one), ord(one)),) for one in _CHARACTERS)


def _beyond(bound: Number, is_open: bool, is_low: bool) -> characters.Automaton:
  """Decimals that are at least, or at most, a bound.

  Behind the sign of the bound a state is (whether a point has come, digits of
  this part, how they compare with those of the bound: -1, 0 or 1).
  """
  written = bound if isinstance(bound, int) else repr(bound)
  exact = max(-_BEYOND, min(_BEYOND, decimal.Decimal(written)))
  before, _, behind = f'{exact.copy_abs():f}'.partition('.')
  # No number has so many digits that those left out could matter.
  behind = behind[:_CUT] + ('1' if behind[_CUT:].strip('0') else '')
  parts = before, behind.rstrip('0')
  # Which sizes are wanted, and whether all numbers of the other sign fit.
  wanted = 1 if is_low == (exact >= 0) else -1
  free = is_low == (exact < 0)

  def digit(at, one: str):
    point, place, order = at
    digits = parts[point]
    other = digits[place] if place < len(digits) else '0'
    order = order or (one > other) - (one < other)
    return point, min(place, len(digits)) + 1, order

  def settled(at):
    """How what is before the point compares, if it is all."""
    _, place, order = at
    return (place > len(parts[0])) - (place < len(parts[0])) or order

  def step(at) -> list:
    if at == 'any':
      return ['any'] * len(_CHARACTERS)
    if at == 'begin':
      sides = ['any' if free else None, (0, 0, 0)]
      minus, plus = sides if exact >= 0 else sides[::-1]
      digits = [
        plus if plus in ('any', None) else digit(plus, one)
        for one in _CHARACTERS[:10]
      ]
      return [*digits, minus, None]
    point = None if at[0] else (1, 0, settled(at))
    return [*(digit(at, one) for one in _CHARACTERS[:10]), None, point]

  def ends(at) -> bool:
    if at in ('any', 'begin'):
      return at == 'any'
    point, place, order = at
    order = order if point else settled(at)
    if not order and (place if point else 0) < len(parts[1]):
      order = -1
    return order == wanted or (not order and not is_open)

  return characters.explored(_CLASSES, 'begin', step, ends)


def _within(found, low, high, low_open, high_open) -> characters.Automaton:
  if low is not None:
    found = characters.both(found, _beyond(low, low_open, True))
  if high is not None:
    found = characters.both(found, _beyond(high, high_open, False))
  return found


@functools.lru_cache(256)
def whole(
  low: int | None, high: int | None, step: int = 1
) -> characters.Automaton:
  """Whole numbers from `low` to `high` that `step` divides.

  Raises:
    Refused: `step` is too large, or there are too many states.
  """
  digits = _WHOLE_DIGITS if step == 1 else _MULTIPLES
  found = terminals.expression(rf'^0$|^-?[1-9]\d{{0,{digits - 1}}}$')
  found = _within(found, low, high, False, False)
  return found if step == 1 else characters.both(found, _multiples(step))


def _multiples(step: int) -> characters.Automaton:
  if step > _STEPS:
    raise limits.Refused(f'{step} is more than {_STEPS}')
  return characters.explored(
    _CLASSES[:11],
    0,
    lambda rest: [*((10 * rest + n) % step for n in range(10)), 0],
    lambda rest: not rest,
  )


@functools.lru_cache(256)
def number(
  low: Number | None, high: Number | None, low_open: bool, high_open: bool
) -> characters.Automaton:
  """Numbers between two bounds, either of which may be left out."""
  if low is None and high is None:
    return terminals.expression(_NUMBER)
  found = terminals.expression(_BOUNDED)
  return _within(found, low, high, low_open, high_open)
