"""The OpenAPI document of the server: the shapes that requests are checked by.

`/v1/realtime` is a WebSocket, of which OpenAPI knows nothing.
"""

from typing import Any

from step_audio_jax.serving.http import shapes
from step_audio_jax.serving.http import transcriptions
from step_audio_jax.serving.sounds import encoding

_TEXT, _WHOLE = {'type': 'string'}, {'type': 'integer'}
_MAYBE = {'type': ['string', 'null']}
_JSON, _EVENTS = 'application/json', 'text/event-stream'


def _object(*required: str, **properties) -> dict[str, Any]:
  return {
    'type': 'object',
    'properties': properties,
    'required': list(required),
  }


def _named(name: str) -> dict[str, Any]:
  return {'$ref': f'#/components/schemas/{name}'}


def _constant(value: str) -> dict[str, Any]:
  return {'type': 'string', 'const': value}


_ERROR = _object(
  'error',
  error=_object(
    *('message', 'type', 'param', 'code'),
    message=_TEXT,
    type=_TEXT,
    param=_MAYBE,
    code=_MAYBE,
  ),
)
_USAGE = _object(
  *('prompt_tokens', 'completion_tokens', 'total_tokens'),
  prompt_tokens=_WHOLE,
  completion_tokens=_WHOLE,
  total_tokens=_WHOLE,
)
_CALLED = _object(
  *('id', 'type', 'function'),
  id=_TEXT,
  type=_constant('function'),
  function=_object('name', 'arguments', name=_TEXT, arguments=_TEXT),
)
_SPOKEN = _object(
  *('id', 'data', 'expires_at', 'transcript'),
  id=_TEXT,
  data={'type': 'string', 'contentEncoding': 'base64'},
  expires_at=_WHOLE,
  transcript=_TEXT,
)
_COMPLETION = _object(
  *('id', 'object', 'created', 'model', 'choices', 'usage'),
  id=_TEXT,
  object=_constant('chat.completion'),
  created=_WHOLE,
  model=_TEXT,
  usage=_USAGE,
  choices={
    'type': 'array',
    'minItems': 1,
    'maxItems': 1,
    'items': _object(
      *('index', 'message', 'finish_reason'),
      index=_WHOLE,
      finish_reason={
        'type': 'string',
        'enum': ['stop', 'length', 'tool_calls'],
      },
      message=_object(
        *('role', 'content'),
        role=_constant('assistant'),
        content=_MAYBE,
        tool_calls={'type': 'array', 'items': _CALLED},
        audio=_SPOKEN,
      ),
    ),
  },
)
_MODEL = _object(
  *('id', 'object', 'created', 'owned_by'),
  id=_TEXT,
  object=_constant('model'),
  created=_WHOLE,
  owned_by=_TEXT,
)
_TRANSCRIPTION = _object(
  'text',
  text=_TEXT,
  language=_TEXT,
  duration={'type': 'number'},
  segments={'type': 'array'},
)
_HEALTH = _object(
  'status',
  status={'type': 'string', 'enum': ['ready', 'warming', 'draining']},
)
_FORM = _object(
  *('file', 'model'),
  file={'type': 'string', 'format': 'binary'},
  model=_TEXT,
  response_format={'type': 'string', 'enum': list(transcriptions.FORMATS)},
  stream={'type': 'string', 'enum': ['true', 'false']},
  language=_TEXT,
  prompt=_TEXT,
  temperature={'type': 'number', 'minimum': 0, 'maximum': 1},
)


def document(version: str, name: str, secured: bool) -> dict[str, Any]:
  """The document.

  Args:
    version: Of the server.
    name: Of its model.
    secured: Whether a token is asked for.
  """
  plain = {'type': 'string', 'format': 'binary'}
  sounds = {
    one.partition(';')[0]: plain for one in encoding.MEDIA_TYPES.values()
  }
  found: dict[str, Any] = {
    'openapi': '3.1.0',
    'info': {
      'title': 'step_audio_jax',
      'version': version,
      'description': "Speech and chat, as OpenAI's clients ask for them.",
    },
    'paths': {
      '/v1/chat/completions': _post(
        'Answers a chat, in words or aloud.',
        {_JSON: _named('ChatRequest')},
        {_JSON: _named('ChatCompletion'), _EVENTS: _TEXT},
      ),
      '/v1/audio/speech': _post(
        'Says a text.',
        {_JSON: _named('SpeechRequest')},
        {**sounds, _EVENTS: _TEXT},
      ),
      '/v1/audio/transcriptions': _post(
        'Writes down a recording.',
        {'multipart/form-data': _named('TranscriptionRequest')},
        {
          _JSON: _named('Transcription'),
          'text/plain': _TEXT,
          'text/vtt': _TEXT,
          _EVENTS: _TEXT,
        },
      ),
      '/v1/models': _get(
        'The model, in a list.',
        {
          _JSON: _object(
            *('object', 'data'),
            object=_constant('list'),
            data={'type': 'array', 'items': _named('Model')},
          )
        },
      ),
      '/v1/models/{model}': _get(
        'The model.', {_JSON: _named('Model')}, ('model',)
      ),
      '/health': _get(
        'Whether it may be asked.',
        {_JSON: _named('Health')},
        otherwise=_named('Health'),
      ),
      '/metrics': _get('Figures for Prometheus.', {'text/plain': _TEXT}),
      '/openapi.json': _get('This document.', {_JSON: {'type': 'object'}}),
    },
    'components': {
      'schemas': {
        'Error': _ERROR,
        'ChatRequest': _of_model(shapes.CHAT, name),
        'ChatCompletion': _COMPLETION,
        'SpeechRequest': _of_model(shapes.SPEECH, name),
        'TranscriptionRequest': _of_model(_FORM, name),
        'Transcription': _TRANSCRIPTION,
        'Model': _MODEL,
        'Health': _HEALTH,
      }
    },
  }
  if secured:
    found['components']['securitySchemes'] = {
      'token': {'type': 'http', 'scheme': 'bearer'}
    }
    found['security'] = [{'token': []}]
  return found


def _of_model(shape, name: str) -> dict[str, Any]:
  """The shape of a request to the one model that is here."""
  model = {'type': 'string', 'enum': [name]}
  return {**shape, 'properties': {**shape['properties'], 'model': model}}


def _replies(content, otherwise=None) -> dict[str, Any]:
  def told(text, by_type):
    schemas = {kind: {'schema': schema} for kind, schema in by_type.items()}
    return {'description': text, 'content': schemas}

  wrong = {_JSON: _named('Error')}
  return {
    '200': told('As asked.', content),
    '4XX': told('Something is wrong with the request.', wrong),
    '5XX': told('Not now, or not here.', {_JSON: otherwise or _named('Error')}),
  }


def _post(summary: str, body, content) -> dict[str, Any]:
  return {
    'post': {
      'summary': summary,
      'requestBody': {
        'required': True,
        'content': {kind: {'schema': one} for kind, one in body.items()},
      },
      'responses': _replies(content),
    }
  }


def _get(summary: str, content, names=(), otherwise=None) -> dict[str, Any]:
  found: dict[str, Any] = {
    'summary': summary,
    'responses': _replies(content, otherwise),
  }
  if names:
    found['parameters'] = [
      {'name': one, 'in': 'path', 'required': True, 'schema': _TEXT}
      for one in names
    ]
  return {'get': found}
