"""A mind elsewhere: a stand-in of an engine's API, and what it may do wrong."""

import asyncio
import json
import threading

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.remote import lines
from step_audio_jax.dialogue.remote import mind as mind_lib
from tests.endpoints import server as server_lib

TOOL = {
  'type': 'function',
  'function': {'name': 'add', 'parameters': {'type': 'object'}},
}
HELLO = (chats.Turn(chats.USER, ('Hello.',)),)
DONE = b'data: [DONE]\n\n'


def chunk(delta=None, reason=None, **more):
  choices = [{'index': 0, 'delta': delta or {}, 'finish_reason': reason}]
  return b'data: %s\n\n' % json.dumps({'choices': choices, **more}).encode()


GOOD = (
  chunk({'role': 'assistant', 'content': ''}),
  b': is still there\n\n',
  chunk({'content': 'Good '}),
  chunk({'content': 'day.'}),
  chunk({}, 'stop'),
  b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens"'
  b': 3, "prompt_tokens_details": {"cached_tokens": 2}}}\n\n',
  DONE,
)


def sends(*parts, then=lambda: None):
  """An answer in parts, and what is done before its end."""

  def answer(handler):
    handler.send_response(200)
    handler.send_header('Content-Type', 'text/event-stream')
    handler.send_header('Transfer-Encoding', 'chunked')
    handler.end_headers()
    for part in parts:
      handler.wfile.write(b'%x\r\n%s\r\n' % (len(part), part))
      handler.wfile.flush()
    then()
    handler.wfile.write(b'0\r\n\r\n')

  return answer


@pytest.fixture(scope='module')
def engine():
  found = server_lib.Server(None)
  yield found
  found.close()


def made(engine, **more):
  address = mind_lib.Address(engine.url, 'exported', **more)
  return mind_lib.RemoteMind(address)


def replied(mind, turns=HELLO, manner=services.Manner(), most=None):
  async def go():
    found = []
    pieces = mind.reply(turns, manner)
    async for piece in pieces:
      found.append(piece)
      if most is not None and len(found) >= most:
        break
    await pieces.aclose()
    return found

  return asyncio.run(go())


def test_a_reply_as_it_comes(engine):
  engine.answer = lambda asked: sends(*GOOD)
  assert replied(made(engine)) == [
    services.Text('Good '),
    services.Text('day.'),
    services.Ended(services.STOPPED, services.Usage(5, 2, 3)),
  ]


def test_all_that_is_asked(engine, monkeypatch):
  engine.answer = lambda asked: sends(*GOOD)
  monkeypatch.setenv('ENGINE_KEY', 'key-of-the-engine')
  call = chats.Call('add', {'a': 2}, 'call_7')
  turns = (
    chats.Turn(chats.SYSTEM, ('Be short.',)),
    chats.Turn(chats.TOOLS, tools=(TOOL,)),
    chats.Turn(chats.USER, ('Listen:', chats.Speech(id='a', text='two plus'))),
    chats.Turn(chats.ASSISTANT, calls=(call,)),
    chats.Turn(chats.RESULT, ('4',), call_id='call_7'),
  )
  schema = {'type': 'object'}
  manner = services.Manner(
    0.5, 0.9, 7, 11, 3, 'add', schema, ('\n',), 'own', None, 1.0
  )
  replied(made(engine, key_variable='ENGINE_KEY'), turns, manner)
  asked = engine.asked[-1]
  assert asked['messages'] == [
    {'role': 'system', 'content': 'Be short.'},
    {'role': 'user', 'content': 'Listen:\ntwo plus'},
    {
      'role': 'assistant',
      'content': None,
      'tool_calls': [
        {
          'id': 'call_7',
          'type': 'function',
          'function': {'name': 'add', 'arguments': '{"a": 2}'},
        }
      ],
    },
    {'role': 'tool', 'content': '4', 'tool_call_id': 'call_7'},
  ]
  assert asked['tools'] == [TOOL] and asked['model'] == 'exported'
  assert asked['tool_choice']['function'] == {'name': 'add'}
  assert asked['response_format']['json_schema']['schema'] == schema
  numbers = ('temperature', 'top_p', 'top_k', 'max_tokens', 'seed', 'stop')
  assert [asked[name] for name in numbers] == [0.5, 0.9, 7, 11, 3, ['\n']]
  assert engine.headers[-1]['Authorization'] == 'Bearer key-of-the-engine'


def test_calls_in_parts(engine):
  def part(index, **function):
    return chunk({'tool_calls': [{'index': index, 'function': function}]})

  named = {'index': 0, 'id': 'a', 'function': {'name': 'add', 'arguments': ''}}
  engine.answer = lambda asked: sends(
    chunk({'tool_calls': [named]}),
    part(0, arguments='{"a"'),
    part(1, name='add', arguments='{}'),
    part(0, arguments=': 2}'),
    chunk({}, 'tool_calls'),
    DONE,
  )
  assert replied(made(engine)) == [
    services.Called(chats.Call('add', {'a': 2}, 'a')),
    services.Called(chats.Call('add', {})),
    services.Ended(services.CALLED),
  ]


@pytest.mark.parametrize(
  ('parts', 'told'),
  [
    ((GOOD[2],), 'broke off'),
    ((GOOD[2], DONE), 'broke off'),
    ((b'data: {"choices"\n\n',), 'no JSON'),
    ((b'data: []\n\n',), 'no object'),
    ((b'data: {}\n\n',), 'no choices'),
    ((b'data: {"choices": [3]}\n\n',), 'no delta'),
    ((b'data: {"error": {"message": "out of memory"}}\n\n',), 'out of memory'),
    ((chunk({'content': 3}),), 'no text'),
    ((chunk({'tool_calls': [{}]}),), 'no index'),
    (
      (
        chunk({'tool_calls': [{'index': 0, 'function': {'arguments': '['}}]}),
        chunk({}, 'tool_calls'),
        DONE,
      ),
      'expected a call',
    ),
    ((b'data: ' + b'a' * 2**21,), 'more than 1048576 bytes'),
  ],
)
def test_replies_that_are_none(engine, parts, told):
  engine.answer = lambda asked: sends(*parts)
  with pytest.raises(lines.Broken, match=told):
    replied(made(engine))


@pytest.mark.parametrize(
  ('status', 'error'),
  [
    (400, errors.UserError),
    (404, errors.UserError),
    (302, errors.UserError),
    (429, services.Busy),
    (503, services.Busy),
  ],
)
def test_statuses(engine, monkeypatch, status, error):
  monkeypatch.setenv('ENGINE_KEY', 'key-of-the-engine')
  said = {'error': {'message': 'no, key-of-the-engine.'}}
  engine.answer = lambda asked: (status, said, {'Location': 'http://a/'})
  with pytest.raises(error, match=f'status {status}') as told:
    replied(made(engine, key_variable='ENGINE_KEY'))
  assert 'key-of' not in str(told.value)


def test_nobody_there(engine):
  mind = mind_lib.RemoteMind(mind_lib.Address('http://127.0.0.1:9/v1', 'a'))
  with pytest.raises(services.Busy, match='does not answer'):
    replied(mind)
  engine.answer = lambda asked: sends(
    *GOOD[:3], then=lambda: threading.Event().wait(0.5)
  )
  with pytest.raises(lines.Broken, match='time-out'):
    replied(made(engine, silence=0.05))


def test_who_no_longer_listens_hangs_up(engine):
  gone = threading.Event()

  def flood(handler):
    try:
      sends(GOOD[0], *[chunk({'content': 'a' * 2**14})] * 2000)(handler)
    except OSError:
      gone.set()

  engine.answer = lambda asked: flood
  assert len(replied(made(engine), most=2)) == 2
  assert gone.wait(10)


def test_a_silent_engine_is_left_at_once(engine):
  stays = threading.Event()
  engine.answer = lambda asked: sends(*GOOD[:3], then=lambda: stays.wait(10))

  async def go():
    pieces = made(engine).reply(HELLO)
    await anext(pieces)
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting], timeout=5)
    assert waiting.cancelled()

  try:
    asyncio.run(go())
  finally:
    stays.set()


def test_speech_without_words_and_lengths(engine):
  mind = made(engine, longest=100)
  turns = (chats.Turn(chats.USER, (chats.Speech(id='a'),), where='turns[0]'),)
  with pytest.raises(errors.UserError, match=r'turns\[0\]: found speech'):
    replied(mind, turns)
  short, long = (
    mind.length((chats.Turn(chats.USER, (text,)),))
    for text in ('Hello.', 'Hello. ' * 50)
  )
  assert 0 < short < 50 < 100 < long and mind.longest == 100
  with pytest.raises(errors.UserError, match='silence is 0'):
    made(engine, silence=0)
