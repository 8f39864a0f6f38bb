"""Arguments and schemas of strangers."""

import time
import warnings

import jsonschema
import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.tools import arguments

wrong_with = arguments.wrong_with


def fields(**properties):
  return {'type': 'object', 'properties': properties}


CITY = fields(city={'type': 'string'}) | {
  'required': ['city'], 'additionalProperties': False
}  # fmt: skip


def test_what_fits_and_what_does_not():
  assert wrong_with({'city': 'Rome'}, CITY) is None
  assert wrong_with({}, CITY) == "'city' is a required property"
  assert wrong_with({'city': 3}, CITY) == "city: 3 is not of type 'string'"
  assert wrong_with({'city': 'x', 'zip': 1}, CITY) == (
    "'zip' is not known; there are city"
  )
  assert wrong_with({'anything': 1}, {}) is None


KEYWORDS = (
  ({'pattern': '^a+$'}, 'aaa', 'aab'),
  ({'uniqueItems': True}, [1, True, '1', [1]], [1, 1.0]),
  ({'uniqueItems': True}, [{'a': 1}, {'a': True}], [{'a': 1}, {'a': 1.0}]),
  ({'patternProperties': {'^n': {'type': 'null'}}}, {'n': None}, {'n': 1}),
  (
    {'patternProperties': {'^n': {}}, 'additionalProperties': False},
    {'n': 1},
    {'m': 1},
  ),
  ({'additionalProperties': {'type': 'null'}}, {'n': None}, {'n': 1}),
  ({'anyOf': [{'type': 'string'}, {'minimum': 3}]}, 4, 2),
  ({'enum': ['a', 'b']}, 'a', 'c'),
  ({'$ref': '#/$defs/n'}, 1, 'x'),
)


@pytest.mark.parametrize('schema, good, bad', KEYWORDS)
def test_keywords_mean_what_they_mean_elsewhere(schema, good, bad):
  whole = fields(x=schema) | {'$defs': {'n': {'type': 'integer'}}}
  oracle = jsonschema.Draft202012Validator(whole)
  for value, fits in ((good, True), (bad, False)):
    assert (wrong_with({'x': value}, whole) is None) == fits
    assert oracle.is_valid({'x': value}) == fits


def doubling(levels):
  """Every definition refers to the next one twice."""
  inner = {
    f'd{n}': {'allOf': [{'$ref': f'#/$defs/d{n + 1}'}] * 2}
    for n in range(levels)
  }
  return fields(x={'$ref': '#/$defs/d0'}) | {
    '$defs': inner | {f'd{levels}': {'type': 'string'}}
  }


BOMBS = (
  (fields(x={'pattern': '^(a+)+$'}), {'x': 'a' * 60 + 'b'}),
  (fields(x={'pattern': '(.*)*x(.*)*y$'}), {'x': 'ab' * 5000}),
  (
    fields(x={'patternProperties': {'^(a|aa)+$': {}}}),
    {'x': {'a' * 200 + 'b': 1}},
  ),
  (
    fields(
      x={'patternProperties': {'^(a+)+$': {}}, 'additionalProperties': False}
    ),
    {'x': {'a' * 60 + 'b': 1}},
  ),
  (doubling(40), {'x': 'a'}),
  ({'$ref': '#'}, {}),
  ({'allOf': [{'$ref': '#'}]}, {}),
  (fields(x={'items': {'enum': list(range(5000))}}), {'x': [-1.5] * 9000}),
)


@pytest.mark.parametrize('schema, given', BOMBS)
def test_no_check_takes_long(schema, given):
  began = time.process_time()
  found = wrong_with(given, schema)
  assert time.process_time() - began < 1.5
  assert found and len(found) < 300


def test_large_and_deep_arguments():
  assert 'characters' in wrong_with({'x': 'a' * 70_000}, {})
  deep = {}
  for _ in range(200):
    deep = {'x': deep}
  assert 'too deeply' in wrong_with(deep, {})
  assert wrong_with({'x': list(range(2000))}, fields(x={'type': 'array'})) is (
    None
  )


def test_nothing_is_fetched():
  schema = fields(x={'$ref': 'http://127.0.0.1:9/schema.json'})
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert 'cannot be followed' in wrong_with({'x': 1}, schema)


def test_others_keep_their_validator():
  wrong_with({}, CITY)
  newest = jsonschema.validators.validator_for(
    {'$schema': 'https://json-schema.org/draft/2020-12/schema'}
  )
  assert newest is jsonschema.Draft202012Validator


@pytest.mark.parametrize(
  'pattern', ('(', 'a{1,99999}', 'a{999999999999}', 'a' * 1001, '(' * 500)
)
def test_patterns_that_are_none(pattern):
  for schema in ({'pattern': pattern}, {'patternProperties': {pattern: {}}}):
    with pytest.raises(errors.UserError, match='^p: found the pattern'):
      arguments.check_schema(fields(x={'items': [schema]}), 'p')
    if 'pattern' in schema:
      assert wrong_with({'x': 'a'}, fields(x=schema))


def test_schemas_that_are_too_large():
  with pytest.raises(errors.UserError, match='^p: found 7.* at most 65536'):
    arguments.check_schema({'description': 'a' * 70_000}, 'p')
