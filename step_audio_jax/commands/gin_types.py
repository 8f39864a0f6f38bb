"""Whether a value from a gin file is what the annotation of a parameter says.

Gin takes any Python literal for any parameter. A wrong one (`STEPS = 1e1`, a
string where a list of strings is expected) would work for a while and then
fail, or iterate over letters. The rules are Python's own, but stricter: a bool
is no number, a float is no integer even where it is whole, a string is no
sequence of strings, infinity is no number. A list does where a tuple is
expected, and becomes one.
"""

import collections.abc
import dataclasses
import inspect
import math
import types
import typing
from typing import Any, Callable

_SCALARS = {
  bool: 'True or False',
  int: 'an integer',
  float: 'a number',
  str: 'a string',
}
_UNIONS = (typing.Union, types.UnionType)
_ITEMS = {int: 'integers', float: 'numbers', str: 'strings'}
_LARGEST = 2**63


@dataclasses.dataclass(frozen=True)
class Reference:
  """Stands for `@name` or `@name()` in a value.

  Attributes:
    name: As messages show it.
    kind: What comes of it: a class, or None where that is not known.
  """

  name: str
  kind: type | None = None

  def __repr__(self) -> str:
    return self.name


def annotations(function: Callable[..., Any]) -> dict[str, Any]:
  """Annotations of the parameters of a function or class, and `return`."""
  is_class = inspect.isclass(function)
  try:
    found = typing.get_type_hints(function.__init__ if is_class else function)
  except (NameError, TypeError, AttributeError):  # names that are not there
    return {}
  return found | {'return': function} if is_class else found


def matches(value: Any, hint: Any) -> bool:
  """Whether `value` is of the annotated type; references stand for theirs."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any or isinstance(hint, typing.TypeVar):
    return True
  if origin in _UNIONS:
    return any(matches(value, one) for one in inner)
  if origin is typing.Literal:
    return any(value == one and type(value) is type(one) for one in inner)
  if isinstance(value, Reference):
    return _refers_to(value, origin or hint)
  if hint is None or hint is type(None):
    return value is None
  if hint is int:
    return type(value) is int and abs(value) < _LARGEST
  if hint is float:
    return type(value) in (int, float) and math.isfinite(value)
  if hint in (bool, str):
    return type(value) is hint
  kind = origin or hint
  if not inspect.isclass(kind):
    return True
  if issubclass(kind, tuple) and hasattr(kind, '_fields'):
    return isinstance(value, (tuple, list, kind))
  if kind is tuple:
    return isinstance(value, (tuple, list)) and _tuple_is_right(value, inner)
  if issubclass(kind, collections.abc.Mapping):
    return isinstance(value, collections.abc.Mapping) and all(
      matches(part, one)
      for item in value.items()
      for part, one in zip(item, inner)
    )
  if getattr(kind, '_is_protocol', False):
    return _has_methods(type(value), kind)
  if kind in _COLLECTIONS:
    return isinstance(value, (tuple, list)) and all(
      matches(part, one) for part in value for one in inner
    )
  if kind is collections.abc.Callable:
    return callable(value)
  return isinstance(value, kind)


_COLLECTIONS = (
  collections.abc.Collection,
  collections.abc.Iterable,
  collections.abc.Sequence,
  list,
)


def _tuple_is_right(value, inner) -> bool:
  if not inner:
    return True
  if inner[-1] is Ellipsis:
    return all(matches(part, inner[0]) for part in value)
  return len(value) == len(inner) and all(map(matches, value, inner))


def _has_methods(kind: type, protocol: type) -> bool:
  public = (n for n, v in vars(protocol).items() if callable(v))
  return all(hasattr(kind, name) for name in public if name[0] != '_')


def _refers_to(value: Reference, kind: Any) -> bool:
  if value.kind is None or not inspect.isclass(kind):
    return True
  if kind is collections.abc.Callable:
    # What a class makes can be called where the class says how.
    made = value.name.endswith('()')
    return not made or any('__call__' in vars(c) for c in value.kind.__mro__)
  if getattr(kind, '_is_protocol', False):
    return value.name.endswith('()') and _has_methods(value.kind, kind)
  try:
    return issubclass(value.kind, kind)
  except TypeError:
    return True


def describe(hint: Any) -> str:
  """An annotation in words."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin in _UNIONS:
    words = dict.fromkeys(map(describe, inner))
    return ' or '.join(words)
  if origin is typing.Literal:
    return ' or '.join(map(repr, inner))
  if hint in _SCALARS:
    return _SCALARS[hint]
  if hint is None or hint is type(None):
    return 'None'
  kind = origin or hint
  if kind is tuple and inner[1:] and inner[-1] is not Ellipsis:
    return f'a tuple ({", ".join(map(describe, inner))})'
  if kind is tuple or kind in _COLLECTIONS:
    name = 'a tuple' if kind is tuple else 'a list'
    one = inner[0] if inner else Any
    return f'{name} of {_ITEMS.get(one) or _each(one)}' if inner else name
  if inspect.isclass(kind) and issubclass(kind, collections.abc.Mapping):
    return f'a dict {{{", ".join(map(describe, inner))}: …}}'
  if kind is collections.abc.Callable:
    return 'the @name of a function'
  if inspect.isclass(kind) and kind.__name__ == 'PathLike':
    return 'a path'
  if getattr(kind, '_is_protocol', False):
    return f'an object that is {kind.__name__}, as @module.Name()'
  return f'@{kind.__name__}()' if inspect.isclass(kind) else str(hint)


def _each(hint: Any) -> str:
  return f'items each {describe(hint)}'


def with_tuples(value: Any, hint: Any) -> Any:
  """`value` with its lists as tuples, where the annotation has tuples."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin in _UNIONS:
    fitting = [one for one in inner if matches(value, one)]
    return with_tuples(value, fitting[0]) if fitting else value
  if origin is tuple and isinstance(value, (tuple, list)):
    return _frozen(value)
  return value


def _frozen(value: Any) -> Any:
  if isinstance(value, (tuple, list)):
    return tuple(map(_frozen, value))
  return value
