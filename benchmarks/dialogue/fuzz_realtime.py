r"""Whatever a client may send to a realtime session: broken and jumbled events.

    python benchmarks/dialogue/fuzz_realtime.py --events 20000
    python benchmarks/dialogue/fuzz_realtime.py --url http://127.0.0.1:8000/v1

Several sockets send events of all kinds in any order: whole ones, ones with a
field that is gone, new, or of another kind, audio of any length, frames that
are no JSON, and they hang up whenever they like. Each answer has to be an event
of the official client, none may say that the server failed, and no socket may
be closed by the server. Beside them a conversation goes on through that client,
which has to be answered whole throughout. Without --url the server has scripted
models, so that the surface alone is looked at. Prints one JSON line last; its
status is 1 where something was found.
"""

import argparse
import asyncio
import base64
import collections
import contextlib
import copy
import json
import pathlib
import random
import sys
import time

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

KINDS = (
  'session.update',
  'input_audio_buffer.append',
  'input_audio_buffer.commit',
  'input_audio_buffer.clear',
  'conversation.item.create',
  'conversation.item.retrieve',
  'conversation.item.truncate',
  'conversation.item.delete',
  'response.create',
  'response.cancel',
  'output_audio_buffer.clear',
)
_ODD = (
  *(None, True, False, 0, -1, 1, 3.5, 1e308, -(2**63), 2**70, '', 'x', 'ü'),
  *(
    '\0',
    '木',
    '😀',
    'root',
    'auto',
    'none',
    'inf',
    'a' * 5000,
    [],
    {},
    [None],
  ),
  *([[[[[]]]]], {'type': 'message'}, {'id': {}}, ['text', 'audio']),
  *('!', 'AAA='),
)
_FRAMES = (
  *('', '{', 'null', '[]', '"', '{"type":', '\0', '1e999', 'NaN', '[' * 5000),
  *('{"type": "session.update"', '{"type": "\\ud800"}'),
  *('{"event_id": "\\udfff"}',),
  *(b'', b'\0', b'\xff\xfe', b'{"type": "response.cancel"}'),
)


class Fuzzer:
  """Makes events; one seed makes the same ones."""

  def __init__(self, seed: int):
    self._draw = random.Random(seed)
    self.items = ['item_none']  # ids that were seen

  def see(self, event) -> None:
    """What the server says: it names items."""
    item = event.get('item')
    if isinstance(item, dict) and item.get('id'):
      self.items = [*self.items[-20:], item['id']]

  def frame(self) -> str | bytes:
    """A frame of a WebSocket."""
    draw = self._draw
    if draw.random() < 0.05:
      return draw.choice(_FRAMES)
    return json.dumps(self.event())

  def event(self) -> dict:
    """An event, whole or not."""
    draw = self._draw
    kind = draw.choice(KINDS)
    event = {'type': kind, **copy.deepcopy(self._fields(kind))}
    if draw.random() < 0.5:
      event['event_id'] = f'mine_{draw.randrange(10**6)}'
    while draw.random() < 0.4:
      self._mutate(event)
    return event

  def _fields(self, kind: str) -> dict:
    draw = self._draw
    name = draw.choice(self.items)
    return {
      'session.update': lambda: {'session': self._session()},
      'input_audio_buffer.append': lambda: {'audio': self._audio()},
      'conversation.item.create': lambda: {
        'item': self._item(),
        **({'previous_item_id': name} if draw.random() < 0.3 else {}),
      },
      'conversation.item.retrieve': lambda: {'item_id': name},
      'conversation.item.delete': lambda: {'item_id': name},
      'conversation.item.truncate': lambda: {
        'item_id': name,
        'content_index': draw.choice((0, 0, 0, 1)),
        'audio_end_ms': draw.choice((0, 100, 1000, 10**9)),
      },
      'response.create': lambda: draw.choice(
        ({}, {'response': self._response()})
      ),
      'response.cancel': lambda: draw.choice(({}, {'response_id': 'resp_no'})),
    }.get(kind, dict)()

  def _audio(self) -> str:
    """Sound, loud or silent, of no particular length."""
    draw = self._draw
    size = draw.choice((0, 1, 3, 960, 4800, 9600, 48000, 96000))
    raw = bytes(size) if draw.random() < 0.5 else draw.randbytes(size)
    return base64.b64encode(raw).decode()

  def _session(self) -> dict:
    draw = self._draw
    detection = draw.choice(
      (
        None,
        {'type': 'semantic_vad', 'eagerness': 'high'},
        {'type': 'server_vad', 'threshold': 0.4, 'silence_duration_ms': 300},
        {'type': 'server_vad', 'create_response': False},
        {'type': 'server_vad', 'interrupt_response': False},
      )
    )
    sound = draw.choice(('audio/pcm', 'audio/pcmu', 'audio/pcma'))
    return draw.choice(
      (
        {'type': 'realtime', 'instructions': 'Be brief.'},
        {'type': 'realtime', 'output_modalities': [draw.choice(_MODES)]},
        {
          'type': 'realtime',
          'tools': [self._tool()],
          'tool_choice': draw.choice(('auto', 'none', 'required')),
          'truncation': {'type': 'retention_ratio', 'retention_ratio': 0.5},
        },
        {
          'type': 'realtime',
          'audio': {
            'input': {
              'turn_detection': detection,
              'format': {'type': sound},
              'transcription': draw.choice((None, {'model': 'whisper-1'})),
            },
            'output': {'speed': 1.5, 'format': {'type': sound}},
          },
          'max_output_tokens': draw.choice(('inf', 1, 4096)),
        },
      )
    )

  def _tool(self) -> dict:
    schema = {'type': 'object', 'properties': {'zone': {'type': 'string'}}}
    return {'type': 'function', 'name': 'clock', 'parameters': schema}

  def _item(self) -> dict:
    draw = self._draw
    return draw.choice(
      (
        {'type': 'message', 'role': draw.choice(('user', 'system'))}
        | {'content': [{'type': 'input_text', 'text': 'hello'}]},
        {'type': 'message', 'role': 'assistant'}
        | {'content': [{'type': 'output_text', 'text': 'Good day.'}]},
        {'type': 'message', 'role': 'user'}
        | {'content': [{'type': 'input_audio', 'audio': self._audio()}]},
        {'type': 'function_call', 'name': 'clock', 'arguments': '{}'}
        | {'call_id': f'call_{draw.randrange(20)}'},
        {'type': 'function_call_output', 'output': 'noon'}
        | {'call_id': f'call_{draw.randrange(20)}'},
      )
    )

  def _response(self) -> dict:
    draw = self._draw
    return draw.choice(
      (
        {'output_modalities': [draw.choice(_MODES)]},
        {'conversation': 'none', 'metadata': {'topic': 'x'}},
        {'conversation': 'none', 'input': [self._item()]},
        {'input': [{'type': 'item_reference', 'id': draw.choice(self.items)}]},
        {'instructions': 'Judge.', 'tools': [self._tool()]},
        {'max_output_tokens': 5, 'audio': {'output': {'voice': 'own'}}},
      )
    )

  def _mutate(self, event: dict) -> None:
    """Changes one place, however deep."""
    draw = self._draw
    place = event
    while True:
      keys = list(place) if isinstance(place, dict) else list(range(len(place)))
      if not keys:
        return
      key = draw.choice(keys)
      inner = place[key]
      if not (isinstance(inner, dict | list) and inner and draw.random() < 0.7):
        break
      place = inner
    change = draw.random()
    if change < 0.6:
      place[key] = copy.deepcopy(draw.choice(_ODD))
    elif change < 0.8:
      del place[key]
    elif isinstance(place, dict):
      place[draw.choice(('type', 'id', 'new', '', 'audio', 'ü'))] = inner
    else:
      place.append(copy.deepcopy(inner))


_MODES = 'text', 'audio'


def fault_of(event) -> str | None:
  """What is wrong with an event of the server; None if nothing is."""
  import pydantic

  shape = shapes().get(event.get('type'))
  if shape is None:
    return f'unknown type {event.get("type")!r}'
  try:
    found = shape.model_validate(event, strict=True)
  except pydantic.ValidationError as error:
    return f'{event["type"]}: {error}'
  extra = sorted(found.model_extra or ())
  if extra:
    return f'{event["type"]}: fields that no client knows: {extra}'
  if event['type'] == 'error' and event['error']['type'] == 'server_error':
    return 'the server failed'
  return None


def shapes() -> dict:
  """Type of an event → its class in the official client."""
  import typing

  from openai.types import realtime

  kinds = typing.get_args(typing.get_args(realtime.RealtimeServerEvent)[0])
  return {
    typing.get_args(kind.model_fields['type'].annotation)[0]: kind
    for kind in kinds
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--url', help='base_url of a server that runs.')
  parser.add_argument('--token', default='none')
  parser.add_argument('--events', type=int, default=5000)
  parser.add_argument('--sockets', type=int, default=4)
  parser.add_argument('--seed', type=int, default=1)
  flags = parser.parse_args()
  with _server(flags.url) as url:
    found = asyncio.run(_fuzzed(url, flags))
  print(json.dumps(found))
  return 0 if found['is_well'] else 1


@contextlib.contextmanager
def _server(url):
  if url:
    yield url.rstrip('/')
    return
  from tests.serving import running

  with running.running() as place:
    yield f'{place.url}/v1'


async def _fuzzed(url, flags):
  counts, faults = collections.Counter(), collections.Counter()
  over = asyncio.Event()
  other = asyncio.create_task(_conversation(url, flags.token, over))
  began = time.monotonic()
  share = flags.events // flags.sockets
  await asyncio.gather(
    *(
      _socket(url, flags, flags.seed * 1000 + n, share, counts, faults)
      for n in range(flags.sockets)
    )
  )
  seconds = time.monotonic() - began
  over.set()
  told = await other
  is_well = not faults and told['answered'] and not told['unanswered']
  return {
    **counts,
    'seconds': round(seconds, 1),
    'faults': dict(faults.most_common(20)),
    **told,
    'is_well': bool(is_well),
  }


async def _socket(url, flags, seed, events, counts, faults):
  """Sends so many events, over as many connections as it takes."""
  import websockets

  address = f'ws{url.removeprefix("http")}/realtime?model=scripted'
  headers = {'Authorization': f'Bearer {flags.token}'}
  fuzzer, draw = Fuzzer(seed), random.Random(seed)
  sent = 0
  while sent < events:
    try:
      async with websockets.connect(
        address, additional_headers=headers, max_size=None
      ) as socket:
        reader = asyncio.create_task(_read(socket, fuzzer, counts, faults))
        for _ in range(min(draw.randrange(1, 200), events - sent)):
          await socket.send(fuzzer.frame())
          sent += 1
          counts['events'] += 1
          if draw.random() < 0.1:
            await asyncio.sleep(draw.random() / 20)
        if draw.random() < 0.5:  # else it hangs up in the middle
          await socket.send(json.dumps({'type': 'input_audio_buffer.clear'}))
          await asyncio.sleep(0.2)
        reader.cancel()
        await asyncio.wait([reader])
    except websockets.ConnectionClosed as error:
      faults[f'closed by the server: {error}'[:200]] += 1


async def _read(socket, fuzzer, counts, faults):
  import websockets

  try:
    async for text in socket:
      counts['answers'] += 1
      event = json.loads(text)
      fuzzer.see(event)
      if fault := fault_of(event):
        faults[fault[:200]] += 1
  except websockets.ConnectionClosed:
    pass  # who sends counts it


async def _conversation(url, token, over):
  """Somebody else, who is answered all the while."""
  import openai

  client = openai.AsyncOpenAI(base_url=url, api_key=token)
  answered = unanswered = 0
  longest = 0.0
  async with client.realtime.connect(model='scripted') as talk:
    await talk.session.update(
      session={'type': 'realtime', 'output_modalities': ['text']}
    )
    while not over.is_set() or not answered:
      began = time.monotonic()
      await talk.response.create()
      status = None
      async for event in talk:
        if event.type == 'response.done':
          status = event.response.status
          break
      answered += status == 'completed'
      unanswered += status != 'completed'
      longest = max(longest, time.monotonic() - began)
      await asyncio.sleep(0.2)
  return {
    'answered': answered,
    'unanswered': unanswered,
    'longest_seconds': round(longest, 3),
  }


if __name__ == '__main__':
  sys.exit(main())
