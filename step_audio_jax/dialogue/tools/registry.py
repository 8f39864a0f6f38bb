"""What tools there are: a name, a schema, and what is called."""

import dataclasses
import math
import re
from typing import Any, Awaitable, Callable, Iterable, Iterator, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import tools as tools_lib
from step_audio_jax.dialogue.tools import arguments

_NAME = re.compile(r'[a-zA-Z0-9_-]{1,64}')  # as OpenAI has it
NOTHING: Mapping[str, Any] = {'type': 'object', 'properties': {}}


@dataclasses.dataclass(frozen=True)
class Tool:
  """One tool.

  Attributes:
    name: By which it is called.
    description: What it does, for the model.
    run: Takes the arguments by name and gives a text, anything that JSON
      holds, or a coroutine of either. What is not async runs in a thread. A
      `UserError` is what the model is told; others are kept from it.
    parameters: JSON Schema of the arguments, an object.
    seconds: That it may take; None for the runner's.
  """

  name: str
  description: str
  run: Callable[..., Any | Awaitable[Any]]
  parameters: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: dict(NOTHING)
  )
  seconds: float | None = None

  def __post_init__(self):
    if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
      raise errors.UserError(
        f'tool: found the name {self.name!r:.80}, expected 1 to 64 of '
        'a-z, A-Z, 0-9, "_" and "-".'
      )
    where = f'tool {self.name}'
    errors.within(where, self, {'seconds': (0.001, math.inf)})
    checks.check_depth(self.parameters, f'{where}.parameters')
    tools_lib.check_json(self.parameters, f'{where}.parameters')
    tools_lib.check_characters(chats.as_json(self.schema), where)
    tools_lib.check_schema(self.schema, where)
    arguments.check_schema(self.parameters, f'{where}.parameters')

  @property
  def schema(self) -> Mapping[str, Any]:
    """As `chats` has it in turns of `tool_json_schemas`."""
    return {
      'type': 'function',
      'function': {
        'name': self.name,
        'description': self.description,
        'parameters': self.parameters,
      },
    }


class Registry:
  """Tools by name."""

  def __init__(self, tools: Iterable[Tool] = ()):
    """Holds these.

    Raises:
      UserError: As `add`.
    """
    self._tools: dict[str, Tool] = {}
    for tool in tools:
      self.add(tool)

  def add(self, tool: Tool) -> None:
    """One more.

    Raises:
      UserError: There is one of that name.
    """
    if tool.name in self._tools:
      raise errors.UserError(
        f'tool: {tool.name!r} is there already, expected another name.'
      )
    self._tools[tool.name] = tool

  def get(self, name: str) -> Tool | None:
    """The tool of that name."""
    return self._tools.get(name)

  def __iter__(self) -> Iterator[Tool]:
    return iter(self._tools.values())

  def __contains__(self, name: str) -> bool:
    return name in self._tools

  @property
  def names(self) -> tuple[str, ...]:
    return tuple(self._tools)

  @property
  def schemas(self) -> tuple[Mapping[str, Any], ...]:
    """Of all of them."""
    return tuple(tool.schema for tool in self._tools.values())
