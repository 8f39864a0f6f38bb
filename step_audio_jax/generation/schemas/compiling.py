"""Schemas of one vocabulary, compiled and kept."""

import dataclasses
import json
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.generation.schemas import automaton as automaton_lib
from step_audio_jax.generation.schemas import limits as limits_lib
from step_audio_jax.generation.schemas import masks as masks_lib
from step_audio_jax.generation.schemas import nodes as nodes_lib
from step_audio_jax.generation.schemas import tokens as tokens_lib

Limits = limits_lib.Limits
Masks = masks_lib.Masks
_KEPT = 64  # schemas, and sets of tools
_LARGEST = 200_000  # characters of a schema
_TOOLS = 256


class Compiler:
  """Turns schemas into masks.

  Attributes:
    tokens: What the ids write.
  """

  def __init__(
    self, vocabulary: vocabulary_lib.Vocabulary, limits: Limits = Limits()
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

  def value(self, schema: Any, where: str = 'schema') -> Masks:
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

  def calls(self, functions: Mapping[str, Mapping[str, Any]]) -> Masks:
    """What a call of one of some tools may be written with.

    Args:
      functions: {'name', 'parameters', 'strict'} by names. Arguments are any
        JSON object where a function is not 'strict' and its schema is not
        supported: who runs it checks them.

    Raises:
      UserError: The schema of a strict one is not supported, or there are too
        many.
    """
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
    if isinstance(found, errors.UserError):
      raise errors.UserError(str(found))
    return written, found

  def _built(
    self, written: str, where: str
  ) -> nodes_lib.Node | errors.UserError:
    """The node of a schema, or why there is none: that may be hard to find."""
    try:
      # What a caller changes later changes nothing here.
      schema = json.loads(written)
      return nodes_lib.Builder(schema, where, self._limits).build()
    except errors.UserError as error:
      return error
    except RecursionError:
      return errors.UserError(f'{where}: it is nested too deeply.')

  def _made(self, node: nodes_lib.Node, limits: Limits) -> Masks:
    return Masks(automaton_lib.Automaton(node, limits), self._walks)

  def _arguments(self, name: str, function: Mapping[str, Any]):
    """(the schema as it is written, its node, objects alone)."""
    parameters = function.get('parameters')
    if parameters is None:
      parameters = {'type': 'object', 'properties': {}}
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
