"""Exceptions that mean "the input is wrong", or "not now", not the program."""

import math
import re
from typing import Iterable, Mapping

# What Python reads from JSON, as it is called there.
_KINDS = {
  str: 'a string',
  float: 'a number',
  int: 'a whole number',
  list: 'a list',
  tuple: 'a tuple',
  Mapping: 'an object',
  type(None): 'null',
}


class UserError(ValueError):
  """Bad input, told in one sentence.

  The message names the file and the field, what was found and what was
  expected. The command-line doors print it without a traceback and exit with
  status 2.
  """


class Busy(Exception):
  """There is no room for another request now; try again later."""


def at_least_one(where: str, config: object, names: Iterable[str]) -> None:
  """Refuses a configuration with a size below one.

  Args:
    where: What is configured, as messages name it.
    config: Holds the sizes as attributes.
    names: The attributes.

  Raises:
    UserError: One of them is below one.
  """
  for name in names:
    size = getattr(config, name)
    if size < 1:
      raise UserError(f'{where}: {name} is {size}, expected at least 1.')


def within(
  where: str, config: object, bounds: Mapping[str, tuple[float, float]]
) -> None:
  """Refuses a configuration with a number out of bounds.

  Args:
    where: What is configured, as messages name it.
    config: Holds the numbers as attributes; None is within all bounds.
    bounds: Attribute → (least, most); no bound admits NaN or infinity.

  Raises:
    UserError: One of them is not.
  """
  for name, (least, most) in bounds.items():
    number = getattr(config, name)
    if number is None or least <= number <= most and math.isfinite(number):
      continue
    expected = f'a number >= {least:g}'
    if math.isfinite(most):
      expected = f'{least:g} to {most:g}'
    raise UserError(f'{where}: {name} is {number}, expected {expected}.')


def patterns(where: str, found: Iterable[str]) -> None:
  """Refuses what is no regular expression.

  Args:
    where: What is configured, as messages name it.
    found: The expressions.

  Raises:
    UserError: One of them does not compile.
  """
  for pattern in found:
    try:
      re.compile(pattern)
    except re.error as error:
      raise UserError(
        f'{where}: found {pattern!r}, expected a regular expression ({error}).'
      ) from error


def kinds(types: Iterable[type]) -> str:
  """Types of what JSON holds, in words: `a string or null`."""
  return ' or '.join(_KINDS[one] for one in types)
