"""One reply in the making: a mind's words, a mouth's sound, tools meanwhile.

A reply is stretches in order. A stretch is what a mind says until it waits for
tools of ours: its words, its sound, its calls. While the sound of one is still
being made and sent, its tools already run, and the next stretch, that knows the
results, is already asked for. Tools that a client runs end the reply.

A reply may be begun before it is known whether anybody wants it: until `wanted`
no tool runs, for what a tool does cannot be taken back.
"""

import asyncio
import collections
import contextlib
import dataclasses
import logging
from typing import (
  AsyncIterator,
  Awaitable,
  Callable,
  Collection,
  Sequence,
  TypeVar,
)

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services

_LOG = logging.getLogger(__name__)
T = TypeVar('T')


class Pipe(AsyncIterator[T]):
  """What one task makes and another takes, of limited weight in between."""

  def __init__(self, most: float = float('inf')):
    """Holds things of a total weight of about `most`."""
    self._most = most
    self._held: collections.deque[tuple[T, float]] = collections.deque()
    self._weight = 0.0
    self._is_closed = False
    self._came, self._went = asyncio.Event(), asyncio.Event()

  async def put(self, one: T, weight: float = 0.0) -> None:
    """Gives something, as soon as there is room."""
    while self._weight > self._most:
      self._went.clear()
      await self._went.wait()
    self.give(one, weight)

  def give(self, one: T, weight: float = 0.0) -> None:
    """Gives something at once."""
    self._held.append((one, weight))
    self._weight += weight
    self._came.set()

  def urge(self, one: T) -> None:
    """Gives something in front of all that has a weight."""
    place = next(
      (n for n, (_, weight) in enumerate(self._held) if weight),
      len(self._held),
    )
    self._held.insert(place, (one, 0.0))
    self._came.set()

  def close(self) -> None:
    """Nothing more comes."""
    self._is_closed = True
    self._came.set()

  async def __anext__(self) -> T:
    while not self._held:
      if self._is_closed:
        raise StopAsyncIteration
      self._came.clear()
      await self._came.wait()
    one, weight = self._held.popleft()
    self._weight -= weight
    self._went.set()
    return one


@dataclasses.dataclass(frozen=True)
class Limits:
  """Of one reply.

  Attributes:
    ahead: Seconds of sound that may wait to be sent.
    rounds: Times that a mind may be asked again with results of tools.
  """

  ahead: float = 20.0
  rounds: int = 4


@dataclasses.dataclass(frozen=True)
class Tools:
  """Tools that are run here.

  Attributes:
    names: Of them.
    run: Does a call, and gives what the mind is told; never raises.
  """

  names: Collection[str] = ()
  run: Callable[[chats.Call], Awaitable[str]] | None = None


@dataclasses.dataclass(frozen=True)
class Wish:
  """What is asked for.

  Attributes:
    turns: Gives the chat; awaited when the reply begins.
    manner: How it is said.
    spoken: Whether it is heard; else it is only written.
    tools: Those that are run here.
    many_calls: Whether there may be several calls at once.
  """

  turns: Callable[[], Awaitable[Sequence[chats.Turn]]]
  manner: services.Manner = services.Manner()
  spoken: bool = True
  tools: Tools = Tools()
  many_calls: bool = True


@dataclasses.dataclass(frozen=True)
class Answered:
  """A tool of ours was called, and this is what it gave."""

  call: chats.Call
  result: str


class Stretch:
  """A part of a reply.

  Attributes:
    pieces: `Text`, `Sound` and `Called` (of a client's tools), in order.
    answers: Of tools of ours: complete when the next stretch begins.
  """

  def __init__(self, ahead: float):
    """Holds about `ahead` seconds of sound."""
    self.pieces: Pipe[services.Text | services.Sound | services.Called] = Pipe(
      ahead
    )
    self.answers: list[Answered] = []


class Reply:
  """What an assistant says once.

  Attributes:
    reason: Why it ended, when it has: one of `services`, or None: it failed.
    usage: What it cost so far.
    error: Why it failed, if it did.
    sounds: Called when its first sound is made.
  """

  def __init__(
    self,
    models: services.Models,
    wish: Wish,
    name_call: Callable[[], str],
    limits: Limits = Limits(),
  ):
    """Asked for, not begun.

    Args:
      models: Who makes it.
      wish: What is asked for.
      name_call: Gives ids of calls that have none.
      limits: Of it.
    """
    self._models, self._wish, self._limits = models, wish, limits
    self._name_call = name_call
    self._is_wanted = asyncio.Event()
    self._stretches: Pipe[Stretch] = Pipe()
    self._last: Stretch | None = None
    self._task: asyncio.Task | None = None
    self.reason: str | None = None
    self.usage = services.Usage()
    self.error: BaseException | None = None
    self.sounds: Callable[[], None] | None = None

  @property
  def is_done(self) -> bool:
    """Whether all of it is made."""
    return self._task is not None and self._task.done()

  def begin(self) -> None:
    """Asks for it."""
    self._task = asyncio.create_task(self._run())

  def wanted(self) -> None:
    """It will be said: tools may run."""
    self._is_wanted.set()

  def unwanted(self) -> None:
    """Nobody hears the rest of it: no more tools run."""
    self._is_wanted.clear()

  async def cancel(self) -> None:
    """Nobody wants it: what it holds is let go."""
    if self._task is None:
      return
    self._task.cancel()
    # Our own cancellation passes through; that of the task ends here.
    await asyncio.wait([self._task])

  def stretches(self) -> AsyncIterator[Stretch]:
    """Its parts, as they come; to be taken once."""
    return self._stretches

  async def _run(self) -> None:
    try:
      async with asyncio.TaskGroup() as tasks:
        await self._converse(tasks)
    except BaseExceptionGroup as group:
      self.error = _first(group)
    except (errors.UserError, services.Busy) as error:
      self.error = error
    finally:
      # Whoever says it is told that nothing more comes, of what is begun too.
      if self._last is not None:
        self._last.pieces.close()
      self._stretches.close()
    if self.error is not None:
      self.reason = None
      if not isinstance(self.error, errors.UserError | services.Busy):
        _LOG.error('a reply failed', exc_info=self.error)

  async def _converse(self, tasks: asyncio.TaskGroup) -> None:
    turns = list(await self._wish.turns())
    manner = self._wish.manner
    for last in range(self._limits.rounds, -1, -1):
      self._last = stretch = Stretch(self._limits.ahead)
      self._stretches.give(stretch)
      if last == 0:  # it has to say something now
        manner = dataclasses.replace(manner, tool_choice='none')
      text, calls, running = await self._think(tasks, stretch, turns, manner)
      mine = [call for call in calls if call.name in self._wish.tools.names]
      results = [await one for one in running]
      stretch.answers += map(Answered, mine, results)
      if not mine or len(mine) < len(calls):
        return
      said = (text,) if text else ()
      turns.append(chats.Turn(chats.ASSISTANT, said, tuple(mine)))
      turns += [
        chats.Turn(chats.RESULT, (one.result,), call_id=one.call.id)
        for one in stretch.answers
      ]
      if manner.tool_choice != 'none':
        manner = dataclasses.replace(manner, tool_choice='auto')

  async def _think(self, tasks, stretch, turns, manner):
    """One answer of a mind; its sound goes on being made behind it."""
    says = self._wish.spoken and self._models.mouth is not None
    direct = says and self._models.mind.speaks
    feed: Pipe = Pipe()
    if says:
      tasks.create_task(self._say(stretch, feed, direct, manner))
    text, calls, running = [], [], []
    pieces = self._models.mind.reply(tuple(turns), manner)
    async with closing(pieces):
      async for piece in pieces:
        match piece:
          case services.Text(words):
            text.append(words)
            stretch.pieces.give(piece)
            if says and not direct:
              feed.give(words)
          case services.Ids(ids):
            if direct:
              feed.give(ids)
          case services.Called(call):
            if call.id is None:
              call = dataclasses.replace(call, id=self._name_call())
            calls.append(call)
            if call.name in self._wish.tools.names:
              running.append(tasks.create_task(self._use(call)))
            else:
              # What a client does need not wait for what is still said.
              stretch.pieces.urge(services.Called(call))
            if not self._wish.many_calls:
              self.reason = services.CALLED
              break
          case services.Ended(reason, usage):
            self.reason = reason
            self.usage = _sum(self.usage, usage)
    feed.close()
    if not says:
      stretch.pieces.close()
    return ''.join(text), calls, running

  async def _say(self, stretch, feed, direct, manner) -> None:
    mouth = self._models.mouth
    sounds = mouth.sound(feed, manner) if direct else mouth.speak(feed, manner)
    try:
      async with closing(sounds):
        async for sound in sounds:
          seconds = len(sound.samples_S) / mouth.sample_rate
          if seconds and self.sounds is not None:
            self.sounds()
            self.sounds = None
          await stretch.pieces.put(sound, seconds)
    finally:  # whoever says it is told, also where something else has failed
      stretch.pieces.close()

  async def _use(self, call: chats.Call) -> str:
    await self._is_wanted.wait()
    return await self._wish.tools.run(call)


@contextlib.asynccontextmanager
async def closing(pieces: AsyncIterator):
  """Closes an iterator, however it is left."""
  try:
    yield pieces
  finally:
    close = getattr(pieces, 'aclose', None)
    if close is not None:
      await close()


def _first(group: BaseException) -> BaseException:
  while isinstance(group, BaseExceptionGroup):
    group = group.exceptions[0]
  return group


def _sum(one: services.Usage, other: services.Usage) -> services.Usage:
  return services.Usage(
    one.prompt + other.prompt,
    one.cached + other.cached,
    one.reply + other.reply,
  )
