"""A server whose answers come from another one."""

import contextlib

import openai
import pytest

from step_audio_jax.dialogue.remote import mind as mind_lib
from tests.dialogue import fakes
from tests.dialogue.remote import test_mind as engines
from tests.endpoints import server as server_lib
from tests.serving import running


@pytest.fixture(scope='module')
def place():
  """A server, and the engine behind it."""
  with contextlib.ExitStack() as stack:
    engine = stack.enter_context(server_lib.serving(None))
    mind = mind_lib.RemoteMind(mind_lib.Address(engine.url, 'exported'))
    models = fakes.models(fakes.ScriptedEar('what is the time'), mind)
    yield stack.enter_context(running.running(models)), engine


def ask(place, **more):
  content = [running.input_audio(running.recording())]
  return place.client().chat.completions.create(
    model='scripted', messages=[{'role': 'user', 'content': content}], **more
  )


def test_what_was_heard_is_answered_elsewhere_and_said_here(place):
  server, engine = place
  engine.answer = lambda asked: engines.sends(*engines.GOOD)
  found = ask(
    server,
    modalities=['text', 'audio'],
    audio={'voice': 'alloy', 'format': 'wav'},
  )
  assert engine.asked[-1]['messages'] == [
    {'role': 'user', 'content': 'what is the time'}
  ]
  assert found.choices[0].message.audio.transcript == 'Good day.'
  assert server.models.mouth.said == ['Good day.']
  assert found.usage.prompt_tokens_details.cached_tokens == 2
  texts = [chunk.choices[0].delta.content for chunk in ask(server, stream=True)]
  assert texts == ['', 'Good ', 'day.', None]


def test_an_engine_that_fails(place, capsys):
  server, engine = place
  engine.answer = lambda asked: (503, b'', {})
  with pytest.raises(openai.InternalServerError, match='no room') as told:
    ask(server)
  assert told.value.status_code == 503
  engine.answer = lambda asked: (400, {'error': {'message': 'too hot'}}, {})
  with pytest.raises(openai.BadRequestError, match='too hot'):
    ask(server)
  engine.answer = lambda asked: engines.sends(*engines.GOOD[:3])
  with pytest.raises(openai.InternalServerError):
    ask(server)
  assert 'broke off' in capsys.readouterr().err
  with pytest.raises(openai.APIError):
    list(ask(server, stream=True))
  assert 'broke off' in capsys.readouterr().err
