"""Calls while speech goes on, and replies beside the conversation."""

import asyncio

import pytest

from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.tools import registry
from tests.dialogue import fakes
from tests.serving.realtime.test_session import TOOL
from tests.serving.realtime.test_session import talk

CALL = services.Called(chats.Call('clock', {}))
WORDS = 'Let me look at the clock, that takes a moment. '


def test_a_call_comes_while_it_is_said_and_the_result_follows_it():
  async def scene(client):
    await client.update(tools=[TOOL])
    await client.send('response.create')
    call = await client.until('response.function_call_arguments.done')
    client.called = client.when('response.function_call_arguments.done')[0]
    await client.until('response.done')
    client.done = client.when('response.done')[0]
    output = {
      'type': 'function_call_output',
      'call_id': call['call_id'],
      'output': 'noon',
    }
    await client.send('conversation.item.create', item=output)
    await client.send('response.create')
    await asyncio.sleep(20)

  client = talk(scene, mind=fakes.ScriptedMind([WORDS, CALL], ['It is noon.']))
  assert not client.all('error')
  first, second = client.all('response.done')
  message, call = first['response']['output']
  # One message, whose words are its sound.
  assert message['content'][0]['transcript'] == WORDS.strip()
  assert call['type'] == 'function_call'
  places = {
    one['item']['type']: one['output_index']
    for one in client.all('response.output_item.added')[:2]
  }
  assert places == {'message': 0, 'function_call': 1}
  spoken = {one['item_id'] for one in client.all('response.output_audio.delta')}
  assert spoken == {message['id'], second['response']['output'][0]['id']}
  # It is called, and the response over, long before it is played to its end.
  seconds = len(WORDS) * fakes.SECONDS
  assert client.called < 0.1 and client.done < seconds / 2
  assert client.audio() == pytest.approx(
    seconds + len('It is noon.') * fakes.SECONDS, abs=0.3
  )
  # What follows is paced behind what is still played.
  assert client.when('response.done')[1] > seconds - 0.6
  said, result = client.models.mind.asked[1][-2:]
  assert said.role == chats.ASSISTANT and said.calls
  assert said.text.strip() == WORDS.strip()
  assert result.text == 'noon'


def test_only_one_call_where_a_client_wants_that():
  async def scene(client):
    await client.update(
      tools=[TOOL], parallel_tool_calls=False, output_modalities=['text']
    )
    await client.send('response.create')
    await client.until('response.done')

  client = talk(scene, mind=fakes.ScriptedMind([CALL, CALL]))
  (done,) = client.all('response.done')
  assert len(done['response']['output']) == 1


def test_replies_beside_the_conversation_are_many_and_can_be_cancelled():
  async def scene(client):
    await client.update(output_modalities=['text'])
    beside = {'conversation': 'none', 'metadata': {'topic': 'x'}}
    await client.send('response.create')
    for _ in range(9):
      await client.send('response.create', response=beside)
    await asyncio.sleep(1)
    last = client.all('response.created')[-1]['response']['id']
    await client.send('response.cancel', response_id=last)
    await asyncio.sleep(100)

  client = talk(scene, mind=fakes.ScriptedMind(['A ', 5.0, 'B']))
  (error,) = client.all('error')
  assert error['error']['code'] == 'rate_limit_exceeded'
  done = client.all('response.done')
  states = [one['response']['status'] for one in done]
  assert sorted(states) == ['cancelled'] + ['completed'] * 8
  assert len(client.all('conversation.item.done')) == 1


def test_a_reply_may_be_to_items_that_are_named():
  async def scene(client):
    for name in ('one', 'two'):
      item = {
        'type': 'message',
        'role': 'user',
        'id': name,
        'content': [{'type': 'input_text', 'text': name}],
      }
      await client.send('conversation.item.create', item=item)
    for name in ('two', 'three'):
      given = {
        'conversation': 'none',
        'output_modalities': ['text'],
        'input': [{'type': 'item_reference', 'id': name}],
      }
      await client.send('response.create', response=given)
    await client.until('response.done')

  client = talk(scene)
  assert [turn.text for turn in client.models.mind.asked[0]] == ['two']
  (error,) = client.all('error')
  assert error['error']['param'] == 'response.input[0].id'


def test_what_is_cleared_is_not_remembered():
  async def scene(client):
    await client.send('response.create')
    await asyncio.sleep(1.0)
    await client.send('output_audio_buffer.clear')
    await client.send('output_audio_buffer.clear')
    await client.send('response.create')
    await asyncio.sleep(20)

  words = 'one two three four five six seven eight nine ten. '
  client = talk(scene, mind=fakes.ScriptedMind([words], ['Yes.']))
  (cleared,) = client.all('output_audio_buffer.cleared')
  first, _ = client.all('response.done')
  assert cleared['response_id'] == first['response']['id']
  heard = client.models.mind.asked[1][-1].text
  assert words.startswith(heard) and 2 <= len(heard.split()) <= 5


def test_how_long_a_chat_may_be_is_the_clients_to_say():
  async def scene(client):
    await client.update(output_modalities=['text'], truncation='disabled')
    item = {
      'type': 'message',
      'role': 'user',
      'content': [{'type': 'input_text', 'text': 'word ' * 900}],
    }
    for _ in range(3):
      await client.send('conversation.item.create', item=item)
    await client.send('response.create')
    await client.until('response.done')
    await client.update(truncation='auto')
    await client.send('response.create')
    await asyncio.sleep(1)

  client = talk(scene)
  states = [one['response']['status'] for one in client.all('response.done')]
  assert states == ['failed', 'completed']


def test_tools_of_the_server_run_while_it_speaks():
  async def scene(client):
    await client.send('response.create')
    await client.until('response.done')
    client.asked = client.models.mind.asked
    await asyncio.sleep(20)

  tools = registry.Registry(
    [registry.Tool('noon', 'Tells the time.', lambda: 'It is twelve.')]
  )
  call = services.Called(chats.Call('noon', {}))
  mind = fakes.ScriptedMind(['Let me see. ', call], ['It is noon.'])
  client = talk(scene, mind=mind, tools=tools)
  assert not client.all('error')
  # One response: the client has nothing to do with it, and is told all.
  (done,) = client.all('response.done')
  said = [one['content'][0]['transcript'] for one in done['response']['output']]
  assert said == ['Let me see.', 'It is noon.']
  kinds = [one['item']['type'] for one in client.all('conversation.item.done')]
  assert kinds == [
    'message',
    'function_call',
    'function_call_output',
    'message',
  ]
  (system, *_), (*_, result) = mind.asked
  assert 'noon' in str(system) and result.text == 'It is twelve.'


def test_a_tool_of_the_client_goes_before_the_servers():
  async def scene(client):
    await client.update(tools=[{**TOOL, 'name': 'noon'}])
    await client.send('response.create')
    await client.until('response.done')

  tools = registry.Registry(
    [registry.Tool('noon', 'Tells the time.', lambda: 'It is twelve.')]
  )
  call = services.Called(chats.Call('noon', {}))
  client = talk(scene, mind=fakes.ScriptedMind([call]), tools=tools)
  (done,) = client.all('response.done')
  (only,) = done['response']['output']
  assert only['type'] == 'function_call' and only['name'] == 'noon'
