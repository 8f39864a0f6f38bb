"""What time it is: the one thing a conversation asks the world about time."""

import asyncio
from typing import Protocol


class Clock(Protocol):
  """Seconds that rise, from anywhere, and a way to wait."""

  def now(self) -> float:
    """Seconds."""

  async def sleep(self, seconds: float) -> None:
    """Returns when they have passed."""


class LoopClock:
  """The event loop's own time: what that calls a second is one."""

  def now(self) -> float:
    return asyncio.get_running_loop().time()

  async def sleep(self, seconds: float) -> None:
    await asyncio.sleep(seconds)
