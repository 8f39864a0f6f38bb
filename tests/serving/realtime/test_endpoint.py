"""The WebSocket, asked by OpenAI's own client over loopback."""

import asyncio
from concurrent import futures
import contextlib
import json

import pytest
from starlette import applications
from starlette import testclient

from step_audio_jax import errors
from step_audio_jax.serving.guards import settings as settings_lib
from step_audio_jax.serving.realtime import endpoint
from tests.dialogue import fakes


@pytest.fixture
def client(monkeypatch):
  from step_audio_jax.dialogue.turns import vad
  from tests.serving.realtime import client as client_lib

  monkeypatch.setattr(vad, 'detector', lambda name: client_lib.loud)
  route = endpoint.endpoint(fakes.models(), settings_lib.Settings())
  app = applications.Starlette(routes=[route])
  with testclient.TestClient(app) as found:
    yield found


@contextlib.contextmanager
def connected(client, path):
  """A socket that is left: the test client may cancel what is leaving."""
  faults = []
  with contextlib.suppress(futures.CancelledError):
    with client.websocket_connect(path) as socket:
      try:
        yield socket
      except Exception as fault:  # noqa: BLE001 - not to be lost in leaving
        faults.append(fault)
  if faults:
    raise faults[0]


def kinds(socket, last):
  """Events up to one of a kind."""
  found = []
  while not found or found[-1]['type'] != last:
    found.append(socket.receive_json())
  return found


def test_a_written_turn_is_answered(client):
  with connected(client, '/v1/realtime?model=mine') as socket:
    (created,) = kinds(socket, 'session.created')
    assert created['session']['model'] == 'mine'
    item = {
      'type': 'message',
      'role': 'user',
      'content': [{'type': 'input_text', 'text': 'hello'}],
    }
    socket.send_json({'type': 'conversation.item.create', 'item': item})
    socket.send_json(
      {'type': 'response.create', 'response': {'output_modalities': ['text']}}
    )
    done = kinds(socket, 'response.done')[-1]
  text = done['response']['output'][0]['content'][0]['text']
  assert text == 'Good day. How are you?'


@pytest.mark.parametrize(
  'send, code',
  [
    (lambda s: s.send_bytes(b'\0'), 'invalid_event'),
    (lambda s: s.send_text('{'), 'invalid_json'),
    (lambda s: s.send_text('[' * 10**5), 'invalid_json'),
    (lambda s: s.send_text('NaN'), 'invalid_json'),
    (lambda s: s.send_text('null'), 'missing_required_parameter'),
    (lambda s: s.send_text('"' * (endpoint._MOST + 1)), 'event_too_large'),
  ],
)
def test_what_is_no_event_is_told_and_the_next_is_taken(client, send, code):
  with connected(client, '/v1/realtime') as socket:
    kinds(socket, 'session.created')
    send(socket)
    assert kinds(socket, 'error')[-1]['error']['code'] == code
    socket.send_text(json.dumps({'type': 'input_audio_buffer.clear'}))
    kinds(socket, 'input_audio_buffer.cleared')


def test_the_official_client_talks(monkeypatch):
  import threading

  import openai
  import uvicorn

  from step_audio_jax.dialogue.turns import vad
  from tests.serving.realtime import client as client_lib

  monkeypatch.setattr(vad, 'detector', lambda name: client_lib.loud)
  route = endpoint.endpoint(fakes.models(), settings_lib.Settings())
  server = uvicorn.Server(
    uvicorn.Config(
      applications.Starlette(routes=[route]), port=0, log_level='error'
    )
  )
  thread = threading.Thread(target=server.run, daemon=True)
  thread.start()

  async def talk():
    while not server.started:
      await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    asked = openai.AsyncOpenAI(
      base_url=f'http://127.0.0.1:{port}/v1', api_key='none'
    )
    found = []
    async with asked.realtime.connect(model='scripted') as session:
      await session.input_audio_buffer.append(audio=client_lib.sound(0.5))
      await session.input_audio_buffer.append(audio=client_lib.sound(1.0, 0.0))
      async for event in session:
        found.append(event.type)
        if event.type == 'response.output_audio.delta':
          await session.response.cancel()
        if event.type == 'response.done':
          assert event.response.status == 'cancelled'
          break
    return found

  try:
    found = asyncio.run(asyncio.wait_for(talk(), 30))
  finally:
    server.should_exit = True
    thread.join()
  assert 'input_audio_buffer.speech_started' in found
  assert 'input_audio_buffer.committed' in found


def test_tools_of_a_server_are_opened_once_and_offered_to_all(monkeypatch):
  from step_audio_jax.dialogue.turns import vad
  from tests.serving.realtime import client as client_lib

  monkeypatch.setattr(vad, 'detector', lambda name: client_lib.loud)
  models = fakes.models()
  settings = settings_lib.Settings(tools=('clock', 'calculator'))
  route = endpoint.endpoint(models, settings)
  app = applications.Starlette(routes=[route])
  with testclient.TestClient(app) as client:
    for _ in range(2):
      with connected(client, '/v1/realtime') as socket:
        asked = {'output_modalities': ['text']}
        socket.send_json({'type': 'response.create', 'response': asked})
        kinds(socket, 'response.done')
  for turns in models.mind.asked:
    assert 'calculator' in str(turns[0]) and 'clock' in str(turns[0])
  with pytest.raises(errors.UserError, match="found 'watch', expected some of"):
    settings_lib.Settings(tools=('watch',))


def test_who_talks_is_told_that_tools_are_missing_and_talks_on(
  monkeypatch, tmp_path
):
  from step_audio_jax.dialogue.turns import vad
  from tests.serving.realtime import client as client_lib

  monkeypatch.setattr(vad, 'detector', lambda name: client_lib.loud)
  gone = str(tmp_path / 'gone.json')
  settings = settings_lib.Settings(tools=('clock',), tool_servers=gone)
  route = endpoint.endpoint(fakes.models(), settings)
  app = applications.Starlette(routes=[route])
  with testclient.TestClient(app) as client:
    for _ in range(2):
      with connected(client, '/v1/realtime') as socket:
        assert socket.receive_json()['type'] == 'session.created'
        told = socket.receive_json()
        assert told['error']['code'] == 'tools_unavailable'
        assert 'cannot be reached' in told['error']['message']
        asked = {'output_modalities': ['text']}
        socket.send_json({'type': 'response.create', 'response': asked})
        kinds(socket, 'response.done')


def test_a_session_that_cannot_be_held_says_why(monkeypatch):
  from step_audio_jax.dialogue.turns import vad

  def missing(name):
    raise errors.UserError('vad: it is not installed; expected it.')

  monkeypatch.setattr(vad, 'detector', missing)
  route = endpoint.endpoint(fakes.models(), settings_lib.Settings())
  app = applications.Starlette(routes=[route])
  with testclient.TestClient(app) as client:
    with connected(client, '/v1/realtime') as socket:
      told = socket.receive_json()['error']
      assert 'not installed' in told['message']
      assert socket.receive()['code'] == 1011
