"""Replies on their way, and readers who leave."""

import asyncio

import pytest

from step_audio_jax.serving.guards import delivery
from tests.dialogue import virtual_time


class Reader:
  """Somebody who reads, slowly, and hangs up after so many seconds."""

  def __init__(self, leaves=1e6, wait=0.0):
    self.leaves, self.wait, self.got = leaves, wait, []

  async def receive(self):
    await asyncio.sleep(self.leaves)
    return {'type': 'http.disconnect'}

  async def send(self, message):
    await asyncio.sleep(self.wait)
    self.got.append(message)

  @property
  def body(self):
    return b''.join(one.get('body', b'') for one in self.got)


class Pieces:
  """A reply in pieces, one a second."""

  def __init__(self, *pieces):
    self.pieces, self.made, self.is_closed = pieces, 0, False

  async def __call__(self):
    try:
      for piece in self.pieces:
        await asyncio.sleep(1)
        if isinstance(piece, Exception):
          raise piece
        self.made += 1
        yield piece
    finally:
      self.is_closed = True


def deliver(pieces, reader, **more):
  async def go():
    reply = delivery.Streamed(pieces(), 'text/plain', **more)
    await reply({}, reader.receive, reader.send)
    return asyncio.get_running_loop().time()

  try:
    return virtual_time.run(go())
  finally:
    assert pieces.is_closed


def test_pieces_are_sent_as_they_come():
  pieces, reader = Pieces(b'a', b'', b'b'), Reader()
  assert deliver(pieces, reader) == 3
  start, *parts = reader.got
  assert start['status'] == 200
  assert [(p['body'], p['more_body']) for p in parts] == [
    (b'a', True),
    (b'b', True),
    (b'', False),
  ]


def test_who_hangs_up_ends_it_at_once():
  pieces = Pieces(*[b'a'] * 9)
  with pytest.raises(delivery.Gone):
    deliver(pieces, Reader(leaves=3.5))
  assert pieces.made == 3


def test_nothing_is_made_ahead_of_a_slow_reader():
  pieces = Pieces(*[b'a'] * 9)
  with pytest.raises(delivery.Gone):
    deliver(pieces, Reader(leaves=20, wait=10))
  assert pieces.made == 1


def test_what_goes_wrong_before_the_first_piece_has_its_own_status():
  reader = Reader()
  with pytest.raises(KeyError):
    deliver(Pieces(KeyError()), reader, told=lambda error: b'!')
  assert not reader.got


def test_what_goes_wrong_later_is_told_or_cuts_the_reply():
  reader = Reader()
  deliver(Pieces(b'a', KeyError()), reader, told=lambda error: b'!')
  assert reader.body == b'a!' and not reader.got[-1]['more_body']
  reader = Reader()
  with pytest.raises(KeyError):
    deliver(Pieces(b'a', KeyError()), reader)
  assert reader.got[-1]['more_body']


def test_a_reply_has_its_time():
  reader = Reader()
  with pytest.raises(TimeoutError):
    deliver(Pieces(*[b'a'] * 9), reader, seconds=4.5)
  assert reader.body == b'aaaa'


def test_work_that_nobody_waits_for():
  is_over = []

  async def work():
    try:
      await asyncio.sleep(9)
      return 'done'
    finally:
      is_over.append(True)

  async def go(leaves):
    return await delivery.unless_gone(Reader(leaves).receive, work())

  assert virtual_time.run(go(10)) == 'done'
  with pytest.raises(delivery.Gone):
    virtual_time.run(go(8))
  assert len(is_over) == 2
