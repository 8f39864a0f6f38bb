"""Schemas of tools, and calls of them."""

import json

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import tools
from tests.chats import conversations

TOOL = conversations.TOOL


def test_schemas_in_all_their_spellings():
  want = (TOOL,)
  assert tools.schemas([TOOL], 'tools') == want
  assert tools.schemas([TOOL['function']], 'tools') == want
  assert tools.schemas(json.dumps([TOOL['function']]), 'tools') == want
  for nothing in (None, '', ' ', [], '[]'):
    assert tools.schemas(nothing, 'tools') == ()
  tools.check_schema(TOOL, 'tools[0]')
  tools.check_schema(conversations.CLOCK, 'tools[0]')


@pytest.mark.parametrize(
  ('value', 'said'),
  [('{"a": 1}', "tools: found {'a': 1}, expected a list"),
   ('{', "tools: found '{', expected JSON"), (3, 'tools: found 3')],
)  # fmt: skip
def test_what_is_no_list_of_schemas(value, said):
  with pytest.raises(errors.UserError) as caught:
    tools.schemas(value, 'tools')
  assert said in str(caught.value)


def schema(parameters):
  return {
    'type': 'function',
    'function': {'name': 'x', 'parameters': parameters},
  }


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ({}, 'tools[0]: found {}, expected {"type": "function"'),
    ('clock', "tools[0]: found 'clock'"),
    ({'function': {'name': ' '}}, 'expected {"type"'),
    ({**TOOL, 'type': 'code'}, "tools[0].type: found 'code'"),
    (schema([]), 'parameters: no JSON Schema: found [], expected an object.'),
    (schema({'type': 'string'}), "no JSON Schema: type: found 'string'"),
    (schema({'type': 'object', 'properties': {'a': {'type': 'strng'}}}),
     'tools[0].function.parameters: no JSON Schema: properties.a.type: '),
    (schema({'type': 'object', 'required': 'a'}), "required: 'a' is not of"),
    (schema({'properties': {'a': {'pattern': 3}}}), 'properties.a.pattern: 3'),
    (schema({'properties': {'a': {'pattern': 'a{99999999999}'}}}),
     'repetition number is too large'),
  ],
)  # fmt: skip
def test_what_is_no_schema(value, said):
  with pytest.raises(errors.UserError) as caught:
    tools.check_schema(value, 'tools[0]')
  assert said in str(caught.value)


def test_a_schema_of_schemas_is_never_fetched():
  """What it says it is written in may be anywhere, or a trap."""
  tools.check_schema(schema({'$schema': 'http://localhost:1/x'}), 'tools[0]')
  tools.check_schema(schema({'$ref': 'file:///etc/passwd'}), 'tools[0]')


def test_nested_without_end():
  deep = {}
  for _ in range(300):
    deep = {'properties': {'a': deep}}
  with pytest.raises(errors.UserError, match='nested too deeply'):
    tools.check_schema(schema(deep), 'tools[0]')


def _deep(levels):
  value = {}
  for _ in range(levels):
    value = {'a': value}
  return value


DEEP = _deep(5000)


def test_calls_in_all_their_spellings():
  want = chats.Call('clock', {'at': 1})
  told = {'name': 'clock', 'arguments': {'at': 1}}
  for value in (
    told, [told], json.dumps(told), json.dumps([told]),
    {'type': 'function', 'function': told},
    {'function': {**told, 'arguments': '{"at": 1}'}},
  ):  # fmt: skip
    assert tools.calls(value, 'x') == (want,)
  assert tools.calls({'name': 'clock', 'id': 'c'}, 'x') == (
    chats.Call('clock', id='c'),
  )
  assert want.written == '{"name": "clock", "arguments": {"at": 1}}'
  assert chats.Call('天').written == '{"name": "天", "arguments": {}}'


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ('clock', "x: found 'clock', expected JSON"),
    (3, 'x: found 3, expected calls'),
    ([3], 'x[0]: found 3, expected a call with "name"'),
    ({'name': ''}, 'expected a call with "name"'),
    ({'function': 'clock'}, 'expected a call with "name"'),
    ({'name': 'a', 'arguments': '{'}, "x[0].arguments: found '{', expected"),
    ({'name': 'a', 'arguments': [1]}, 'expected a JSON object'),
    ({'name': 'a', 'id': 3}, 'x[0].id: found 3'),
    ('{"name": "a", "arguments": {"b": NaN}}', 'JSON cannot hold'),
    ({'name': 'a', 'arguments': DEEP}, 'JSON cannot hold'),
  ],
)
def test_what_is_no_call(value, said):
  with pytest.raises(errors.UserError) as caught:
    tools.calls(value, 'x')
  assert said in str(caught.value)
