"""Chats as OpenAI, ShareGPT and others write them, written and spoken."""

import base64
import functools
import gzip
import json

import pytest

from data_pipelines.ingestion import admission
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = functools.partial(ingesting.ingested, format='chat_jsonl')


WAV = trees.tone(0.25)
HI = {'role': 'assistant', 'content': 'hi'}


def read(tmp_path, *chats, **keywords):
  trees.put(tmp_path / 'in' / 'ask.wav', WAV)
  trees.put(tmp_path / 'in' / 'chats.jsonl', list(chats))
  return ingested(tmp_path / 'in', tmp_path / 'out', **keywords)


def inline(data, **more):
  return {'type': 'input_audio', 'input_audio': {'data': data, **more}}


def test_written_chats_of_both_kinds(tmp_path):
  openai = [
    {'role': 'system', 'content': 'be brief'},
    {'role': 'user', 'content': [
      {'type': 'text', 'text': 'one'}, {'type': 'text', 'text': 'two'}]},
    HI,
  ]  # fmt: skip
  sharegpt = [
    {'from': 'human', 'value': 'why'}, {'from': 'gpt', 'value': ' so '},
  ]  # fmt: skip
  kept, left = read(
    tmp_path,
    {'messages': openai, 'id': 3, 'language': 'German', 'split': 'val'},
    {'conversations': sharegpt, 'system': 'explain'},
  )
  assert left == [] and {u.kind for u in kept.values()} == {'chat'}
  assert (kept['3'].language, kept['3'].split) == ('de', 'dev')
  assert [tuple(turn.values()) for turn in kept['3'].turns] == [
    ('system', 'be brief'), ('user', 'one\ntwo'), ('assistant', 'hi'),
  ]  # fmt: skip
  assert [tuple(turn.values()) for turn in kept['chats-2'].turns] == [
    ('system', 'explain'), ('user', 'why'), ('assistant', ' so '),
  ]  # fmt: skip
  assert all(u.text is None and u.audio is None for u in kept.values())


@pytest.mark.parametrize(
  'message',
  [
    {'content': [{'type': 'audio', 'audio': 'ask.wav'}]},
    {'content': [inline(base64.b64encode(WAV).decode(), format='wav')]},
    {'content': [
      inline('data:audio/wav;base64,' + base64.b64encode(WAV).decode()),
      {'type': 'text', 'text': ''}]},
    {'audio': 'ask.wav'},
    {'audio': 'ask.wav', 'text': 'what is said'},
    {'audio': 'ask.wav', 'content': 'what is said'},
    {'content': [{'type': 'audio', 'audio': 'ask.wav'}],
     'text': 'what is said'},
  ],
)  # fmt: skip
def test_a_spoken_turn_is_an_utterance(message, tmp_path):
  chat = {'id': 'c', 'messages': [{'role': 'user', **message}, HI]}
  kept, left = read(tmp_path, chat)
  assert left == [] and list(kept) == ['c-turn-0', 'c']
  assert kept['c'].turns == (
    {'role': 'user', 'speech': 'c-turn-0'},
    {'role': 'assistant', 'text': 'hi'},
  )
  spoken = kept['c-turn-0']
  assert (spoken.kind, spoken.duration) == ('speech', 0.25)
  assert spoken.audio_path(tmp_path / 'out').read_bytes() == WAV
  written = 'what is said' in str(message)
  assert spoken.text == ('what is said' if written else None)


def test_a_text_may_stand_beside_a_recording_and_tools_come_along(tmp_path):
  tool = {'type': 'function', 'function': {'name': 'clock'}}
  call = {'id': 'c', 'function': {'name': 'clock', 'arguments': '{"at": 1}'}}
  openai = [
    {'role': 'system', 'content': 'be brief'},
    {'role': 'user', 'content': [
      {'type': 'text', 'text': 'Answer this.'},
      inline(base64.b64encode(WAV).decode())]},
    {'role': 'assistant', 'content': None, 'tool_calls': [call]},
    {'role': 'tool', 'content': '12:00', 'tool_call_id': 'c'},
    HI,
  ]  # fmt: skip
  sharegpt = [
    {'from': 'human', 'value': '<audio>What is said?'},
    {'from': 'function_call', 'value': '{"name": "clock", "arguments": {}}'},
    {'from': 'observation', 'value': '12:00'},
    {'from': 'gpt', 'value': 'noon'},
  ]
  kept, left = read(
    tmp_path,
    {'id': 'o', 'messages': openai, 'tools': [tool]},
    {'id': 's', 'conversations': sharegpt, 'audios': ['ask.wav'],
     'tools': '[{"name": "clock"}]'},
  )  # fmt: skip
  assert left == [] and list(kept) == ['o-turn-1', 'o', 's-turn-0', 's']
  assert kept['o'].turns == (
    {'role': 'system', 'text': 'be brief'},
    {'role': 'tool_json_schemas', 'tools': [tool]},
    {'role': 'user', 'content': [
      {'text': 'Answer this.'}, {'speech': 'o-turn-1'}]},
    {'role': 'assistant', 'calls': [
      {'name': 'clock', 'arguments': {'at': 1}, 'id': 'c'}]},
    {'role': 'tool', 'text': '12:00', 'call_id': 'c'},
    {'role': 'assistant', 'text': 'hi'},
  )  # fmt: skip
  assert kept['s'].turns == (
    {'role': 'tool_json_schemas', 'tools': [tool]},
    {'role': 'user', 'content': [
      {'speech': 's-turn-0'}, {'text': 'What is said?'}]},
    {'role': 'assistant', 'calls': [{'name': 'clock', 'arguments': {}}]},
    {'role': 'tool', 'text': '12:00'},
    {'role': 'assistant', 'text': 'noon'},
  )  # fmt: skip
  sounds = [kept[name].audio_path(tmp_path / 'out') for name in (
    'o-turn-1', 's-turn-0')]  # fmt: skip
  assert [sound.read_bytes() for sound in sounds] == [WAV, WAV]


@pytest.mark.parametrize(
  'message',
  [
    {'role': 'user', 'content': 'half \ud800'},
    {'role': 'function_call', 'content':
     {'name': 'clock', 'arguments': {'at': ['\udc80']}}},
  ],
)  # fmt: skip
def test_half_a_character_costs_its_chat(message, tmp_path):
  lines = [
    {'id': 'bad', 'messages': [message, HI], 'tools': [{'name': 'clock'}]},
    {'id': 'good', 'messages': [HI]},
  ]
  text = ''.join(f'{json.dumps(line)}\n' for line in lines)
  trees.put(tmp_path / 'in' / 'chats.jsonl', text)
  kept, (left,) = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['good'] and left['id'] == 'bad'
  assert left['reason'].startswith("found '\\ud")


def test_a_file_may_be_one_array(tmp_path):
  """As LLaMA-Factory writes it, beside its list of data sets."""
  said = [{'from': 'human', 'value': '<audio>'}, {'from': 'gpt', 'value': 'a'}]
  text = [{'from': 'human', 'value': 'b'}, {'from': 'gpt', 'value': 'c'}]
  trees.put(tmp_path / 'in' / 'ask.wav', WAV)
  (tmp_path / 'in' / 'mine.json').write_text(json.dumps(
    [{'conversations': said, 'audios': ['ask.wav']}, {'conversations': []}, 3,
     {'conversations': text}], indent=2))  # fmt: skip
  (tmp_path / 'in' / 'dataset_info.json').write_text('{"mine": {}}')
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['mine-1-turn-0', 'mine-1', 'mine-4']
  reasons = [one['reason'] for one in left]
  assert reasons[0].startswith('conversations: missing')
  assert reasons[1] == 'found 3, expected an object.'
  again, _ = ingested(
    tmp_path / 'in' / 'mine.json', tmp_path / 'out2', format='auto'
  )
  assert list(again) == list(kept)


@pytest.mark.parametrize(
  'message, reason',
  [
    ('hello', 'messages[1]: expected an object'),
    ({'content': 'x'}, 'messages[1].role: found None'),
    ({'role': 'usr', 'content': 'x'}, "role: found 'usr', expected system"),
    ({'role': 'usr', 'content': 'x'}, "the nearest is 'user'"),
    ({'role': 'tool', 'content': 'x'}, 'a result of a tool without a call'),
    ({'role': 'system', 'content': 'x'}, 'found system behind assistant'),
    ({'role': ['user'], 'content': 'x'}, 'role: found'),
    ({'role': 'user'}, 'found neither text nor audio'),
    ({'role': 'user', 'content': ' '}, 'found neither text nor audio'),
    ({'role': 'user', 'content': []}, 'found neither text nor audio'),
    ({'role': 'user', 'content': 5}, 'messages[1].content: found 5'),
    ({'role': 'user', 'content': [5]}, 'found the type None'),
    ({'role': 'user', 'content': [{'type': 'image_url'}]}, "type 'image_url'"),
    ({'role': 'user', 'content': [{'type': 'text', 'text': 1}]}, 'found 1'),
    ({'role': 'user', 'content': [inline('%%%')]}, 'not base64'),
    ({'role': 'user', 'content': [inline('')]}, 'found no bytes, expected'),
    ({'role': 'user', 'content': [inline(3)]}, 'expected {"data": base64}'),
    ({'role': 'user', 'content': [inline('TVqQAA==')]}, 'begin with b'),
    ({'role': 'user', 'audio': '../ask.wav'}, "without '..'"),
    ({'role': 'user', 'audio': '/etc/passwd'}, 'leads out of'),
    ({'role': 'user', 'audio': 3}, 'messages[1].audio: found 3'),
    ({'role': 'assistant', 'content': [
      {'type': 'audio', 'audio': 'ask.wav'}, {'type': 'text', 'text': 'a'}]},
      'messages[1]: found text behind the recording'),
    ({'role': 'user', 'content': [
      {'type': 'audio', 'audio': 'ask.wav'}] * 2}, 'found 2 recordings'),
  ],
)  # fmt: skip
def test_a_bad_turn_costs_its_chat(message, reason, tmp_path):
  good = {'id': 'good', 'messages': [{'role': 'user', 'content': 'a'}, HI]}
  bad = {'id': 'bad', 'messages': [HI, message]}
  kept, (left,) = read(tmp_path, good, bad)
  assert list(kept) == ['good'] and reason in left['reason']
  assert (left['id'], left['line']) == ('bad', 2)


@pytest.mark.parametrize(
  'chat, reason',
  [
    ({}, 'messages: missing'),
    ({'messages': []}, 'messages: missing'),
    ({'messages': {'role': 'user'}}, 'messages: missing'),
    ({'messages': [HI], 'system': 3}, 'system: found 3'),
    ({'messages': [HI], 'id': 'good'}, 'occurs twice'),
  ],
)
def test_a_line_that_is_no_chat(chat, reason, tmp_path):
  kept, (left,) = read(tmp_path, {'id': 'good', 'messages': [HI]}, chat)
  assert list(kept) == ['good'] and reason in left['reason']


def test_turns_share_the_split_of_their_chat(tmp_path):
  """What is learnt from a chat must not be what speech is tested with."""
  turns = [{'role': 'user', 'audio': 'ask.wav'}, HI]
  chats = [{'id': f'c{k}', 'messages': turns} for k in range(60)]
  rules = admission.Rules(dev=0.3, test=0.3)
  kept, _ = read(tmp_path, *chats, rules=rules)
  chats = [u for u in kept.values() if u.kind == 'chat']
  assert len({u.split for u in chats}) == 3
  for one in chats:
    assert kept[f'{one.id}-turn-0'].split == one.split


@pytest.mark.parametrize('audio', ['gone.wav', 'text.wav', 'cut.wav'])
def test_a_chat_without_one_of_its_recordings_is_left_out(audio, tmp_path):
  """Nothing may refer to an utterance that the corpus does not have."""
  trees.put(tmp_path / 'in' / 'text.wav', 'these are words')
  trees.put(tmp_path / 'in' / 'cut.wav', WAV[:-100])
  turns = [{'role': 'user', 'audio': name} for name in ('ask.wav', audio)]
  kept, left = read(
    tmp_path,
    {'id': 'good', 'messages': [turns[0], HI]},
    {'id': 'bad', 'messages': [*turns, HI]},
  )
  assert list(kept) == ['good-turn-0', 'good', 'bad-turn-0']
  assert [one['id'] for one in left] == ['bad-turn-1', 'bad']
  assert left[1]['reason'] == (
    "turns: 'bad-turn-1' was left out, or is none; expected a recording in "
    'front of the chat.'
  )


Q = {'role': 'user', 'content': 'q'}
CHAT = json.dumps({'messages': [Q, HI]})


@pytest.mark.parametrize(
  'line, reason',
  [
    (json.dumps({'messages': [Q]}), 'none of the assistant, expected one'),
    ('{"messages": [{"role": "user", "role": "assistant", "content": "q"}]}',
     "the field 'role' occurs twice in one object"),
    (CHAT[:-1] + ', ' + CHAT[1:], "the field 'messages' occurs twice"),
    ('{"id": ' + '[' * 900 + ']' * 900 + ', ' + CHAT[1:], 'nested more than'),
    ('[' * 10**6 + ']' * 10**6, 'not a JSON line: maximum recursion'),
    ('{"messages": ' + '[' * 10**6, 'not a JSON line: maximum recursion'),
    (CHAT[:-1] + ', "id": NaN}', 'id: found nan'),
    (CHAT[:-1] + ', "id": ' + '9' * 5000 + '}', 'not a JSON line: Exceeds'),
    (CHAT[:-1] + ', "tools": "' + '[' * 500 + ']' * 500 + '"}', 'tools[0]:'),
    (CHAT[:-1] + ', "tools": [{"name": "f", "parameters": {"a": NaN}}]}',
     'tools: found what a line of JSON cannot hold'),
    (json.dumps({'turns': [{'role': 'user', 'speech': 'x'},
                           {'role': 'assistant', 'text': 'a'}]}),
     "turns: 'x' was left out, or is none; expected a recording in front"),
    (json.dumps({'messages': [{'role': 'User', 'content': 'q'}, HI]}),
     "the nearest is 'user'"),
    (json.dumps({'messages': [
      {'role': 'user', 'audio': 'a' * 5000 + '.wav'}, HI]}), ''),
    (json.dumps({'messages': [{'role': 'user', 'audio': 'a\0.wav'}, HI]}),
     'expected a path inside the corpus folder'),
    (json.dumps({'messages': [{'role': 'user', 'audio': 'out.wav'}, HI]}),
     "'out.wav' leads out of"),
    (json.dumps({'messages': [{'role': 'user', 'audio': 'loop.wav'}, HI]}),
     "'loop.wav' is not a regular file"),
    (json.dumps({'messages': [{'role': 'user', 'audio': 'gs://b/x'}, HI]}),
     "'gs:/b/x': found one slash"),
    (json.dumps({'messages': [{'role': 'user', 'content': [inline(
      'data:image/png;base64,iVBORw0KGgo=')]}, HI]}), "begin with b'\\x89PNG"),
    (json.dumps({'messages': [{'role': 'user', 'content': [inline(
      'https://example.com/a.wav')]}, HI]}), "found 'https://example.com/a.wav'"),
  ],
)  # fmt: skip
def test_hostile_lines_cost_one_line(line, reason, tmp_path):
  trees.put(tmp_path / 'in' / 'ask.wav', WAV)
  (tmp_path / 'in' / 'out.wav').symlink_to('/etc/hostname')
  (tmp_path / 'in' / 'loop.wav').symlink_to('loop.wav')
  text = f'{line}\n{CHAT}\n'
  (tmp_path / 'in' / 'chats.jsonl').write_text(text, encoding='utf-8')
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['chats-2'] and left
  assert reason in left[0]['reason'] and left[0]['line'] == 1


@pytest.mark.parametrize(
  'pack, told',
  [
    (gzip.compress, 'found gzip; give it a name that ends with .gz'),
    (lambda raw: b'PK\x03\x04\xff' + raw, 'found a zip archive; unpack it'),
    (lambda raw: b'(\xb5/\xfd' + raw, 'found Zstandard'),
  ],
)
def test_a_packed_file_is_one_line_of_the_quarantine(pack, told, tmp_path):
  raw = pack(f'{CHAT}\n'.encode() * 50)
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'chats.jsonl').write_bytes(raw)
  (tmp_path / 'in' / 'good.jsonl').write_text(CHAT)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['good-1'] and told in left[0]['reason']
  assert len(left) == 1
