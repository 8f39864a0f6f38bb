"""OpenAI's own client against a server with scripted models."""

import base64
import io
import json

import openai
import pytest
import soundfile

from step_audio_jax.audio import io as audio_io
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from tests.dialogue import fakes
from tests.serving import running

ADD = {
  'type': 'function',
  'function': {
    'name': 'add',
    'parameters': {
      'type': 'object',
      'properties': {'a': {'type': 'number'}},
      'required': ['a'],
    },
  },
}
HELLO = [{'role': 'user', 'content': 'Hello.'}]


@pytest.fixture(scope='module')
def place():
  with running.running() as found:
    yield found


@pytest.fixture
def models(place):
  """The models of the server, with scripts that a test may change."""
  found = place.models
  ear, mind, mouth = found.ear, found.mind, found.mouth
  kept = [(one, one.scripts) for one in (ear, mind, mouth)]
  for one in (ear, mind, mouth):
    one.calls = 0
  mind.asked.clear()
  mind.manners.clear()
  mouth.said.clear()
  yield found
  for one, scripts in kept:
    one.scripts = scripts
    assert not one.open
  mind.hears = True


@pytest.fixture(scope='module')
def client(place):
  return place.client()


def heard(client, **more):
  file = ('a.wav', running.recording())
  return client.audio.transcriptions.create(file=file, model='scripted', **more)


def test_transcription(client, models):
  models.ear.scripts = ('good morning',)
  found = heard(client)
  assert found.text == 'good morning'
  assert found.usage.type == 'tokens'
  assert heard(client, response_format='text') == 'good morning\n'


def test_transcription_with_times(client, models):
  models.ear.scripts = ('good morning',)
  found = heard(client, response_format='verbose_json', language='en')
  assert (found.text, found.language) == ('good morning', 'en')
  assert found.duration == pytest.approx(0.5)
  (segment,) = found.segments
  assert segment.start < segment.end <= 0.5
  srt = heard(client, response_format='srt')
  assert srt.startswith('1\n00:00:00,000 --> 00:00:00,500\ngood morning')
  assert heard(client, response_format='vtt').startswith('WEBVTT\n\n00:00:00.')


def test_transcription_streamed(client, models):
  models.ear.scripts = ('good morning',)
  *deltas, last = heard(client, stream=True)
  assert {one.type for one in deltas} == {'transcript.text.delta'}
  assert ''.join(one.delta for one in deltas) == last.text == 'good morning'
  assert last.type == 'transcript.text.done'


def said(client, **more):
  return client.audio.speech.create(
    input='Good day. All is well.',
    **{'model': 'scripted', 'voice': 'alloy', **more},
  )


@pytest.mark.parametrize('form', ['wav', 'mp3', 'opus', 'flac', 'pcm'])
def test_speech(client, models, form):
  raw = said(client, response_format=form).content
  assert models.mouth.said == ['Good day.', ' All is well.']
  if form == 'pcm':
    return assert_seconds(len(raw) / 48000)
  samples_S, rate = audio_io.read_audio(raw, sample_rate=24000)
  return assert_seconds(len(samples_S) / rate)


def assert_seconds(seconds):
  assert seconds == pytest.approx(22 * fakes.SECONDS, abs=0.2)


def test_speech_comes_as_it_is_said(client, models):
  models.mouth.scripts = ([],)
  with client.audio.speech.with_streaming_response.create(
    input='Good day.', model='scripted', voice='own', response_format='pcm'
  ) as response:
    assert response.headers['content-type'].startswith('audio/pcm')
    assert 'content-length' not in response.headers
    pieces = list(response.iter_bytes())
  assert sum(map(len, pieces)) == pytest.approx(48000 * 0.54, abs=6000)


def test_speech_as_events(client):
  with client.audio.speech.with_streaming_response.create(
    input='Good day.',
    model='scripted',
    voice='own',
    response_format='pcm',
    stream_format='sse',
  ) as response:
    found = [
      json.loads(line.removeprefix('data: '))
      for line in response.iter_lines()
      if line
    ]
  kinds = [one['type'] for one in found]
  assert kinds[-1] == 'speech.audio.done' and len(kinds) > 2
  assert set(kinds[:-1]) == {'speech.audio.delta'}
  assert len(base64.b64decode(found[0]['audio']))


def test_chat(client, models):
  models.mind.scripts = (['Good ', 'day.'],)
  found = client.chat.completions.create(
    model='scripted',
    messages=[
      {'role': 'developer', 'content': 'Be short.'},
      {'role': 'system', 'content': 'Be kind.'},
      *HELLO,
    ],
    temperature=0.5,
    seed=3,
    max_completion_tokens=7,
    stop=['\n'],
  )
  (choice,) = found.choices
  assert choice.message.content == 'Good day.'
  assert choice.finish_reason == 'stop'
  assert found.usage.completion_tokens == 2
  ((system, user),) = models.mind.asked
  assert (system.role, system.text) == ('system', 'Be short.\nBe kind.')
  assert (user.role, user.text) == ('user', 'Hello.')
  (manner,) = models.mind.manners
  assert (manner.temperature, manner.seed, manner.most) == (0.5, 3, 7)
  assert manner.stops == ('\n',) and manner.tool_choice == 'none'


def test_chat_streamed(client, models):
  models.mind.scripts = (['Good ', 'day.'],)
  first, *middle, end, usage = client.chat.completions.create(
    model='scripted',
    messages=HELLO,
    stream=True,
    stream_options={'include_usage': True},
  )
  assert first.choices[0].delta.role == 'assistant'
  texts = [one.choices[0].delta.content for one in middle]
  assert texts == ['Good ', 'day.']
  assert end.choices[0].finish_reason == 'stop'
  assert not usage.choices and usage.usage.completion_tokens == 2


def test_chat_that_hears(client, models):
  part = running.input_audio(running.recording(1.0, 8000))
  text = {'type': 'text', 'text': 'What is this?'}
  messages = [{'role': 'user', 'content': [text, part]}]
  client.chat.completions.create(model='scripted', messages=messages)
  ((turn,),) = models.mind.asked
  assert turn.text == 'What is this?'
  assert turn.speech == chats.Speech(id='heard-1.00')
  # A mind that reads is told the words.
  models.mind.hears = False
  models.ear.scripts = ('what is the time',)
  client.chat.completions.create(model='scripted', messages=messages)
  assert models.mind.asked[-1][0].speech.text == 'what is the time'
  assert all(one.is_cancelled for one in models.ear.heard)


@pytest.mark.parametrize('stream', [False, True])
def test_chat_with_tools(client, models, stream):
  call = chats.Call('add', {'a': 2})
  models.mind.scripts = (['Let me see.', services.Called(call)], ['It is 4.'])
  asked = {
    'model': 'scripted',
    'tools': [ADD],
    'tool_choice': 'required',
  }
  if stream:
    with client.chat.completions.stream(messages=HELLO, **asked) as events:
      found = events.get_final_completion()
  else:
    found = client.chat.completions.create(messages=HELLO, **asked)
  (choice,) = found.choices
  assert choice.finish_reason == 'tool_calls'
  (made,) = choice.message.tool_calls
  assert made.function.name == 'add'
  assert json.loads(made.function.arguments) == {'a': 2}
  assert models.mind.manners[0].tool_choice == 'required'
  answer = choice.message.model_dump(exclude_none=True)
  if stream:
    answer['tool_calls'][0]['function'].pop('parsed_arguments', None)
    answer.pop('parsed', None)
  # The result comes back, and the tools do not.
  found = client.chat.completions.create(
    model='scripted',
    messages=[
      *HELLO,
      answer,
      {'role': 'tool', 'tool_call_id': made.id, 'content': '4'},
    ],
  )
  assert found.choices[0].message.content == 'It is 4.'
  assert models.mind.asked[-1][-1].call_id == made.id


def test_response_formats(client, models):
  schema = {'type': 'object', 'properties': {'a': {'type': 'integer'}}}

  def asked(form):
    client.chat.completions.create(
      model='scripted', messages=HELLO, response_format=form
    )
    return models.mind.manners[-1].response_schema

  given = {'name': 'answer', 'schema': schema, 'strict': True}
  assert asked({'type': 'json_schema', 'json_schema': given}) == schema
  assert asked({'type': 'json_object'}) == {'type': 'object'}
  assert asked({'type': 'text'}) is None


def test_chat_aloud(client, models):
  models.mind.scripts = (['Good day.'],)
  asked = {
    'model': 'scripted',
    'modalities': ['text', 'audio'],
    'audio': {'voice': 'other', 'format': 'wav'},
  }
  found = client.chat.completions.create(messages=HELLO, **asked)
  message = found.choices[0].message
  assert message.content is None and message.audio.transcript == 'Good day.'
  raw = base64.b64decode(message.audio.data)
  samples_S, rate = soundfile.read(io.BytesIO(raw))
  assert rate == 24000 and len(samples_S) / rate == pytest.approx(0.6, abs=0.05)
  assert len(raw) == 44 + 2 * len(samples_S)
  assert models.mind.manners[0].voice == 'other'
  # A later turn names what was said by its id.
  client.chat.completions.create(
    messages=[
      *HELLO,
      {'role': 'assistant', 'audio': {'id': message.audio.id}},
      *HELLO,
    ],
    **asked,
  )
  assert models.mind.asked[-1][1].text == 'Good day.'


def test_chat_aloud_streamed(client, models):
  models.mind.scripts = (['Good ', 'day.'],)
  chunks = list(
    client.chat.completions.create(
      model='scripted',
      messages=HELLO,
      modalities=['text', 'audio'],
      audio={'voice': 'alloy', 'format': 'pcm16'},
      stream=True,
    )
  )
  audio = [
    one.choices[0].delta.audio
    for one in chunks
    if one.choices[0].delta.audio is not None
  ]
  words = ''.join(one.transcript or '' for one in audio)
  raw = b''.join(base64.b64decode(one.data) for one in audio if one.data)
  assert words == 'Good day.'
  assert len(raw) / 48000 == pytest.approx(0.6, abs=0.05)
  assert len({one.id for one in audio}) == 1 and audio[-1].expires_at


def test_models_are_told(client):
  (found,) = client.models.list().data
  assert found.id == 'scripted'
  assert client.models.retrieve('scripted').id == 'scripted'
  with pytest.raises(openai.NotFoundError) as told:
    client.models.retrieve('gpt-4o')
  assert told.value.code == 'model_not_found'


def test_faults_are_the_clients_exceptions(client, models):
  def ask(**more):
    return client.chat.completions.create(
      **{'model': 'scripted', 'messages': HELLO, **more}
    )

  with pytest.raises(openai.BadRequestError) as told:
    ask(temperature=3)
  assert told.value.param == 'temperature'
  with pytest.raises(openai.NotFoundError):
    ask(model='other')
  models.mind.scripts = ([services.Busy('Full.')],)
  with pytest.raises(openai.InternalServerError) as told:
    ask()
  assert told.value.status_code == 503
  assert told.value.response.headers['retry-after'] == '1'
  assert told.value.request_id.startswith('req_')
  # On the way, where the status has been told.
  models.mind.scripts = (['Good ', services.Busy('Full.')],)
  with pytest.raises(openai.APIError, match='Full'):
    list(ask(stream=True))


def test_sound_that_ends_before_its_end_is_noticed(client, models):
  models.mouth.scripts = ([],)
  models.mind.scripts = ([],)
  kept = type(models.mouth)._sentence

  async def broken(self, sentence, manner):
    async for sound in kept(self, sentence, manner):
      yield sound
      raise services.Busy('Full.')

  models.mouth._sentence = broken.__get__(models.mouth)
  try:
    with pytest.raises(openai.APIConnectionError):
      said(client, response_format='pcm')
  finally:
    del models.mouth._sentence
  assert said(client, response_format='pcm').content
