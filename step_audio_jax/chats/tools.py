"""Schemas and calls of tools, as OpenAI writes them and as others do.

A schema is {"type": "function", "function": {"name", "description",
"parameters"}}, where the last is a JSON Schema; the inner object alone is taken
for the same. A call is a name and a JSON object of arguments, which OpenAI
writes as a string.
"""

import functools
import json
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats

Schema = Mapping[str, Any]
_MARGIN = 32  # levels that files put around what a chat holds


def parsed(value: Any, field: str) -> Any:
  """JSON that may be written as a string.

  Raises:
    UserError: It is a string that is no JSON.
  """
  if not isinstance(value, str):
    return value
  try:
    return json.loads(value)
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{field}: found {value!r:.60}, expected JSON ({error}).'
    ) from error


def check_json(value: Any, field: str) -> None:
  """Refuses what no JSON line can hold.

  Raises:
    UserError: A number is not finite, or it is nested too deeply.
  """
  for _ in range(_MARGIN):
    value = [value]
  try:
    json.dumps(value, allow_nan=False)
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{field}: found what a line of JSON cannot hold ({str(error):.60}).'
    ) from error


def check_characters(written: str, field: str) -> None:
  """Refuses text that no file and no tokenizer takes.

  Raises:
    UserError: Half a character is in it, as JSON may write one.
  """
  try:
    written.encode()
  except UnicodeEncodeError as error:
    raise errors.UserError(
      f'{field}: found half a character ({written[error.start]!a}), expected '
      'text.'
    ) from error


def schemas(value: Any, field: str) -> tuple[Schema, ...]:
  """Schemas as a list, or as JSON of one; none of None and of ''.

  Raises:
    UserError: It is neither; what a schema says is `check_schema`'s to judge.
  """
  if value is None or isinstance(value, str) and not value.strip():
    return ()
  found = parsed(value, field)
  if not isinstance(found, list):
    raise errors.UserError(
      f'{field}: found {found!r:.60}, expected a list of schemas.'
    )
  check_json(found, field)
  return tuple(
    {'type': 'function', 'function': one}
    if isinstance(one, dict) and 'function' not in one and 'name' in one
    else one
    for one in found
  )


def name_of(schema: Schema) -> str | None:
  """The name of a tool; None where a schema has none."""
  function = schema.get('function') if isinstance(schema, Mapping) else None
  name = function.get('name') if isinstance(function, Mapping) else None
  return name if isinstance(name, str) and name.strip() else None


def check_schema(schema: Schema, field: str) -> None:
  """Refuses what is no schema of a tool.

  Raises:
    UserError: It has no name, or its parameters are no JSON Schema.
  """
  if name_of(schema) is None:
    raise errors.UserError(
      f'{field}: found {schema!r:.60}, expected {{"type": "function", '
      '"function": {"name", "parameters"}}.'
    )
  if schema.get('type', 'function') != 'function':
    raise errors.UserError(
      f"{field}.type: found {schema['type']!r:.60}, expected 'function'."
    )
  function = schema['function']
  if function.get('parameters') is not None:
    wrong = _wrong_with(chats.as_json(function['parameters']))
    if wrong:
      raise errors.UserError(
        f'{field}.function.parameters: no JSON Schema: {wrong}.'
      )


@functools.lru_cache(maxsize=1024)  # chats of a corpus share their tools
def _wrong_with(written: str) -> str:
  """Why JSON is no JSON Schema of an object; '' if it is one."""
  import jsonschema

  schema = json.loads(written)
  if not isinstance(schema, dict):
    return f'found {written:.60}, expected an object'
  if schema and schema.get('type', 'object') != 'object':
    return f'type: found {schema["type"]!r:.60}, expected "object"'
  try:
    # That of its own `$schema` would be fetched; the newest draft is here.
    jsonschema.Draft202012Validator.check_schema(schema)
  except jsonschema.SchemaError as error:
    place = '.'.join(map(str, error.absolute_path))
    return ': '.join(filter(None, (place, f'{error.message:.120}')))
  except RecursionError:
    return 'it is nested too deeply'
  except OverflowError as error:  # a pattern's, where it is compiled
    return str(error)
  return ''


def call(value: Any, field: str) -> chats.Call:
  """A call: {"name", "arguments"}, or that as "function", maybe with an "id".

  Raises:
    UserError: It is none.
  """
  inner = value.get('function', value) if isinstance(value, dict) else None
  name = inner.get('name') if isinstance(inner, dict) else None
  if not isinstance(name, str) or not name.strip():
    raise errors.UserError(
      f'{field}: found {value!r:.60}, expected a call with "name" and '
      '"arguments".'
    )
  arguments = inner.get('arguments')
  if arguments is None or isinstance(arguments, str) and not arguments.strip():
    arguments = {}
  arguments = parsed(arguments, f'{field}.arguments')
  if not isinstance(arguments, dict):
    raise errors.UserError(
      f'{field}.arguments: found {arguments!r:.60}, expected a JSON object.'
    )
  check_json(arguments, f'{field}.arguments')
  given = value.get('id')
  if given is not None and not isinstance(given, str):
    raise errors.UserError(
      f'{field}.id: found {given!r:.60}, expected a string.'
    )
  return chats.Call(name, arguments, given or None)


def calls(value: Any, field: str) -> tuple[chats.Call, ...]:
  """A call, several, or JSON of either.

  Raises:
    UserError: As `call`.
  """
  found = parsed(value, field)
  found = [found] if isinstance(found, dict) else found
  if not isinstance(found, list):
    raise errors.UserError(f'{field}: found {found!r:.60}, expected calls.')
  return tuple(call(one, f'{field}[{n}]') for n, one in enumerate(found))
