"""An event loop whose seconds cost nothing: it jumps to what is due next."""

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
  """Waits for nobody: what would be waited is added to the time."""

  now = 0.0

  def select(self, timeout=None):
    if timeout is None:
      raise RuntimeError('nothing is due, and nothing will ever happen')
    found = super().select(0)
    if not found and timeout > 0:
      self.now += timeout
    return found


class Loop(asyncio.SelectorEventLoop):
  """Of virtual seconds, from 0."""

  def __init__(self):
    self._jumping = _Jumping()
    super().__init__(self._jumping)

  def time(self):
    return self._jumping.now

  def run_in_executor(self, executor, func, *args):
    """At once: no time goes by while a thread works."""
    future = self.create_future()
    try:
      future.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 - told to who waits
      future.set_exception(error)
    return future


def run(coroutine):
  """As `asyncio.run`; no task may be left over by then."""
  loop = Loop()
  try:
    result = loop.run_until_complete(coroutine)
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    assert not left, f'tasks that nobody ended: {left}'
    return result
  finally:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
