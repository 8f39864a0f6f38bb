"""A demonstration tool: what an expression comes to, exactly.

    sum      = product (("+" | "-") product)*
    product  = signed (("*" | "x" | "of" | "/" | "//" | "%") signed)*
    signed   = ("+" | "-") signed | power
    power    = postfix ("^" signed)?                 right to left
    postfix  = atom ("!" | "%")*                     "%" where nothing follows
    atom     = number | name | name "(" sum ("," sum)* ")" | "(" sum ")"

Numbers are fractions of whole numbers, so that 0.1 + 0.2 is 0.3; a root that
is none of a fraction, and functions of real numbers, are rounded, which is
said (`arithmetic`). Nothing is evaluated but this grammar.
"""

from fractions import Fraction
import re
from typing import Callable

from step_audio_jax.dialogue.tools import arithmetic
from step_audio_jax.dialogue.tools import registry

_LONGEST = 500  # characters
_DEPTH = 50  # brackets and signs in each other

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


Number = arithmetic.Number
_refuse = arithmetic.refuse


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
          f'{", ".join((*arithmetic.CONSTANTS, *arithmetic.FUNCTIONS))}.',
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
  return arithmetic.written(_Parser(text).parse())


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
      found = arithmetic.applied(sign, found, self._product())
    return found

  def _product(self) -> Number:
    found = self._signed()
    while sign := self._take('*', '/', '//', '%', 'of', 'x'):
      found = arithmetic.applied(sign, found, self._signed())
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
      return arithmetic.power(base, self._deeper(self._signed))
    return base

  def _postfix(self) -> Number:
    found = self._atom()
    while True:
      if self._take('!'):
        found = arithmetic.factorial(found)
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
      return arithmetic.read(text)
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
    if name in arithmetic.CONSTANTS:
      return Number(Fraction(arithmetic.CONSTANTS[name]), exact=False)
    if name not in arithmetic.FUNCTIONS:
      known = ', '.join((*arithmetic.CONSTANTS, *arithmetic.FUNCTIONS))
      raise _refuse(f'{text!r:.40}', f'one of {known}')
    function = arithmetic.FUNCTIONS[name]
    if name == 'sqrt' and self._next != '(':  # the sign of a root has none
      return arithmetic.checked(function.run(self._deeper(self._postfix)))
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
    return arithmetic.checked(function.run(*given))
