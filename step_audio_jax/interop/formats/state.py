"""State dicts of other people's checkpoints, whatever is wrapped around them.

Trainers save a state dict alone, under a key (`{'model': …}`), or with the
name of what held the network in front of every name (`module.generator.`).
Names are read from the first part on that the network itself has. What is
missing, there twice, no floating-point number or not finite is named.
"""

from typing import Any, Callable, Iterable, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import checked

# Keys under which a state dict lies, and first parts of names that are none of
# the network's.
WRAPPERS = (
  *('state_dict', 'model_state_dict', 'model', 'module', 'generator'),
  *('net', 'network', 'params', '_orig_mod', 'base_model'),
)


def unwrap_state_dict(
  tree: Any, is_array: Callable[[Any], bool], where: str = 'state dict'
) -> Mapping[str, Any]:
  """The state dict inside nested dicts.

  Args:
    tree: A state dict, or a dict that holds one under one of `WRAPPERS`.
    is_array: Whether a value is a tensor.
    where: The file, for messages.

  Raises:
    UserError: It is no dict, or two keys hold one.
  """
  while True:
    if not isinstance(tree, Mapping):
      raise errors.UserError(
        f'{where}: found a {type(tree).__name__}, expected a state dict.'
      )
    inside = [key for key in WRAPPERS if _holds(tree.get(key), is_array)]
    if not inside:
      return tree
    if len(inside) > 1:
      raise errors.UserError(
        f'{where}: found weights under {inside[0]!r} and under {inside[1]!r}, '
        'expected one state dict; save the one that is meant alone.'
      )
    tree = tree[inside[0]]


def _holds(value, is_array) -> bool:
  """Whether tensors lie in a dict, or in one that it wraps."""
  if not isinstance(value, Mapping):
    return False
  return any(map(is_array, value.values())) or any(
    _holds(value.get(key), is_array) for key in WRAPPERS
  )


def find_names(
  names: Iterable[str],
  roots: Iterable[str],
  others: Iterable[str] = (),
  where: str = 'state dict',
) -> dict[str, str]:
  """Names as the network has them → as they are found.

  Args:
    names: Of a state dict.
    roots: First parts of the network's own names.
    others: First parts of names that belong to what was trained beside it;
      they are left out.
    where: The file, for messages.

  Raises:
    UserError: Two of the names are one without their prefixes.
  """
  roots, found = set(roots), {}
  for name in names:
    own = name
    while (head := own.partition('.'))[0] not in roots:
      if head[0] not in WRAPPERS or not head[2]:
        own = name
        break
      own = head[2]
    if own.partition('.')[0] in others:
      continue
    if own in found:
      raise errors.UserError(
        f'{where}: {own} is there twice, as {found[own]!r} and as {name!r}; '
        'expected it once.'
      )
    found[own] = name
  return found


class State(Mapping[str, np.ndarray]):
  """Float32 arrays by name, each read when it is asked for.

  Raises:
    UserError: A name is read that is not there, or whose array holds what is
      no weight.
  """

  def __init__(
    self,
    state: Mapping[str, Any],
    kind: str,
    roots: Iterable[str] = (),
    *,
    others: Iterable[str] = (),
    where: str = 'state dict',
    allow: bool = False,
  ):
    """Holds a state dict.

    Args:
      state: Arrays by name, or a dict around them; a `State` stays as it is.
      kind: Whose weights were expected, for errors.
      roots: First parts of the network's names; none: names are as they are.
      others: See `find_names`.
      where: The file, for errors.
      allow: Take numbers that are not finite as they are, and tell them.

    Raises:
      UserError: As `unwrap_state_dict` and `find_names`.
    """
    if isinstance(state, State):
      vars(self).update(vars(state))
      return
    if isinstance(state, dict):
      state = unwrap_state_dict(
        state, lambda value: hasattr(value, 'dtype'), where
      )
    self._state, self._kind = state, kind
    self._where, self._allow = str(where), allow
    self._names = {name: name for name in state}
    if roots:
      self._names = find_names(state, roots, others, self._where)

  def shape(self, name: str) -> tuple[int, ...]:
    """Shape of an array, unread where it can be."""
    name = self._names[name]
    if hasattr(self._state, 'shape'):
      return self._state.shape(name)
    return tuple(self._state[name].shape)

  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Shapes of all."""
    return {name: self.shape(name) for name in self}

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._names:
      raise errors.UserError(
        f'{self._where}: found no {name!r}, expected the weights of '
        f'{self._kind}.'
      )
    raw = self._names[name]
    return checked.read_checked(self._state[raw], raw, self._where, self._allow)

  def __contains__(self, name: object) -> bool:
    return name in self._names

  def __iter__(self):
    return iter(self._names)

  def __len__(self) -> int:
    return len(self._names)

  def count(self, prefix: str) -> int:
    """How many different numbers stand behind `prefix`, at least 1.

    Raises:
      UserError: There is none.
    """
    numbers = {
      name.removeprefix(prefix).partition('.')[0]
      for name in self
      if name.startswith(prefix)
    }
    if not numbers:
      raise errors.UserError(
        f'{self._where}: found no {prefix + "0"!r}, expected the weights of '
        f'{self._kind}.'
      )
    return len(numbers)
