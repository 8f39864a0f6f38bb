"""Items as clients write and read them."""

import base64

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.context import items

SOUND = base64.b64encode(b'\1\2\3\4').decode()
GOOD = (
  {
    'type': 'message',
    'role': 'system',
    'content': [{'type': 'input_text', 'text': 'Be brief.'}],
  },
  {
    'type': 'message',
    'role': 'user',
    'content': [{'type': 'input_text', 'text': 'And this?'}],
  },
  {
    'type': 'message',
    'role': 'assistant',
    'status': 'incomplete',
    'content': [{'type': 'output_text', 'text': 'Well.'}],
  },
  {
    'type': 'function_call',
    'call_id': 'c1',
    'name': 'clock',
    'arguments': '{"zone": "UTC"}',
  },
  {'type': 'function_call_output', 'call_id': 'c1', 'output': '12:00'},
)


@pytest.mark.parametrize('value', GOOD)
def test_what_is_read_is_written(value):
  read = items.parse({**value, 'id': 'item_7'})
  told = items.written(read)
  status = value.get('status', 'completed')
  assert told == {
    **value, 'id': 'item_7', 'object': 'realtime.item', 'status': status
  }  # fmt: skip
  assert items.parse(told) == read


def test_the_official_client_reads_them():
  realtime = pytest.importorskip('openai.types.realtime')
  import pydantic

  reader = pydantic.TypeAdapter(realtime.ConversationItem)
  heard = items.heard(data=b'\1\2', id='item_8')
  for item in [*map(items.parse, GOOD), heard]:
    told = items.written(item, audio=True)
    found = reader.validate_python(told)
    assert found.type == told['type']
    assert found.to_dict(exclude_unset=True) == told
  assert items.written(heard)['content'] == [
    {'type': 'input_audio', 'transcript': None}
  ]


def test_a_recording_is_kept_as_it_was_sent():
  content = {'type': 'input_audio', 'audio': SOUND, 'transcript': 'Hello'}
  item = items.parse({'type': 'message', 'role': 'user', 'content': [content]})
  assert item.parts[0].data == b'\1\2\3\4' and item.parts[0].text == 'Hello'
  assert items.written(item, audio=True)['content'] == [content]
  assert 'audio' not in items.written(item)['content'][0]


def test_names_of_the_first_protocol_are_read():
  content = [{'type': 'text', 'text': 'Hi'}]
  item = items.parse(
    {'type': 'message', 'role': 'assistant', 'content': content}
  )
  assert item.parts[0].kind == items.OUTPUT_TEXT


def message(role='user', **content):
  return {
    'type': 'message',
    'role': role,
    'content': [{'type': 'input_text', 'text': 'x'} | content],
  }


DEEP = '{"a":' * 200 + '1' + '}' * 200
BAD = (
  (None, 'item: found None'),
  ([], r'item: found \[\]'),
  ({}, 'item.type: found None'),
  ({'type': 'mesage'}, "nearest is 'message'"),
  ({'type': ['message']}, 'item.type'),
  ({**message(), 'id': 'root'}, 'item.id'),
  ({**message(), 'id': ''}, 'item.id'),
  ({**message(), 'id': 'a' * 200}, 'item.id'),
  ({**message(), 'id': 7}, 'expected a string'),
  ({**message(), 'status': 'done'}, 'item.status'),
  (message('developer'), 'item.role'),
  ({**message(), 'content': 'x'}, 'item.content: found'),
  ({**message(), 'content': []}, 'item.content: found'),
  ({**message(), 'content': ['x']}, r'content\[0\]: found'),
  (message(text=None), 'text: missing'),
  (message(text=3), 'expected a string'),
  (message(type='output_text'), r'content\[0\].type'),
  (message(type='input_image'), 'expected input_text, input_audio'),
  (message('system', type='input_audio', audio=SOUND), 'expected input_text'),
  (message(type='input_audio'), 'expected base64'),
  (message(type='input_audio', audio='%%%'), 'expected base64'),
  (message(type='input_audio', audio=''), 'found no sound'),
  (message('assistant', type='output_audio'), 'transcript: missing'),
  ({**GOOD[3], 'arguments': {}}, 'item.arguments: found'),
  ({**GOOD[3], 'arguments': '[]'}, 'expected a JSON object'),
  ({**GOOD[3], 'arguments': '{'}, 'expected JSON'),
  ({**GOOD[3], 'arguments': '{"x": NaN}'}, 'cannot hold'),
  ({**GOOD[3], 'arguments': DEEP}, 'nested more than'),
  ({**GOOD[3], 'name': ''}, 'item: found'),
  ({**GOOD[3], 'arguments': '{"x": "\\ud800"}'}, 'half a character'),
  ({**GOOD[4], 'call_id': None}, 'call_id'),
  ({**GOOD[4], 'output': {}}, 'output'),
)


@pytest.mark.parametrize('value, told', BAD)
def test_what_is_no_item_is_told_in_one_sentence(value, told):
  with pytest.raises(errors.UserError, match=told) as caught:
    items.parse(value)
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


def test_results_become_items():
  result = chats.Turn(chats.RESULT, ('12:00',), call_id='c1')
  assert items.gave(result).output == '12:00'
  assert items.called(chats.Call('clock', id='c1')).kind == items.CALL
