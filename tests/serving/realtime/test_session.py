"""Realtime sessions: turns, interruptions, tools, and what is wrong."""

import asyncio

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import metrics
from step_audio_jax.serving.realtime import session as session_lib
from tests.dialogue import fakes
from tests.dialogue import virtual_time
from tests.serving.realtime import client as client_lib

LONG = ['This is a long answer. ' * 6]
TOOL = {
  'type': 'function',
  'name': 'clock',
  'parameters': {'type': 'object', 'properties': {}},
}


def talk(scene, **models):
  """Plays a scene; the client that is left."""

  async def play():
    async with client_lib.Client(**models) as client:
      await scene(client)
    for one in (client.models.mind, client.models.mouth):
      assert one.open == 0, 'something was left open'
    return client

  return virtual_time.run(play())


def inner(client, kind):
  """Events of a kind without their names."""
  return [
    {k: v for k, v in one.items() if k != 'event_id'}
    for one in client.all(kind)
  ]


def test_a_spoken_turn_is_answered_aloud():
  async def scene(client):
    await client.update(audio={'input': {'transcription': {}}})
    await client.hush(0.5)
    await client.say(1.0)
    await client.hush(1.5)
    await client.until('response.done')

  client = talk(scene, ear=fakes.ScriptedEar('how are you?'))
  kinds = client.kinds()
  order = [
    'session.created',
    'session.updated',
    'input_audio_buffer.speech_started',
    'input_audio_buffer.speech_stopped',
    'input_audio_buffer.committed',
    'conversation.item.added',
    'conversation.item.done',
    'response.created',
    'response.output_item.added',
    'response.content_part.added',
    'response.output_audio_transcript.delta',
    'response.output_audio.delta',
    'response.output_audio.done',
    'response.output_audio_transcript.done',
    'response.content_part.done',
    'response.output_item.done',
    'response.done',
  ]
  places = [kinds.index(kind) for kind in order]
  assert places == sorted(places)
  (started,) = client.all('input_audio_buffer.speech_started')
  (stopped,) = client.all('input_audio_buffer.speech_stopped')
  assert started['audio_start_ms'] == pytest.approx(200, abs=40)
  assert stopped['audio_end_ms'] == pytest.approx(1500, abs=70)
  assert started['item_id'] == stopped['item_id']
  (done,) = client.all('response.done')
  assert done['response']['status'] == 'completed'
  (item,) = done['response']['output']
  assert item['content'][0]['transcript'] == 'Good day. How are you?'
  assert item['status'] == 'completed'
  assert client.audio() == pytest.approx(1.4, abs=0.25)
  kind = 'conversation.item.input_audio_transcription.completed'
  assert client.all(kind)[0]['transcript'] == 'how are you?'
  # It was begun at the first pause: the reply waited for nothing.
  (turns,) = client.models.mind.asked
  assert turns[-1].speech is not None


def test_who_goes_on_after_a_pause_is_answered_once():
  async def scene(client):
    await client.say(0.6)
    await client.hush(0.3)
    await client.say(0.6)
    await client.hush(1.5)
    await client.until('response.done')

  # No words come in time: the pause alone says it.
  client = talk(scene, ear=fakes.ScriptedEar('hello', late=5.0))
  assert len(client.models.mind.asked) == 2  # one was discarded
  assert len(client.all('response.created')) == 1
  assert len(client.all('input_audio_buffer.committed')) == 1
  assert len(client.all('input_audio_buffer.speech_started')) == 1


def test_an_interruption_stops_what_is_said_and_history_knows():
  async def scene(client):
    await client.say(0.5)
    await client.hush(3.0)
    sent = client.audio()
    assert 1.5 < sent < 3.5
    client.began = asyncio.get_running_loop().time()
    await client.say(1.4)
    client.sent = client.audio()
    (first,) = client.all('response.output_item.added')
    name = first['item']['id']
    await client.send(
      'conversation.item.truncate',
      item_id=name,
      content_index=0,
      audio_end_ms=1200,
    )
    await client.send('conversation.item.retrieve', item_id=name)
    await client.hush(1.5)

  client = talk(scene, mind=fakes.ScriptedMind(LONG, ['Yes.']))
  (cancelled, *_) = client.all('response.done')
  details = cancelled['response']['status_details']
  assert details == {'type': 'cancelled', 'reason': 'turn_detected'}
  # Nothing went out once somebody was heard for sure.
  late = [
    at
    for at in client.when('response.output_audio.delta')
    if client.began + 0.2 < at < client.began + 1.4
  ]
  assert not late
  assert inner(client, 'conversation.item.truncated')[0]['audio_end_ms'] == 1200
  item = client.all('conversation.item.retrieved')[0]['item']
  said = item['content'][0]['transcript']
  assert LONG[0].startswith(said.strip()) and 3 <= len(said.split()) <= 6
  assert item['status'] == 'incomplete'
  assert client.models.mind.asked[-1][1].text.strip() == said.strip()


def test_one_word_stops_a_reply():
  async def scene(client):
    await client.say(0.5)
    await client.hush(2.0)
    await client.say(0.4)
    await client.hush(1.0)

  ear = fakes.ScriptedEar('hello', 'stop', wait=0.1)
  client = talk(scene, ear=ear, mind=fakes.ScriptedMind(LONG, ['Yes.']))
  first = client.all('response.done')[0]
  assert first['response']['status_details']['reason'] == 'turn_detected'
  # It was heard once: what was said over the reply is the turn.
  assert len(ear.heard) == 2 and not ear.heard[1].is_cancelled


def test_words_of_a_sentence_that_is_cut_while_it_is_made():
  async def scene(client):
    await client.say(0.5)
    await client.hush(1.5)
    await client.say(1.4)
    await client.hush(3.0)
    name = client.all('response.output_item.added')[0]['item']['id']
    await client.send(
      'conversation.item.truncate',
      item_id=name,
      content_index=0,
      audio_end_ms=600,
    )
    await client.send('conversation.item.retrieve', item_id=name)

  # A digit is said in a group of 120 ms, which is three times as fast as usual.
  digits = '7 ' * 39 + '7.'
  client = talk(
    scene,
    mind=fakes.ScriptedMind([digits], ['Yes.']),
    mouth=fakes.ScriptedMouth(wait=0.1),
  )
  item = client.all('conversation.item.retrieved')[0]['item']
  assert item['status'] == 'incomplete'
  assert item['content'][0]['transcript'] == '7 7 7 7 7'


def test_without_speculation_nothing_is_begun_at_a_pause():
  async def scene(client):
    await client.say(0.6)
    await client.hush(0.3)
    client.asked = len(client.models.mind.asked)
    await client.hush(1.5)
    await client.until('response.done')

  turns = controller_lib.Settings(speculates=False)
  ear = fakes.ScriptedEar('what is the')
  client = talk(scene, turns=turns, ear=ear)
  assert client.asked == 0 and len(client.models.mind.asked) == 1


def test_a_cough_does_not_stop_a_reply():
  async def scene(client):
    await client.say(0.5)
    await client.hush(2.0)
    await client.say(0.25)
    await client.hush(12.0)
    await client.until('response.done')

  ear = fakes.ScriptedEar('hello', '')
  client = talk(scene, ear=ear, mind=fakes.ScriptedMind(LONG))
  (done,) = client.all('response.done')
  assert done['response']['status'] == 'completed'
  assert len(client.all('input_audio_buffer.speech_started')) == 1
  seconds = len(LONG[0]) * fakes.SECONDS
  assert client.audio() == pytest.approx(seconds, rel=0.1)


def test_turns_may_be_committed_by_hand():
  async def scene(client):
    await client.update(
      audio={'input': {'turn_detection': None}}, output_modalities=['text']
    )
    await client.say(0.5)
    await client.send('input_audio_buffer.commit')
    assert not client.all('response.created')
    await client.send('response.create')
    await client.until('response.done')
    await client.send('input_audio_buffer.commit')

  client = talk(scene)
  assert client.all('response.output_text.done')[0]['text'] == (
    'Good day. How are you?'
  )
  assert not client.all('input_audio_buffer.speech_started')
  (error,) = client.all('error')
  assert error['error']['code'] == 'input_audio_buffer_commit_empty'
  assert error['error']['event_id'] == 'mine'


def test_a_tool_is_called_and_its_result_is_told():
  call = services.Called(chats.Call('clock', {'zone': 'UTC'}))

  async def scene(client):
    await client.update(tools=[TOOL], output_modalities=['text'])
    item = {
      'type': 'message',
      'role': 'user',
      'content': [{'type': 'input_text', 'text': 'what time is it'}],
    }
    await client.send('conversation.item.create', item=item)
    await client.send('response.create')
    done = await client.until('response.function_call_arguments.done')
    await client.until('response.done')
    output = {
      'type': 'function_call_output',
      'call_id': done['call_id'],
      'output': 'noon',
    }
    await client.send('conversation.item.create', item=output)
    await client.send('response.create')
    await asyncio.sleep(1)

  client = talk(scene, mind=fakes.ScriptedMind([call], ['It is noon.']))
  (told,) = client.all('response.function_call_arguments.done')
  assert told['name'] == 'clock' and told['arguments'] == '{"zone": "UTC"}'
  first, second = client.all('response.done')
  assert first['response']['output'][0]['type'] == 'function_call'
  assert second['response']['output'][0]['content'][0]['text'] == 'It is noon.'
  roles = [turn.role for turn in client.models.mind.asked[-1]]
  assert roles[-2:] == [chats.ASSISTANT, chats.RESULT]


def test_one_response_at_a_time_and_it_can_be_cancelled():
  async def scene(client):
    await client.send('response.create')
    await asyncio.sleep(1)
    await client.send('response.create')
    await client.send('response.cancel')
    await client.send('response.cancel')
    await client.send('response.create')
    await asyncio.sleep(20)

  client = talk(scene, mind=fakes.ScriptedMind(LONG, ['Yes.']))
  codes = [one['error']['code'] for one in client.all('error')]
  assert codes == [
    'conversation_already_has_active_response',
    'response_cancel_not_active',
  ]
  states = [one['response']['status'] for one in client.all('response.done')]
  assert states == ['cancelled', 'completed']


def test_a_reply_beside_the_conversation_leaves_no_trace():
  async def scene(client):
    await client.send(
      'response.create',
      response={
        'conversation': 'none',
        'output_modalities': ['text'],
        'metadata': {'topic': 'x'},
        'instructions': 'Judge.',
      },
    )
    await client.until('response.done')
    await client.update(output_modalities=['text'])
    await client.send('response.create')
    await asyncio.sleep(1)

  client = talk(scene)
  beside, own = client.all('response.done')
  assert beside['response']['conversation_id'] is None
  assert beside['response']['metadata'] == {'topic': 'x'}
  assert own['response']['conversation_id']
  first, second = client.models.mind.asked
  assert first[0].text == 'Judge.'
  assert len(second) == 0


def test_a_service_that_fails_ends_its_reply_alone():
  fault = errors.UserError('messages: found too many.')

  async def scene(client):
    await client.update(output_modalities=['text'])
    for _ in range(2):
      await client.send('response.create')
      await asyncio.sleep(1)

  client = talk(scene, mind=fakes.ScriptedMind([fault], ['Yes.']))
  states = [one['response']['status'] for one in client.all('response.done')]
  assert states == ['failed', 'completed']
  assert client.all('error')[0]['error']['message'] == str(fault)


@pytest.mark.parametrize(
  'event, code',
  [
    ({'type': 'nonsense'}, 'invalid_value'),
    ({}, 'missing_required_parameter'),
    ({'type': 'session.update'}, 'invalid_value'),
    (
      {'type': 'session.update', 'session': {'type': 'realtime', 'x': 1}},
      'unknown_parameter',
    ),
    ({'type': 'input_audio_buffer.append', 'audio': '!'}, 'invalid_base64'),
    ({'type': 'input_audio_buffer.append'}, 'invalid_type'),
    ({'type': 'input_audio_buffer.commit'}, 'input_audio_buffer_commit_empty'),
    ({'type': 'conversation.item.create'}, 'invalid_value'),
    (
      {'type': 'conversation.item.delete', 'item_id': 'no'},
      'item_delete_invalid_item_id',
    ),
    ({'type': 'conversation.item.retrieve'}, 'invalid_type'),
    ({'type': 'response.create', 'response': 3}, 'invalid_value'),
    (
      {'type': 'response.create', 'response': {'temperature': 1}},
      'unknown_parameter',
    ),
    ([1], 'missing_required_parameter'),
  ],
)
def test_what_is_wrong_is_told_and_the_session_goes_on(event, code):
  async def scene(client):
    await client.session.handle(event)
    await client.update(instructions='Be brief.')

  client = talk(scene)
  (error,) = client.all('error')
  assert error['error']['code'] == code
  assert client.all('session.updated')


def test_every_event_of_the_official_client_is_handled():
  import typing

  from openai.types import realtime

  kinds = {
    typing.get_args(one.model_fields['type'].annotation)[0]
    for one in typing.get_args(typing.get_args(realtime.RealtimeClientEvent)[0])
  }
  assert kinds == set(session_lib._HANDLERS)


def test_an_hour_of_silence_is_forgotten():
  async def scene(client):
    for _ in range(40):
      await client.send(
        'input_audio_buffer.append', audio=client_lib.sound(5.0, 0.0)
      )
    assert client.session._listener.seconds < 13

  talk(scene)


def test_what_happens_is_counted():
  async def scene(client):
    await client.update(
      audio={'input': {'turn_detection': {'type': 'semantic_vad'}}}
    )
    for _ in range(2):
      await client.say(1.0)
      await client.hush(1.5)
    await asyncio.sleep(10)

  counts = metrics.Metrics()
  talk(scene, watch=counts.observe, ear=fakes.ScriptedEar('What is it?'))
  found = counts.figures()
  assert (found['turns'], found['interruptions']) == (2, 0)
  assert found['speculated'] >= found['committed'] == 2
  # The first sound is there when the turn is over, and not before.
  assert found['first_audio_count'] == found['saved_count'] == 2
  assert 0.4 < found['first_audio_seconds'] < 2 * 1.0
