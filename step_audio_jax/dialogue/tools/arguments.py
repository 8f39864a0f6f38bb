"""Whether arguments fit a schema that may be a stranger's.

JSON Schema can be a program: references that double with every level, patterns
that take years, addresses to be fetched. So a check is a number of steps at
most; patterns are searched with a limit of time, and nothing is fetched.
`unevaluatedProperties` and `unevaluatedItems`, whose cost is hidden from us,
are left to the tool itself.
"""

import contextvars
import functools
import re
import time
from typing import Any, Iterator, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats

LARGEST = 65_536  # characters of a schema, or of arguments
_STEPS = 20_000  # keywords of a schema that are looked at, and what they list
_SECONDS = 0.05  # of all patterns together
_PATTERN = 1000  # characters
_KEPT = 120  # characters of what is wrong
_UNCOUNTED = ('unevaluatedItems', 'unevaluatedProperties')


class _TooMuch(Exception):
  """A check takes too long."""


class _Purse:
  """What a check may still spend."""

  def __init__(self):
    self.steps, self.seconds = _STEPS, _SECONDS

  def spend(self, steps: int) -> None:
    self.steps -= steps
    if self.steps < 0:
      raise _TooMuch


_purse: contextvars.ContextVar[_Purse] = contextvars.ContextVar('purse')


def check_schema(schema: Mapping[str, Any], field: str) -> None:
  """Refuses a schema that nothing can be checked against.

  Args:
    schema: One that `chats.tools.check_schema` has passed.
    field: As messages name it.

  Raises:
    UserError: It is too large, or a pattern is no regular expression.
  """
  written = chats.as_json(schema)
  if len(written) > LARGEST:
    raise errors.UserError(
      f'{field}: found {len(written)} characters, expected at most {LARGEST}.'
    )
  for pattern in _patterns(schema):
    try:
      _compiled(pattern)
    except ValueError as error:
      raise errors.UserError(
        f'{field}: found the pattern {pattern!r:.60}, expected a regular '
        f'expression of at most {_PATTERN} characters ({error!s:.60}).'
      ) from error


def _patterns(value: Any) -> Iterator[str]:
  """All patterns of a schema, and what may look like one."""
  if isinstance(value, Mapping):
    if isinstance(value.get('pattern'), str):
      yield value['pattern']
    if isinstance(value.get('patternProperties'), Mapping):
      yield from value['patternProperties']
    for inner in value.values():
      yield from _patterns(inner)
  elif isinstance(value, (list, tuple)):
    for inner in value:
      yield from _patterns(inner)


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str):
  """A compiled pattern.

  Raises:
    ValueError: It is none, or too long.
  """
  import regex

  if len(pattern) > _PATTERN:
    raise ValueError('too long')
  # Repeats of repeats are unrolled: a few characters fill the memory.
  counts = [int(n) for n in re.findall(r'\{(?:\d*,)?(\d{1,9})', pattern)]
  if re.search(r'\d{10}', pattern) or any(n > 1000 for n in counts):
    raise ValueError('it repeats too often')
  try:
    return regex.compile(pattern)
  except (regex.error, OverflowError, RecursionError, MemoryError) as error:
    raise ValueError(str(error)) from error


def _matches(pattern: str, text: str) -> bool:
  """Whether a pattern is found in a text.

  Raises:
    _TooMuch: It takes too long.
    ValueError: It is no pattern.
  """
  purse = _purse.get()
  purse.spend(1 + len(text) // 100)
  began = time.perf_counter()
  try:
    return bool(
      _compiled(pattern).search(text, timeout=max(purse.seconds, 1e-4))
    )
  except TimeoutError:
    raise _TooMuch from None
  finally:
    purse.seconds -= time.perf_counter() - began
    if purse.seconds < 0:
      purse.steps = -1


def wrong_with(
  arguments: Mapping[str, Any], schema: Mapping[str, Any]
) -> str | None:
  """What does not fit, in a few words; None where all does.

  Args:
    arguments: Of a call.
    schema: JSON Schema of an object.
  """
  try:
    checks.check_depth(arguments, 'the arguments')
    size = len(chats.as_json(arguments))
  except (errors.UserError, TypeError, ValueError, RecursionError):
    return 'they are nested too deeply'
  if size > LARGEST:
    return f'they have {size} characters, and at most {LARGEST} are taken'
  token = _purse.set(_Purse())
  try:
    error = next(_validator(schema).iter_errors(arguments), None)
  except (_TooMuch, RecursionError):
    return 'checking them takes too long'
  except Exception as error:  # what else strangers write into schemas
    return f'their schema cannot be followed ({type(error).__name__})'
  finally:
    _purse.reset(token)
  if error is None:
    return None
  place = '.'.join(str(one)[:40] for one in list(error.absolute_path)[:8])
  message = ' '.join(error.message.split())
  if len(message) > _KEPT:
    message = f'{message[:_KEPT]}…'
  return f'{place}: {message}' if place else message


def _validator(schema: Mapping[str, Any]):
  import referencing

  # Without a way to fetch, an address elsewhere is an error.
  return _kind()(schema, registry=referencing.Registry())


@functools.cache
def _kind():
  """JSON Schema of 2020-12 that counts its steps."""
  import jsonschema
  from jsonschema import validators

  base = jsonschema.Draft202012Validator
  own = {
    'pattern': _pattern,
    'patternProperties': _pattern_properties,
    'additionalProperties': _additional_properties,
    'uniqueItems': _unique_items,
  }
  counted = {
    name: _counted(own.get(name, function))
    for name, function in base.VALIDATORS.items()
    if name not in _UNCOUNTED
  }
  # Without a version: others that ask for 2020-12 are to get theirs.
  return validators.create(
    base.META_SCHEMA, counted, type_checker=base.TYPE_CHECKER
  )


def _counted(function):
  """A keyword that costs what it lists."""

  def check(validator, value, instance, schema):
    cost = 1
    for one in (value, instance):
      if isinstance(one, (list, dict)):
        cost += len(one)
      elif isinstance(one, str):
        cost += len(one) // 1000
    _purse.get().spend(cost)
    return function(validator, value, instance, schema)

  return check


def _pattern(validator, pattern, instance, schema):
  import jsonschema

  del validator, schema
  if isinstance(instance, str) and not _matches(pattern, instance):
    yield jsonschema.ValidationError(
      f'{instance!r:.60} does not match {pattern!r:.60}'
    )


def _pattern_properties(validator, patterns, instance, schema):
  del schema
  if not isinstance(instance, dict):
    return
  for pattern, inner in patterns.items():
    for name, value in instance.items():
      if _matches(pattern, name):
        yield from validator.descend(
          value, inner, path=name, schema_path=pattern
        )


def _additional_properties(validator, allowed, instance, schema):
  import jsonschema

  if not isinstance(instance, dict):
    return
  known = schema.get('properties', {})
  patterns = schema.get('patternProperties', {})
  for name, value in instance.items():
    if name in known or any(_matches(one, name) for one in patterns):
      continue
    if isinstance(allowed, dict):
      yield from validator.descend(value, allowed, path=name)
    elif not allowed:
      there = f'; there are {", ".join(known)}' if known else ''
      yield jsonschema.ValidationError(f'{name!r:.60} is not known{there}')


def _unique_items(validator, wanted, instance, schema):
  import jsonschema

  del validator, schema
  if not wanted or not isinstance(instance, list):
    return
  _purse.get().spend(len(chats.as_json(instance)) // 100)
  if len({_key(one) for one in instance}) < len(instance):
    yield jsonschema.ValidationError('an item occurs twice')


def _key(value: Any):
  """Equal where JSON Schema says that values are: 1 and 1.0, not 1 and true."""
  if isinstance(value, bool):
    return (bool, value)
  if isinstance(value, list):
    return (list, tuple(map(_key, value)))
  if isinstance(value, dict):
    return (dict, frozenset((k, _key(v)) for k, v in value.items()))
  return value
