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


def edit(*parts, reply=('old', speech('a2')), said=SAID):
  talk = chats.Conversation(
    (*TALK.turns[:3], turn('user', *parts), turn('assistant', *reply))
  )
  found = views.VIEWS['audio_edit'](talk, lambda one: said.get(one.id))
  return [(one.role, one.parts) for one in found.turns]


@pytest.mark.parametrize(
  ('asked', 'written'),
  [
    ('(fast 1)and where', '(快速1)and where'),
    ('and (fast2)(pause 2) where', 'and (快速2)(停顿2)where'),
    # An instruction alone is told with the transcript.
    ('(fast 1)', '(快速1)and where'),
    ('（高音2，慢速1）', '(慢速1)(高音2)and where'),
    ('please speak a bit faster', '(快速1)and where'),
    # What is said may be a tag's name.
    ('(fast 1)sad', '(快速1)sad'),
  ],
)
def test_an_edit_is_a_text_with_tags_and_its_recording(asked, written):
  want = [('user', (written, speech('q2'))), ('assistant', (speech('a2'),))]
  for parts in ((asked, speech('q2')), (speech('q2'), asked)):
    assert edit(*parts) == want


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    ((speech('q2'),), 'turns of user: found a recording alone, expected a r'),
    (('(fast 1)and where',), 'turns of user: found a text alone, expected a r'),
    (('and where', speech('q2')), "turns of user: style: found 'where'"),
    (('(fasst 1)and', speech('q2')), r'user: .*fasst 1.*\(fast 1\), the n'),
    (('(fast 1)', speech('q3')), "the recording 'q3' has no transcript"),
    (('(normal)and', speech('q2')), 'user: '),
  ],
)
def test_what_is_no_edit(parts, message):
  with pytest.raises(errors.UserError, match=message):
    edit(*parts)


def test_an_edit_is_answered_in_speech():
  with pytest.raises(errors.UserError, match='found a text, expected a rec'):
    edit('(fast 1)and', speech('q2'), reply=('here',))
