"""What masks let through fits its schema, and what fits is let through."""

import json
import random

import jsonschema
import numpy as np
import pytest

from step_audio_jax.chats import conversation as chats
from step_audio_jax.generation.schemas import calls
from tests.generation.schemas import material

LEAF = {'value': 1, 'left': None}
TREE = {
  '$ref': '#/$defs/tree',
  '$defs': {
    'tree': {
      'type': 'object',
      'properties': {
        'value': {'type': 'integer', 'minimum': 0, 'maximum': 99},
        'left': {'anyOf': [{'$ref': '#/$defs/tree'}, {'type': 'null'}]},
        'right': {'$ref': '#/$defs/tree'},
      },
      'required': ['value', 'left'],
    }
  },
}


def fields(*required, **properties):
  return {
    'type': 'object',
    'properties': properties,
    'required': [*required],
  }


# Schemas, and values of which those fit that jsonschema says do; every key is
# one that the schema names.
SCHEMAS = {
  'flat': (
    {
      'type': 'object',
      'properties': {
        'city': {'type': 'string', 'minLength': 1},
        'unit': {'enum': ['°C', '°F', None, 3]},
        'days': {'type': ['integer', 'null'], 'exclusiveMaximum': 8},
        'note "x"\n': {'type': 'boolean'},
      },
      'required': ['city', 'days'],
      'additionalProperties': False,
    },
    [
      {'city': 'Zürich', 'unit': '°C', 'days': 7, 'note "x"\n': True},
      {'city': 'a', 'days': None},
      {'city': '', 'days': 1},
      {'city': 'b', 'unit': 'K', 'days': 1},
      {'city': 'b', 'days': 8},
      {'unit': 3, 'days': -2},
      {},
    ],
  ),
  'tree': (
    TREE,
    [
      {'value': 3, 'left': None},
      {'value': 3, 'left': {**LEAF, 'right': LEAF}},
      {'value': 3, 'left': {'value': 100, 'left': None}},
      {'value': 3, 'left': {}},
      None,
    ],
  ),
  'arrays': (
    {
      'type': 'array',
      'prefixItems': [
        {'type': 'string'}, {'type': 'array', 'items': {'type': 'array'}},
      ],
      'items': {'type': 'number', 'minimum': -1, 'exclusiveMaximum': 1},
      'minItems': 1,
      'maxItems': 3,
    },
    [
      ['x'], ['x', []], ['x', [[]], 0.25], ['x', [[], [1]], -1],
      [], ['x', [], 1], ['x', [], 0, 0], [1], ['x', 'y'], ['"', [[None]], 0.5],
    ],
  ),
  'unions': (
    {
      'anyOf': [
        fields('k', 'n', k={'const': 'a'}, n={'type': 'integer'}),
        fields('k', k={'const': 'b'}, s={'type': 'string', 'maxLength': 2}),
        {'type': 'array', 'items': {'$ref': '#'}},
        {'type': 'string', 'pattern': '^[ab]+$'},
        {'type': 'string', 'maxLength': 1},
      ]
    },
    [
      {'k': 'a', 'n': 4}, {'k': 'b'}, {'k': 'b', 's': 'xy'},
      {'k': 'b', 's': 'xyz'},
      {'k': 'a'}, [{'k': 'b'}, [], 'c'], ['cd'], 'abab', '', 4,
    ],
  ),
  'all of': (
    {
      'allOf': [
        fields('a', a={'type': 'number'}),
        fields(
          a={'type': ['integer', 'string'], 'multipleOf': 3},
          b={'maxLength': 3},
        ),
      ],
      'properties': {'b': {'type': 'string', 'pattern': 'x'}},
      'minProperties': 2,
    },
    [
      {'b': 'x', 'a': 6}, {'a': 6}, {'b': 'x', 'a': 7}, {'b': 'x', 'a': '6'},
      {'b': 'axb', 'a': 0}, {'b': 'ab', 'a': 0}, {'b': 'axbc', 'a': 0},
    ],
  ),
  'one of': (
    {
      'oneOf': [
        {'type': 'integer', 'minimum': 10},
        {'type': 'integer', 'maximum': 9, 'multipleOf': 2},
        fields('t', t={'enum': [1, 2]}, x={}),
        fields('t', t={'const': 3}),
      ]
    },
    [10, 12, 9, 8, {'t': 1}, {'t': 2, 'x': [{}]}, {'t': 3}, {'t': 4}, {}],
  ),
  'maps': (
    {
      'type': 'object',
      'additionalProperties': {'type': 'integer', 'minimum': 0, 'maximum': 5},
      'propertyNames': {'pattern': '^[a-c]{1,2}$'},
      'maxProperties': 2,
      'minProperties': 1,
    },
    [
      {'a': 1}, {'ab': 2, 'c': 5}, {}, {'d': 1}, {'a': 6},
      {'a': 1, 'b': 1, 'c': 1},
    ],
  ),
  'optional': (
    {
      'type': 'object',
      'properties': {name: {'type': 'null'} for name in ('a', 'ab', 'b', 'c')},
      'required': ['b'],
      'minProperties': 2,
      'maxProperties': 3,
    },
    [
      {'b': None}, {'a': None, 'b': None}, {'b': None, 'c': None},
      {'a': None, 'ab': None, 'b': None, 'c': None}, {'a': None, 'c': None},
      {'a': None, 'ab': None, 'b': None},
    ],
  ),
  'anything': (
    {},
    [None, True, -5, 1.5, 'x', [], {}, [[1, {'a': [None]}]], {'a': {'b': 'c'}}],
  ),
  'formats': (
    {
      'type': 'object',
      'properties': {
        'day': {'type': 'string', 'format': 'date'},
        'id': {'type': 'string', 'format': 'uuid'},
      },
      'required': ['day'],
    },
    [
      {'day': '2024-02-29'}, {'day': '2023-02-29'}, {'day': 'today'},
      {'day': '2024-12-31', 'id': '3f2504e0-4f89-41d3-9a0c-0305e82c3301'},
      {'day': '2024-12-31', 'id': '3f2504e0'},
    ],
  ),
  'texts': ({'enum': ['a', 'ab', 'a"', 1, 12, [1, 'x'], {'z': 0, 'a': None}]},
    ['a', 'ab', 'a"', 'b', 1, 12, 2, [1, 'x'], {'z': 0, 'a': None}, [1]]),
}  # fmt: skip


@pytest.fixture(scope='module', params=material.KINDS)
def kind(request):
  return request.param


_made = {}


def schemas_of(kind):
  if kind not in _made:
    _made[kind] = calls.Schemas(material.vocabulary(kind), material.SMALL)
  return _made[kind]


def validator(schema):
  return jsonschema.Draft202012Validator(
    schema, format_checker=jsonschema.FormatChecker()
  )


@pytest.mark.parametrize('name', SCHEMAS)
def test_what_is_written_fits(kind, name):
  schema, _ = SCHEMAS[name]
  table, rng = material.vocabulary(kind), np.random.default_rng(7)
  for _ in range(12):
    *ids, end = material.walk(schemas_of(kind).of(response_schema=schema), rng)
    assert end == material.EOT
    text = table.decode(ids)
    written = schemas_of(kind).tokens.written
    assert text.encode() == b''.join(written[i] for i in ids)
    validator(schema).validate(json.loads(text))


@pytest.mark.parametrize('name', SCHEMAS)
def test_what_fits_can_be_written(kind, name):
  schema, values = SCHEMAS[name]
  table = material.vocabulary(kind)
  found = {}
  for value in values:
    ids = material.behind(table, chats.as_json(value))
    reply = schemas_of(kind).of(response_schema=schema)
    found[chats.as_json(value)] = material.accepts(reply, ids)
  assert found == {
    chats.as_json(value): validator(schema).is_valid(value) for value in values
  }
  assert len(set(found.values())) == 2 or name == 'anything'


@pytest.mark.parametrize('name', SCHEMAS)
def test_masks_are_those_of_the_automaton(kind, name):
  """A mask against every id, byte by byte."""
  schema, _ = SCHEMAS[name]
  schemas, rng = schemas_of(kind), np.random.default_rng(3)
  masks = schemas.value(schema, 'response_schema')
  written = schemas.tokens.written
  state, seen = masks.automaton.start, 0
  while seen < 14 and state.ways:
    expected = np.zeros(len(written), bool)
    for token, some in enumerate(written):
      at = state if some else None
      for byte in some:
        at = at and masks.automaton.step(at, byte)
      expected[token] = at is not None
    np.testing.assert_array_equal(masks.mask(state), expected)
    for byte in written[rng.choice(np.flatnonzero(expected))]:
      state = masks.automaton.step(state, byte)
    seen += 1
  assert seen


def instance(rng, depth=0):
  """A schema that pydantic might make, and a value that fits it."""
  kinds = ['int', 'text', 'enum', 'flag', 'maybe', 'number']
  kind = rng.choice(kinds if depth > 2 else [*kinds, 'object', 'list'] * 2)
  if kind == 'int':
    low = rng.randint(-50, 50)
    high = low + rng.randint(0, 300)
    return {'type': 'integer', 'minimum': low, 'maximum': high}, rng.randint(
      low, high
    )
  if kind == 'text':
    text = ''.join(rng.choices('ab "\\\n妈é😀{}[],:1', k=rng.randint(0, 8)))
    return {'type': 'string', 'maxLength': len(text)}, text
  if kind == 'enum':
    some = rng.sample(['a', 'ab', 'b c', 1, 2.5, None, True], 3)
    return {'enum': some}, rng.choice(some)
  if kind == 'flag':
    return {'type': 'boolean'}, rng.random() < 0.5
  if kind == 'number':
    return {'type': 'number'}, rng.choice((0, 1.5, -2e-9, 1e22, rng.random()))
  if kind == 'maybe':
    schema, value = instance(rng, depth + 1)
    value = rng.choice((None, value))
    return {'anyOf': [schema, {'type': 'null'}]}, value
  parts = {f'k{n}': instance(rng, depth + 1) for n in range(rng.randint(0, 3))}
  if kind == 'list':
    return {
      'type': 'array',
      'prefixItems': [schema for schema, _ in parts.values()],
    }, [value for _, value in parts.values()]
  must = [name for name in parts if rng.random() < 0.5]
  return {
    'type': 'object',
    'properties': {name: schema for name, (schema, _) in parts.items()},
    'required': must,
  }, {
    name: value
    for name, (_, value) in parts.items()
    if name in must or rng.random() < 0.6
  }


def test_any_value_of_any_schema_can_be_written():
  rng, table = random.Random(5), material.vocabulary('bytes')
  schemas = calls.Schemas(table)
  walks = np.random.default_rng(5)
  small = schemas_of('bytes')
  for _ in range(60):
    schema, value = instance(rng)
    validator(schema).validate(value)
    ids = material.behind(table, chats.as_json(value))
    reply = schemas.of(response_schema=schema)
    assert material.accepts(reply, ids), (schema, value)
    *ids, _ = material.walk(small.of(response_schema=schema), walks)
    validator(schema).validate(json.loads(table.decode(ids)))


def test_masks_are_kept_and_shared():
  schemas = schemas_of('bytes')
  schema = SCHEMAS['flat'][0]
  one, two = (schemas.of(response_schema=schema) for _ in range(2))
  assert one.mask() is two.mask()
  assert not one.mask().flags.writeable
  ids = material.behind(material.vocabulary('bytes'), '{"city": "aaaa')
  for token in ids:
    one.advance(token)
    two.advance(token)
    assert one.mask() is two.mask()
  with pytest.raises(ValueError, match='may not come'):
    one.advance(material.CALL)
  with pytest.raises(ValueError, match='may not come'):
    one.advance(-1)
