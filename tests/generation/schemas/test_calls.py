"""Replies: text, calls of tools, JSON."""

import json

import jsonschema
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import rendering
from step_audio_jax.generation.schemas import calls
from tests.generation.schemas import material

EOT, CALL, CALLED = material.EOT, material.CALL, material.CALLED
WEATHER = {
  'type': 'object',
  'properties': {
    'city': {'type': 'string'},
    'days': {'type': 'integer', 'minimum': 1, 'maximum': 9},
  },
  'required': ['city', 'days'],
  'additionalProperties': False,
}
SUM = {
  'type': 'object',
  'properties': {'terms': {'type': 'array', 'items': {'type': 'number'}}},
  'required': ['terms'],
}


def tool(name, parameters=None, **others):
  function = {'name': name, **others}
  if parameters is not None:
    function['parameters'] = parameters
  return {'type': 'function', 'function': function}


TOOLS = [tool('get_weather', WEATHER), tool('sum', SUM), tool('clock')]
PARAMETERS = {'get_weather': WEATHER, 'sum': SUM, 'clock': {'maxProperties': 0}}


@pytest.fixture(scope='module', params=material.KINDS)
def kind(request):
  return request.param


_made = {}


def schemas(kind):
  if kind not in _made:
    _made[kind] = calls.Schemas(material.vocabulary(kind), material.SMALL)
  return _made[kind]


def written(table, *names_and_arguments):
  """Ids of calls as a turn has them."""
  ids = []
  for name, arguments in names_and_arguments:
    ids += [
      CALL,
      *table.encode_text(chats.Call(name, arguments).written),
      CALLED,
    ]
  return ids


@pytest.mark.parametrize('choice', ['required', 'sum', 'clock'])
def test_calls_fit_their_tools(kind, choice):
  table, rng = material.vocabulary(kind), np.random.default_rng(1)
  names = set()
  for _ in range(12):
    ids = material.walk(schemas(kind).of(TOOLS, choice), rng)
    text, found = rendering.answer_of(table, ids[:-1])
    assert ids[-1] == EOT and not text and found
    for call in found:
      assert isinstance(call, chats.Call)
      jsonschema.validate(dict(call.arguments), PARAMETERS[call.name])
      names.add(call.name)
    if choice != 'required':
      assert len(found) == 1
  assert names == {choice} or (choice == 'required' and len(names) > 1)


def test_training_turns_can_be_written(kind):
  table = material.vocabulary(kind)
  weather = 'get_weather', {'city': 'Zürich "x"', 'days': 3}
  text = material.behind(table, 'a dog says "{')
  ids = [*text, *written(table, weather, ('sum', {'terms': [1, -2.5]}))]
  reply = schemas(kind).of(TOOLS)
  assert material.accepts(reply, [*ids, EOT])
  for wrong in (
    written(table, ('get_weather', {'city': 'x'})),
    written(table, ('get_weather', {'city': 'x', 'days': 10})),
    written(table, ('other', {})),
    written(table, ('clock', {'a': 1})),
    [*written(table, weather), *text],
    [CALL, CALLED],
    [table.linguistic_offset],
    [vocabulary_lib.BOS],
    [CALLED],
  ):
    assert not material.accepts(schemas(kind).of(TOOLS), [*wrong, EOT])


def test_choices():
  some, table = schemas('bytes'), material.vocabulary('bytes')
  text = some.tokens.text_V
  for reply in (some.of(), some.of(TOOLS, 'none')):
    assert np.flatnonzero(reply.mask() & ~text).tolist() == [EOT]
    assert reply.done
  auto = some.of(TOOLS)
  assert np.flatnonzero(auto.mask() & ~text).tolist() == [EOT, CALL]
  assert auto.done and auto.mask()[text].all()
  must = some.of(TOOLS, 'required')
  assert np.flatnonzero(must.mask()).tolist() == [CALL]
  assert not must.done
  for token in written(table, ('clock', {})):
    must.advance(token)
  assert np.flatnonzero(must.mask()).tolist() == [EOT, CALL]
  named = some.of(TOOLS, 'clock')
  for token in written(table, ('clock', {})):
    named.advance(token)
  assert np.flatnonzero(named.mask()).tolist() == [EOT] and named.done
  named.advance(EOT)
  assert np.flatnonzero(named.mask()).tolist() == [EOT] and named.done


def test_calls_are_counted():
  table = material.vocabulary('bytes')
  reply = schemas('bytes').of(TOOLS, most_calls=2)
  for token in written(table, ('clock', {}), ('clock', {})):
    reply.advance(token)
  assert np.flatnonzero(reply.mask()).tolist() == [EOT]


def test_stops_of_another_model():
  stops = [material.vocabulary('bytes').text_size - 1, 68]
  reply = schemas('bytes').of(TOOLS, stops=stops)
  assert reply.mask()[stops].all() and not reply.mask()[EOT]
  reply.advance(stops[0])
  assert np.flatnonzero(reply.mask()).tolist() == sorted(stops)


def test_either_json_or_a_call():
  table, some = material.vocabulary('bytes'), schemas('bytes')
  ids = material.behind(table, chats.as_json({'terms': [1]}))
  for more in (ids, written(table, ('clock', {}))):
    assert material.accepts(some.of(TOOLS, 'auto', SUM), [*more, EOT])
  text = material.behind(table, 'a dog')
  assert not material.accepts(some.of(TOOLS, 'auto', SUM), [*text, EOT])
  reply = some.of(response_schema={'type': 'integer'})
  for token in material.behind(table, '-12'):
    assert not reply.done
    reply.advance(token)
  assert reply.done and reply.mask()[EOT] and reply.mask().sum() > 1


def test_tools_that_are_not_understood():
  table = material.vocabulary('bytes')
  odd = {'type': 'object', 'properties': {'a': {'not': {}}}}
  ids = [*written(table, ('odd', {'a': [1], 'b': {}})), EOT]
  assert material.accepts(schemas('bytes').of([tool('odd', odd)]), ids)
  strict = tool('odd', odd, strict=True)
  with pytest.raises(
    errors.UserError, match='odd: parameters: #/properties/a/not'
  ):
    schemas('bytes').of([strict])
  with pytest.raises(errors.UserError, match='no object fits'):
    schemas('bytes').of([tool('odd', {'type': 'string'}, strict=True)])


def test_only_objects_are_arguments():
  table = material.vocabulary('bytes')
  loose = {'minProperties': 0}
  for arguments, fits in (({'a': 1}, True), ([1], False), ('x', False)):
    ids = [*written(table, ('loose', arguments)), EOT]
    reply = schemas('bytes').of([tool('loose', loose, strict=True)])
    assert material.accepts(reply, ids) == fits


@pytest.mark.parametrize(
  ('choice', 'tools', 'message'),
  [
    ('other', TOOLS, "tool_choice: found 'other', expected of auto, none"),
    ('required', [], "tool_choice: found 'required' and no tools"),
    ('auto', [tool(f't{n}') for n in range(300)], 'tools: found 300'),
    ('auto', [tool('a\nb')], 'printable'),
  ],
)
def test_what_is_asked_wrongly(choice, tools, message):
  with pytest.raises(errors.UserError, match=message):
    schemas('bytes').of(tools, choice)


def test_schemas_that_are_no_json():
  for schema in ({'const': float('nan')}, {'enum': {1, 2}}):
    with pytest.raises(errors.UserError, match='response_format: found what'):
      schemas('bytes').of(response_schema=schema)
  with pytest.raises(errors.UserError, match='expected at most 200000'):
    schemas('bytes').of(response_schema={'description': 'x' * 300_000})


def test_a_schema_may_change_behind_us():
  schema = json.loads(json.dumps(SUM))
  one = schemas('bytes').of(response_schema=schema)
  schema['required'] = []
  two = schemas('bytes').of(response_schema=schema)
  table = material.vocabulary('bytes')
  ids = material.behind(table, '{}')
  assert not material.accepts(one, ids) and material.accepts(two, ids)


def test_a_stop_inside_json_may_not_come():
  table = material.vocabulary('bytes')
  (quote,) = material.behind(table, '"')
  reply = schemas('bytes').of(
    response_schema={'type': 'string'}, stops=[quote, EOT]
  )
  assert not reply.mask()[[quote, EOT]].any() and reply.mask().any()


def test_who_names_no_arguments_gets_none():
  table = material.vocabulary('bytes')
  empty = {'type': 'object', 'properties': {}}
  for parameters, fits in (
    (empty, False),
    ({**empty, 'additionalProperties': True}, True),
    ({'type': 'object'}, True),
  ):
    ids = [*written(table, ('clock', {'a': 1})), EOT]
    reply = schemas('bytes').of([tool('clock', parameters)])
    assert material.accepts(reply, ids) == fits
