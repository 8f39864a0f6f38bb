"""Whatever a client sends: it is told, and the session goes on."""

import asyncio
import base64

import numpy as np
import pytest

from benchmarks.dialogue import fuzz_realtime
from step_audio_jax import errors
from tests.dialogue import fakes
from tests.serving.realtime import client as client_lib
from tests.serving.realtime.test_session import talk


class Strict(client_lib.Client):
  """Takes nothing that the official client's types do not name."""

  def __init__(self, fuzzer):
    super().__init__()
    self.fuzzer, self.faults = fuzzer, []

  async def _take(self, event):
    self.fuzzer.see(event)
    self.events.append((0, event))
    if fault := fuzz_realtime.fault_of(event):
      self.faults.append(fault)


@pytest.mark.parametrize('seed', range(4))
def test_random_events_are_answered_or_refused(seed):
  from tests.dialogue import virtual_time

  fuzzer = fuzz_realtime.Fuzzer(seed)

  async def play():
    async with Strict(fuzzer) as client:
      for _ in range(150):
        await client.session.handle(fuzzer.event())
        if fuzzer._draw.random() < 0.2:
          await asyncio.sleep(fuzzer._draw.random() * 3)
      await client.send('session.update', session={'type': 'nonsense'})
      await asyncio.sleep(60)
      return client

  client = virtual_time.run(play())
  assert not client.faults
  refused = [one['error']['param'] for one in client.all('error')]
  assert 'session.type' in refused
  for one in (client.models.mind, client.models.mouth):
    assert one.open == 0
  # Every response that was begun is over.
  begun = {one['response']['id'] for one in client.all('response.created')}
  over = [one['response']['id'] for one in client.all('response.done')]
  assert begun == set(over) and len(over) == len(begun) > 1


@pytest.mark.parametrize(
  'event, code, param',
  [
    (
      {'type': 'response.create', 'response': {'input': 5}},
      'invalid_value',
      'response.input',
    ),
    (
      {'type': 'response.create', 'response': {'metadata': {'a': 1}}},
      'invalid_type',
      'response.metadata.a',
    ),
    (
      {'type': 'response.create', 'response': {'tools': [{'name': 1}]}},
      'invalid_type',
      'response.tools[0].name',
    ),
    (
      {'type': 'response.create', 'response': {'conversation': 'other'}},
      'invalid_value',
      'response.conversation',
    ),
    (
      {'type': 'response.cancel', 'response_id': []},
      'invalid_type',
      'response_id',
    ),
    (
      {'type': 'conversation.item.truncate', 'item_id': 'no'},
      'item_truncate_invalid_item_id',
      'item_id',
    ),
    (
      {'type': 'conversation.item.create', 'item': {'type': 'message'}},
      'invalid_value',
      'item.role',
    ),
  ],
)
def test_a_fault_names_its_field(event, code, param):
  async def scene(client):
    await client.session.handle(event)

  (error,) = talk(scene).all('error')
  assert error['error']['code'] == code
  assert error['error']['param'] == param
  assert error['error']['type'] == 'invalid_request_error'


def test_a_bug_ends_its_event_alone(monkeypatch):
  async def scene(client):
    def broken(*_):
      raise ZeroDivisionError('secret')

    monkeypatch.setattr(client.session._context, 'delete', broken)
    item = {
      'type': 'message',
      'role': 'user',
      'content': [{'type': 'input_text', 'text': 'hello'}],
    }
    await client.send('conversation.item.create', item={**item, 'id': 'one'})
    await client.send('conversation.item.delete', item_id='one')
    await client.update(instructions='Be brief.')

  client = talk(scene)
  (error,) = client.all('error')
  assert error['error']['type'] == 'server_error'
  assert error['error']['event_id'] == 'mine'
  assert 'secret' not in error['error']['message']
  assert client.all('session.updated')


def test_a_turn_that_cannot_be_heard_is_told_and_the_next_is_answered():
  class Picky(fakes.ScriptedHearing):
    async def finish(self):
      if len(self.ear.heard) == 1:
        raise errors.UserError('audio: found silence, expected speech.')
      return await super().finish()

  class Ear(fakes.ScriptedEar):
    def listen(self):
      self.heard.append(Picky(self, self.next()))
      return self.heard[-1]

  async def scene(client):
    for _ in range(2):
      await client.say(0.8)
      await client.hush(4.0)

  client = talk(scene, ear=Ear())
  assert client.all('error')[0]['error']['param'] == 'audio'
  states = [one['response']['status'] for one in client.all('response.done')]
  assert states == ['failed', 'completed']


def test_others_are_served_while_much_sound_is_read():
  async def scene(client):
    turns = 0

    async def other():
      nonlocal turns
      while True:
        await asyncio.sleep(0)
        turns += 1

    task = asyncio.create_task(other())
    silence = base64.b64encode(bytes(2 * 24000 * 4)).decode()
    await client.send('input_audio_buffer.append', audio=silence)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert turns >= 6  # once every half second of it, but for its ends

  talk(scene)


def test_sound_is_taken_up_to_its_limit():
  async def scene(client):
    await client.update(audio={'input': {'turn_detection': None}})
    silence = np.zeros(12, '<i2').tobytes()
    audio = base64.b64encode(silence).decode()
    most = 20 * 2**20
    await client.send('input_audio_buffer.append', audio=audio)
    await client.send('input_audio_buffer.append', audio='A' * (most + 4))

  (error,) = talk(scene).all('error')
  assert error['error']['code'] == 'string_above_max_length'
