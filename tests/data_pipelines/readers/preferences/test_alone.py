"""Answers that were judged by themselves, as TRL has them for KTO."""

import pyarrow as pa
from pyarrow import parquet
import pytest

from data_pipelines.ingestion import admission
from tests.data_pipelines.readers import trees
from tests.data_pipelines.readers.preferences import test_layouts

read, ingested = test_layouts.read, test_layouts.ingested
user, reply = test_layouts.user, test_layouts.reply


def row(completion='so', label=True, prompt='why?', **more):
  return {'prompt': prompt, 'completion': completion, 'label': label, **more}


def answers_of(kept):
  """Id → (text of the wanted one, of the unwanted one)."""
  return {
    name: tuple(one and one.get('text') for one in (u.chosen, u.rejected))
    for name, u in kept.items()
  }


def test_one_answer_is_wanted_or_not(tmp_path):
  kept, left = read(
    tmp_path,
    row('so', id='a', category='tone', system='Be brief.'),
    row([reply('no')], False, prompt=[user('why?')], id='b'),
    row(reply('no'), False, id='c', messages=[user('why?')], prompt=None),
    format='auto',
  )
  assert not left
  assert answers_of(kept) == {
    'a': ('so', None), 'b': (None, 'no'), 'c': (None, 'no'),
  }  # fmt: skip
  assert [turn['role'] for turn in kept['a'].turns] == ['system', 'user']
  assert (kept['a'].category, kept['a'].margin) == ('tone', 0.0)
  assert kept['b'].turns == kept['c'].turns


def test_answers_to_one_prompt_share_a_split(tmp_path):
  asked = [{'role': 'user', 'audio': 'ask.wav'}]
  rows = [
    row(f'answer {n}', bool(n % 2), prompt=prompt, id=f'{k}-{n}')
    for k, prompt in enumerate((*'abcdefgh', asked))
    for n in range(3)
  ]
  kept, left = read(tmp_path, *rows, rules=admission.Rules(dev=0.4, test=0.3))
  assert not left and len({u.split for u in kept.values()}) == 3
  for k in range(9):
    some = [u.split for u in kept.values() if u.id.startswith(f'{k}-')]
    assert len(some) == (6 if k == 8 else 3) and len(set(some)) == 1


@pytest.mark.parametrize(
  'bad, reason',
  [
    (row(label=None), 'label: found None, expected true for a completion th'),
    (row(label=1), 'label: found 1, expected true for a completion that is'),
    (row(label='true'), "label: found 'true', expected true for a completion"),
    (row(label=float('nan')), 'label: found nan, expected true'),
    (row([]), 'completion: found [], expected an answer: a text, a message'),
    (row(3), 'completion: found 3, expected an answer'),
    (row(' '), 'completion: found neither text nor audio'),
    (row(prompt=None), 'prompt: missing, expected one of prompt, instruction'),
    (row(prompt=[reply('x')]), 'turns: found none of the user, expected one.'),
    (row([user('x')]), 'completion[0].role: found user, expected assistant.'),
    (
      row([user('why?'), reply('so')]),
      'completion: found 2 turns, expected one behind the prompt.',
    ),
    ({'prompt': 'why?', 'label': True}, 'chosen: missing, expected chosen and'),
  ],
)
def test_what_is_no_answer_is_told_in_a_sentence(bad, reason, tmp_path):
  kept, left = read(tmp_path, row(id='good'), {**bad, 'id': 'bad'})
  assert list(kept) == ['good'] and len(left) == 1
  assert left[0]['id'] == 'bad' and left[0]['line'] == 2
  assert left[0]['reason'].startswith(reason), left[0]['reason']


def test_a_line_that_is_cut_costs_itself(tmp_path):
  raw = '{"prompt": "why?", "completion": "so", "label": true}\n{"prompt": "w'
  trees.put(tmp_path / 'in' / 'prefs.jsonl', raw)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['prefs-1'] and left[0]['line'] == 2
  assert left[0]['reason'].startswith('not a JSON line: ')


def sound(data=None, path=None):
  """A recording as `Audio` of Hugging Face has it."""
  return {'bytes': data, 'path': path}


def spoken(data=None, path=None, text=None):
  """A part of parquet: all of a column have the same fields."""
  kind = 'text' if text else 'audio'
  return {'type': kind, 'text': text, 'audio': sound(data, path)}


def test_parquet_holds_recordings_in_its_messages(tmp_path):
  wav, other = test_layouts.WAV, test_layouts.LONG
  ask = [spoken(text='Answer this.'), spoken(wav, 'gone.wav')]
  rows = [
    {
      'id': 'a',
      'prompt': [{'role': 'user', 'content': ask}],
      'completion': [{'role': 'assistant', 'content': [spoken(text='noon')]}],
      'label': False,
    },
    {
      'id': 'b',
      'prompt': [{'role': 'user', 'content': [spoken(path='ask.wav')]}],
      'completion': [{'role': 'assistant', 'content': [spoken(other)]}],
      'label': True,
    },
    {
      'id': 'empty',
      'prompt': [{'role': 'user', 'content': [spoken(b'')]}],
      'completion': [{'role': 'assistant', 'content': [spoken(text='noon')]}],
      'label': True,
    },
    {
      'id': 'none',
      'prompt': [{'role': 'user', 'content': [spoken()]}],
      'completion': [{'role': 'assistant', 'content': [spoken(text='noon')]}],
      'label': True,
    },
    {
      'id': 'noise',
      'prompt': [{'role': 'user', 'content': [spoken(b'no recording')]}],
      'completion': [{'role': 'assistant', 'content': [spoken(text='noon')]}],
      'label': True,
    },
  ]
  folder = tmp_path / 'in'
  trees.put(folder / 'ask.wav', wav)
  parquet.write_table(pa.Table.from_pylist(rows), folder / 'train.parquet')
  kept, left = ingested(folder, tmp_path / 'out', format='auto')
  assert list(kept) == ['a-turn-0', 'a', 'b-turn-0', 'b-answer-0', 'b']
  assert kept['a'].turns[0]['content'] == [
    {'text': 'Answer this.'}, {'speech': 'a-turn-0'},
  ]  # fmt: skip
  assert answers_of({'a': kept['a']}) == {'a': (None, 'noon')}
  assert kept['b'].chosen == {'role': 'assistant', 'speech': 'b-answer-0'}
  assert kept['b-answer-0'].duration == 0.5
  out = tmp_path / 'out'
  assert kept['a-turn-0'].audio_path(out).read_bytes() == wav
  assert kept['b-turn-0'].audio_path(out).read_bytes() == wav
  for (name, reason), line in zip({
    'empty': "prompt[0].content[0].audio.bytes: found b'', expected the bytes",
    'none': 'prompt[0].content[0].audio: expected {"data": base64}',
    'noise': "audio: found bytes that begin with b'no recor', expected wav",
  }.items(), left, strict=True):  # fmt: skip
    assert line['id'] == name and reason in line['reason']


def test_pairs_of_messages_with_a_recording_beside_their_text(tmp_path):
  heard = sound(test_layouts.WAV)
  asked = {'role': 'user', 'content': 'what is it', 'audio': heard}
  silent = {'role': 'assistant', 'content': 'Noon.', 'audio': sound()}
  audios = [sound(test_layouts.WAV), sound(path='ask.wav')]
  rows = [
    {
      'id': 'p',
      'prompt': [asked],
      'chosen': [silent],
      'rejected': [{**silent, 'content': 'What?'}],
    },
    {
      'id': 'one side',
      'prompt': [asked],
      'chosen': [silent],
      'rejected': [{**silent, 'audio': heard}],
    },
  ]
  share = {
    'id': 's',
    'conversations': [{'from': 'human', 'value': '<audio>and<audio>'}],
    'audios': audios,
    'chosen': 'so',
    'rejected': 'no',
  }
  one = {**share, 'id': 't', 'audios': audios[:1]}
  one['conversations'] = [{'from': 'human', 'value': '<audio>why'}]
  folder = tmp_path / 'in'
  trees.put(folder / 'ask.wav', test_layouts.WAV)
  parquet.write_table(pa.Table.from_pylist(rows), folder / 'a.parquet')
  parquet.write_table(pa.Table.from_pylist([share, one]), folder / 'b.parquet')
  kept, left = ingested(folder, tmp_path / 'out', format='preference_parquet')
  assert {'p-turn-0', 'p', 't-turn-0', 't'} == set(kept)
  assert kept['p-turn-0'].text == 'what is it'
  assert kept['p'].chosen['text'] == 'Noon.'
  reasons = {line['id']: line['reason'] for line in left}
  assert set(reasons) == {'one side', 's'}
  assert (
    'chosen[0]: found no recording, but rejected[0] has one'
    in (reasons['one side'])
  )
