"""Who may ask, how often, how many at once: without a network."""

import asyncio

import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import access
from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import bodies
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import paths
from step_audio_jax.serving.guards import rates
from step_audio_jax.serving.guards import settings as settings_lib
from tests.dialogue import virtual_time

TOKEN = 'a-token-that-is-long'
WIDE = settings_lib.Settings(host='0.0.0.0', token=TOKEN)
LOCAL = settings_lib.Settings(origins=('https://app.example.org',))


@pytest.mark.parametrize(
  ('given', 'told'),
  [
    ({'host': '0.0.0.0'}, 'there is no token'),
    ({'host': '::'}, 'there is no token'),
    ({'host': ''}, 'host: found'),
    ({'token': 'short'}, '5 characters'),
    ({'token': 'with spaces in it, and long'}, '27 characters'),
    ({'port': 70000}, 'port is 70000'),
    ({'burst': 0}, 'burst is 0'),
    ({'body_seconds': 0}, 'body_seconds is 0'),
    ({'reply_seconds': float('nan')}, 'reply_seconds is nan'),
    ({'origins': ('example.org',)}, 'origins: found'),
    ({'hosts': ('a/b',)}, 'hosts: found'),
  ],
)
def test_settings_that_make_no_sense(given, told):
  with pytest.raises(errors.UserError, match=told):
    settings_lib.Settings(**given)


def test_a_token_is_not_shown():
  assert TOKEN not in repr(WIDE)
  for host in ('localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]'):
    assert settings_lib.Settings(host=host).is_local


@pytest.mark.parametrize(
  ('headers', 'is_right'),
  [
    ({'authorization': f'Bearer {TOKEN}'}, True),
    ({'authorization': f'bearer  {TOKEN} '}, True),
    ({'authorization': f'Bearer {TOKEN}x'}, False),
    ({'authorization': f'Basic {TOKEN}'}, False),
    ({'authorization': 'Bearer ä'}, False),
    ({'authorization': ''}, False),
    ({}, False),
    (
      {
        'sec-websocket-protocol': (
          f'realtime, openai-insecure-api-key.{TOKEN}, openai-beta.realtime-v1'
        )
      },
      True,
    ),
    ({'sec-websocket-protocol': 'realtime'}, False),
  ],
)
def test_tokens(headers, is_right):
  if is_right:
    return access.check_token(headers, WIDE)
  with pytest.raises(faults.Fault) as told:
    access.check_token(headers, WIDE)
  assert told.value.status == 401 and TOKEN not in told.value.message
  return access.check_token(headers, LOCAL)  # none is asked for


@pytest.mark.parametrize(
  ('host', 'origin', 'found'),
  [
    ('127.0.0.1:8000', None, None),
    ('localhost', None, None),
    ('[::1]:8000', None, None),
    ('127.0.0.1:8000', 'http://127.0.0.1:8000', None),
    ('127.0.0.1:8000', 'https://app.example.org', 'https://app.example.org'),
    ('127.0.0.1:8000', 'https://evil.example.org', 403),
    ('127.0.0.1:8000', 'http://127.0.0.1:9000', 403),
    ('127.0.0.1:8000', 'null', 403),
    ('127.0.0.1:8000', '', 403),
    ('evil.example.org', None, 403),  # a name that was made to point here
    ('evil.example.org', 'http://evil.example.org', 403),
    ('127.0.0.1.evil.example.org', None, 403),
    ('', None, 403),
  ],
)
def test_places(host, origin, found):
  headers = {'host': host}
  if origin is not None:
    headers['origin'] = origin
  if found != 403:
    assert access.check_place(headers, LOCAL) == found
    return
  with pytest.raises(faults.Fault) as told:
    access.check_place(headers, LOCAL)
  assert told.value.status == 403


def test_beyond_loopback_any_name_is_ours_unless_some_are_said():
  assert access.check_place({'host': '10.0.0.7:8000'}, WIDE) is None
  named = settings_lib.Settings(
    host='0.0.0.0', token=TOKEN, hosts=('talk.example.org',)
  )
  assert access.check_place({'host': 'Talk.example.org:8000'}, named) is None
  with pytest.raises(faults.Fault):
    access.check_place({'host': '10.0.0.7:8000'}, named)


def test_buckets():
  now = 0.0
  found = rates.Buckets(60, 3, lambda: now)
  assert [found.take('a') for _ in range(4)] == [0, 0, 0, 1]
  assert found.take('b') == 0
  now = 0.5
  assert found.take('a') == pytest.approx(0.5)
  now = 1.5
  assert found.take('a') == 0
  now = 1000.0
  assert [found.take('a') for _ in range(4)] == [0, 0, 0, 1]
  assert rates.Buckets(0, 1, lambda: now).take('a') == 0


def test_what_a_bucket_forgets_is_full_again():
  found = rates.Buckets(60, 1, lambda: 0.0)
  assert found.take('a') == 0 and found.take('a') > 0
  for n in range(5000):
    found.take(str(n))
  assert found.take('a') == 0


def test_admission():
  settings = settings_lib.Settings(most_requests=3, most_per_client=2)
  found = admission_lib.Admission(settings)

  def status(client):
    with pytest.raises(faults.Fault) as told:
      found.one(client).__enter__()
    assert told.value.headers['retry-after']
    return told.value.status

  with found.one('a'), found.one('a'):
    assert status('a') == 429
    with found.one('b'):
      assert found.under_way == 3 and status('c') == 503
    with pytest.raises(KeyError), found.one('c'):
      raise KeyError
  assert not found.under_way
  found.drain()
  assert status('a') == 503


def test_all_bodies_together():
  settings = settings_lib.Settings(most_bytes_together=10)
  found = admission_lib.Admission(settings)
  found.hold(10)
  with pytest.raises(faults.Fault):
    found.hold(1)
  found.hold(-10)
  with pytest.raises(KeyError), found.holding(4):
    assert found.held == 4
    raise KeyError
  assert not found.held


def receiver(*parts, wait=0.0):
  """`receive` of a body in parts."""
  left = list(parts)

  async def receive():
    await asyncio.sleep(wait)
    body = left.pop(0)
    return {'type': 'http.request', 'body': body, 'more_body': bool(left)}

  return receive


def read(receive, headers=None, **limits):
  settings = settings_lib.Settings(**limits)
  admission = admission_lib.Admission(settings)

  async def whole():
    body, parts = bodies.Body(receive, headers or {}, settings, admission), []
    try:
      more = True
      while more:
        message = await body.receive()
        parts.append(message['body'])
        more = message['more_body']
      assert admission.held == len(b''.join(parts))
    finally:
      body.release()
      assert not admission.held
    return b''.join(parts)

  return virtual_time.run(whole())


def test_bodies():
  assert read(receiver(b'abc', b'', b'de'), most_bytes=5) == b'abcde'
  with pytest.raises(faults.Fault) as told:
    read(receiver(b'abc', b'def'), most_bytes=5)
  assert told.value.status == 413
  for length, status in (('6', 413), ('9' * 5000, 413), ('x', 400)):
    with pytest.raises(faults.Fault) as told:
      read(None, {'content-length': length}, most_bytes=5)
    assert told.value.status == status


def test_bodies_that_come_drop_by_drop():
  limits = {'body_seconds': 5, 'least_rate': 10}
  # 20 bytes a second may go on for as long as they like.
  assert len(read(receiver(*[b'a' * 20] * 60, wait=1.0), **limits)) == 1200
  with pytest.raises(faults.Fault) as told:
    read(receiver(*[b'a'] * 60, wait=1.0), **limits)
  assert told.value.status == 408


@pytest.mark.parametrize(
  ('error', 'status', 'param'),
  [
    (errors.UserError('stop[0]: found 3, expected a string.'), 400, 'stop[0]'),
    (errors.UserError('There is no such thing.'), 400, 'input'),
    (services.Busy(), 503, None),
    (TimeoutError(), 504, None),
    (KeyError('secret'), 500, None),
  ],
)
def test_what_clients_are_told(error, status, param):
  found = faults.of(error, 'input')
  assert (found.status, found.param) == (status, param)
  assert found.message and 'secret' not in found.message


def test_paths_of_routes():
  found = paths.Paths(
    ('/', '/page/{name}', '/v1/models', '/v1/models/{m:path}')
  )
  assert found.name('/') == '/'
  assert found.name('/page/a.js') == '/page/{name}'
  assert found.name('/page/a/b') is found.name('/v1') is None
  assert found.name('/v1/models/a/b') == '/v1/models/{m:path}'
