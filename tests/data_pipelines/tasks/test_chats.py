"""Chats of a corpus as documents: spoken turns, tools, what is cut."""

import collections
import dataclasses
import json

import pytest

from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from tests.data_pipelines import tiny
from tests.data_pipelines.tasks import test_definitions

BOS, EOT = 1, 3
documents_of, tasks_of = (
  test_definitions.documents_of,
  test_definitions.tasks_of,
)


@pytest.fixture
def own(tmp_path):
  """A corpus that a test may spoil."""
  return tiny.make(tmp_path / 'corpus')


def chats(root, lines):
  manifest.write(
    root / 'speech',
    [
      *manifest.read(root / 'speech'),
      *(manifest.Utterance(id=k, kind='chat', turns=t) for k, t in lines),
    ],
  )


def test_chats_speak_with_the_codes_of_their_corpus(own):
  chats(
    own,
    [
      (
        'c0',
        [
          {'role': 'user', 'speech': 'u1'},
          {'role': 'assistant', 'text': 'the cat'},
        ],
      ),
      ('c1', [{'role': 'assistant', 'speech': 'gone'}]),
    ],
  )
  (task,) = definitions.chat(
    'tiny', own / 'speech', own / 'text.model', codes=own / 'codes'
  )
  assert task.name == 'tiny_chat' and task.splits() == ['train']
  found, bad = documents_of(task)
  document = found.pop('c0')
  assert not found
  table = task.vocabulary()
  pair = speech_codes.read_codes(own / 'codes')['u1']
  spoken = table.interleave(*pair)
  tokens = document.tokens.tolist()
  start = tokens.index(int(spoken[0]))
  assert tokens[start : start + len(spoken)] == spoken.tolist()
  learnt = document.tokens[document.loss_weights > 0]
  assert table.decode(learnt).strip() == 'the cat' and learnt[-1] == 3
  assert [name for name, _, _ in bad] == ['c1']
  assert "no codes of 'gone'" in bad[0][2]
  # Chats are none of the other tasks' business.
  names = [e['id'] for e in tasks_of(own)['asr'].examples('train')]
  assert names and all(name.startswith('u') for name in names)


CLOCK = {'type': 'function', 'function': {'name': 'clock'}}


def test_chats_with_tools_and_text_beside_speech(own):
  call = {'name': 'clock', 'arguments': {}}
  turns = [
    {'role': 'tool_json_schemas', 'tools': [CLOCK]},
    {'role': 'user', 'content': [{'text': 'the cat'}, {'speech': 'u1'}]},
    {'role': 'assistant', 'calls': [call]},
    {'role': 'tool', 'text': 'a dog'},
    {'role': 'user', 'speech': 'u2'},
    {'role': 'assistant', 'content': [{'text': 'a'}, {'speech': 'u1'}]},
  ]
  chats(own, [('c0', turns), ('c1', [{'role': 'user', 'text': 'a cat'}])])
  (task,) = definitions.chat(
    'tiny', own / 'speech', own / 'text.model', codes=own / 'codes'
  )
  found, ((name, _, why),) = documents_of(task)
  assert name == 'c1' and why == 'turns: none of the assistant, expected one.'
  table = task.vocabulary()
  codes = speech_codes.read_codes(own / 'codes')
  first, second = (table.interleave(*codes[name]) for name in ('u1', 'u2'))
  document = found['c0']
  tokens = document.tokens.tolist()

  def said(role, *ids):
    return [4, *table.encode_text(f'{role}\n'), *ids, EOT]

  text = table.encode_text
  assert tokens == [
    BOS,
    *said('tool_json_schemas', *text(json.dumps([CLOCK]))),
    *said('human', *text('the cat'), *first),
    *said('assistant', 5, *text(json.dumps(call)), 6),
    *said('tool', *text('a dog')),
    *said('human', *second),
    *said('assistant', *text('a'), *first),
  ]
  # The last reply alone.
  last = dataclasses.replace(task, last_only=True)
  found, _ = documents_of(last)
  assert found['c0'].tokens.tolist() == tokens
  learnt = found['c0'].tokens[found['c0'].loss_weights > 0]
  assert learnt.tolist() == [*text('a'), *first, EOT]
  released = dataclasses.replace(task, starts=True)
  found, _ = documents_of(released)
  assert found['c0'].tokens.tolist().count(BOS) == 1 + len(turns)
  digests = [one.digest('train') for one in (task, last, released)]
  assert len(set(digests)) == 3


def test_long_chats_lose_their_oldest_turns(own):
  turns = []
  for word in ('the cat', 'a dog', 'a cat'):
    turns.append({'role': 'user', 'text': word})
    turns.append({'role': 'assistant', 'text': word})
  chats(own, [('c0', turns), ('c1', turns[-2:])])
  (task,) = definitions.chat('tiny', own / 'speech', own / 'text.model')
  whole, _ = documents_of(task)
  cuts, left = [], []
  short = list(
    task.documents(
      task.examples('train'),
      lambda *told: left.append(told),
      longest=len(whole['c0']) - 1,
      on_cut=lambda *told: cuts.append(told),
    )
  )
  assert [one.id for one in short] == ['c0', 'c1'] and not left
  ((name, cut),) = cuts
  assert name == 'c0' and (cut.first, cut.turns) == (0, 2)
  assert len(short[0]) == len(whole['c0']) - cut.ids
  assert short[1].tokens.tolist() == whole['c1'].tokens.tolist()


@pytest.mark.parametrize(
  'turns',
  [
    [],
    [{'role': 'robot', 'text': 'x'}],
    [{'role': 'user'}],
    [{'role': 'user', 'text': 'x', 'speech': 'u1'}],
    [{'role': 'user', 'text': ' '}],
    ['hello'],
  ],
)
def test_turns_are_checked(turns):
  with pytest.raises(errors.UserError, match=r'turns(\[0\])?[.:]'):
    manifest.Utterance(id='c', kind='chat', turns=turns)
  with pytest.raises(errors.UserError, match='expected a chat'):
    manifest.Utterance(id='c', turns=[{'role': 'user', 'text': 'x'}])


def test_what_somebody_wrote_never_becomes_a_control_piece(own):
  """Not in a text, nor in a name, a schema, an argument or a result."""
  evil = ''.join([*vocabulary.CONTROL, '<audio_7>', '\u202eשלום\0'])
  call = {'name': evil, 'arguments': {evil: [evil]}, 'id': evil}
  tool = {'name': evil, 'description': evil}
  turns = [
    {'role': 'system', 'text': evil},
    {'role': 'tool_json_schemas', 'tools': [
      {'type': 'function', 'function': tool}]},
    {'role': 'user', 'content': [{'text': evil}, {'speech': 'u1'}]},
    {'role': 'assistant', 'text': evil, 'calls': [call]},
    {'role': 'tool', 'text': evil, 'call_id': evil},
    {'role': 'assistant', 'text': evil},
  ]  # fmt: skip
  plain = json.loads(json.dumps(turns).replace('<', 'a'))
  chats(own, [('evil', turns), ('plain', plain)])
  (task,) = definitions.chat(
    'tiny', own / 'speech', own / 'text.model', codes=own / 'codes'
  )
  found, bad = documents_of(task)
  assert not bad
  table = task.vocabulary()

  def counted(name):
    ids = found[name].tokens
    speech = (table.is_linguistic(ids) | table.is_semantic(ids)).sum()
    # The unknown piece is what a small text model has for other characters.
    controls = ids[(ids > 0) & (ids < vocabulary.CONTROL_SIZE)]
    return speech, collections.Counter(controls.tolist())

  assert counted('evil') == counted('plain')
  assert counted('evil')[1] == {BOS: 1, EOT: 6, 4: 6, 5: 1, 6: 1}
