"""What is refused, by which place, and how soon."""

import time

import pytest

from step_audio_jax import errors
from step_audio_jax.generation.schemas import limits
from step_audio_jax.generation.schemas import nodes


def build(schema):
  return nodes.Builder(schema, 'schema', limits.Limits()).build()


def within(word, value, **others):
  return {'properties': {'a/b': {word: value, **others}}}


@pytest.mark.parametrize(
  ('schema', 'message'),
  [
    (within('not', {}), r'schema: #/properties/a~1b/not: this keyword is not'),
    (within('nullable', True), r'#/properties/a~1b/nullable: this keyword'),
    (within('patternProperties', {}), 'patternProperties: this keyword'),
    (within('uniqueItems', True), 'uniqueItems: this keyword'),
    (within('if', {}), '/if: this keyword'),
    (within('type', 'str'), "/type: found 'str', expected of null, boolean"),
    (within('type', []), r'/type: found \[\]'),
    (within('minLength', -1), '/minLength: found -1, expected a count'),
    (within('maxLength', None), '/maxLength: found None, expected a count'),
    (within('maxItems', True), '/maxItems: found True, expected a count'),
    (within('minimum', '3'), "/minimum: found '3', expected a number"),
    (within('multipleOf', 0.5), '/multipleOf: found 0.5, expected a whole'),
    (within('enum', []), '/enum: found'),
    (within('anyOf', {}), '/anyOf: found'),
    (within('format', 'regex'), "/format: found 'regex', expected of date"),
    (within('format', ['date']), '/format: found'),
    (within('pattern', '(?=a)'), 'is not supported'),
    (within('pattern', 3), '/pattern: found 3, expected text'),
    (within('$ref', '#/$defs/x'), 'nothing there'),
    (within('$ref', 'https://example.org'), 'expected "#/…" of this schema'),
    (within('required', True), '/required: found True, expected names'),
    (within('items', 3), '/items: found 3, expected a schema'),
    ({'$ref': '#'}, 'schema: #: it refers to itself'),
    ({'anyOf': [{'$ref': '#'}, {'type': 'null'}]}, 'refers to itself'),
    (False, 'schema: #: no value'),
    (3, 'schema: #: found 3, expected a schema'),
    ({'type': 'string', 'minLength': 3, 'maxLength': 2}, 'no value'),
    ({'type': 'integer', 'minimum': 3, 'exclusiveMaximum': 3}, 'no value'),
    ({'type': 'string', 'enum': [1, 2]}, 'no value'),
    ({'type': 'string', 'minLength': 10**6}, 'no value'),
    ({'type': 'array', 'minItems': 10**6}, '/minItems: found 1000000'),
    (
      {
        'type': 'object',
        'properties': {
          'a': {
            'type': 'object',
            'properties': {'b': {'enum': ['x'], 'maxLength': 0}},
            'required': ['b'],
          }
        },
        'required': ['a'],
      },
      'schema: #/properties/a/properties/b: no value',
    ),
    (
      {
        'type': 'object', 'required': ['x'],
        'properties': {'x': {'$ref': '#'}},
      },
      'no value',
    ),
    (
      {'type': 'object', 'required': ['x'], 'additionalProperties': False},
      'no value',
    ),
    (
      {'oneOf': [{'type': 'integer'}, {'type': 'number'}]},
      r'schema: #/oneOf/0 and 1: both branches may fit',
    ),
    (
      {'type': 'string', 'oneOf': [{'pattern': '^a'}, {'maxLength': 3}]},
      'both branches',
    ),
    (
      {'oneOf': [
        {'type': 'object', 'properties': {'a': {}}},
        {'type': 'object', 'properties': {'b': {}}},
      ]},
      'both branches',
    ),
    (
      {'type': 'object', 'minProperties': 2},
      'minProperties above 1 is supported only where keys are named',
    ),
  ],
)  # fmt: skip
def test_one_sentence_names_the_place(schema, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    build(schema)
  assert str(caught.value).endswith('.') and '\n' not in str(caught.value)


def nest(word, deep):
  schema = {'type': 'null'}
  for _ in range(deep):
    schema = {word: [schema]}
  return schema


def doubling(count):
  """Every definition has the next one twice."""
  names = [f'#/$defs/{n}' for n in range(1, count)]
  definitions = {
    str(n): {'anyOf': [{'$ref': name}, {'$ref': name}]}
    for n, name in enumerate(names)
  }
  definitions[str(count - 1)] = {'type': 'null'}
  return {'$ref': '#/$defs/0', '$defs': definitions}


HOSTILE = {
  'many values': {'enum': list(range(10**6))},
  'long values': {'enum': ['x' * 1000 + str(n) for n in range(500)]},
  'many properties': {'properties': {f'key{n}': {} for n in range(10_000)}},
  'many optional': {'properties': {f'property_{n}': {} for n in range(1500)}},
  'many branches': {'anyOf': [{'const': n} for n in range(5000)]},
  'nested': nest('anyOf', 200),
  'nested all': nest('allOf', 200),
  'doubling': doubling(40),
  'products': {
    'allOf': [
      {'anyOf': [{'minLength': n}, {'maxLength': n}]} for n in range(40)
    ]
  },
  'one of many': {
    'oneOf': [
      {'type': 'object', 'properties': {f'k{n}': {}}} for n in range(250)
    ]
  },
  'patterns': {'type': 'string', 'pattern': '(a|b)*a(a|b){14}'},
  'many patterns': {
    'properties': {
      f'p{n}': {'type': 'string', 'pattern': f'^[a-f]{{{n},{n + 500}}}x$'}
      for n in range(100)
    }
  },
  'met patterns': {
    'type': 'string',
    'allOf': [{'pattern': f'a.{{{n}}}b'} for n in range(5, 12)],
  },
  'cycles': {
    'type': 'string',
    'allOf': [{'pattern': f'^(a{{{n}}})*$'} for n in (251, 257)],
  },
  'steps': {'type': 'integer', 'multipleOf': 10**9 + 7},
}


@pytest.mark.parametrize('name', HOSTILE)
def test_what_is_too_much_is_refused_soon(name):
  began = time.process_time()
  with pytest.raises(errors.UserError):
    build(HOSTILE[name])
  assert time.process_time() - began < 2


def test_recursion_ends_at_nodes_that_are_known():
  schema = {
    'type': 'object',
    'properties': {
      'next': {'$ref': '#'},
      'other': {'allOf': [{'$ref': '#'}, {'required': ['next']}]},
      'list': {'type': 'array', 'items': {'$ref': '#/properties/next'}},
    },
  }
  root = build(schema)
  (form,) = root.objects
  assert form.nodes[0].objects[0].names == form.names
  assert root.least == 1 and form.nodes[1].least == 2


def test_what_is_only_said_of_other_types_does_not_matter():
  root = build({'type': 'integer', 'minLength': 3, 'properties': {'a': {}}})
  assert len(root.terminals) == 1 and not root.objects


def test_notes_are_passed_over():
  notes = {'title': 'T', 'description': 'D', 'default': 3, 'examples': [1]}
  notes |= {'$schema': 'x', '$comment': 'y', 'deprecated': True, 'x-mine': {}}
  root = build({'type': 'null', **notes})
  assert root.least == 0
