"""One conversation shown as each of the tasks of SFT."""

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import views

SAID = {'q1': 'who are you', 'a1': 'a machine', 'q2': 'and where', 'a2': 'here'}


def speech(name):
  return chats.Speech(id=name)


def turn(role, *parts, **more):
  return chats.Turn(role, parts, where=f'turns of {role}', **more)


TALK = chats.Conversation(
  (
    turn('system', 'be kind'),
    turn('user', speech('q1')),
    turn('assistant', speech('a1')),
    turn('user', 'look', speech('q2')),
    turn('assistant', speech('a2')),
  )
)
BEFORE = [('system', ('be kind',)), ('user', ('who are you',))]
BEFORE += [('assistant', ('a machine',))]


def shown(name, talk=TALK):
  found = views.VIEWS[name](talk, lambda one: SAID.get(one.id))
  return [(one.role, one.parts) for one in found.turns]


@pytest.mark.parametrize(
  ('name', 'question', 'answer'),
  [
    ('tqta', ('look\nand where',), ('here',)),
    ('aqta', ('look', speech('q2')), ('here',)),
    ('taqta', ('look\nand where', speech('q2')), ('here',)),
    ('aqtqta', ('look', speech('q2')), ('look\nand where\nhere',)),
    ('aqaa', ('look', speech('q2')), (speech('a2'),)),
  ],
)
def test_each_task_shows_the_last_exchange_in_its_way(name, question, answer):
  assert shown(name) == [*BEFORE, ('user', question), ('assistant', answer)]


def test_what_is_behind_the_last_reply_is_left_out():
  more = chats.Conversation((*TALK.turns, turn('user', 'bye')))
  assert shown('aqta', more) == shown('aqta')


def test_calls_and_their_results_stay():
  call = chats.Call('clock')
  talk = chats.Conversation(
    (
      turn('user', speech('q1')),
      turn('assistant', 'wait', calls=(call,)),
      turn('tool', 'noon'),
      turn('assistant', 'it is noon'),
    )
  )
  found = views.VIEWS['aqta'](talk, lambda one: SAID.get(one.id))
  assert found == talk
  read = views.VIEWS['tqta'](talk, lambda one: SAID.get(one.id))
  assert read.turns[0].parts == ('who are you',)
  assert read.turns[1:] == talk.turns[1:]


def test_a_transcript_that_comes_with_the_recording_is_taken():
  talk = chats.Conversation(
    (
      turn('user', chats.Speech(path='x.wav', text='my words')),
      turn('assistant', 'yes'),
    )
  )
  found = views.VIEWS['tqta'](talk, lambda one: None)
  assert found.turns[0].parts == ('my words',)


@pytest.mark.parametrize(
  ('name', 'turns', 'match'),
  [
    (
      'aqta',
      (turn('user', 'a'), turn('assistant', 'b')),
      'turns of user: found a text, expected a recording in the last turn',
    ),
    (
      'aqaa',
      (turn('user', speech('q1')), turn('assistant', 'b')),
      'turns of assistant: found a text, expected a recording in the last re',
    ),
    (
      'tqta',
      (turn('user', speech('q9')), turn('assistant', 'b')),
      "turns of user: the recording 'q9' has no transcript",
    ),
    ('tqta', (turn('user', 'a'),), 'no reply of the assistant'),
    ('tqta', (turn('assistant', 'a'),), 'no turn of the user'),
  ],
)
def test_what_cannot_be_shown_is_told(name, turns, match):
  with pytest.raises(errors.UserError, match=match):
    shown(name, chats.Conversation(turns))


def test_what_is_only_heard_needs_no_words():
  talk = chats.Conversation(
    (turn('user', speech('q9')), turn('assistant', 'b'))
  )
  assert shown('aqta', talk)[0] == ('user', (speech('q9'),))
