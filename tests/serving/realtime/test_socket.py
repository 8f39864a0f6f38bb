"""OpenAI's own client over a socket: what a program does in a conversation."""

import asyncio
import base64

import pytest

from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from tests.dialogue import fakes
from tests.serving import running
from tests.serving.realtime import client as client_lib

CLOCK = {
  'type': 'function',
  'name': 'clock',
  'description': 'Tells the time.',
  'parameters': {'type': 'object', 'properties': {}},
}
LONG = 'One two three four five six seven eight nine ten eleven twelve. '


@pytest.fixture
def talk(monkeypatch):
  """Runs a scene with a connection of the client to a server of scripts."""
  from step_audio_jax.dialogue.turns import vad

  monkeypatch.setattr(vad, 'detector', lambda name: client_lib.loud)

  def run(scene, **models):
    made = fakes.models(**models)
    with running.running(made) as server:

      async def play():
        import openai

        asked = openai.AsyncOpenAI(base_url=f'{server.url}/v1', api_key='none')
        async with asked.realtime.connect(model='scripted') as session:
          async with asyncio.timeout(20):
            return await scene(session)

      return asyncio.run(play()), made

  return run


async def until(session, kind):
  """Events up to one of a kind; every one is of a type that is known."""
  found = []
  async for event in session:
    assert type(event).__name__ != 'BaseModel', event
    assert event.type != 'error', event
    found.append(event)
    if event.type == kind:
      return found
  raise AssertionError(f'no {kind}: {[one.type for one in found]}')


async def say(session, seconds, level=0.3):
  sound = client_lib.sound(seconds, level)
  await session.input_audio_buffer.append(audio=sound)


def kinds(events):
  return [one.type for one in events]


def test_a_spoken_turn(talk):
  async def scene(session):
    await session.session.update(
      session={
        'type': 'realtime',
        'audio': {'input': {'transcription': {'model': 'scripted'}}},
      }
    )
    await until(session, 'session.updated')
    await say(session, 1.0)
    await say(session, 1.0, 0.0)
    return await until(session, 'response.done')

  events, made = talk(scene, mind=fakes.ScriptedMind(['Good day. ']))
  found = kinds(events)
  order = [
    'input_audio_buffer.speech_started',
    'input_audio_buffer.speech_stopped',
    'input_audio_buffer.committed',
    'response.created',
    'response.output_audio.delta',
    'response.output_audio.done',
    'response.done',
  ]
  assert [found.index(kind) for kind in order] == sorted(
    map(found.index, order)
  )
  sound = b''.join(
    base64.b64decode(one.delta)
    for one in events
    if one.type == 'response.output_audio.delta'
  )
  said = len('Good day. ') * fakes.SECONDS * fakes.RATE
  assert len(sound) / 2 == pytest.approx(said, abs=fakes.RATE * fakes.GROUP)
  assert made.mind.open == made.mouth.open == 0


def test_a_tool_is_called_and_its_result_is_told(talk):
  async def scene(session):
    await session.session.update(
      session={
        'type': 'realtime',
        'output_modalities': ['text'],
        'tools': [CLOCK],
      }
    )
    await session.response.create()
    events = await until(session, 'response.done')
    (call,) = events[-1].response.output
    await session.conversation.item.create(
      item={
        'type': 'function_call_output',
        'call_id': call.call_id,
        'output': 'noon',
      }
    )
    await session.response.create()
    return call, await until(session, 'response.done')

  call = services.Called(chats.Call('clock', {}))
  (called, events), made = talk(
    scene, mind=fakes.ScriptedMind([call], ['It is noon.'])
  )
  assert (called.type, called.name, called.arguments) == (
    'function_call',
    'clock',
    '{}',
  )
  (message,) = events[-1].response.output
  assert message.content[0].text == 'It is noon.'
  *_, told = made.mind.asked[1]
  assert (told.role, told.text) == (chats.RESULT, 'noon')


def test_who_speaks_over_a_reply_stops_it(talk):
  async def scene(session):
    await say(session, 1.0)
    await say(session, 1.0, 0.0)
    await until(session, 'response.output_audio.delta')
    await asyncio.sleep(0.6)  # it is played in real time
    await say(session, 1.5)
    cut = await until(session, 'response.done')
    await say(session, 1.0, 0.0)
    return cut, await until(session, 'response.done')

  (cut, again), made = talk(scene, mind=fakes.ScriptedMind([LONG], ['Yes. ']))
  assert 'input_audio_buffer.speech_started' in kinds(cut)
  over = cut[-1].response
  assert over.status == 'cancelled'
  assert over.status_details.reason == 'turn_detected'
  assert again[-1].response.status == 'completed'
  # Most of it was never sent, and the mind is not told that it was said.
  history = [
    turn for turn in made.mind.asked[-1] if turn.role == chats.ASSISTANT
  ]
  assert LONG.startswith(history[0].text.strip())
  assert len(history[0].text.split()) < 6


def test_what_was_not_heard_is_truncated(talk):
  async def scene(session):
    await session.response.create()
    events = await until(session, 'response.done')
    item = events[-1].response.output[0].id
    await session.conversation.item.truncate(
      item_id=item, content_index=0, audio_end_ms=600
    )
    (told,) = (await until(session, 'conversation.item.truncated'))[-1:]
    await session.response.create(response={'output_modalities': ['text']})
    await until(session, 'response.done')
    return told

  told, made = talk(
    scene, mind=fakes.ScriptedMind(['One two three. '], ['So.'])
  )
  assert told.audio_end_ms == 600
  # 60 ms a character: ten of them were played.
  assert made.mind.asked[-1][-1].text.strip() == 'One two'


def test_a_reply_is_cancelled(talk):
  async def scene(session):
    await session.response.create()
    await until(session, 'response.output_audio.delta')
    await session.response.cancel()
    return await until(session, 'response.done')

  events, made = talk(scene, mind=fakes.ScriptedMind([LONG]))
  over = events[-1].response
  assert over.status == 'cancelled'
  assert over.status_details.reason == 'client_cancelled'
  assert made.mind.open == 0
