"""What is a preference, and which sentence says that something is none."""

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import preferences

TURNS = [{'role': 'user', 'text': 'why?'}]
GOOD, BAD = ({'role': 'assistant', 'text': text} for text in ('so', 'no'))
CLOCK = {'type': 'function', 'function': {'name': 'clock'}}
CALL = {'name': 'clock', 'arguments': {}}


def test_answers_stay_as_they_are_written():
  spoken = {'role': 'assistant', 'content': [{'text': 'so'}, {'speech': 'a'}]}
  other = {'role': 'assistant', 'speech': 'b'}
  both = {'chosen': spoken, 'rejected': other}
  assert preferences.checked(TURNS, **both) == (tuple(TURNS), both)


@pytest.mark.parametrize('name', preferences.ANSWERS)
def test_an_answer_may_stand_alone(name):
  told = {'chosen': None, 'rejected': None, name: GOOD}
  assert preferences.checked(TURNS, **told) == (tuple(TURNS), {name: GOOD})
  found = preferences.parse(TURNS, **told)
  assert found.answers == (getattr(found, name),)


def test_an_answer_may_stand_behind_what_a_tool_gave_and_call():
  turns = [
    {'role': 'tool_json_schemas', 'tools': [CLOCK]},
    *TURNS,
    {'role': 'assistant', 'calls': [{**CALL, 'id': 'x'}]},
    {'role': 'tool', 'text': '12:00', 'call_id': 'x'},
  ]
  calls = {'role': 'assistant', 'calls': [CALL]}
  assert preferences.checked(turns, GOOD, calls)[1]['rejected'] == calls
  # Ids are no part of what is said.
  again = {'role': 'assistant', 'calls': [{**CALL, 'id': 'y'}]}
  with pytest.raises(errors.UserError, match='the same answer'):
    preferences.checked(turns, calls, again)


@pytest.mark.parametrize(
  'turns, chosen, rejected, message',
  [
    (TURNS, GOOD, {**GOOD, 'text': ' so\n'}, 'rejected: found the same answer'),
    ([], GOOD, BAD, 'turns: found none of the user, expected one'),
    ([GOOD], GOOD, BAD, 'turns: found none of the user, expected one'),
    ([*TURNS, GOOD], GOOD, BAD, r'turns\[1\]: found assistant in front of the'),
    (3, GOOD, BAD, 'turns: found 3, expected a list'),
    (TURNS, None, None, 'chosen: missing, as is rejected, expected one of'),
    (TURNS, TURNS[0], BAD, 'chosen.role: found user, expected assistant'),
    (TURNS, 'so', BAD, "chosen: found 'so', expected a role with a text"),
    (TURNS, GOOD, {'role': 'assistant'}, 'rejected: found neither text nor au'),
    (TURNS, GOOD, {**BAD, 'txt': 1}, 'rejected.txt: unknown field'),
    (
      TURNS,
      GOOD,
      {'role': 'assistant', 'speech': 'a'},
      'chosen: found no recording, but rejected has one, expected it on both',
    ),
    (
      TURNS,
      GOOD,
      {'role': 'assistant', 'calls': [CALL]},
      r"rejected.tool_calls\[0\].name: found 'clock', but the conversation has",
    ),
    (
      [*TURNS, {'role': 'system', 'text': 'be brief'}],
      GOOD,
      BAD,
      'found system behind user',
    ),
  ],
)
def test_what_is_wrong_is_named(turns, chosen, rejected, message):
  with pytest.raises(errors.UserError, match=message):
    preferences.checked(turns, chosen, rejected)
