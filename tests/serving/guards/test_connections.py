"""Connections that want to stay, and the end of a server, over real sockets."""

import json
import threading

from step_audio_jax.dialogue import services
from tests.dialogue import fakes
from tests.serving import running

BODY = json.dumps(
  {'model': 'scripted', 'messages': [{'role': 'user', 'content': 'Hello.'}]}
).encode()
HEAD = (
  b'POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n'
  b'Content-Type: application/json\r\nContent-Length: %d\r\n\r\n'
)
REQUEST = HEAD % len(BODY) + BODY
STREAM = BODY[:-1] + b', "stream": true}'


class Flood:
  """A mind that says more than any socket holds."""

  hears = speaks = False
  longest = 2048

  def __init__(self):
    self.begun, self.ended = threading.Event(), threading.Event()
    self.said = 0

  def length(self, turns):
    return 1

  async def reply(self, turns, manner=services.Manner()):
    self.begun.set()
    try:
      while True:
        self.said += 1
        yield services.Text('word ' * 2000)
    finally:
      self.ended.set()


def until_closed(socket):
  found = b''
  try:
    while part := socket.recv(2**16):
      found += part
  except ConnectionResetError:
    pass
  return found


def test_heads_and_bodies_that_come_drop_by_drop():
  limits = {'head_seconds': 0.2, 'body_seconds': 0.2}
  with running.running(**limits) as place:
    with place.socket() as silent, place.socket() as drops:
      drops.sendall(b'GET /health HTTP/1.1\r\nHost: 127')
      assert until_closed(drops) == until_closed(silent) == b''
    with place.socket() as socket:
      socket.sendall(HEAD % 1000 + b'{')
      assert until_closed(socket).startswith(b'HTTP/1.1 408 ')
    with place.socket() as socket:  # a second head on the same connection
      socket.sendall(b'GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /he')
      assert until_closed(socket).count(b'HTTP/1.1 200 ') == 1
    assert place.client().models.list().data


def test_a_reader_that_takes_nothing_is_hung_up_on():
  mind = Flood()
  with running.running(fakes.models(mind=mind), write_seconds=0.2) as place:
    with place.socket() as socket:
      socket.sendall(HEAD % len(STREAM) + STREAM)
      assert mind.ended.wait(20)
      said = mind.said
      until_closed(socket)
    assert mind.said == said < 5000
    assert not place.application.admission.under_way


def test_a_reader_that_leaves_ends_its_reply():
  mind = Flood()
  with running.running(fakes.models(mind=mind)) as place:
    with place.socket() as socket:
      socket.sendall(HEAD % len(STREAM) + STREAM)
      assert mind.begun.wait(20)
    assert mind.ended.wait(20)
  # Nothing is streamed, and it leaves all the same.
  mind = fakes.ScriptedMind(['a', 1e6])
  with running.running(fakes.models(mind=mind)) as place:
    with place.socket() as socket:
      socket.sendall(REQUEST)
      wait_until(lambda: mind.open)
    wait_until(lambda: not mind.open)


def wait_until(condition):
  for _ in range(2000):
    if condition():
      return
    threading.Event().wait(0.01)
  raise AssertionError('it never came')


def test_garbage_is_told_in_one_shape():
  with running.running() as place, place.socket() as socket:
    socket.sendall(b'\x16\x03\x01 no HTTP\r\n\r\n')
    head, _, body = until_closed(socket).partition(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 400 ')
    assert json.loads(body)['error']['code'] == 'invalid_http'


def test_too_many_connections():
  with running.running(most_connections=1) as place:
    with place.socket() as first:
      first.sendall(b'GET /health')
      with place.socket() as second:
        assert until_closed(second) == b''


def test_drain():
  mind = fakes.ScriptedMind(['Good ', 0.3, 'day.'], ['late', 1e6])
  with running.running(fakes.models(mind=mind), drain_seconds=5) as place:
    with place.socket() as socket, place.socket() as other:
      socket.sendall(REQUEST)
      wait_until(lambda: mind.open)
      place.server.loop.call_soon_threadsafe(place.server.begin_drain)
      wait_until(lambda: place.application.admission.state == 'draining')
      other.sendall(REQUEST)
      assert other.recv(2**16).startswith(b'HTTP/1.1 503 ')
      assert b'Good day.' in until_closed(socket)
      wait_until(lambda: place.server.should_exit)


def test_drain_has_an_end():
  mind = fakes.ScriptedMind(['late', 1e6])
  with running.running(fakes.models(mind=mind), drain_seconds=0.1) as place:
    with place.socket() as socket:
      socket.sendall(REQUEST)
      wait_until(lambda: mind.open)
      place.server.loop.call_soon_threadsafe(place.server.begin_drain)
      wait_until(lambda: place.server.should_exit)
      until_closed(socket)
  assert not mind.open
