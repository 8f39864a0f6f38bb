"""How many requests are under way, of whom, and whether more may begin."""

import asyncio
import collections
import contextlib
from typing import Iterator

from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import settings as settings_lib

WARMING, READY, DRAINING = 'warming', 'ready', 'draining'


class Admission:
  """Counts requests; ends in an orderly way.

  Attributes:
    state: `WARMING`, `READY` or `DRAINING`.
    held: Bytes of bodies, and of their sound, that are held.
  """

  def __init__(self, settings: settings_lib.Settings, state: str = READY):
    """Nothing is under way."""
    self._settings, self.state, self.held = settings, state, 0
    self._of: collections.Counter[str] = collections.Counter()
    self._idle = asyncio.Event()
    self._idle.set()

  @property
  def under_way(self) -> int:
    """Requests."""
    return self._of.total()

  @contextlib.contextmanager
  def one(self, client: str) -> Iterator[None]:
    """A request of a client, while it lasts.

    Raises:
      Fault: 503 where the server warms up, ends or is full; 429 where this
        client has enough under way.
    """
    if self.state != READY:
      told = {
        WARMING: 'The server is warming up; try again in a moment.',
        DRAINING: 'The server is shutting down; ask another one.',
      }
      raise faults.busy(told[self.state], 5.0)
    most = self._settings.most_per_client
    if self._of[client] >= most:
      raise faults.Fault(
        429,
        f'Rate limit reached: {most} requests of this client are under way.',
        faults.LIMITED,
        code='rate_limit_exceeded',
        headers=faults.retry_after(1),
      )
    if self.under_way >= self._settings.most_requests:
      raise faults.busy('The server is overloaded; try again later.')
    self._of[client] += 1
    self._idle.clear()
    try:
      yield
    finally:
      self._of[client] -= 1
      if not self._of[client]:
        del self._of[client]  # of a client that may never come again
      if not self._of:
        self._idle.set()

  def hold(self, count: int) -> None:
    """So many more bytes are held; negative: fewer.

    Raises:
      Fault: 503: all together are too many.
    """
    if count > 0 and self.held + count > self._settings.most_bytes_together:
      raise faults.busy('The server holds too many uploads; try again later.')
    self.held += count

  @contextlib.contextmanager
  def holding(self, count: int) -> Iterator[None]:
    """`hold` for the length of a block."""
    self.hold(count)
    try:
      yield
    finally:
      self.hold(-count)

  def drain(self) -> None:
    """Lets nobody in any more."""
    self.state = DRAINING

  async def idle(self) -> None:
    """Waits until nothing is under way."""
    await self._idle.wait()
