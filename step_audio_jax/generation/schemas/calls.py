"""What replies are held to: JSON of a schema, calls of tools, or either.

    reply  = [text | JSON] {call} end
    call   = <|CALL_START|> {"name": NAME, "arguments": ARGUMENTS} <|CALL_END|>

as `chats.rendering` lays them out; NAME chooses the schema of ARGUMENTS. JSON
of a schema is followed by no call. With `tool_choice` 'required', or the name
of a tool, a reply is calls alone.

Letters: V vocabulary.
"""

import dataclasses
import enum
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation.schemas import automaton as automaton_lib
from step_audio_jax.generation.schemas import compiling
from step_audio_jax.generation.schemas import tokens as tokens_lib

_CALL, _CALLED = (
  vocabulary_lib.CONTROL[piece] for piece in ('<|CALL_START|>', '<|CALL_END|>')
)
AUTO, NONE, REQUIRED = 'auto', 'none', 'required'
_MOST_CALLS = 8


class _At(enum.Enum):
  """Where a reply is."""

  BEGIN = enum.auto()
  TEXT = enum.auto()
  JSON = enum.auto()
  CALL = enum.auto()
  BEHIND = enum.auto()  # a call
  END = enum.auto()


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
    if tool_choice in named:
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
    self._tokens, self._held = tokens, held
    self._at, self._calls = _At.BEGIN, 0
    self._state: automaton_lib.State | None = None
    self._mask_V: np.ndarray | None = None

  @property
  def _masks(self) -> compiling.Masks:
    held = self._held
    return held.calls if self._at is _At.CALL else held.json

  @property
  def done(self) -> bool:
    """See `Constraint.done`."""
    match self._at:
      case _At.BEGIN | _At.TEXT:
        return self._held.text
      case _At.JSON:
        return self._state.done
      case _At.CALL:
        return False
      case _At.BEHIND:
        return self._calls >= self._held.fewest
    return True

  def mask(self) -> np.ndarray:
    """See `Constraint.mask`."""
    if self._mask_V is None:
      self._mask_V = self._made()
    return self._mask_V

  def _made(self) -> np.ndarray:
    held, at = self._held, self._at
    also = dict.fromkeys(held.stops, self.done)
    if at in (_At.BEGIN, _At.TEXT, _At.BEHIND):
      also[_CALL] = self._calls < held.most
    if at is _At.CALL:
      also[_CALLED] = self._state.done
    if at in (_At.JSON, _At.CALL):
      found_V = self._masks.mask(self._state)
    elif at is _At.BEGIN and held.json is not None:
      found_V = held.json.mask(held.json.automaton.start)
    elif at in (_At.BEGIN, _At.TEXT) and held.text:
      found_V = self._tokens.text_V
    else:
      found_V = np.zeros(self._tokens.size, bool)
    if any(found_V[one] != may for one, may in also.items()):
      found_V = found_V.copy()
      found_V[[*also]] = [*also.values()]
      found_V.setflags(write=False)
    return found_V

  def advance(self, token: int) -> None:
    """See `Constraint.advance`."""
    if not 0 <= token < self._tokens.size or not self.mask()[token]:
      raise ValueError(f'the id {token} may not come here.')
    self._mask_V = None
    if token == _CALL:
      self._at = _At.CALL
      automaton = self._held.calls.automaton
      # Where decoding leaves out a first space, encoding has put one.
      drops = self._tokens.drops_space
      self._state = automaton.spaced if drops else automaton.start
    elif token == _CALLED:
      self._at, self._state = _At.BEHIND, None
      self._calls += 1
    elif token in self._held.stops:
      self._at = _At.END
    elif self._at is _At.BEGIN and self._held.json is None:
      self._at = _At.TEXT
    elif self._at in (_At.BEGIN, _At.JSON, _At.CALL):
      if self._at is _At.BEGIN:
        self._at = _At.JSON
        self._state = self._held.json.automaton.start
      for byte in self._tokens.written[token]:
        self._state = self._masks.automaton.step(self._state, byte)
