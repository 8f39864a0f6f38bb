"""Replies in the making: tools meanwhile, what is not wanted, what fails."""

import asyncio

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.live import reply as reply_lib
from tests.dialogue import fakes
from tests.dialogue import virtual_time

CALL = services.Called(chats.Call('clock', {}))
OURS = services.Called(chats.Call('ours', {}))


async def nothing():
  return ()


def made(models, **wish):
  return reply_lib.Reply(
    models, reply_lib.Wish(nothing, **wish), lambda: 'call_1'
  )


async def taken(reply):
  """(pieces, answers) of each stretch."""
  found = []
  async for stretch in reply.stretches():
    pieces = [piece async for piece in stretch.pieces]
    found.append((pieces, stretch.answers))
  return found


def test_a_tool_of_ours_runs_while_the_sound_goes_on():
  async def play():
    ran = []

    async def run(call):
      ran.append(asyncio.get_running_loop().time())
      await asyncio.sleep(0.5)
      return 'noon'

    mind = fakes.ScriptedMind(
      ['Let me look, that takes a moment. ', OURS], ['It is noon.']
    )
    mouth = fakes.ScriptedMouth(wait=0.1)  # its sound takes longer
    reply = made(
      fakes.models(mind=mind, mouth=mouth),
      tools=reply_lib.Tools(('ours',), run),
    )
    reply.begin()
    await asyncio.sleep(1)
    assert not ran, 'a tool ran before the reply was wanted'
    reply.wanted()
    (first, answers), (second, none) = await taken(reply)
    assert ran == [pytest.approx(1.0)]
    assert [one.result for one in answers] == ['noon'] and not none
    assert answers[0].call.id == 'call_1'
    text = [p.text for p in first if isinstance(p, services.Text)]
    assert text == ['Let me look, that takes a moment. ']
    assert sum(isinstance(p, services.Sound) for p in first) > 5
    assert second[0] == services.Text('It is noon.')
    turns = mind.asked[1]
    assert [one.role for one in turns] == [chats.ASSISTANT, chats.RESULT]
    assert turns[1].call_id == 'call_1' and turns[1].text == 'noon'
    assert reply.reason == services.STOPPED and reply.error is None

  virtual_time.run(play())


def test_calls_of_a_client_do_not_wait_for_sound():
  async def play():
    mind = fakes.ScriptedMind(['One sentence. ', 1.0, CALL])
    reply = made(fakes.models(mind=mind))
    reply.begin()
    await asyncio.sleep(5)
    ((pieces, _),) = await taken(reply)
    kinds = [type(piece) for piece in pieces]
    assert kinds[:3] == [services.Text, services.Called, services.Sound]
    assert reply.reason == services.CALLED

  virtual_time.run(play())


def test_one_call_at_a_time():
  async def play():
    mind = fakes.ScriptedMind([CALL, CALL, 'never said'])
    reply = made(fakes.models(mind=mind), spoken=False, many_calls=False)
    reply.begin()
    ((pieces, _),) = await taken(reply)
    assert len(pieces) == 1 and mind.open == 0
    assert reply.reason == services.CALLED

  virtual_time.run(play())


def test_a_mind_that_calls_for_ever_is_asked_to_speak():
  async def run(call):
    return 'again'

  async def play():
    mind = fakes.ScriptedMind([OURS])
    tools = reply_lib.Tools(('ours',), run)
    reply = made(fakes.models(mind=mind), spoken=False, tools=tools)
    reply.begin()
    reply.wanted()
    await taken(reply)
    choices = [one.tool_choice for one in mind.manners]
    assert choices == ['auto'] * 4 + ['none']

  virtual_time.run(play())


def test_what_is_not_wanted_is_let_go():
  async def play():
    mind = fakes.ScriptedMind(['A. ', 100.0, 'B.'])
    models = fakes.models(mind=mind)
    reply = made(models)
    reply.begin()
    await asyncio.sleep(1)
    assert mind.open == 1 and models.mouth.open == 1
    await reply.cancel()
    assert mind.open == 0 and models.mouth.open == 0

  virtual_time.run(play())


def test_sound_is_not_made_far_ahead():
  async def play():
    mind = fakes.ScriptedMind(['A word and another one. ' * 200])
    reply = reply_lib.Reply(
      fakes.models(mind=mind),
      reply_lib.Wish(nothing),
      str,
      reply_lib.Limits(ahead=3.0),
    )
    reply.begin()
    await asyncio.sleep(100)
    stretch = await anext(reply.stretches())
    assert 3.0 <= stretch.pieces._weight < 3.5
    await reply.cancel()

  virtual_time.run(play())


@pytest.mark.parametrize(
  'fault', [errors.UserError('too long.'), services.Busy(), ValueError('bug')]
)
@pytest.mark.parametrize('who', ['mind', 'mouth'])
def test_what_fails_ends(fault, who):
  async def play():
    one = {
      'mind': lambda: fakes.ScriptedMind(['A. ', fault]),
      'mouth': lambda: fakes.ScriptedMouth([fault]),
    }[who]()
    models = fakes.models(**{who: one})
    reply = made(models)
    reply.begin()
    await taken(reply)
    assert reply.error is fault and reply.reason is None
    assert models.mind.open == 0 and models.mouth.open == 0

  virtual_time.run(play())
