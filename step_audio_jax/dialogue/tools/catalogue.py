"""The tools of a server: our own by their names, and those of other servers."""

import contextlib
from typing import AsyncIterator, Callable, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.dialogue.tools import calculator
from step_audio_jax.dialogue.tools import clock
from step_audio_jax.dialogue.tools import mcp
from step_audio_jax.dialogue.tools import registry

OWN: Mapping[str, Callable[[], registry.Tool]] = {
  'clock': clock.tool,
  'calculator': calculator.tool,
}


def check(names: Sequence[str]) -> None:
  """Refuses what is none of our tools.

  Raises:
    UserError: One is not.
  """
  for name in names:
    if name not in OWN:
      raise errors.UserError(
        f'tools: found {name!r:.60}, expected some of {", ".join(OWN)}'
        f'{checks.nearest(name, OWN)}.'
      )


@contextlib.asynccontextmanager
async def opened(
  names: Sequence[str] = (), servers: str | None = None
) -> AsyncIterator[registry.Registry]:
  """Tools, as long as the servers of theirs are held open.

  Args:
    names: Of `OWN`.
    servers: A file that names servers (`mcp.read`).

  Raises:
    UserError: There is no such tool or file, or a server cannot be reached.
  """
  check(names)
  found = registry.Registry()
  for name in names:
    found.add(OWN[name]())
  others = mcp.read(servers) if servers else []
  async with mcp.opened(others) as more:
    for tool in more:
      found.add(tool)
    yield found
