"""State dicts of other people's checkpoints; what is missing is named."""

from typing import Mapping

import numpy as np

from step_audio_jax import errors


class State(dict[str, np.ndarray]):
  """Float32 arrays by name.

  Raises:
    UserError: A name is read that is not there.
  """

  def __init__(self, state: Mapping[str, np.ndarray], kind: str):
    """Holds `state`; `kind` says in errors whose weights were expected."""
    super().__init__(
      {name: np.asarray(value, np.float32) for name, value in state.items()}
    )
    self._kind = kind

  def __missing__(self, name: str) -> np.ndarray:
    raise errors.UserError(
      f'state dict: found no {name!r}, expected the weights of {self._kind}.'
    )

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
