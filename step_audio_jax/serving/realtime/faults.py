"""What the realtime protocol refuses, and checks of what clients send.

A check takes a value and what messages call it (`session.audio.output.speed`)
and returns the value as it is kept, or raises a `Fault`. Checks are made of
checks: `table({'speed': optional(number(0.5, 2))})`.
"""

import json
import math
from typing import Any, Callable, Mapping, Sequence

from step_audio_jax import errors

Check = Callable[[Any, str], Any]

_LONGEST = 80  # characters of a value that a message shows
_DEEPEST = 64  # levels of JSON
INVALID, RATE, SERVER = (
  'invalid_request_error',
  'rate_limit_error',
  'server_error',
)


class Fault(errors.UserError):
  """An event that is refused; the connection stays open.

  Attributes:
    code: What went wrong, one word for programs.
    param: The field, as a path from the event.
    kind: `INVALID`, `RATE` or `SERVER`.
  """

  def __init__(
    self, message: str, code: str, param: str | None = None, kind: str = INVALID
  ):
    """As the attributes."""
    super().__init__(message)
    self.code, self.param, self.kind = code, param, kind


def shown(value: Any) -> str:
  """A value within a message."""
  try:
    text = json.dumps(value, ensure_ascii=False)
  except (TypeError, ValueError, RecursionError):
    text = repr(type(value).__name__)
  return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'


def wrong(value: Any, param: str, expected: str) -> Fault:
  """A value that is not what the protocol says."""
  return Fault(
    f'{param}: found {shown(value)}, expected {expected}.',
    'invalid_value',
    param,
  )


def text(most: int, *, least: int = 0) -> Check:
  """A string of `least` to `most` characters."""

  def check(value, param):
    if not isinstance(value, str):
      raise Fault(
        f'{param}: found {shown(value)}, expected a string.',
        'invalid_type',
        param,
      )
    if not least <= len(value) <= most:
      raise Fault(
        f'{param}: found {len(value)} characters, expected {least} to {most}.',
        'string_above_max_length' if len(value) > most else 'invalid_value',
        param,
      )
    if any('\ud800' <= one <= '\udfff' for one in value):
      raise wrong(value, param, 'Unicode text without lone surrogates')
    return value

  return check


def number(least: float, most: float, *, whole: bool = False) -> Check:
  """A number within bounds."""

  def check(value, param):
    kinds = int if whole else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not (math.isfinite(value) and least <= value <= most):
      what = 'a whole number' if whole else 'a number'
      raise wrong(value, param, f'{what}, {least:g} to {most:g}')
    return value

  return check


def flag(value: Any, param: str) -> bool:
  """True or false."""
  if not isinstance(value, bool):
    raise wrong(value, param, 'true or false')
  return value


def choice(*names: Any) -> Check:
  """One of several strings."""

  def check(value, param):
    if not isinstance(value, str) or value not in names:
      raise wrong(value, param, 'one of ' + ', '.join(map(shown, names)))
    return value

  return check


def optional(inner: Check) -> Check:
  """Null, or what another check takes."""
  return lambda value, param: None if value is None else inner(value, param)


def listed(inner: Check, most: int) -> Check:
  """A list of at most so many."""

  def check(value, param):
    if not isinstance(value, list):
      raise wrong(value, param, 'a list')
    if len(value) > most:
      raise Fault(
        f'{param}: found {len(value)} entries, expected at most {most}.',
        'array_above_max_length',
        param,
      )
    return [inner(one, f'{param}[{n}]') for n, one in enumerate(value)]

  return check


def absent(why: str) -> Check:
  """Null: what is not to be had here.

  Args:
    why: The reason, as the end of a sentence.
  """

  def check(value, param):
    if value is not None:
      raise Fault(f'{param}: {why}; expected null.', 'unsupported', param)

  return check


def table(
  checks: Mapping[str, Check], required: Sequence[str] = (), name: str = ''
) -> Check:
  """An object of known fields; what is left out stays out."""

  def check(value, param):
    if not isinstance(value, dict):
      raise wrong(value, param or name or 'the event', 'an object')
    prefix = f'{param}.' if param else ''
    for field in value:
      if field not in checks:
        raise Fault(
          f'{prefix}{field:.80}: there is no such parameter; expected '
          f'{", ".join(checks)}.',
          'unknown_parameter',
          f'{prefix}{field:.80}',
        )
    for field in required:
      if field not in value:
        raise Fault(
          f'{prefix}{field}: the parameter is missing.',
          'missing_required_parameter',
          f'{prefix}{field}',
        )
    return {
      field: checks[field](one, f'{prefix}{field}')
      for field, one in value.items()
    }

  return check


def json_object(most: int) -> Check:
  """Any JSON object of at most so many characters when written."""

  def check(value, param):
    if not isinstance(value, dict):
      raise wrong(value, param, 'an object')
    if _depth(value) > _DEEPEST:
      raise wrong('…', param, f'an object of at most {_DEEPEST} levels')
    if len(json.dumps(value)) > most:
      raise Fault(
        f'{param}: found more than {most} characters of JSON.',
        'string_above_max_length',
        param,
      )
    return value

  return check


def _depth(value: Any) -> int:
  level, depth = [value], 0
  while level and depth <= _DEEPEST:
    depth += 1
    level = [
      inner
      for one in level
      if isinstance(one, dict | list)
      for inner in (one.values() if isinstance(one, dict) else one)
    ]
  return depth
