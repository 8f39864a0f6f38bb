"""What is wrong with a conversation, one sentence each."""

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from tests.chats import conversations

TOOLS = [conversations.TOOL, conversations.CLOCK]
USER = {'role': 'user', 'content': 'hi'}
HI = {'role': 'assistant', 'content': 'hello'}
SOUND = {'type': 'audio', 'audio': 'a.wav'}
TEXT = {'type': 'text', 'text': 'a'}
RESULT = {'role': 'tool', 'content': 'noon'}


def called(*names, **more):
  calls = [{'id': f'c{n}', 'function': {'name': name}} for n, name in enumerate(
    names)]  # fmt: skip
  return {'role': 'assistant', 'content': None, 'tool_calls': calls, **more}


def result(name):
  return {**RESULT, 'tool_call_id': name}


def user(*parts):
  return {'role': 'user', 'content': list(parts)}


@pytest.mark.parametrize('value', conversations.generated(30, seed=3))
def test_what_is_sound_passes(value):
  assert formats.parse(value).turns


@pytest.mark.parametrize(
  ('messages', 'said'),
  [
    ([{'role': 'asistant', 'content': 'x'}],
     "messages[0].role: found 'asistant', expected system, "),
    ([{'role': 'asistant', 'content': 'x'}], "; the nearest is 'assistant'."),
    ([USER, {'role': 'user', 'content': ' '}],
     'messages[1]: found neither text nor audio.'),
    ([USER, {'role': 'assistant', 'content': ''}],
     'messages[1]: found neither text nor audio, nor calls.'),
    ([user(SOUND, SOUND)], 'messages[0]: found 2 recordings, expected at most '
     'one in a turn.'),
    ([user(SOUND, TEXT, SOUND)], 'messages[0]: found 2 recordings'),
    ([USER, {'role': 'assistant', 'content': [SOUND, TEXT]}],
     'messages[1]: found text behind the recording, expected text of the '
     'assistant in front of it.'),
    ([{'role': 'system', 'content': [SOUND]}],
     'messages[0]: found a recording of system, expected a text.'),
    ([USER, {'role': 'system', 'content': 'x'}],
     'messages[1].role: found system behind user, expected it first.'),
    ([USER, {'role': 'tool_json_schemas', 'content': TOOLS}],
     'messages[1].role: found tool_json_schemas behind user, expected it once, '
     'in front of all but system.'),
    ([USER, RESULT], 'messages[1]: found a result of a tool without a call, '
     'expected it behind a call of the assistant.'),
    ([RESULT], 'messages[0]: found a result of a tool without a call'),
    ([USER, HI, RESULT], 'messages[2]: found a result of a tool without'),
    ([{**USER, 'tool_calls': [{'name': 'clock'}]}],
     'messages[0].tool_calls: found calls of user'),
    ([USER, called('clock')], "messages[1].tool_calls[0].name: found 'clock', "
     'but the conversation has no schemas of tools.'),
  ],
)  # fmt: skip
def test_what_is_not_is_named(messages, said):
  with pytest.raises(errors.UserError) as caught:
    formats.parse({'messages': messages})
  assert said in str(caught.value)


@pytest.mark.parametrize(
  ('messages', 'said'),
  [
    ([USER, called('clock', 'wether')],
     "messages[1].tool_calls[1].name: found 'wether', expected one of weather, "
     "clock; the nearest is 'weather'."),
    ([USER, called('clock'), RESULT, RESULT],
     'messages[3]: found a result of a tool but 1 calls with as many results'),
    ([USER, called('clock'), result('c7')],
     "messages[2].tool_call_id: found 'c7', expected the id of a call in front "
     'of it (c0).'),
    ([USER, called('clock', 'clock'), result('c0'), result('c0')],
     "messages[3].tool_call_id: 'c0' has a result already."),
    ([USER, called('clock'), HI, result('c0')], 'without a call'),
    ([{'role': 'tool_json_schemas', 'content': TOOLS}, USER],
     'messages[0].role: found tool_json_schemas twice'),
    ([USER, {'role': 'assistant', 'tool_calls': [
      {'id': 'a', 'name': 'clock'}, {'id': 'a', 'name': 'clock'}]}],
     "messages[1].tool_calls: the id 'a' occurs twice."),
  ],
)  # fmt: skip
def test_calls_and_results_belong_together(messages, said):
  with pytest.raises(errors.UserError) as caught:
    formats.parse({'messages': messages, 'tools': TOOLS})
  assert said in str(caught.value)


@pytest.mark.parametrize(
  'messages',
  [
    [USER, called('clock')],
    [USER, called('clock', 'weather'), RESULT, HI],
    [USER, called('clock', 'clock'), result('c1'), result('c0'), HI],
    [USER, called('clock', content='one moment'), RESULT, called('weather'),
     result('c0'), HI, USER],
    [USER, called('clock'), USER, HI],
  ],
)  # fmt: skip
def test_calls_that_are_fine(messages):
  formats.parse({'messages': messages, 'tools': TOOLS})


def test_training_needs_the_assistant():
  formats.parse({'messages': [USER]})
  with pytest.raises(errors.UserError, match='none of the assistant, expected'):
    formats.parse({'messages': [USER]}, training=True)
  with pytest.raises(errors.UserError, match='turns: found none'):
    checks.check(chats.Conversation(()))


def test_old_manifests_may_have_the_system_anywhere():
  turns = (chats.Turn('user', ('a',)), chats.Turn('system', ('b',)))
  checks.check(chats.Conversation(turns), orderly=False)
  with pytest.raises(errors.UserError, match='expected it first'):
    checks.check(chats.Conversation(turns))


@pytest.mark.parametrize(
  ('turn', 'said'),
  [
    (chats.Turn('usr', ('x',)), "turns.role: found 'usr', expected system"),
    (chats.Turn('tool_json_schemas'), 'turns.tools: found none'),
    (chats.Turn('user', ('x',), tools=({},)), 'found schemas of user'),
    (chats.Turn('tool_json_schemas', tools=(conversations.CLOCK,) * 2),
     "turns.tools[1]: the name 'clock' occurs twice."),
  ],
)  # fmt: skip
def test_turns_that_no_parser_makes(turn, said):
  with pytest.raises(errors.UserError) as caught:
    checks.check(chats.Conversation((turn,)))
  assert said in str(caught.value)
