"""The tools that a server gives to all its conversations."""

import asyncio
from typing import Sequence

from step_audio_jax.dialogue.tools import catalogue
from step_audio_jax.dialogue.tools import registry as registry_lib


class Toolbox:
  """Opened by the first conversation, and held as long as the server runs."""

  def __init__(self, names: Sequence[str] = (), servers: str | None = None):
    """Opens nothing yet.

    Args:
      names: Of our own tools.
      servers: A file that names servers of more.

    Raises:
      UserError: There is no such tool.
    """
    catalogue.check(names)
    self._names, self._servers = tuple(names), servers
    self._opened: asyncio.Future[registry_lib.Registry] | None = None
    self._holding: asyncio.Task | None = None

  async def registry(self) -> registry_lib.Registry:
    """All tools.

    Raises:
      UserError: A server of tools cannot be reached.
    """
    if self._opened is None or self._opened.get_loop().is_closed():
      self._opened = asyncio.get_running_loop().create_future()
      # What is opened has to be closed by the task that opened it.
      self._holding = asyncio.create_task(self._hold(self._opened))
    return await asyncio.shield(self._opened)

  async def _hold(self, opened: asyncio.Future) -> None:
    try:
      async with catalogue.opened(self._names, self._servers) as found:
        opened.set_result(found)
        await asyncio.Event().wait()
    except Exception as error:  # noqa: BLE001 - told to who connects
      self._opened = None  # the next one tries again
      if not opened.done():
        opened.set_exception(error)
