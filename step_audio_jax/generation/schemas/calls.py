"""What replies are held to: JSON of a schema, calls of tools, or either.

    reply  = [text | JSON] {call} end
    call   = <|CALL_START|> {"name": NAME, "arguments": ARGUMENTS} <|CALL_END|>

as `chats.rendering` lays them out; NAME chooses the schema of ARGUMENTS. JSON
of a schema is followed by no call. With `tool_choice` 'required', or the name
of a tool, a reply is calls alone.

Letters: V vocabulary.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation.schemas import compiling
from step_audio_jax.generation.schemas import tokens as tokens_lib

_CALL, _CALLED = (
  vocabulary_lib.CONTROL[piece] for piece in ('<|CALL_START|>', '<|CALL_END|>')
)
AUTO, NONE, REQUIRED = 'auto', 'none', 'required'
_MOST_CALLS = 8


@dataclasses.dataclass(frozen=True)
class Held:
  """What a reply may be.

  Attributes:
    json: Of a reply that is JSON; None where it is none.
    text: Whether it may have text.
    calls: Of a call; None where there may be none.
    fewest: Calls.
    most: The same.
    stops: Ids that end it.
  """

  json: compiling.Masks | None = None
  text: bool = True
  calls: compiling.Masks | None = None
  fewest: int = 0
  most: int = 0
  stops: tuple[int, ...] = (vocabulary_lib.EOT,)


class Schemas:
  """Makes the constraints of one vocabulary; what was compiled is kept."""

  def __init__(
    self,
    vocabulary: vocabulary_lib.Vocabulary,
    limits: compiling.Limits = compiling.Limits(),
  ):
    """Reads what the ids write.

    Raises:
      UserError: As `tokens.of_vocabulary`.
    """
    self._compiler = compiling.Compiler(vocabulary, limits)

  def of(
    self,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str = AUTO,
    response_schema: Any = None,
    stops: Sequence[int] = (vocabulary_lib.EOT,),
    most_calls: int = _MOST_CALLS,
  ) -> 'Reply':
    """The constraint of one reply.

    Args:
      tools: {'type': 'function', 'function': {'name', 'parameters', 'strict'}}
        each; see `compiling.Compiler.calls`.
      tool_choice: 'auto', 'none', 'required', or the name of a tool, which is
        then called once.
      response_schema: JSON Schema that a reply fits if it calls nothing; None
        for text.
      stops: Ids that end the reply.
      most_calls: Of one reply.

    Raises:
      UserError: A schema is not supported, or a tool is named that there is
        not.
    """
    named = {one['function']['name']: one['function'] for one in tools}
    if tool_choice not in (AUTO, NONE, REQUIRED, *named):
      raise errors.UserError(
        f'tool_choice: found {tool_choice!r:.60}, expected of '
        f'{", ".join((AUTO, NONE, REQUIRED, *named)):.200}.'
      )
    must = tool_choice not in (AUTO, NONE)
    if must and not named:
      raise errors.UserError(
        f'tool_choice: found {tool_choice!r} and no tools, expected some.'
      )
    if must and tool_choice != REQUIRED:
      named, most_calls = {tool_choice: named[tool_choice]}, 1
    calls = json = None
    if named and tool_choice != NONE:
      calls = self._compiler.calls(named)
    if response_schema is not None and not must:
      json = self._compiler.value(response_schema, 'response_format')
    held = Held(
      json,
      json is None and not must,
      calls,
      int(must),
      most_calls if calls else 0,
      tuple(stops),
    )
    return Reply(self._compiler.tokens, held)


class Reply:
  """Holds one reply; see `constraint.Constraint`."""

  def __init__(self, tokens: tokens_lib.Tokens, held: Held):
    """Stands before the first id."""
    self._tokens, self._held = tokens, held
    self._calls, self._is_calling, self._is_over = 0, False, False
    self._has_text = held.text
    # What is being written, and where it is; None is text, or nothing.
    self._masks = held.json
    self._state = None if held.json is None else held.json.automaton.start
    self._mask_V: np.ndarray | None = None

  @property
  def done(self) -> bool:
    """See `Constraint.done`."""
    if self._is_calling:
      return False
    if self._masks is not None:
      return self._state.done
    return self._is_over or self._calls >= self._held.fewest

  def mask(self) -> np.ndarray:
    """See `Constraint.mask`."""
    if self._mask_V is None:
      self._mask_V = self._made()
    return self._mask_V

  def _made(self) -> np.ndarray:
    if self._masks is not None:
      found_V = self._masks.mask(self._state)
    elif self._has_text:
      found_V = self._tokens.text_V
    else:
      found_V = np.zeros(self._tokens.size, bool)
    also = dict.fromkeys(self._held.stops, self.done)
    also[_CALL] = self._may_call()
    also[_CALLED] = self._is_calling and self._state.done
    if any(found_V[one] != may for one, may in also.items()):
      found_V = found_V.copy()
      found_V[[*also]] = [*also.values()]
    found_V.setflags(write=False)
    return found_V

  def _may_call(self) -> bool:
    if self._is_calling or self._is_over or self._calls >= self._held.most:
      return False
    json = self._held.json
    return self._masks is None or self._state is json.automaton.start

  def advance(self, token: int) -> None:
    """See `Constraint.advance`."""
    if not 0 <= token < self._tokens.size or not self.mask()[token]:
      raise ValueError(f'the id {token} may not come here.')
    self._mask_V = None
    if token in self._held.stops:
      self._is_over, self._has_text, self._masks = True, False, None
    elif token == _CALL:
      self._is_calling, self._has_text = True, False
      self._masks = self._held.calls
      automaton = self._masks.automaton
      # Where decoding leaves out a first space, encoding has put one.
      drops = self._tokens.drops_space
      self._state = automaton.spaced if drops else automaton.start
    elif token == _CALLED:
      self._is_calling, self._masks = False, None
      self._calls += 1
    elif self._masks is not None:
      for byte in self._tokens.written[token]:
        self._state = self._masks.automaton.step(self._state, byte)
