"""The shapes of requests, JSON Schemas: what is checked is what is published.

Fields of OpenAI's that mean nothing here are taken if they ask for nothing
that would be missed, and refused if they do.
"""

import collections
import functools
from typing import Any, Mapping

from step_audio_jax.chats import checks
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.sounds import encoding

Shape = Mapping[str, Any]

_KINDS = {
  'string': 'a string',
  'number': 'a number',
  'integer': 'a whole number',
  'boolean': 'true or false',
  'array': 'a list',
  'object': 'an object',
  'null': 'null',
}
_SEED = 2**63 - 1
_NAME = r'^[a-zA-Z0-9_.-]{1,64}$'


def _object(required=(), closed=True, **properties) -> dict[str, Any]:
  shape = {'type': 'object', 'properties': properties}
  if required:
    shape['required'] = list(required)
  if closed:
    shape['additionalProperties'] = False
  return shape


def _text(most: int | None = None, least: int = 0) -> dict[str, Any]:
  shape: dict[str, Any] = {'type': 'string'}
  if most is not None:
    shape['maxLength'] = most
  if least:
    shape['minLength'] = least
  return shape


def _number(least: float, most: float, kind: str = 'number') -> dict[str, Any]:
  return {'type': kind, 'minimum': least, 'maximum': most}


def _or_null(shape: Shape) -> dict[str, Any]:
  found = {**shape, 'type': [shape['type'], 'null']}
  if 'enum' in found:
    found['enum'] = [*found['enum'], None]
  return found


def _choice(*values: Any) -> dict[str, Any]:
  return {'type': 'string', 'enum': list(values)}


_FREE = {'type': 'object'}
_FLAG = {'type': 'boolean'}
_VOICE = {
  'type': ['string', 'object'],
  'minLength': 1,
  'maxLength': 256,
  'properties': {'id': _text(256, 1)},
  'required': ['id'],
  'additionalProperties': False,
}
_PART = {
  **_object(
    ('type',),
    type=_choice('text', 'input_audio', 'refusal'),
    text=_text(),
    refusal=_text(),
    input_audio=_object(
      ('data', 'format'), data=_text(least=1), format=_text(16)
    ),
    prompt_cache_breakpoint=_or_null(_FREE),
  ),
  'allOf': [
    {
      'if': {'properties': {'type': {'const': kind}}, 'required': ['type']},
      'then': {'required': [kind]},
    }
    for kind in ('text', 'input_audio', 'refusal')
  ],
}
_CALL = _object(
  ('id', 'type', 'function'),
  id=_text(256, 1),
  type=_choice('function'),
  function=_object(('name', 'arguments'), name=_text(64, 1), arguments=_text()),
  index={'type': 'integer'},
)
_MESSAGE = _object(
  ('role',),
  role=_choice('developer', 'system', 'user', 'assistant', 'tool'),
  content={
    'anyOf': [
      _text(),
      {'type': 'array', 'items': _PART, 'minItems': 1},
      {'type': 'null'},
    ]
  },
  name=_or_null(_text(256)),
  refusal=_or_null(_text()),
  annotations={'type': ['array', 'null']},
  audio=_or_null(
    _object(('id',), closed=False, id=_text(256, 1))
  ),  # as it came, with its data
  tool_calls=_or_null({'type': 'array', 'items': _CALL}),
  function_call={'type': 'null'},
  tool_call_id=_text(256, 1),
)
_FUNCTION = _object(
  ('name',),
  name={'type': 'string', 'pattern': _NAME},
  description=_or_null(_text()),
  parameters=_or_null(_FREE),
  strict=_or_null(_FLAG),
)
_TOOL = _object(
  ('type', 'function'), type=_choice('function'), function=_FUNCTION
)

SPEECH = _object(
  ('model', 'input', 'voice'),
  model=_text(256, 1),
  input=_text(least=1),
  voice=_VOICE,
  instructions=_or_null(_text(4096)),
  response_format=_or_null(_choice('mp3', 'opus', 'aac', 'flac', 'wav', 'pcm')),
  speed=_or_null(_number(0.5, 2.0)),
  stream_format=_or_null(_choice('audio', 'sse')),
)

CHAT = _object(
  ('model', 'messages'),
  model=_text(256, 1),
  messages={'type': 'array', 'items': _MESSAGE, 'minItems': 1},
  modalities={
    'type': ['array', 'null'],
    'items': _choice('text', 'audio'),
    'minItems': 1,
    'uniqueItems': True,
  },
  audio=_or_null(
    _object(
      ('voice', 'format'),
      voice=_VOICE,
      format=_choice('wav', 'aac', 'mp3', 'flac', 'opus', 'pcm16'),
    )
  ),
  stream=_or_null(_FLAG),
  stream_options=_or_null(
    _object(
      include_usage=_or_null(_FLAG),
      include_obfuscation=_or_null(_FLAG),
    )
  ),
  temperature=_or_null(_number(0, 2)),
  top_p=_or_null({**_number(0, 1), 'exclusiveMinimum': 0}),
  top_k=_or_null(_number(0, 2**31 - 1, 'integer')),
  seed=_or_null(_number(-_SEED, _SEED, 'integer')),
  max_tokens=_or_null(_number(1, 2**31 - 1, 'integer')),
  max_completion_tokens=_or_null(_number(1, 2**31 - 1, 'integer')),
  n=_or_null(_number(1, 1, 'integer')),
  stop={
    'anyOf': [
      _text(256, 1),
      {'type': 'array', 'items': _text(256, 1), 'maxItems': 4},
      {'type': 'null'},
    ]
  },
  tools=_or_null({'type': 'array', 'items': _TOOL, 'maxItems': 128}),
  tool_choice={
    'anyOf': [
      _choice('none', 'auto', 'required'),
      _object(
        ('type', 'function'),
        type=_choice('function'),
        function=_object(('name',), name=_text(64, 1)),
      ),
      {'type': 'null'},
    ]
  },
  parallel_tool_calls=_or_null(_FLAG),
  response_format=_or_null(
    {
      **_object(
        ('type',),
        type=_choice('text', 'json_object', 'json_schema'),
        json_schema=_object(
          ('name',),
          name={'type': 'string', 'pattern': _NAME},
          description=_or_null(_text()),
          schema=_FREE,
          strict=_or_null(_FLAG),
        ),
      ),
      'if': {
        'properties': {'type': {'const': 'json_schema'}},
        'required': ['type'],
      },
      'then': {'required': ['json_schema']},
    }
  ),
  # Taken, for they ask for nothing that would be missed.
  user=_or_null(_text(512)),
  metadata=_or_null(_FREE),
  store=_or_null(_FLAG),
  service_tier=_or_null(_text(32)),
  safety_identifier=_or_null(_text(512)),
  prompt_cache_key=_or_null(_text(512)),
  prompt_cache_retention=_or_null(_text(32)),
  prompt_cache_options=_or_null(_FREE),
  reasoning_effort=_or_null(_text(32)),
  verbosity=_or_null(_text(32)),
  # Only what changes nothing: there is no such thing here.
  frequency_penalty=_or_null(_number(0, 0)),
  presence_penalty=_or_null(_number(0, 0)),
  logprobs={'type': ['boolean', 'null'], 'enum': [False, None]},
  top_logprobs=_or_null(_number(0, 0, 'integer')),
  logit_bias=_or_null({'type': 'object', 'maxProperties': 0}),
)


def check(value: Any, shape: Shape) -> None:
  """Refuses what is not of a shape.

  Args:
    value: Parsed JSON.
    shape: Of this module.

  Raises:
    Fault: 400, naming the field, what was found and what was expected.
  """
  checks.check_depth(value, 'body')
  error = next(_validator(id(shape)).iter_errors(value), None)
  if error is not None:
    raise _told(_meant(error))


def _meant(error):
  """What is wrong with the kind that was meant, of those that are allowed."""
  while error.context:
    by_kind = collections.defaultdict(list)
    for one in error.context:
      by_kind[one.schema_path[0]].append(one)
    # Of the right type, though something in it is not.
    meant = [
      found
      for found in by_kind.values()
      if all(one.path or one.validator != 'type' for one in found)
    ]
    if not meant:
      return error
    error = meant[0][0]
  return error


@functools.cache
def _validator(number: int):
  import jsonschema

  found = next(one for one in (SPEECH, CHAT) if id(one) == number)
  return jsonschema.Draft202012Validator(found)


def _told(error) -> faults.Fault:
  place = ''
  for step in error.absolute_path:
    dot = '.' if place else ''
    place += f'[{step}]' if isinstance(step, int) else f'{dot}{step}'
  dot = f'{place}.' if place else ''
  found, rule, kind = error.instance, error.validator_value, error.validator
  if kind == 'required':
    name = next(one for one in rule if one not in found)
    return faults.invalid(
      f"Missing required parameter: '{dot}{name}'.",
      f'{dot}{name}',
      'missing_required_parameter',
    )
  if kind == 'additionalProperties':
    known = error.schema.get('properties', ())
    name = next(one for one in found if one not in known)
    return faults.invalid(
      f"Unknown parameter: '{dot}{name:.80}'{checks.nearest(name, known)}.",
      f'{dot}{name:.80}',
      'unknown_parameter',
    )
  code, shown = 'invalid_value', _shown(found)
  if kind == 'type':
    code = 'invalid_type'
    names = [rule] if isinstance(rule, str) else rule
    expected = ' or '.join(_KINDS[one] for one in names)
  elif kind in ('enum', 'const'):
    values = [rule] if kind == 'const' else rule
    told = [repr(one) for one in values if one]
    expected = f'{"one of " if len(told) > 1 else ""}{", ".join(told)}'
    if not any(values):
      expected = 'none: there is no such thing here'
  elif kind in ('minimum', 'maximum', 'exclusiveMinimum'):
    least, most = error.schema.get('minimum'), error.schema.get('maximum')
    expected = f'{least} to {most}'
    if kind == 'exclusiveMinimum':
      expected = f'more than {rule}'
    elif least == most:
      expected = f'{least} or nothing: there is no other here'
  elif kind in ('minLength', 'maxLength', 'minItems', 'maxItems'):
    shown = f'a length of {len(found)}'
    expected = f'{"at least" if kind.startswith("min") else "at most"} {rule}'
  elif kind == 'anyOf':
    kinds = [one.get('type') for one in rule]
    code, expected = 'invalid_type', ' or '.join(_KINDS[one] for one in kinds)
  elif kind == 'pattern':
    expected = 'letters, digits, dots, _ and -, 64 at most'
  else:
    expected = f'{kind} {rule!r:.60}'
  return faults.invalid(
    f'{place or "body"}: found {shown}, expected {expected}.',
    place or None,
    code,
  )


def _shown(value: Any) -> str:
  if isinstance(value, (Mapping, list)):
    return 'an object' if isinstance(value, Mapping) else 'a list'
  return f'{value!r:.60}'


def formats() -> list[str]:
  """What a speech may be encoded as."""
  return sorted(encoding.MEDIA_TYPES)
