"""Calls that run beside the speech."""

import asyncio
import logging
import math
import threading

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.tools import registry
from step_audio_jax.dialogue.tools import runner

Call = chats.Call


class Timer:
  """Sleeps until it is told that the time has come."""

  def __init__(self):
    self.asked = []

  async def __call__(self, seconds):
    over = asyncio.get_running_loop().create_future()
    self.asked.append((seconds, over))
    await over

  def ring(self):
    for _, over in self.asked:
      if not over.done():
        over.set_result(None)


async def turns_of_the_loop(count=10):
  for _ in range(count):
    await asyncio.sleep(0)


def made(*functions, limits=runner.Limits(), timer=None, **fields):
  tools = registry.Registry(
    registry.Tool(f.__name__, '', f, **fields) for f in functions
  )
  return runner.Runner(tools, limits, sleep=timer or Timer())


def ask(function, *calls, **settings):
  """Texts of the results of calls."""

  async def run():
    found = await made(function, **settings).results(calls)
    assert all(turn.role == chats.RESULT for turn in found)
    return [turn.text for turn in found]

  return asyncio.run(run())


async def double(x=1):
  return 2 * x


def plain(x=1):
  return {'x': x, 'thread': threading.current_thread().name}


def test_results_come_in_order_and_belong_to_their_calls():
  gates = [asyncio.Event() for _ in range(3)]

  async def wait(n):
    await gates[n].wait()
    return n

  async def run():
    tools = made(wait)
    calls = [Call('wait', {'n': n}, f'c{n}') for n in range(3)]
    work = asyncio.create_task(tools.results(calls))
    for n in (2, 0, 1):
      await turns_of_the_loop()
      assert not work.done() and tools.active
      gates[n].set()
    return await work

  found = asyncio.run(run())
  assert [turn.text for turn in found] == ['0', '1', '2']
  schema = {'type': 'function', 'function': {'name': 'wait'}}
  calls = tuple(Call('wait', {}, turn.call_id) for turn in found)
  checks.check(
    chats.Conversation(
      (
        chats.Turn(chats.TOOLS, tools=(schema,)),
        chats.Turn(chats.USER, ('Hi',)),
        chats.Turn(chats.ASSISTANT, calls=calls),
        *found,
      )
    )
  )


def test_kinds_of_tools_and_results():
  assert ask(double, Call('double', {'x': 4})) == ['8']
  (told,) = ask(plain, Call('plain', {'x': 'é'}))
  assert told == '{"x": "é", "thread": "tool"}'

  class Object:
    __name__ = 'object_'

    async def __call__(self):
      return ['a']

  assert ask(Object(), Call('object_')) == ['["a"]']

  def lazy():
    return double(5)

  assert ask(lazy, Call('lazy')) == ['10']

  def gives(value):
    def give():
      return value

    return ask(give, Call('give'))[0]

  assert gives(None) == 'Done.' and gives(' ') == 'The result is empty.'
  assert gives('a\ud800') == 'a?' and gives(False) == 'false'
  for nothing in (math.nan, {1, 2}, object(), {'a': b''}, [math.inf]):
    assert gives(nothing) == 'give gave a result that cannot be written.'
  loop = []
  loop.append(loop)
  assert gives(loop) == 'give gave a result that cannot be written.'
  long = gives('x' * 5000)
  assert long.startswith('x' * 4000 + '…') and '1000 more' in long


def test_errors_are_spoken_and_nothing_leaks(caplog):
  def fails(kind):
    if kind == 'user':
      raise errors.UserError('There is no\nsuch city.')
    if kind == 'exit':
      raise SystemExit('secret')
    if kind == 'stop':
      raise StopIteration
    raise ValueError('secret at /home/me')

  async def fails_later(kind):
    fails(kind)

  def told(function):
    return ask(
      function,
      *(
        Call(function.__name__, {'kind': kind})
        for kind in ('user', 'exit', 'stop', 'x')
      ),
    )

  with caplog.at_level(logging.ERROR):
    assert told(fails) == ['There is no such city.'] + 3 * ['fails failed.']
    assert told(fails_later) == ['There is no such city.'] + 3 * [
      'fails_later failed.'
    ]
  assert 'secret at /home/me' in caplog.text  # where it belongs
  # Python itself refuses what a schema has let through.
  assert ask(double, Call('double', {'y': 1})) == ['double failed.']


def test_what_cannot_be_called():
  schema = {'type': 'object', 'properties': {'x': {'type': 'integer'}}}
  assert ask(double, Call('dubble'), Call('double', {'x': 'a'}),
             Call('x\n' * 999), parameters=schema) == [
    "There is no tool called 'dubble'; the nearest is 'double'.",
    "The arguments of double do not fit: x: 'a' is not of type 'integer'.",
    "There is no tool called " + repr('x\n' * 999)[:60] + '.',
  ]  # fmt: skip


def test_time_outs():
  held = threading.Event()

  async def never():
    await asyncio.get_running_loop().create_future()

  def hangs():
    held.wait(60)

  async def run():
    timer = Timer()
    tools = made(never, hangs, limits=runner.Limits(7, together=2), timer=timer)
    running = [tools.start(Call(name)) for name in ('never', 'hangs')]
    await turns_of_the_loop()
    assert {seconds for seconds, _ in timer.asked} == {7}
    timer.ring()
    found = [await one.result() for one in running]
    assert all(one.is_error for one in running)
    # The thread still holds its place: one of two is free.
    again = [tools.start(Call('never')) for _ in range(2)]
    await turns_of_the_loop()
    timer.ring()
    await turns_of_the_loop()
    timer.ring()
    found += [await one.result() for one in again]
    held.set()
    return [turn.text for turn in found]

  assert asyncio.run(run()) == [
    'never did not answer within 7 seconds.',
    'hangs did not answer within 7 seconds.',
    'never did not answer within 7 seconds.',
    'never could not begin within 7 seconds.',
  ]


def test_places_are_given_back():
  """However calls end, the next ones find as many places as before."""
  gate = asyncio.Event()
  most = [0, 0]

  async def work(n):
    most[0] += 1
    most[1] = max(most)
    try:
      await gate.wait()
    finally:
      most[0] -= 1
    if n % 3 == 0:
      raise ValueError

  async def run():
    timer = Timer()
    limits = runner.Limits(together=3, waiting=100)
    tools = made(work, limits=limits, timer=timer)
    for _ in range(4):
      gate.clear()
      running = [tools.start(Call('work', {'n': n})) for n in range(20)]
      for one in running[::4]:
        one.cancel()  # some before they have begun
      await turns_of_the_loop()
      running[1].cancel()
      running[-2].cancel()
      await turns_of_the_loop()
      gate.set()
      for one in running:
        await one.result()
      await turns_of_the_loop()
    assert tools._places == 3 and not tools._queue and not tools._tasks
    assert most == [0, 3]

  asyncio.run(run())


def test_limits_of_how_many():
  async def never():
    await asyncio.get_running_loop().create_future()

  async def run():
    tools = made(never, limits=runner.Limits(together=1, waiting=1))
    running = [tools.start(Call('never')) for _ in range(3)]
    assert [one.is_done for one in running] == [False, False, True]
    assert tools.active == 2
    assert (await running[2].result()).text == (
      'Too many tools are running to call never now.'
    )
    await tools.aclose()
    assert tools.active == 0
    assert (await tools.start(Call('never')).result()).text == (
      'The conversation is over.'
    )

  asyncio.run(run())


def test_the_same_id_twice():
  calls = []

  async def count(x=1):
    calls.append(x)
    return x

  async def run():
    tools = made(count)
    first = tools.start(Call('count', {'x': 1}, 'c1'))
    assert tools.start(Call('count', {'x': 1}, 'c1')) is first
    other = tools.start(Call('count', {'x': 2}, 'c1'))
    assert 'has the id of this call' in (await other.result()).text
    assert (await first.result()).text == '1'
    assert tools.start(Call('count', {'x': 1}, 'c1')) is first
    assert tools.start(Call('count')).call.id.startswith('call_')
    assert calls == [1]
    await tools.aclose()

  asyncio.run(run())


def test_cancellation():
  ended = []

  async def never(n):
    try:
      await asyncio.get_running_loop().create_future()
    finally:
      ended.append(n)

  async def run():
    tools = made(never)
    running = [tools.start(Call('never', {'n': n}, f'c{n}')) for n in range(3)]
    await turns_of_the_loop()
    waiter = asyncio.create_task(running[0].result())
    await turns_of_the_loop()
    waiter.cancel()  # who waits is not who runs
    await turns_of_the_loop()
    assert not running[0].is_done and not ended
    tools.cancel('c1')
    tools.cancel('nobody')
    assert (await running[1].result()).text == (
      'The call of never was cancelled.'
    )
    together = asyncio.create_task(tools.answer(Call('never', {'n': 3})))
    await turns_of_the_loop()
    together.cancel()
    await turns_of_the_loop()
    assert together.cancelled() and sorted(ended) == [1, 3]
    tools.cancel()
    await turns_of_the_loop()
    assert sorted(ended) == [0, 1, 2, 3] and not tools.active

  asyncio.run(run())


def test_few_results_are_remembered():
  async def run():
    tools = made(double, limits=runner.Limits(kept=2))
    for n in range(5):
      await tools.start(Call('double', {}, f'c{n}')).result()
    assert list(tools._running) == ['c3', 'c4']

  asyncio.run(run())


@pytest.mark.parametrize(
  'fields', ({'seconds': 0}, {'together': 0}, {'result': math.nan})
)
def test_limits_are_checked(fields):
  with pytest.raises(errors.UserError, match='limits'):
    runner.Limits(**fields)
