"""Conversations in the three formats, read as one."""

import base64
import json
import time

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from step_audio_jax.chats import own
from tests.chats import conversations

CLOCK = conversations.CLOCK
CALL = chats.Call('clock', {'at': 1}, 'c')
RAW = b'RIFF'
DATA = base64.b64encode(RAW).decode()
LINED = f'{DATA[:4]}\n{DATA[4:]}\n'
SPEECH = chats.Speech


def turn(role, *parts, **more):
  return chats.Turn(role, parts, **more)


WHOLE = (
  turn('system', 'be brief'),
  turn('tool_json_schemas', tools=(CLOCK,)),
  turn('user', SPEECH(path='a.wav'), 'What is it?'),
  turn('assistant', calls=(CALL,)),
  turn('tool', 'noon'),
  turn('assistant', 'Noon.'),
)
MESSAGES = [
  {'role': 'user', 'content': [
    {'type': 'audio', 'audio': 'a.wav'},
    {'type': 'text', 'text': 'What is it?'}]},
  {'role': 'assistant', 'tool_calls': [{
    'id': 'c', 'type': 'function',
    'function': {'name': 'clock', 'arguments': '{"at": 1}'}}]},
  {'role': 'tool', 'content': 'noon'},
  {'role': 'assistant', 'content': 'Noon.'},
]  # fmt: skip


@pytest.mark.parametrize(
  'value',
  [
    {'messages': [{'role': 'system', 'content': 'be brief'}, *MESSAGES],
     'tools': [CLOCK]},
    {'messages': MESSAGES, 'system': 'be brief', 'tools': [CLOCK['function']]},
    {'messages': [
      {'role': 'developer', 'content': 'be brief'},
      {'role': 'tool_json_schemas', 'content': '[{"name": "clock"}]'},
      *MESSAGES]},
    {'conversations': [
      {'from': 'human', 'value': '<audio>\nWhat is it?'},
      {'from': 'function_call', 'value':
       '{"name": "clock", "arguments": {"at": 1}, "id": "c"}'},
      {'from': 'observation', 'value': 'noon'},
      {'from': 'gpt', 'value': 'Noon.'}],
     'system': 'be brief', 'tools': '[{"name": "clock"}]',
     'audios': 'a.wav'},
  ],
)  # fmt: skip
def test_all_formats_say_the_same(value):
  assert formats.parse(value, training=True).turns == WHOLE


def one(value, **beside):
  conversation = formats.parse({'messages': [value], **beside})
  return conversation.turns[-1].parts


@pytest.mark.parametrize(
  ('content', 'parts'),
  [
    ('hi', ('hi',)),
    (' so ', (' so ',)),
    ([{'type': 'text', 'text': 'a'}, {'type': 'text', 'text': 'b'}], ('a\nb',)),
    ([{'type': 'input_audio', 'input_audio': {'data': DATA, 'format': 'wav'}}],
     (SPEECH(data=RAW),)),
    ([{'type': 'input_audio', 'input_audio': {'data': LINED}}],
     (SPEECH(data=RAW),)),
    ([{'type': 'input_audio', 'input_audio':
       {'data': f'data:audio/wav;base64,{DATA}'}}], (SPEECH(data=RAW),)),
    ([{'type': 'input_audio', 'input_audio': {'path': 'a.wav'}},
      {'type': 'text', 'text': ' \n'}], (SPEECH(path='a.wav'),)),
    ([{'type': 'text', 'text': 'hear'}, {'type': 'audio', 'audio': 'a.wav'},
      {'type': 'text', 'text': 'well'}],
     ('hear', SPEECH(path='a.wav'), 'well')),
    # As `Audio` of Hugging Face is stored.
    ([{'type': 'audio', 'audio': {'bytes': RAW, 'path': 'gone.wav'}}],
     (SPEECH(data=RAW),)),
    ([{'type': 'input_audio', 'input_audio': {'bytes': None, 'path': 'a.wav'}}],
     (SPEECH(path='a.wav'),)),
  ],
)  # fmt: skip
def test_contents(content, parts):
  assert one({'role': 'user', 'content': content}) == parts


def test_a_text_beside_a_recording_is_its_transcript():
  want = (SPEECH(path='a.wav', text='hi'),)
  audio = [{'type': 'audio', 'audio': 'a.wav'}]
  assert one({'role': 'user', 'audio': 'a.wav', 'text': 'hi'}) == want
  assert one({'role': 'user', 'audio': 'a.wav', 'content': 'hi'}) == want
  assert one({'role': 'user', 'content': audio, 'text': 'hi'}) == want
  assert one({'role': 'user', 'text': 'hi'}) == ('hi',)
  stored = {'bytes': RAW, 'path': None}
  want = (SPEECH(data=RAW, text='hi'),)
  assert one({'role': 'user', 'audio': stored, 'text': 'hi'}) == want
  lacks = {'bytes': None, 'path': None}
  assert one({'role': 'user', 'audio': lacks, 'content': 'hi'}) == ('hi',)


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ([], 'messages: missing, expected a list of them, or messages, conv'),
    ({}, 'messages: missing'),
    ({'messages': []}, 'messages: missing, expected a list of them.'),
    ({'conversations': {}}, 'conversations: missing, expected a list'),
    ({'messages': ['x']}, 'messages[0]: expected an object.'),
    ({'messages': [{'role': 'user', 'content': 5}]},
     'messages[0].content: found 5, expected a string.'),
    ({'messages': [{'role': 'user', 'content': [{'type': 'txt'}]}]},
     "messages[0].content[0].type: found the type 'txt', expected text, audio, "
     "input_audio; the nearest is 'text'."),
    ({'messages': [{'role': 'user', 'content': [
      {'type': 'input_audio', 'input_audio': {'data': '%%%'}}]}]},
     "messages[0].content[0].input_audio.data: found '%%%', not base64: "),
    ({'messages': [{'role': 'user', 'content': [
      {'type': 'input_audio', 'input_audio': {'data': DATA + '%'}}]}]},
     'not base64'),
    ({'messages': [{'role': 'user', 'content': [
      {'type': 'input_audio', 'input_audio': {}}]}]},
     'input_audio: expected {"data": base64} or {"path": a file}.'),
    ({'messages': [{'role': 'user', 'content': 'x', 'tool_call_id': 'c'}]},
     'messages[0].tool_call_id: found one of user'),
    ({'messages': MESSAGES, 'tools': '{'}, "tools: found '{', expected JSON"),
    ({'messages': MESSAGES, 'system': 3}, 'system: found 3'),
    ({'conversations': [{'from': 'human', 'value': '<audio><audio>'}],
      'audios': ['a', 'b']}, 'conversations[0]: found 2 recordings'),
    ({'conversations': [{'from': 'human', 'value': '<audio>'}] * 2,
      'audios': ['a']}, 'conversations[1]: found more <audio> than the 1 '),
    ({'conversations': [{'from': 'human', 'value': '<audio>'}],
      'audios': ['a', 'b']}, 'audios: found 2 of them and 1 <audio> in'),
    ({'conversations': [{'from': 'human', 'value': 'x'}], 'audios': {'a': 1}},
     'audios: found'),
    ({'conversations': [{'from': 'human', 'value': 'x'}], 'audios': [3]},
     'audios[0]: found 3, expected a path or {"bytes", "path"}.'),
    ({'messages': [{'role': 'user', 'audio': {'bytes': 'x'}}]},
     "messages[0].audio.bytes: found 'x', expected the bytes of a file."),
    ({'conversations': [{'from': 'function_call', 'value': 'x'}]},
     "conversations[0].content: found 'x', expected JSON"),
    ({'conversations': [{'from': 'gtp', 'value': 'x'}]},
     "the nearest is 'gpt'"),
    ({'turns': 3}, 'turns: found 3, expected a list.'),
  ],
)  # fmt: skip
def test_what_is_no_conversation(value, said):
  with pytest.raises(errors.UserError) as caught:
    formats.parse(value)
  assert said in str(caught.value)


def test_a_tag_without_recordings_is_a_text():
  value = {'conversations': [{'from': 'human', 'value': 'say <audio>'}]}
  assert formats.parse(value).turns == (turn('user', 'say <audio>'),)


TURNS = [
  {'role': 'system', 'text': 'be brief'},
  {'role': 'tool_json_schemas', 'tools': [CLOCK]},
  {'role': 'user', 'content': [{'speech': 'u1'}, {'text': 'What is it?'}]},
  {'role': 'assistant', 'text': 'One moment.', 'calls': [
    {'name': 'clock', 'arguments': {'at': 1}, 'id': 'c'}]},
  {'role': 'tool', 'text': 'noon', 'call_id': 'c'},
  {'role': 'assistant', 'speech': 'u2'},
]  # fmt: skip


def test_turns_of_a_manifest_stay_what_they_are():
  conversation = own.parse(TURNS)
  assert list(own.written(conversation)) == TURNS
  assert list(own.checked(TURNS)) == TURNS
  assert conversation.turns[2].parts == (SPEECH(id='u1'), 'What is it?')
  assert conversation.turns[3].calls == (CALL,)
  assert list(own.spoken(TURNS)) == ['u1', 'u2']
  assert list(own.spoken(None)) == []
  assert formats.parse({'turns': TURNS}) == conversation


@pytest.mark.parametrize(
  ('turn', 'said'),
  [
    ('hello', "turns[0]: found 'hello', expected a role with a text"),
    ({'role': 'robot', 'text': 'x'}, "turns[0].role: found 'robot', expected"),
    ({'role': 'user'}, 'turns[0]: found neither text nor audio'),
    ({'role': 'user', 'text': ' '}, "turns[0]: found {'text': ' '}, expected"),
    ({'role': 'user', 'text': 'x', 'speech': 'u1'},
     'turns[0]: found text and speech, expected one of them; both a text and a '
     'speech are parts of `content`.'),
    ({'role': 'user', 'content': [{'speech': 'a'}, {'speech': 'b'}]},
     'turns[0]: found 2 recordings'),
    ({'role': 'user', 'content': [{'speech': 3}]}, 'turns[0].content: found'),
    ({'role': 'user', 'content': 'x'}, "turns[0].content: found 'x'"),
    ({'role': 'user', 'txt': 'x'},
     'turns[0].txt: unknown field, expected role, text'),
    ({'role': 'user', 'text': 'x', 'call_id': 3}, 'turns[0].call_id: found 3'),
    ({'role': 'assistant', 'text': 'x', 'calls': [{'name': 3}]},
     'turns[0].calls[0]: found'),
    ({'role': 'assistant', 'text': 'x', 'calls': [{'name': 'x'}]},
     'the conversation has no schemas of tools'),
  ],
)  # fmt: skip
def test_turns_of_a_manifest_that_are_none(turn, said):
  with pytest.raises(errors.UserError) as caught:
    own.checked([turn])
  assert said in str(caught.value)


WORDS = st.sampled_from(
  [
    'role', 'from', 'content', 'value', 'text', 'audio', 'type', 'tool_calls',
    'function', 'name', 'arguments', 'tools', 'user', 'assistant', 'tool',
    'gpt',
    'function_call', 'tool_json_schemas', 'input_audio', 'data', 'speech', 'id',
    'messages', 'conversations', 'turns', 'calls', 'audios', '[]', '{}',
    '', '<audio>', 'parameters', 'system', 'tool_call_id', 'call_id',
  ]
)  # fmt: skip
ANYTHING = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
  lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5)
  ),
  max_leaves=25,
)
TURN = st.dictionaries(WORDS, ANYTHING, max_size=5)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
  st.sampled_from(['messages', 'conversations', 'turns']),
  st.lists(TURN, min_size=1, max_size=3),
  st.dictionaries(WORDS, ANYTHING, max_size=3),
)
def test_whatever_is_written_is_read_or_refused_in_a_sentence(
  name, turns, beside
):
  try:
    found = formats.parse({**beside, name: turns})
  except errors.UserError as error:
    assert str(error).endswith('.') and '\n' not in str(error)
    return
  for one in found.turns:
    assert one.role in chats.ROLES
    json.dumps([dict(tool) for tool in one.tools], allow_nan=False)


@pytest.mark.parametrize('name', ['messages', 'conversations', 'turns'])
def test_nested_without_end(name):
  value = 'x'
  for _ in range(900):
    value = {'content': [value]}
  with pytest.raises(errors.UserError, match='nested more than 100 levels'):
    formats.parse({name: [value], 'tools': value})
  with pytest.raises(errors.UserError, match='turns: nested more than'):
    own.checked([value])


def test_what_calls_were_called_before():
  """Functions, of which there could be one."""
  asked = {'role': 'user', 'content': 'when'}
  call = {'name': 'clock', 'arguments': '{"at": 1}'}
  value = {
    'messages': [asked, {'role': 'assistant', 'function_call': call}],
    'functions': [{'name': 'clock', 'parameters': {'type': 'object'}}],
  }
  found = formats.parse(value, training=True)
  assert found.turns[-1].calls[0].written == (
    '{"name": "clock", "arguments": {"at": 1}}'
  )
  value['functions'][0]['parameters'] = {'type': 'strng'}
  with pytest.raises(errors.UserError, match=r'^functions\[0\]\.function'):
    formats.parse(value)


@pytest.mark.parametrize(
  ('message', 'said'),
  [
    ({'role': 'assistant', 'content': 'a', 'weight': 0}, 'weight: found 0'),
    ({'role': 'user', 'content': [
      {'type': 'text', 'text': 'a'}, {'type': 'audio', 'audio': ''}]},
     'content[1].audio: expected {"data": base64} or {"path": a file}.'),
    ({'role': 'user', 'content': [
      {'type': 'text', 'text': 'a'},
      {'type': 'input_audio', 'input_audio': {'data': ''}}]},
     'content[1].input_audio: found no bytes, expected a recording.'),
  ],
)  # fmt: skip
def test_nothing_is_lost_in_silence(message, said):
  with pytest.raises(errors.UserError) as caught:
    formats.parse({'messages': [message]})
  assert f'messages[0].{said}' in str(caught.value)


def test_a_chat_of_many_turns_takes_no_longer_for_each():
  turns = [
    {'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}
  ]  # fmt: skip
  began = time.process_time()
  found = formats.parse({'messages': turns * 20_000}, training=True)
  assert len(found.turns) == 40_000
  assert time.process_time() - began < 20  # it was minutes
