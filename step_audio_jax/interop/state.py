"""State dicts of other people's checkpoints; what is missing is named."""

from typing import Mapping

import numpy as np

from step_audio_jax import errors


class State(Mapping[str, np.ndarray]):
  """Float32 arrays by name, each read when it is asked for.

  Raises:
    UserError: A name is read that is not there.
  """

  def __init__(self, state: Mapping[str, np.ndarray], kind: str):
    """Holds `state`; `kind` says in errors whose weights were expected."""
    self._state, self._kind = state, kind

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._state:
      raise errors.UserError(
        f'state dict: found no {name!r}, expected the weights of {self._kind}.'
      )
    return np.asarray(self._state[name], np.float32)

  def __contains__(self, name: object) -> bool:
    return name in self._state

  def __iter__(self):
    return iter(self._state)

  def __len__(self) -> int:
    return len(self._state)

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
        f'state dict: found no {prefix + "0"!r}, expected the weights of '
        f'{self._kind}.'
      )
    return len(numbers)
