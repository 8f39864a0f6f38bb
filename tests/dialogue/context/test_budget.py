"""What is left out of a long conversation."""

import math

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.context import budget
from step_audio_jax.dialogue.context import laying
from tests.dialogue.context import minds

OPENING = [laying.Laid(chats.Turn(chats.SYSTEM, ('Be brief.',)))]


def exchanges(count, greeting=False):
  """Of 26 ids each: 3 + 10 of the user, 3 + 10 of the assistant."""
  found = []
  if greeting:
    found.append(laying.Laid(chats.Turn(chats.ASSISTANT, ('Hello.',)), 'g'))
  for n in range(count):
    for role in (chats.USER, chats.ASSISTANT):
      turn = chats.Turn(role, (f'{n:010}',))
      found.append(laying.Laid(turn, str(n), role == chats.USER))
  return found[:-1]


def cut(dialogue, room, most=10, **how):
  mind = minds.Counting(room)
  found = budget.fit(mind, OPENING, dialogue, most, budget.Truncation(**how))
  return found, mind


def test_whole_exchanges_are_left_out():
  # 5 + 12 of the system, 10 · 26 - 13 of the turns, 10 for the reply.
  whole = 5 + 12 + 247 + 10
  assert cut(exchanges(10), whole)[0] == 0
  assert cut(exchanges(10), whole - 1, retention=1)[0] == 2
  assert cut(exchanges(10), whole - 26, retention=1)[0] == 2
  assert cut(exchanges(10), whole - 27, retention=1)[0] == 4
  # Further than it has to, so that the next turns are no cut.
  assert cut(exchanges(10), whole - 1, retention=0.5)[0] == 12
  assert cut(exchanges(10), whole - 1, retention=0)[0] == 18
  assert cut(exchanges(3, greeting=True), 92, retention=1)[0] == 1


def test_lengths_are_asked_for_few_times():
  _, mind = cut(exchanges(500), 3000)
  assert mind.asked < 14


def test_the_last_exchange_stays():
  assert cut(exchanges(10), 40)[0] == 18
  with pytest.raises(errors.UserError, match='last exchange has 30 ids, exp'):
    cut(exchanges(10), 39)
  with pytest.raises(errors.UserError, match='the conversation has 264 ids'):
    cut(exchanges(10), 200, is_off=True)
  with pytest.raises(errors.UserError, match='the last exchange has'):
    cut(exchanges(1), 20)


def test_a_limit_of_its_own():
  # Behind the system: the whole of it counts 17.
  assert cut(exchanges(10), 1000, longest=247, retention=1)[0] == 0
  assert cut(exchanges(10), 1000, longest=246, retention=1)[0] == 2


def test_as_clients_say_it():
  assert budget.parse(None) == budget.parse('auto') == budget.Truncation()
  assert budget.parse('disabled').is_off
  found = budget.parse(
    {
      'type': 'retention_ratio',
      'retention_ratio': 0.5,
      'token_limits': {'post_instructions': 5000},
    }
  )
  assert found == budget.Truncation(0.5, longest=5000)
  ratio = {'type': 'retention_ratio', 'retention_ratio': 1}
  assert budget.parse(ratio) == budget.Truncation(1.0)
  for wrong in (
    'never', 7, [], {}, {'type': 'auto'}, {'type': 'retention_ratio'},
    ratio | {'retention_ratio': math.nan}, ratio | {'retention_ratio': True},
    ratio | {'retention_ratio': 10**400}, ratio | {'token_limits': 5},
    ratio | {'token_limits': {'post_instructions': 0}},
    ratio | {'token_limits': {'post_instructions': 1.5}},
  ):  # fmt: skip
    with pytest.raises(errors.UserError, match='truncation'):
      budget.parse(wrong)
