"""Schemas and tools, from the client to the ids of a real engine.

The model writes at random, but for a few ids that it likes in turn, so that
what it writes has an end.
"""

import json
import threading

import jax.numpy as jnp
import jsonschema
import openai
import pytest

from step_audio_jax.generation import rows as rows_lib
from tests.dialogue.models import talker
from tests.generation.schemas import material
from tests.serving import running

CALLS = {
  'get_weather': {
    'type': 'object',
    'properties': {
      'city': {'type': 'string', 'maxLength': 12},
      'days': {'type': 'integer', 'minimum': 1, 'maximum': 14},
      'unit': {'enum': ['°C', '°F', None]},
    },
    'required': ['city', 'days'],
    'additionalProperties': False,
  },
  'clock': {'type': 'object', 'maxProperties': 0},
}
TOOLS = [
  {'type': 'function', 'function': {'name': name, 'parameters': schema}}
  for name, schema in CALLS.items()
]
SCHEMA = {
  'type': 'object',
  'properties': {
    'answer': {'type': 'number', 'minimum': -1, 'exclusiveMaximum': 1},
    'why': {'type': 'array', 'items': {'$ref': '#/$defs/word'}, 'maxItems': 2},
    'is_sure': {'type': 'boolean'},
  },
  'required': ['answer', 'why', 'is_sure'],
  'additionalProperties': False,
  '$defs': {'word': {'type': 'string', 'pattern': '^[a-zé]{1,8}$'}},
}
HELLO = [{'role': 'user', 'content': 'the cat'}]


def writer(table):
  """(all ids so far, place) → the id that a model likes behind it."""
  liked = [table.encode_text(one)[-1] for one in '"}]0e']
  liked = jnp.asarray([*liked, material.CALLED, material.EOT])

  def follow(seen, place):
    return liked[(place * 5 + seen[place]) % len(liked)]

  return follow


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A server and its models."""
  table = material.vocabulary('bytes')
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp('run')
    models = talker.models(folder, patch, writer(table), table, places=640)
  (run,) = models.runs.values()
  with running.running(models) as server:
    yield server
  assert run.engine.drain(10) and not run.engine.live
  models.close()


def ask(place, seed=0, most=300, **more):
  found = place.client().chat.completions.create(
    model='parrot',
    messages=HELLO,
    temperature=1.0,
    seed=seed,
    max_completion_tokens=most,
    **more,
  )
  return found if more.get('stream') else found.choices[0]


def strict(schema):
  given = {'name': 'answer', 'schema': schema, 'strict': True}
  return {'type': 'json_schema', 'json_schema': given}


def test_replies_fit_their_schema(place):
  texts = set()
  for seed in range(4):
    found = ask(place, seed, response_format=strict(SCHEMA))
    assert found.finish_reason == 'stop'
    jsonschema.validate(json.loads(found.message.content), SCHEMA)
    texts.add(found.message.content)
  assert len(texts) == 4
  *chunks, end = ask(place, 1, response_format=strict(SCHEMA), stream=True)
  text = ''.join(one.choices[0].delta.content or '' for one in chunks)
  assert text in texts and end.choices[0].finish_reason == 'stop'


def test_replies_are_objects(place):
  found = [
    ask(place, seed, response_format={'type': 'json_object'})
    for seed in range(4)
  ]
  ended = [one for one in found if one.finish_reason == 'stop']
  assert ended and all(
    isinstance(json.loads(one.message.content), dict) for one in ended
  )


@pytest.mark.parametrize(
  ('choice', 'names'),
  [
    ('required', {'get_weather', 'clock'}),
    ({'type': 'function', 'function': {'name': 'clock'}}, {'clock'}),
    (
      {'type': 'function', 'function': {'name': 'get_weather'}},
      {'get_weather'},
    ),
  ],
)
def test_tools_are_called_as_they_are_chosen(place, choice, names):
  for seed in range(3):
    found = ask(place, seed, 500, tools=TOOLS, tool_choice=choice)
    calls = [one.function for one in found.message.tool_calls]
    assert found.finish_reason == 'tool_calls' and not found.message.content
    assert {one.name for one in calls} <= names
    assert choice == 'required' or len(calls) == 1
    for call in calls:
      jsonschema.validate(json.loads(call.arguments), CALLS[call.name])


def test_tools_may_be_left_alone(place):
  for choice in ('auto', 'none'):
    found = [
      ask(place, seed, 40, tools=TOOLS, tool_choice=choice) for seed in range(3)
    ]
    assert all(one.message.content for one in found)
    assert not any(one.message.tool_calls for one in found)


def test_nothing_is_compiled_for_a_schema(place):
  ask(place, most=9, response_format=strict(SCHEMA))
  before = rows_lib.turns._cache_size()
  for n in range(3):
    other = {'type': 'string', 'pattern': f'^a{{{n}}}b+$'}
    ask(place, most=9, response_format=strict(other))
  assert rows_lib.turns._cache_size() == before


def test_what_meets_its_limit_says_so(place):
  for more in (
    {'response_format': strict(SCHEMA)},
    {'tools': TOOLS, 'tool_choice': 'required'},
  ):
    found = ask(place, most=5, **more)
    assert found.finish_reason == 'length' and not found.message.tool_calls


def test_a_held_reply_disturbs_no_other(place):
  alone = ask(place, 5, 120).message.content
  found = {}

  def asked(name, **more):
    found[name] = ask(place, 5, 120, **more).message.content

  threads = [
    threading.Thread(target=asked, args=('free',)),
    threading.Thread(
      target=asked, args=('held',), kwargs={'response_format': strict(SCHEMA)}
    ),
  ]
  for one in threads:
    one.start()
  for one in threads:
    one.join()
  assert found['free'] == alone
  jsonschema.validate(json.loads(found['held']), SCHEMA)


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize('keyword', ['not', 'patternProperties', 'if'])
def test_a_keyword_that_is_not_supported_is_named(place, stream, keyword):
  odd = {'type': 'object', 'properties': {'a': {keyword: {}}}}
  for param, more in {
    'response_format': {'response_format': strict(odd)},
    'tools': {
      'tools': [
        {
          'type': 'function',
          'function': {'name': 'b', 'parameters': odd, 'strict': True},
        }
      ]
    },
  }.items():
    with pytest.raises(openai.BadRequestError) as told:
      ask(place, stream=stream, **more)
    assert told.value.param == param
    assert f'#/properties/a/{keyword}: this keyword is not' in str(told.value)
