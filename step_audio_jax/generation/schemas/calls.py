"""What replies are held to: JSON of a schema, calls of tools, or either.

    reply  = [text | JSON] {call} end
    call   = <|CALL_START|> {"name": NAME, "arguments": ARGUMENTS} <|CALL_END|>

as `chats.rendering` lays them out; NAME chooses the schema of ARGUMENTS. JSON
of a schema is followed by no call. With `tool_choice` 'required', or the name
of a tool, a reply is calls alone.

Letters: V vocabulary.
"""

import dataclasses
import json
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.generation.schemas import automaton as automaton_lib
from step_audio_jax.generation.schemas import limits as limits_lib
from step_audio_jax.generation.schemas import masks as masks_lib
from step_audio_jax.generation.schemas import nodes as nodes_lib
from step_audio_jax.generation.schemas import tokens as tokens_lib

_CALL, _CALLED = (
  vocabulary_lib.CONTROL[piece] for piece in ('<|CALL_START|>', '<|CALL_END|>')
)
AUTO, NONE, REQUIRED = 'auto', 'none', 'required'
_MOST_CALLS = 8
_KEPT = 64  # schemas, and sets of tools
_LARGEST = 200_000  # characters of a schema
_TOOLS = 256


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

  json: masks_lib.Masks | None
  text: bool
  calls: masks_lib.Masks | None
  fewest: int
  most: int
  stops: tuple[int, ...]


class Schemas:
  """Makes the constraints of one vocabulary; what was compiled is kept.

  Attributes:
    tokens: What the ids write.
  """

  def __init__(
    self,
    vocabulary: vocabulary_lib.Vocabulary,
    limits: limits_lib.Limits = limits_lib.Limits(),
  ):
    """Reads what the ids write.

    Raises:
      UserError: As `tokens.of_vocabulary`.
    """
    self.tokens = tokens_lib.of_vocabulary(vocabulary)
    self._walks = masks_lib.Walks(self.tokens)
    self._limits = limits
    self._nodes = limits_lib.Kept(_KEPT)
    self._masks = limits_lib.Kept(_KEPT)

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
        each. Arguments are any JSON object where a function is not 'strict'
        and its schema is not supported: who runs it checks them.
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
    calls = held = None
    if named and tool_choice != NONE:
      calls = self._calls(named)
    if response_schema is not None and not must:
      held = self.value(response_schema, 'response_format')
    most_calls = most_calls if calls else 0
    text = held is None and not must
    return Reply(
      self.tokens, Held(held, text, calls, int(must), most_calls, tuple(stops))
    )

  def value(self, schema: Any, where: str) -> masks_lib.Masks:
    """What JSON that fits a schema may be written with.

    Args:
      schema: JSON Schema.
      where: What it is called in messages.

    Raises:
      UserError: Something in it is not supported, is too much, or nothing
        fits it.
    """
    written, node = self._node(schema, where)
    return self._masks.get(written, lambda: self._made(node, self._limits))

  def _calls(self, functions: Mapping[str, Mapping[str, Any]]):
    """What a call of one of some tools may be written with."""
    if len(functions) > _TOOLS:
      raise errors.UserError(
        f'tools: found {len(functions)}, expected at most {_TOOLS}.'
      )
    found = {
      name: self._arguments(name, one) for name, one in functions.items()
    }
    key = tuple((name, written) for name, (written, _) in found.items())
    return self._masks.get(key, lambda: self._made_calls(found))

  def _node(self, schema: Any, where: str) -> tuple[str, nodes_lib.Node]:
    """A schema as it is written, and its node."""
    try:
      written = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
      raise errors.UserError(
        f'{where}: found what is no JSON ({str(error):.60}), expected a JSON '
        'Schema.'
      ) from error
    if len(written) > _LARGEST:
      raise errors.UserError(
        f'{where}: found {len(written)} characters, expected at most '
        f'{_LARGEST}.'
      )
    found = self._nodes.get(
      (where, written), lambda: self._built(written, where)
    )
    if isinstance(found, str):
      raise errors.UserError(found)
    return written, found

  def _built(self, written: str, where: str) -> nodes_lib.Node | str:
    """The node of a schema, or why there is none: that may be hard to find."""
    try:
      # What a caller changes later changes nothing here.
      schema = json.loads(written)
      return nodes_lib.Builder(schema, where, self._limits).build()
    except errors.UserError as error:
      return str(error)
    except RecursionError:
      return f'{where}: it is nested too deeply.'

  def _arguments(self, name: str, function: Mapping[str, Any]):
    """(the schema as it is written, its node, objects alone)."""
    parameters = function.get('parameters')
    if parameters is None:
      parameters = {'type': 'object', 'properties': {}}
    # Who says that a tool has no arguments does not mean any.
    if isinstance(parameters, Mapping) and parameters.get('properties') == {}:
      if not {'additionalProperties', 'required'} & {*parameters}:
        parameters = {**parameters, 'maxProperties': 0}
    where = f'tools: {name:.64}: parameters'
    if not name.isprintable():
      raise errors.UserError(
        f'tools: found the name {name!r:.64}, expected printable characters.'
      )
    try:
      written, node = self._node(parameters, where)
      if not node.objects and not node.maps:
        raise errors.UserError(
          f'{where}: no object fits, expected the schema of one.'
        )
    except errors.UserError:
      if function.get('strict'):
        raise
      written, node = self._node({'type': 'object'}, where)
    objects = nodes_lib.Node(node.places, objects=node.objects, maps=node.maps)
    objects.least = objects.measure()
    return written, objects

  def _made_calls(self, found: Mapping[str, tuple[str, nodes_lib.Node]]):
    # A call has one of these "keys": all that stands before its arguments.
    keys = tuple(
      f'"name": {chats.as_json(name)}, "arguments": '.encode() for name in found
    )
    nodes = tuple(node for _, node in found.values())
    call = nodes_lib.Object(keys, nodes, (False,) * len(keys), 1, 1)
    root = nodes_lib.Node((), objects=[call])
    root.least = root.measure()
    deeper = dataclasses.replace(self._limits, depth=self._limits.depth + 1)
    return self._made(root, deeper)

  def _made(self, node: nodes_lib.Node, limits: limits_lib.Limits):
    automaton = automaton_lib.Automaton(node, limits)
    return masks_lib.Masks(automaton, self._walks)


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
