"""What no client should send: an error object, and the next one is served."""

import base64
import io
import json
import math
import re
import struct

import numpy as np
import pytest
from starlette import testclient

from step_audio_jax import errors
from step_audio_jax.serving import app
from step_audio_jax.serving.guards import settings as settings_lib
from tests.dialogue import fakes
from tests.serving import running

CHAT = '/v1/chat/completions'
SPEECH = '/v1/audio/speech'
HEAR = '/v1/audio/transcriptions'
HELLO = {'role': 'user', 'content': 'Hello.'}


@pytest.fixture(scope='module')
def models():
  return fakes.models()


@pytest.fixture(scope='module')
def client(models):
  settings = settings_lib.Settings(
    most_bytes=2**18, longest_sound=20, per_minute=0
  )
  application = app.application(models, settings)
  with testclient.TestClient(
    application, 'http://127.0.0.1', raise_server_exceptions=False
  ) as found:
    yield found


def refused(response, status, param=None, code=None):
  """The message of an error object."""
  assert response.status_code == status, response.text
  assert response.headers['content-type'] == 'application/json'
  error = response.json()['error']
  assert set(error) == {'message', 'type', 'param', 'code'}
  assert error['param'] == param, error
  if code:
    assert error['code'] == code, error
  return error['message']


def chat(client, **body):
  return client.post(
    CHAT, json={'model': 'scripted', 'messages': [HELLO], **body}
  )


def hear(client, raw, **form):
  data = {'model': 'scripted', **form}
  return client.post(HEAR, data=data, files={'file': ('a.wav', raw)})


@pytest.mark.parametrize(
  ('field', 'value', 'param'),
  [
    ('messages', [], 'messages'),
    ('messages', 'hello', 'messages'),
    ('messages', [{'content': 'a'}], 'messages[0].role'),
    ('messages', [{'role': 'root', 'content': 'a'}], 'messages[0].role'),
    ('messages', [{'role': 'user', 'content': 3}], 'messages[0].content'),
    (
      'messages',
      [{'role': 'user', 'content': [{'type': 'video'}]}],
      'messages[0].content[0].type',
    ),
    (
      'messages',
      [{'role': 'user', 'content': [{'type': 'text'}]}],
      'messages[0].content[0].text',
    ),
    # Files of ours are nobody's to name.
    (
      'messages',
      [{**HELLO, 'text': 'a'}],
      'messages[0].text',
    ),
    (
      'messages',
      [
        {
          'role': 'user',
          'content': [
            {'type': 'input_audio', 'input_audio': {'path': '/etc/passwd'}}
          ],
        }
      ],
      'messages[0].content[0].input_audio.data',
    ),
    (
      'messages',
      [{'role': 'tool', 'content': 'a', 'tool_call_id': 'x'}],
      'messages[0]',
    ),
    ('temperature', 'hot', 'temperature'),
    ('temperature', True, 'temperature'),
    ('temperature', -1, 'temperature'),
    ('top_p', 0, 'top_p'),
    ('n', 2, 'n'),
    ('seed', 1.5, 'seed'),
    ('stop', ['a'] * 5, 'stop'),
    ('stop', '', 'stop'),
    ('max_tokens', 0, 'max_tokens'),
    ('logprobs', True, 'logprobs'),
    ('frequency_penalty', 1, 'frequency_penalty'),
    ('temprature', 1, 'temprature'),
    ('modalities', ['text', 'audio'], 'audio'),
    ('modalities', ['smell'], 'modalities[0]'),
    ('tools', [{'type': 'web_search'}], 'tools[0].type'),
    ('tool_choice', 'required', 'tool_choice'),
    (
      'tools',
      [
        {
          'type': 'function',
          'function': {'name': 'a', 'parameters': {'type': 'no'}},
        }
      ],
      'tools[0].function.parameters',
    ),
    ('response_format', {'type': 'json_schema'}, 'response_format.json_schema'),
    (
      'response_format',
      {
        'type': 'json_schema',
        'json_schema': {'name': 'a', 'schema': {'type': 7}},
      },
      'response_format.json_schema.schema',
    ),
    ('stream_options', {'include_usage': True}, 'stream_options'),
  ],
)
def test_fields_of_a_chat(client, field, value, param):
  told = refused(chat(client, **{field: value}), 400, param)
  assert told.endswith('.') and '\n' not in told


@pytest.mark.parametrize(
  'audio',
  [
    ('%%%', 'invalid_base64'),
    (base64.b64encode(b'no sound at all').decode(), 'unsupported_format'),
    (base64.b64encode(b'\0\0\0\x1cftypM4A ').decode(), 'unsupported_format'),
    (
      base64.b64encode(running.recording(samples=np.zeros(16000))).decode(),
      'invalid_audio',
    ),
  ],
)
def test_audio_of_a_chat(client, audio):
  data, code = audio
  part = {'type': 'input_audio', 'input_audio': {'data': data, 'format': 'wav'}}
  body = [{'role': 'user', 'content': [part]}]
  response = chat(client, messages=body)
  param = response.json()['error']['param']
  assert param.startswith('messages[0].content')
  refused(response, 400, param, code)


@pytest.mark.parametrize(
  'raw',
  [
    b'{"model": "scripted", "messages": [',
    b'{"model": NaN}',
    b'\xff\xfe{}',
    b'{"model": "\\ud800"}',
    b'[' * 100000,
    b'[' + b'{},' * 70000 + b'{}]',
    b'{"seed": ' + b'9' * 5000 + b'}',
    b'',
  ],
)
def test_bodies_that_are_no_json(client, raw):
  headers = {'content-type': 'application/json'}
  response = client.post(CHAT, content=raw, headers=headers)
  refused(response, 400, code='invalid_json')


def test_json_of_other_shapes(client):
  refused(client.post(CHAT, json=[]), 400, code='invalid_type')
  deep = {}
  for _ in range(200):
    deep = {'properties': deep}
  refused(chat(client, metadata=deep), 400, 'body')
  refused(client.post(CHAT, content=b'{}'), 415)


@pytest.mark.parametrize(
  ('body', 'param'),
  [
    ({'voice': '../../etc/passwd'}, 'voice'),
    ({'voice': {'id': '/etc/passwd'}}, 'voice'),
    ({'voice': 3}, 'voice'),
    ({'input': ''}, 'input'),
    ({'input': ' \n'}, 'input'),
    ({'input': 'a' * 5000}, 'input'),
    ({'speed': 4}, 'speed'),
    ({'response_format': 'aac'}, 'response_format'),
    ({'response_format': 'midi'}, 'response_format'),
    ({'stream_format': 'xml'}, 'stream_format'),
  ],
)
def test_fields_of_a_speech(client, body, param):
  given = {'model': 'scripted', 'input': 'Hello.', 'voice': 'own', **body}
  refused(client.post(SPEECH, json=given), 400, param)


@pytest.mark.parametrize(
  ('told', 'param'),
  [
    ("style: found 'nonsense', expected words.", 'instructions'),
    ('text: found no letter, expected some.', 'text'),
    ('There is nothing to say.', 'input'),
  ],
)
def test_what_a_mouth_refuses(client, models, told, param):
  models.mouth.scripts = ([errors.UserError(told)],)
  body = {'model': 'scripted', 'input': 'Hello.', 'voice': 'own'}
  try:
    assert refused(client.post(SPEECH, json=body), 400, param) == told
  finally:
    models.mouth.scripts = ([],)


def test_names_of_models_are_no_paths(client):
  body = {'model': '../../etc', 'input': 'a', 'voice': 'own'}
  refused(client.post(SPEECH, json=body), 404, 'model', 'model_not_found')
  refused(client.get('/v1/models/..%2f..%2fetc'), 404, 'model')
  refused(client.get('/%2e%2e/%2e%2e/etc/passwd'), 404)


@pytest.mark.parametrize(
  ('form', 'param'),
  [
    ({'response_format': 'xml'}, 'response_format'),
    ({'stream': 'perhaps'}, 'stream'),
    ({'stream': 'true', 'response_format': 'srt'}, 'response_format'),
    ({'temperature': 'hot'}, 'temperature'),
    ({'temperature': 'nan'}, 'temperature'),
    ({'language': 'no language'}, 'language'),
    ({'timestamp_granularities[]': 'word'}, 'timestamp_granularities[]'),
    ({'include[]': 'logprobs'}, 'include[]'),
  ],
)
def test_fields_of_a_form(client, form, param):
  refused(hear(client, running.recording(), **form), 400, param)


def test_forms_that_are_none(client):
  refused(client.post(HEAR, json={}), 400, 'file')
  refused(client.post(HEAR, data={'model': 'scripted'}), 400, 'file')
  files = {'file': ('a.wav', running.recording())}
  refused(client.post(HEAR, files=files), 400, 'model')
  headers = {'content-type': 'multipart/form-data; boundary=x'}
  response = client.post(HEAR, content=b'--x\r\n\r\nno', headers=headers)
  refused(response, 400)


def flac_of(frames, rate):
  """A FLAC whose header tells so many samples, and holds none of them."""
  packed = (rate << 44) | (0 << 41) | (15 << 36) | frames
  info = struct.pack('>HH', 4096, 4096) + b'\0' * 6 + struct.pack('>Q', packed)
  return b'fLaC\x80\0\0\x22' + info + b'\0' * 16


@pytest.mark.parametrize(
  ('raw', 'code'),
  [
    (b'', 'invalid_value'),
    (b'RIFF', 'invalid_audio'),
    (running.recording()[:60], 'invalid_audio'),
    (running.recording(samples=np.zeros(8000)), 'invalid_audio'),
    (
      running.recording(
        samples=np.full(8000, math.nan, np.float32), subtype='FLOAT'
      ),
      'invalid_audio',
    ),
    # Longer than the limit: plain, by its header, and by what it holds.
    (running.recording(21, 4000), 'audio_too_long'),
    (flac_of(2**35, 16000), 'audio_too_long'),
    (running.recording(21, 8000, 'FLAC'), 'audio_too_long'),
    (running.recording(21, 8000, 'OGG', 'VORBIS'), 'audio_too_long'),
    (b'PK\3\4' + b'\0' * 100, 'unsupported_format'),
    (b'<html>' * 10, 'unsupported_format'),
  ],
)
def test_recordings(client, raw, code):
  refused(hear(client, raw), 400, 'file', code)


@pytest.mark.parametrize('rate', [4000, 11025, 44100, 192000])
def test_odd_rates_are_heard(client, rate):
  assert hear(client, running.recording(0.2, rate)).json()['text'] == 'hello'


def test_a_bomb_is_cut_off_at_the_limit(client):
  # An hour of one level and a click, in some kilobytes.
  samples_S = np.zeros(16000 * 3600, np.int16)
  samples_S[0] = 20000
  raw = running.recording(rate=16000, form='FLAC', samples=samples_S)
  assert len(raw) < 2**18
  forged = bytearray(raw)
  forged[21] &= 0xF0  # its header does not tell how long it is
  forged[22:26] = b'\0' * 4
  refused(hear(client, bytes(forged)), 400, 'file', 'audio_too_long')


def test_a_large_body_that_is_right(client, models):
  part = running.input_audio(running.recording(4.0))
  body = [{'role': 'user', 'content': [part]}]
  assert chat(client, messages=body).status_code == 200
  assert models.ear.heard[-1].seconds == 4


def test_large_bodies(client):
  refused(chat(client, user='a' * 2**19), 413, code='body_too_large')
  refused(hear(client, b'\0' * 2**19), 413, code='body_too_large')

  def endless():
    for _ in range(2**14):
      yield b'[' * 2**16  # a gigabyte that does not say so

  headers = {'content-type': 'application/json'}
  response = client.post(CHAT, content=endless(), headers=headers)
  refused(response, 413, code='body_too_large')


def test_all_that_is_held_has_a_limit(models):
  settings = settings_lib.Settings(most_bytes_together=2**17)
  application = app.application(models, settings)
  part = running.input_audio(running.recording(2.0))
  body = [{'role': 'user', 'content': [part]}]
  with testclient.TestClient(application, 'http://127.0.0.1') as client:
    refused(hear(client, running.recording(3.0)), 503, code='overloaded')
    refused(chat(client, messages=body), 503, code='overloaded')
    assert hear(client, running.recording(0.5)).status_code == 200
  assert not application.admission.held


def test_too_long_a_chat(client, models):
  models.mind.longest = 50
  try:
    words = 'word ' * 100
    body = [{'role': 'user', 'content': words}]
    response = chat(client, messages=body)
    refused(response, 400, 'messages', 'context_length_exceeded')
    body = [{'role': 'user', 'content': 'a' * 4000}]  # one word, and uncounted
    response = chat(client, messages=body)
    refused(response, 400, 'messages', 'context_length_exceeded')
    chat(client, max_tokens=1000)
    assert models.mind.manners[-1].most == 50 - 5
  finally:
    models.mind.longest = 2048


def test_other_paths_and_methods(client):
  refused(client.get('/v1/audio/translations'), 404, code='unknown_url')
  refused(client.post('/v1/audio/translations'), 404, code='unknown_url')
  response = client.get(CHAT)
  refused(response, 405, code='method_not_supported')
  assert response.headers['allow'] == 'POST'


def test_a_fault_of_ours_tells_nothing(client, models, capsys):
  kept, models.mind.scripts = models.mind.scripts, ([KeyError('secret')],)
  try:
    told = refused(chat(client), 500)
    assert 'secret' not in told
    assert 'secret' in capsys.readouterr().err
  finally:
    models.mind.scripts = kept
  assert chat(client).status_code == 200


def test_health_figures_and_document(client):
  assert client.get('/health').json()['status'] == 'ready'
  chat(client)
  text = client.get('/metrics').text
  assert (
    'step_audio_requests_total{route="/v1/chat/completions",status="200"}'
    in text
  )
  assert 'step_audio_requests_under_way 1.0' in text
  document = client.get('/openapi.json').json()
  assert document['openapi'] == '3.1.0'
  json.dumps(document, allow_nan=False)
  assert CHAT in document['paths']


def test_the_page_is_shown_to_who_has_no_token_yet(models):
  settings = settings_lib.Settings(token='a-token-that-is-long')
  application = app.application(models, settings)
  with testclient.TestClient(application, 'http://127.0.0.1') as client:
    page = client.get('/')
    assert page.headers['content-type'].startswith('text/html')
    for name in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
      assert client.get(name).status_code == 200
    refused(client.get('/v1/models'), 401)
    assert client.get('/openapi.json').json()['security'] == [{'token': []}]


def test_models_without_ears_and_mouths():
  models = fakes.models()
  deaf = type(models)('scripted', None, models.mind, None)
  application = app.application(deaf, settings_lib.Settings())
  with testclient.TestClient(application, 'http://127.0.0.1') as client:
    refused(hear(client, running.recording()), 404, 'model')
    body = {'model': 'scripted', 'input': 'a', 'voice': 'own'}
    refused(client.post(SPEECH, json=body), 404, 'model')
    part = running.input_audio(running.recording())
    messages = [{'role': 'user', 'content': [part]}]
    refused(chat(client, messages=messages), 400, 'messages[0].content')
    assert chat(client).status_code == 200


def test_streamed_wavs_are_read_by_everyone(client):
  import wave

  body = {
    'model': 'scripted',
    'input': 'Hello.',
    'voice': 'own',
    'response_format': 'wav',
  }
  raw = client.post(SPEECH, json=body).content
  with wave.open(io.BytesIO(raw)) as file:
    assert file.getframerate() == 24000
    assert len(file.readframes(2**20)) == len(raw) - 44
