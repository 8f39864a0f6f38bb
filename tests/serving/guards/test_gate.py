"""The gate in front of a server: tokens, pages of others, rates, sockets."""

import pytest
from starlette import routing
from starlette import testclient

from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import gate
from step_audio_jax.serving.guards import metrics as metrics_lib
from step_audio_jax.serving.guards import settings as settings_lib

TOKEN = 'a-token-that-is-long'
RIGHT = {'authorization': f'Bearer {TOKEN}'}


class Time:
  now = 0.0

  def __call__(self):
    return self.now


def client_of(clock=None, **given):
  settings = settings_lib.Settings(**given)

  async def told(scope, receive, send):
    headers = [(b'content-type', b'text/plain')]
    await send(
      {'type': 'http.response.start', 'status': 200, 'headers': headers}
    )
    await send({'type': 'http.response.body', 'body': b'well'})

  async def echo(socket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()

  routes = [
    *(routing.Route(path, _Plain(told)) for path in ('/health', '/v1/a')),
    routing.Route('/page/{name}', _Plain(told)),
    routing.WebSocketRoute('/v1/realtime', echo),
  ]
  application = gate.Gate(
    routing.Router(routes),
    settings,
    clock or Time(),
    admission_lib.Admission(settings),
    metrics_lib.Metrics(),
    routes=[one.path for one in routes],
    public=['/page/{name}'],
    unlimited=['/health'],
  )
  return testclient.TestClient(
    application, 'http://127.0.0.1', raise_server_exceptions=False
  )


class _Plain:
  """An ASGI application, which a route takes where it is no function."""

  def __init__(self, function):
    self._function = function

  async def __call__(self, scope, receive, send):
    await self._function(scope, receive, send)


def code(response):
  return response.status_code, response.json()['error']['code']


def test_tokens():
  client = client_of(host='0.0.0.0', token=TOKEN)
  response = client.get('/v1/a')
  assert code(response) == (401, 'invalid_api_key')
  assert response.headers['www-authenticate'] == 'Bearer'
  assert client.get('/v1/a', headers=RIGHT).text == 'well'
  wrong = {'authorization': f'Bearer {TOKEN[:-1]}'}
  assert code(client.get('/v1/a', headers=wrong))[0] == 401
  # Of what is there nothing is told to who may not ask.
  assert code(client.get('/v1/none'))[0] == 401
  assert code(client.get('/v1/none', headers=RIGHT)) == (404, 'unknown_url')
  assert client.get('/health').text == client.get('/page/a.js').text == 'well'
  assert code(client.get('/page/../v1/a'))[0] == 401
  assert code(client.get('/page/a/b'))[0] == 401


def test_pages_of_others():
  ours = 'https://app.example.org'
  client = client_of(origins=(ours,))
  response = client.get('/v1/a', headers={'origin': ours})
  assert response.headers['access-control-allow-origin'] == ours
  asked = {'origin': ours, 'access-control-request-method': 'POST'}
  response = client.options('/v1/a', headers=asked)
  assert response.status_code == 204
  assert 'authorization' in response.headers['access-control-allow-headers']
  for origin in ('https://evil.example.org', 'null'):
    response = client.options('/v1/a', headers={'origin': origin})
    assert code(response) == (403, 'origin_not_allowed')
    assert 'access-control-allow-origin' not in response.headers
  response = client.get('/v1/a', headers={'host': 'evil.example.org'})
  assert code(response) == (403, 'host_not_allowed')


def test_rates():
  clock = Time()
  client = client_of(clock, per_minute=60, burst=2)
  assert [client.get('/v1/a').status_code for _ in range(2)] == [200, 200]
  response = client.get('/v1/a')
  assert code(response) == (429, 'rate_limit_exceeded')
  assert response.headers['retry-after'] == '1'
  assert client.get('/health').status_code == 200  # of probes none is refused
  clock.now = 1.0
  assert client.get('/v1/a').status_code == 200


def test_sockets():
  client = client_of(host='0.0.0.0', token=TOKEN)
  with pytest.raises(testclient.WebSocketDenialResponse) as told:
    client.websocket_connect('/v1/realtime').__enter__()
  assert code(told.value) == (401, 'invalid_api_key')
  protocols = ['realtime', f'openai-insecure-api-key.{TOKEN}']
  for more in ({'headers': RIGHT}, {'subprotocols': protocols}):
    with client.websocket_connect('/v1/realtime', **more) as socket:
      socket.send_text('hello')
      assert socket.receive_text() == 'hello'
  evil = {'origin': 'https://evil.example.org', **RIGHT}
  with pytest.raises(testclient.WebSocketDenialResponse) as told:
    client.websocket_connect('/v1/realtime', headers=evil).__enter__()
  assert code(told.value) == (403, 'origin_not_allowed')


def test_every_answer_has_a_number():
  client = client_of()
  found = {client.get(path).headers['x-request-id'] for path in ('/v1/a', '/b')}
  assert len(found) == 2
  assert client.get('/b').headers['x-content-type-options'] == 'nosniff'
