"""What a reply with tools is held to: words, and calls between their pieces.

What stands in a call is not held to the schema of its tool yet: whoever runs it
checks its arguments (`dialogue.tools`), and says what is wrong with them.

Letters: V vocabulary.
"""

from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib

_CALL, _CALLED = (
  vocabulary_lib.CONTROL[piece] for piece in ('<|CALL_START|>', '<|CALL_END|>')
)
_LONGEST = 400  # ids of a call


class Holding:
  """Makes the constraints of one vocabulary."""

  def __init__(self, vocabulary: vocabulary_lib.Vocabulary):
    """Takes its ids."""
    self._size = vocabulary.table_size
    self._text_V = np.zeros(self._size, bool)
    begin = vocabulary_lib.CONTROL_SIZE
    self._text_V[begin : vocabulary.text_size] = True

  def of(
    self,
    schemas: Sequence[Mapping[str, Any]],
    tool_choice: str,
    response_schema: Mapping[str, Any] | None,
    stops: Sequence[int],
  ) -> 'Calls':
    """The constraint of one reply.

    Args:
      schemas: Of the chat's tools.
      tool_choice: 'auto', 'required', or the name of a tool.
      response_schema: That the reply has to fit; None for none.
      stops: Ids that end the reply.

    Raises:
      UserError: A reply is to fit a schema, or a tool is named that there is
        not.
    """
    if response_schema is not None:
      raise errors.UserError(
        'response_format: found a schema, expected none: replies are not held '
        'to schemas here.'
      )
    names = [one['function']['name'] for one in schemas]
    if tool_choice not in ('auto', 'required', *names):
      raise errors.UserError(
        f'tool_choice: found {tool_choice!r:.60}, expected auto, none, '
        f'required, or one of {", ".join(names)}.'
      )
    return Calls(self._text_V, stops, must=tool_choice != 'auto')


class Calls:
  """See `generation.schemas.constraint.Constraint`."""

  def __init__(self, text_V: np.ndarray, stops: Sequence[int], must: bool):
    self._must, self._inside, self._calls = must, 0, 0
    calling_V = np.zeros_like(text_V)
    calling_V[_CALL] = True
    ended_V = np.zeros_like(text_V)
    ended_V[[*stops]] = True
    closing_V = np.zeros_like(text_V)
    closing_V[_CALLED] = True
    self._masks = {
      'begin': calling_V if must else text_V | calling_V | ended_V,
      'inside': text_V | closing_V,
      'close': closing_V,
      'behind': calling_V | ended_V,
    }

  def mask(self) -> np.ndarray:
    """See `Constraint.mask`."""
    if self._inside:
      # The first id of a call is not its end.
      if self._inside == 1:
        inside_V = self._masks['inside'].copy()
        inside_V[_CALLED] = False
        return inside_V
      return self._masks['close' if self._inside > _LONGEST else 'inside']
    return self._masks['behind' if self._calls else 'begin']

  def advance(self, token: int) -> None:
    """See `Constraint.advance`."""
    if not self.mask()[token]:
      raise ValueError(f'{token} may not come here.')
    if token == _CALL:
      self._inside = 1
    elif token == _CALLED:
      self._inside, self._calls = 0, self._calls + 1
    elif self._inside:
      self._inside += 1

  @property
  def done(self) -> bool:
    """See `Constraint.done`."""
    return not self._inside and (bool(self._calls) or not self._must)

  def forced(self) -> list[int]:
    """See `Constraint.forced`."""
    return []
