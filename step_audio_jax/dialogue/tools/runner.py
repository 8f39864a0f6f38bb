"""Runs calls of tools beside the speech, and makes turns of what they give.

    runner.start(call) → Running;  await running.result() → a turn of a result

Whatever happens is a result: a tool that fails, that takes too long, that is
cancelled or that nobody knows says so in one sentence, which a model can speak.
What a tool raised is in the log, and the model is told of a `UserError` alone.

A function that is not async runs in a thread of its own, which nobody can end:
its place is taken until it returns, however long ago its result was given up.
"""

import asyncio
import collections
import dataclasses
import inspect
import json
import logging
import math
import secrets
import threading
from typing import Any, Awaitable, Callable, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.tools import arguments as arguments_lib
from step_audio_jax.dialogue.tools import registry as registry_lib

_LOG = logging.getLogger(__name__)
_TOLD = 300  # characters of a sentence that is told of an error


@dataclasses.dataclass(frozen=True)
class Limits:
  """What the calls of one conversation may take.

  Attributes:
    seconds: Of a call, and as many again for its turn to come.
    together: Calls that run at once.
    waiting: Calls that wait for their turn; more are refused.
    result: Characters of a result.
    kept: Results that are remembered by the id of their call.
  """

  seconds: float = 15.0
  together: int = 4
  waiting: int = 16
  result: int = 4000
  kept: int = 1024

  def __post_init__(self):
    errors.within(
      'limits',
      self,
      {
        'seconds': (0.001, math.inf),
        'together': (1, 1000),
        'waiting': (0, 10_000),
        'result': (40, 1e7),
        'kept': (1, 1e6),
      },
    )


class Running:
  """One call.

  Attributes:
    call: With an id.
    is_error: Whether the result says that something went wrong; None as long
      as there is none.
  """

  def __init__(self, call: chats.Call):
    self.call = call
    self.is_error: bool | None = None
    self._done: asyncio.Future[chats.Turn] = (
      asyncio.get_running_loop().create_future()
    )
    self._task: asyncio.Task | None = None
    self._work: asyncio.Task | None = None  # the tool's own

  @property
  def is_done(self) -> bool:
    return self._done.done()

  async def result(self) -> chats.Turn:
    """The turn of its result; who waits may be cancelled, and it runs on."""
    return await asyncio.shield(self._done)

  def cancel(self) -> None:
    """Gives it up; its result says so."""
    self._finish(f'The call of {self.call.name} was cancelled.', True)
    if self._task is not None:
      self._task.cancel()

  def _finish(self, text: str, is_error: bool) -> None:
    if self._done.done():
      return
    self.is_error = is_error
    self._done.set_result(
      chats.Turn(
        chats.RESULT, (text,), call_id=self.call.id, where='result of a tool'
      )
    )


class Runner:
  """Runs the tools of one conversation."""

  def __init__(
    self,
    tools: registry_lib.Registry,
    limits: Limits = Limits(),
    *,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    naming: Callable[[], str] = lambda: f'call_{secrets.token_hex(8)}',
  ):
    """Runs nothing yet.

    Args:
      tools: What there is.
      limits: What calls may take.
      sleep: Comes back after so many seconds.
      naming: A new id of a call.
    """
    self._tools, self._limits = tools, limits
    self._sleep, self._naming = sleep, naming
    self._running: dict[str, Running] = {}  # by the id of the call, in order
    self._places = limits.together  # that are free
    self._queue: collections.deque[asyncio.Future] = collections.deque()
    self._is_closed = False
    self._tasks: set[asyncio.Task] = set()

  def start(self, call: chats.Call) -> Running:
    """Begins a call, and returns at once.

    Args:
      call: One that has been started already is not run again; what has its id
        and is another is refused, as a result.
    """
    if call.id is None:
      call = dataclasses.replace(call, id=self._naming())
    known = self._running.get(call.id)
    if known is not None and known.call == call:
      return known
    running = Running(call)
    if known is not None:
      running._finish(
        f'Another call has the id of this call of {_brief(call.name)}.', True
      )
      return running
    self._remember(running)
    refusal = self._refusal(call)
    if refusal:
      running._finish(refusal, True)
      return running
    place = None
    if self._places:
      self._places -= 1
    else:
      place = asyncio.get_running_loop().create_future()
      self._queue.append(place)
    running._task = asyncio.create_task(
      self._run(running, self._tools.get(call.name), place)
    )
    self._tasks.add(running._task)
    running._task.add_done_callback(lambda _: self._over(running, place))
    return running

  async def results(self, calls: Sequence[chats.Call]) -> list[chats.Turn]:
    """Runs calls together; their results in the order of the calls.

    Cancelled, it cancels those that it has begun.
    """
    running = [self.start(call) for call in calls]
    try:
      return [await one.result() for one in running]
    except asyncio.CancelledError:
      for one in running:
        one.cancel()
      raise

  async def answer(self, call: chats.Call) -> str:
    """Runs one call, and gives what the model is told, as `results`."""
    (turn,) = await self.results([call])
    return turn.text

  def cancel(self, call_id: str | None = None) -> None:
    """Gives up a call, or all of them."""
    for running in tuple(self._running.values()):
      if call_id in (None, running.call.id):
        running.cancel()

  async def aclose(self) -> None:
    """Gives up all calls, and takes no more; does not wait for threads."""
    self._is_closed = True
    self.cancel()
    # What does not end when it is cancelled is not waited for either.
    await asyncio.sleep(0)

  @property
  def active(self) -> int:
    """Calls without a result."""
    return sum(not one.is_done for one in self._running.values())

  def _remember(self, running: Running) -> None:
    self._running[running.call.id] = running
    for name in tuple(self._running):
      if len(self._running) <= self._limits.kept:
        return
      if self._running[name].is_done:
        del self._running[name]

  def _refusal(self, call: chats.Call) -> str | None:
    tool = self._tools.get(call.name)
    if self._is_closed:
      return 'The conversation is over.'
    if tool is None:
      near = checks.nearest(call.name, self._tools.names)
      return f'There is no tool called {_brief(call.name)}{near}.'
    if not self._places and len(self._queue) >= self._limits.waiting:
      return f'Too many tools are running to call {tool.name} now.'
    wrong = arguments_lib.wrong_with(call.arguments, tool.parameters)
    if wrong:
      return f'The arguments of {tool.name} do not fit: {wrong}.'
    return None

  async def _run(self, running: Running, tool, place) -> None:
    seconds = self._limits.seconds if tool.seconds is None else tool.seconds
    if place is not None and not await self._within(place, seconds):
      running._finish(
        f'{tool.name} could not begin within {seconds:g} seconds.', True
      )
      return
    threads: list[asyncio.Future] = []
    work = running._work = asyncio.create_task(
      _call(tool, running.call, threads)
    )
    self._tasks.add(work)
    work.add_done_callback(lambda work: self._ended(work, threads))
    try:
      in_time = await self._within(work, seconds)
    except asyncio.CancelledError:
      work.cancel()
      raise
    if in_time:
      running._finish(*self._told(tool, work))
    else:
      work.cancel()
      running._finish(
        f'{tool.name} did not answer within {seconds:g} seconds.', True
      )

  def _over(self, running: Running, place) -> None:
    """A call has its result; the place of one that never began is free."""
    self._tasks.discard(running._task)
    if running._work is not None:
      return
    if place is None or place.done():
      self._free()
    else:
      self._queue.remove(place)

  def _ended(self, work: asyncio.Task, threads: list[asyncio.Future]) -> None:
    """A tool is done, or given up; its thread may go on."""
    self._tasks.discard(work)
    if not work.cancelled():
      work.exception()  # it has been looked at
    if threads and not threads[0].done():
      threads[0].add_done_callback(lambda _: self._free())
    else:
      self._free()

  def _free(self) -> None:
    """The next one may begin."""
    if self._queue:
      self._queue.popleft().set_result(None)
    else:
      self._places += 1

  async def _within(self, work: asyncio.Task, seconds: float) -> bool:
    """Whether a task is done in time."""
    if math.isinf(seconds):
      await asyncio.wait({work})
      return True
    timer = asyncio.ensure_future(self._sleep(seconds))
    try:
      await asyncio.wait({work, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
      timer.cancel()
    return work.done()

  def _told(self, tool, work: asyncio.Task) -> tuple[str, bool]:
    """What a tool gave, or how it failed."""
    if work.cancelled():
      return f'{tool.name} was cancelled.', True
    error = work.exception()
    if isinstance(error, errors.UserError):
      return _sentence(str(error)) or f'{tool.name} failed.', True
    if error is not None:
      _LOG.error('The tool %s failed.', tool.name, exc_info=error)
      return f'{tool.name} failed.', True
    try:
      return self._written(work.result()), False
    except (TypeError, ValueError, RecursionError):
      _LOG.exception('What the tool %s gave is no JSON.', tool.name)
      return f'{tool.name} gave a result that cannot be written.', True

  def _written(self, value: Any) -> str:
    """A result as text of a bounded length.

    Raises:
      TypeError: It is not what JSON holds.
      ValueError: The same, or a number in it is not finite.
    """
    if value is None:
      return 'Done.'
    text = value if isinstance(value, str) else _json(value)
    text = text.encode('utf-8', 'replace').decode()
    if not text.strip():
      return 'The result is empty.'
    most = self._limits.result
    if len(text) <= most:
      return text
    return f'{text[:most]}… ({len(text) - most} more characters)'


def _json(value: Any) -> str:
  json.dumps(value, allow_nan=False)  # what is not finite is refused
  return chats.as_json(value)


async def _call(
  tool: registry_lib.Tool, call: chats.Call, threads: list[asyncio.Future]
) -> Any:
  """What a tool gives; its thread, if it needs one, is put into `threads`."""
  found = tool.run
  if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(
    type(found).__call__
  ):
    return await _guarded(found(**call.arguments))
  threads.append(_in_thread(lambda: found(**call.arguments)))
  given = await asyncio.shield(threads[0])
  return await _guarded(given) if inspect.isawaitable(given) else given


async def _guarded(work: Awaitable[Any]) -> Any:
  """What would end the loop is a failure of the tool."""
  try:
    return await work
  except (SystemExit, KeyboardInterrupt) as error:
    raise RuntimeError('The tool wanted to end the program.') from error


def _in_thread(function: Callable[[], Any]) -> asyncio.Future[Any]:
  """What a function gives, in a thread that nobody waits for at the end."""
  loop = asyncio.get_running_loop()
  future: asyncio.Future[Any] = loop.create_future()

  def tell(result: Any, error: BaseException | None) -> None:
    if error is None:
      future.set_result(result)
    else:
      future.set_exception(error)
      future.exception()  # whoever has given it up does not look

  def work() -> None:
    result, failed = None, None
    try:
      result = function()
    except Exception as error:
      failed = error
    except BaseException as error:  # it ends the thread, and nothing else
      failed = RuntimeError(f'The tool raised {type(error).__name__}.')
    if isinstance(failed, StopIteration):  # a future takes none
      failed = RuntimeError('The tool raised StopIteration.')
    try:
      loop.call_soon_threadsafe(tell, result, failed)
    except RuntimeError:  # the loop is closed
      pass

  threading.Thread(target=work, name='tool', daemon=True).start()
  return future


def _sentence(text: str) -> str:
  """One line, and not a long one."""
  line = ' '.join(text.encode('utf-8', 'replace').decode().split())
  return line if len(line) <= _TOLD else f'{line[:_TOLD]}…'


def _brief(name: str) -> str:
  return _sentence(f'{name!r:.60}')
