"""An engine under requests that come, go and vanish."""

import contextlib
import functools
import threading

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import repetition
from step_audio_jax.generation import restore
from step_audio_jax.generation import rows as rows_lib
from step_audio_jax.generation import sampling
from step_audio_jax.generation.batching import engine as engine_lib
from step_audio_jax.generation.batching import prompts
from tests.generation import test_decode

State = grammar_lib.State
RULE = repetition.Repetition(4, 0.3)
SETTINGS = engine_lib.Settings(
  slots=3, places=192, waiting=4, repetition=RULE, kept_bytes=2**22
)
REQUESTS = (
  (5, 20, State.TEXT, sampling.Sampler()),
  (90, 30, State.SPEECH, sampling.Sampler(1.0, top_p=0.9)),
  (1, 40, State.FREE, sampling.Sampler(0.8, top_k=5)),
  (150, 9, State.TEXT, sampling.Sampler()),
  (17, 1, State.SPEECH, sampling.Sampler(1.0, repetition=RULE)),
  (33, 60, State.SPEECH, sampling.Sampler(repetition=RULE)),
)


@functools.cache
def engine():
  model, variables = test_decode.tiny('rope')
  found = engine_lib.Engine(
    restore.unroll_layers(model), variables, test_decode.VOCABULARY, SETTINGS
  )
  found.warm_up()
  return found


def compiled():
  return sum(
    one._cache_size()
    for one in (
      rows_lib.turns,
      rows_lib.join,
      rows_lib.halted,
      rows_lib.empty,
      prompts.blank,
      prompts.begun,
      prompts.extend,
    )
  )


class Client:
  """Waits for what it was told."""

  def __init__(self, request, on_ids=None):
    self.ids, self.ends, self._over = [], [], threading.Event()
    self.most_at_once = 0
    self._also = on_ids
    self.ticket = engine().submit(request, self._take, self._end)

  def _take(self, ids):
    self.ids += ids
    if self._also:
      self._also(self)

  def _end(self, why, error):
    self.ends.append((why, error))
    self._over.set()

  def wait(self):
    assert self._over.wait(60)
    return self


def request(number, **changes):
  length, limit, state, sampler = REQUESTS[number]
  (ids,) = test_decode.prompts(number, [length])
  fields = {'ids': ids, 'limit': limit, 'state': state, 'sampler': sampler}
  return engine_lib.Request(**{**fields, 'seed': number, **changes})


def alone(number):
  """The same request, decoded by a batch of its own."""
  model, variables = test_decode.tiny('rope')
  one = request(number)
  (found,) = decode.generate_outputs(
    restore.unroll_layers(model),
    variables,
    [one.ids],
    max_new_tokens=one.limit,
    sampler=one.sampler,
    grammar=test_decode.GRAMMAR,
    start=one.state,
    rng=[one.seed],
    shapes=decode.Shapes(batch_size=3, prompt=160, output=64),
  )
  return found


def test_requests_side_by_side_are_answered_as_alone():
  before = engine(), compiled()
  clients = [Client(request(n)) for n in range(len(REQUESTS))]
  after = compiled()
  for number, client in enumerate(clients):
    client.wait()
    expected = alone(number)
    assert client.ids == expected.tokens.tolist()
    why = engine_lib.STOPPED if expected.stopped else engine_lib.CUT
    assert client.ends == [(why, None)]
  assert before[1] == after, 'something was compiled after warm-up'


def test_a_prompt_that_begins_alike_is_read_from_there_on():
  (ids,) = test_decode.prompts(20, [100])
  whole = Client(request(0, ids=ids)).wait()
  again = Client(request(0, ids=ids)).wait()
  other = Client(request(0, ids=[*ids[:80], 30, 31, 32, 33])).wait()
  assert whole.ticket.cached == 0
  assert again.ticket.cached == 99
  assert again.ids == whole.ids
  assert other.ticket.cached == 80
  fresh = Client(
    request(0, ids=[*ids[:80], 30, 31, 32, 33], keeps=False)
  ).wait()
  engine()._store.clear()
  cold = Client(request(0, ids=[*ids[:80], 30, 31, 32, 33])).wait()
  assert cold.ticket.cached == 0
  assert other.ids == fresh.ids == cold.ids


def test_who_gives_up_makes_room_at_once():
  turns = []

  def gives_up(client):
    if len(client.ids) == 3:
      turns.append(engine().counts.turns)
      client.ticket.cancel()

  endless = request(5, stops=(), limit=100)
  first = Client(endless, gives_up)
  others = [Client(endless) for _ in range(2)]
  last = Client(
    endless, lambda _: turns.append(engine().counts.turns)
  )  # waits for a slot
  first.wait()
  assert first.ends == [(engine_lib.CANCELLED, None)]
  assert len(first.ids) == 3
  last.wait()
  for client in others:
    assert client.wait().ids == last.ids
  # Its place was taken behind the turns that its prompt took to be read.
  assert turns[1] - turns[0] <= 2
  assert engine().live == 0 and engine().queued == 0


def test_too_many_are_refused_and_who_waits_may_go():
  endless = request(5, stops=(), limit=100)
  clients = [Client(endless) for _ in range(SETTINGS.slots)]
  waiting = []
  with contextlib.suppress(errors.Busy):
    while len(waiting) < 50:
      waiting.append(Client(endless))
  assert SETTINGS.waiting <= len(waiting) <= SETTINGS.waiting + 3
  for client in waiting:
    client.ticket.cancel()
  for client in (*clients, *waiting):
    client.wait()
    assert len(client.ends) == 1
  assert engine().drain(10)


def test_a_constraint_is_asked_before_every_id():
  class Counting:
    """Allows one id after the other."""

    done = False

    def __init__(self):
      self.at = 40

    def mask(self):
      return np.arange(132) == self.at

    def advance(self, token):
      assert token == self.at
      self.at += 1

  plain = Client(request(1))
  held = Client(request(0, constraint=Counting(), limit=12, stops=()))
  assert held.wait().ids == list(range(40, 52))
  assert plain.wait().ids == alone(1).tokens.tolist()


def test_a_fault_is_told_and_the_next_request_is_answered(monkeypatch):
  class Broken:
    done = False

    def mask(self):
      raise ValueError('no mask')

  expected = Client(request(0)).wait().ids
  broken = Client(request(0, constraint=Broken()))
  ((why, error),) = broken.wait().ends
  assert why == engine_lib.FAILED and str(error) == 'no mask'
  assert Client(request(0)).wait().ids == expected


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'ids': []}, 'found no id'),
    ({'ids': [5] * 170, 'limit': 20}, 'at most 176 together'),
    ({'ids': [5, 132]}, 'outside 0 to 131'),
    ({'stops': range(9)}, 'found 9, expected at most 8'),
    (
      {'sampler': sampling.Sampler(repetition=repetition.Repetition(3))},
      'that of the engine',
    ),
  ],
)
def test_what_does_not_fit_is_told(changes, message):
  with pytest.raises(errors.UserError, match=message):
    engine().submit(request(0, **changes), print, print)
