"""Preferences in the layouts that others publish: made samples of each."""

import functools
import json

import pyarrow as pa
from pyarrow import parquet
import pytest

from data_pipelines import readers
from data_pipelines.ingestion import admission
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = functools.partial(ingesting.ingested, format='preference_jsonl')
WAV, LONG = trees.tone(0.25), trees.tone(0.5)


def read(tmp_path, *rows, **keywords):
  trees.put(tmp_path / 'in' / 'ask.wav', WAV)
  trees.put(tmp_path / 'in' / 'say.wav', LONG)
  trees.put(tmp_path / 'in' / 'prefs.jsonl', list(rows))
  return ingested(tmp_path / 'in', tmp_path / 'out', **keywords)


def said(utterance):
  """(role, text) of the turns of a preference, and its two answers."""
  turns = [tuple(turn.values()) for turn in utterance.turns]
  return turns, utterance.chosen['text'], utterance.rejected['text']


def user(content):
  return {'role': 'user', 'content': content}


def reply(content):
  return {'role': 'assistant', 'content': content}


SKY = [('user', 'What colour is the sky?')]


@pytest.mark.parametrize(
  'row',
  [
    # TRL: standard and conversational, explicit and implicit prompts.
    {'prompt': SKY[0][1], 'chosen': 'Blue.', 'rejected': 'Green.'},
    {
      'prompt': [user(SKY[0][1])],
      'chosen': [reply('Blue.')],
      'rejected': [reply('Green.')],
    },
    {
      'chosen': [user(SKY[0][1]), reply('Blue.')],
      'rejected': [user(SKY[0][1]), reply('Green.')],
    },
    # LLaMA-Factory's.
    {
      'conversations': [{'from': 'human', 'value': SKY[0][1]}],
      'chosen': {'from': 'gpt', 'value': 'Blue.'},
      'rejected': {'from': 'gpt', 'value': 'Green.'},
    },
    # Ours.
    {
      'turns': [{'role': 'user', 'text': SKY[0][1]}],
      'chosen': {'role': 'assistant', 'text': 'Blue.'},
      'rejected': {'role': 'assistant', 'text': 'Green.'},
    },
    # HH's dialogues, also with the prompt beside the answers.
    {
      'chosen': f'\n\nHuman: {SKY[0][1]}\n\nAssistant: Blue.',
      'rejected': f'\n\nHuman: {SKY[0][1]}\n\nAssistant: Green.',
    },
    {
      'prompt': f'\n\nHuman: {SKY[0][1]}\n\nAssistant:',
      'chosen': ' Blue.',
      'rejected': ' Green.',
    },
  ],
)
def test_one_pair_in_many_layouts(row, tmp_path):
  kept, left = read(tmp_path, {**row, 'id': 7, 'split': 'val'})
  assert left == [] and list(kept) == ['7']
  turns, *answers = said(kept['7'])
  assert (turns, [one.strip() for one in answers]) == (SKY, ['Blue.', 'Green.'])
  assert (kept['7'].kind, kept['7'].split) == ('preference', 'dev')
  assert (kept['7'].margin, kept['7'].category) == (0.0, None)


@pytest.mark.parametrize(
  'chosen, rejected, prompt, answers',
  [
    ('It is blue', 'It is black and', 'It is', ('blue', 'black and')),
    ('It is blue', 'It is blue and red', 'It is blue', ('', 'and red')),
    ('天空是蓝色的', '天空是绿色的', '天空是', ('蓝色的', '绿色的')),
    ('été chaud', 'été chez moi', 'été', ('chaud', 'chez moi')),
  ],
)
def test_what_two_texts_begin_with_is_the_prompt(
  chosen, rejected, prompt, answers, tmp_path
):
  row = {'chosen': chosen, 'rejected': rejected}
  kept, left = read(tmp_path, row, ASKED)
  if not all(answers):
    assert 'chosen: found neither text nor audio' in left[0]['reason']
    return
  assert said(kept['prefs-1']) == ([('user', prompt)], *answers)
  assert not left


def test_a_system_tools_margin_and_category_come_along(tmp_path):
  tool = {'type': 'function', 'function': {'name': 'clock'}}
  call = {'id': 'c', 'function': {'name': 'clock', 'arguments': '{}'}}
  row = {
    'system': 'Be brief.',
    'tools': [tool],
    'prompt': [
      user('How late is it?'),
      {'role': 'assistant', 'tool_calls': [call]},
      {'role': 'tool', 'tool_call_id': 'c', 'content': '12:00'},
    ],
    'chosen': 'Noon.',
    'rejected': [reply('I do not know.')],
    'margin': 2,
    'category': 'tool use',
  }
  kept, left = read(tmp_path, row)
  assert not left
  found = kept['prefs-1']
  assert [turn['role'] for turn in found.turns] == [
    'system', 'tool_json_schemas', 'user', 'assistant', 'tool',
  ]  # fmt: skip
  assert (found.margin, found.category) == (2.0, 'tool_use')
  assert found.chosen == {'role': 'assistant', 'text': 'Noon.'}


def test_hh_keeps_the_splits_of_its_files(tmp_path):
  def dialogue(*turns):
    who = ('Human', 'Assistant')
    return ''.join(f'\n\n{who[n % 2]}: {t}' for n, t in enumerate(turns))

  before = 'why', 'because: of\n\nmany things', 'which'
  for split in ('train', 'test'):
    raw = '\n'.join(
      json.dumps(row)
      for row in (
        {
          'chosen': dialogue(*before, 'all'),
          'rejected': dialogue(*before, 'none'),
        },
        {'chosen': dialogue('a', 'b'), 'rejected': dialogue('a', '')},
        {
          'chosen': dialogue('a', 'b'),
          'rejected': dialogue('c', 'b', 'd', 'e'),
        },
        {
          'chosen': dialogue('a', 'b', 'c'),
          'rejected': dialogue('a', 'b', 'd'),
        },
        {'chosen': 'Assistant: b', 'rejected': dialogue('a', 'c')},
      )
    )
    path = tmp_path / 'hh' / 'helpful-base' / f'{split}.jsonl.gz'
    trees.put(path, raw)  # `put` packs it
  kept, left = ingested(tmp_path / 'hh', tmp_path / 'out', format='auto')
  assert {u.id: u.split for u in kept.values()} == {
    'helpful-base/test-1': 'test',
    'helpful-base/train-1': 'train',
  }
  turns, *answers = said(kept['helpful-base/train-1'])
  assert turns == [('user', 'why'), ('assistant', before[1]), ('user', 'which')]
  assert answers == ['all', 'none']
  reasons = [line['reason'] for line in left[:4]]
  assert reasons == [
    'rejected[1]: found neither text nor audio, nor calls.',
    "rejected: found user 'c' as turn 0, but user 'a' in chosen, expected one "
    'prompt for both.',
    'chosen[2].role: found user, expected assistant.',
    "rejected: found user 'a' as turn 0, but nothing in chosen, expected one "
    'prompt for both.',
  ]


def binarized(prompt, chosen, rejected, better, worse):
  """A row of UltraFeedback as pairs."""
  dialogues = [[user(prompt), reply(one)] for one in (chosen, rejected)]
  return {
    'prompt': prompt,
    'prompt_id': f'id of {prompt}',
    'chosen': dialogues[0],
    'rejected': dialogues[1],
    'messages': dialogues[0],
    'score_chosen': better,
    'score_rejected': worse,
  }


def test_ultrafeedback_as_pairs_in_parquet(tmp_path):
  rows = [
    binarized('one', 'good', 'bad', 8.5, 6.0),
    binarized('two', 'good', 'as good', 7.0, 7.0),
    binarized('three', 'bad', 'good', 5.0, 7.0),
    binarized('four', 'good', 'bad', float('nan'), 7.0),
    binarized('five', 'good', 'good', 8.0, 7.0),
    {**binarized('six', 'good', 'bad', 8.0, 7.0), 'prompt': 'seven'},
  ]
  folder = tmp_path / 'in' / 'data'
  folder.mkdir(parents=True)
  for split in ('train_prefs', 'test_prefs'):
    parquet.write_table(
      pa.Table.from_pylist(rows), folder / f'{split}-00000-of-00001.parquet'
    )
  kept, left = ingested(
    tmp_path / 'in', tmp_path / 'out', format='auto', margin='0.5'
  )
  assert [(u.split, u.margin) for u in kept.values()] == [
    ('test', 1.25),
    ('train', 1.25),
  ]
  assert said(kept['data/train_prefs-00000-of-00001-1']) == (
    [('user', 'one')], 'good', 'bad',
  )  # fmt: skip
  assert [line['reason'] for line in left[:5]] == [
    'score_chosen and score_rejected: found answers that differ by 0 at most, '
    'expected more than 0 for a pair.',
    'score_chosen: found 5, less than 7 of the rejected answer, expected more.',
    'score_chosen: found nan, expected a number.',
    'rejected[1]: found the same answer as chosen[1], expected another.',
    "chosen: found user 'six' in front of the answer, but prompt 'seven', "
    'expected one prompt for both.',
  ]
  assert readers.choose('auto', tmp_path / 'in').reader.endswith('read_parquet')


def test_ultrafeedback_with_its_completions(tmp_path):
  def completion(model, response, score):
    return {
      'model': model,
      'principle': 'helpfulness',
      'custom_system_prompt': 'You are helpful.',
      'response': response,
      'annotations': {'helpfulness': {'Rating': '4', 'Rationale': 'fine'}},
      'critique': 'fine',
      'overall_score': score,
      'fine-grained_score': score / 2,
    }

  row = {
    'source': 'evol_instruct',
    'instruction': 'Count to two.',
    'models': ['a', 'b', 'c'],
    'completions': [
      completion('a', 'one', 4.0),
      completion('b', 'one, two', 9.0),
      completion('c', 'two', 4.0),
    ],
    'correct_answers': ['None'],
    'incorrect_answers': ['None'],
  }
  kept, left = read(tmp_path, row, format='auto', margin='1')
  assert not left and {u.split for u in kept.values()} <= {'train', 'test'}
  assert [(u.id, *said(u)[1:], u.margin) for u in kept.values()] == [
    ('prefs-1-1over0', 'one, two', 'one', 5.0),
    ('prefs-1-1over2', 'one, two', 'two', 5.0),
  ]
  kept, _ = ingested(
    tmp_path / 'in',
    tmp_path / 'fine',
    score='fine-grained_score',
    margin='1',
  )
  assert [u.margin for u in kept.values()] == [2.5, 2.5]


def test_spoken_turns_and_answers_are_utterances(tmp_path):
  asked = {
    'role': 'user',
    'content': [
      {'type': 'text', 'text': 'Answer this.'},
      {'type': 'audio', 'audio': 'ask.wav'},
    ],
  }
  spoken = {'role': 'assistant', 'audio': 'say.wav', 'text': 'it is noon'}
  other = {'role': 'assistant', 'audio': 'ask.wav', 'text': 'no idea'}
  kept, left = read(
    tmp_path,
    {'id': 'w', 'prompt': [asked], 'chosen': 'Noon.', 'rejected': 'What?'},
    {'id': 's', 'prompt': [asked], 'chosen': [spoken], 'rejected': [other]},
    {
      'id': 'g',
      'conversations': [{'from': 'human', 'value': '<audio>what'}],
      'audios': ['ask.wav'],
      'answers': [{**spoken, 'rank': 2}, {**other, 'rank': 1}],
    },
    rules=admission.Rules(dev=0.3, test=0.3),
  )
  assert not left and list(kept) == [
    'w-turn-0', 'w', 's-turn-0', 's-answer-0', 's-answer-1', 's',
    'g-turn-0', 'g-answer-0', 'g-answer-1', 'g-1over0',
  ]  # fmt: skip
  assert kept['w'].turns[0]['content'][1] == {'speech': 'w-turn-0'}
  assert kept['s'].chosen == {'role': 'assistant', 'speech': 's-answer-0'}
  assert kept['g-1over0'].chosen['speech'] == 'g-answer-1'
  assert (kept['s-answer-0'].text, kept['s-answer-0'].duration) == (
    'it is noon', 0.5,
  )  # fmt: skip
  for name in 'wsg':  # what belongs together is in one split
    assert len({u.split for u in kept.values() if u.id[0] == name}) == 1


ASKED = {'prompt': 'why?', 'chosen': 'so', 'rejected': 'no'}
SPOKEN = {'role': 'assistant', 'audio': 'say.wav'}


@pytest.mark.parametrize(
  'row, reason',
  [
    (
      {**ASKED, 'rejected': ' so '},
      'rejected: found the same answer as chosen,',
    ),
    ({**ASKED, 'rejected': ''}, 'rejected: found neither text nor audio'),
    ({**ASKED, 'rejected': []}, 'rejected: found [], expected an answer: a te'),
    ({**ASKED, 'rejected': 3}, 'rejected: found 3, expected an answer: a text'),
    ({**ASKED, 'rejected': None}, 'rejected: missing, expected chosen and rej'),
    ({**ASKED, 'prompt': ''}, 'prompt[0]: found neither text nor audio.'),
    (
      {**ASKED, 'prompt': [reply('x')]},
      'turns: found none of the user, expect',
    ),
    (
      {**ASKED, 'prompt': [user('x'), reply('y')]},
      'prompt[1]: found assistant in front of the answers, expected user or t',
    ),
    ({'chosen': 'yes', 'rejected': 'no'}, 'prompt: missing, and chosen and re'),
    (
      {'chosen': [reply('a')], 'rejected': [reply('b')]},
      'prompt: missing, and chosen is one turn, expected a prompt or whole di',
    ),
    (
      {**ASKED, 'chosen': [user('why?'), reply('a')]},
      'rejected: found nothing as turn 0, but user ',
    ),
    (
      {**ASKED, 'chosen': [SPOKEN]},
      'rejected: found no recording, but chosen[',
    ),
    ({**ASKED, 'chosen': [user('x')]}, 'chosen[0].role: found user, expected'),
    ({**ASKED, 'score_chosen': 'high'}, "score_chosen: found 'high', expected"),
    (
      {**ASKED, 'score_chosen': 2.0},
      'score_rejected: found None, expected a n',
    ),
    ({**ASKED, 'margin': -1}, 'margin: found -1.0, expected a number >= 0 and'),
    ({**ASKED, 'margin': 'x'}, "margin: found 'x', expected a number."),
    (
      {**ASKED, 'margin': float('nan')},
      'margin: found nan, expected a number.',
    ),
    (
      {**ASKED, 'margin': float('inf')},
      'margin: found inf, expected a number.',
    ),
    ({**ASKED, 'category': 3}, 'category: found 3, expected a string.'),
    ({'prompt': 'why?', 'chosen': 'so'}, 'rejected: missing, expected chosen'),
    (
      {'answers': [{'text': 'a', 'rank': 1}, {'text': 'b', 'rank': 2}]},
      'prompt: missing, expected one of prompt, instruction, messages, conv',
    ),
    ({'prompt': 'why?', 'answers': 3}, 'answers: found 3, expected a list of'),
  ],
)
def test_what_is_no_preference_is_told_in_a_sentence(row, reason, tmp_path):
  kept, left = read(tmp_path, {**ASKED, 'id': 'good'}, {**row, 'id': 'bad'})
  assert list(kept) == ['good'] and len(left) == 1
  assert left[0]['id'] == 'bad' and left[0]['line'] == 2
  assert left[0]['reason'].startswith(reason), left[0]['reason']


def test_a_recording_that_is_not_there_costs_its_pair(tmp_path):
  sides = {'chosen': [SPOKEN], 'rejected': [{**SPOKEN, 'audio': 'no.wav'}]}
  kept, left = read(tmp_path, {**ASKED, **sides, 'id': 'p'})
  assert list(kept) == ['p-answer-0']
  assert [line['id'] for line in left] == ['p-answer-1', 'p']
  assert 'no.wav' in left[0]['reason'] and 'no such file' in left[0]['reason']
  assert "'p-answer-1' was left out" in left[1]['reason']
