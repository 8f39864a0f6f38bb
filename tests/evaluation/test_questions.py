"""Questions aloud and in writing: what counts as right, and the door."""

import json
import types

import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation import questions
from step_audio_jax.generation import complete
from step_audio_jax.tokenizers.speech import dual
from tests.generation import test_complete

# A converted run, whose tokenizer knows a few words.
source, run = test_complete.source, test_complete.run
PERU = 'What is the capital of Peru?', 'The capital of Peru is Lima.'


@pytest.mark.parametrize(
  ('said', 'right'),
  [
    ('The capital of Peru is Lima.', True),
    ('LIMA!', True),
    ('It is Limassol', False),
    ('The capital of Peru is', False),
    ('', False),
  ],
)
def test_right_is_what_the_question_does_not_say(said, right):
  assert questions.is_right(*PERU, said) == right


def test_an_answer_within_the_question_is_wanted_whole():
  assert questions.is_right('red or blue', 'red', 'it is red')
  assert not questions.is_right('red or blue', 'red', 'it is blue')
  assert questions.is_right('Is it?', 'South America', 'in south america.')
  assert not questions.is_right('Is it?', 'South America', 'in America')


@pytest.fixture
def corpus(tmp_path):
  said = {'audio': 'x.wav', 'duration': 1.0, 'sample_rate': 16000}
  answer = {'role': 'assistant', 'text': 'the dog'}
  manifest.write(
    tmp_path / 'quiz',
    [
      manifest.Utterance(id='q-said', split='test', text='the cat', **said),
      manifest.Utterance(
        id='q',
        kind='chat',
        split='test',
        turns=({'role': 'user', 'speech': 'q-said'}, answer),
      ),
      manifest.Utterance(
        id='w',
        kind='chat',
        split='test',
        turns=({'role': 'user', 'text': 'the cat'}, answer),
      ),
      manifest.Utterance(
        id='open',
        kind='chat',
        split='test',
        turns=({'role': 'user', 'text': 'the cat'},),
      ),
    ],
  )
  return str(tmp_path / 'quiz')


def test_chats_that_end_with_an_answer_are_asked(corpus):
  (found,) = questions.questions(corpus, ['test']).values()
  assert [one['id'] for one in found] == ['q', 'w']
  assert found[0]['question'] == 'the cat' and found[0]['expected'] == 'the dog'
  figures = questions.score({'test': found}, ['The dog.', 'a cat'])['test']
  assert figures['right'] == figures['exact'] == 0.5
  assert figures['questions'] == 2
  with pytest.raises(errors.UserError, match="split 'dev' ends with"):
    questions.questions(corpus, ['dev'])


def test_the_door_asks_aloud_and_in_writing(
  corpus, run, tmp_path, capsys, monkeypatch
):
  codes = {'q-said': (np.arange(4), np.arange(6))}
  monkeypatch.setattr(speech_codes, 'read_codes', lambda _: codes)
  heard = []
  speech_ids = documents.speech_ids

  def listen(table, *args):
    heard.append(args)
    return speech_ids(table, *args)

  monkeypatch.setattr(documents, 'speech_ids', listen)
  grown = str(tmp_path / 'grown')
  argv = ['-', 'convert', f'--from={tmp_path}/m.gguf', f'--to={grown}']
  assert cli.dispatch('x', doors.DOORS, [*argv, '--speech']) == 0
  output = tmp_path / 'answers.json'
  argv = ['-', 'answer', f'--run={grown}', f'--corpus={corpus}', '--json']
  argv += [f'--codes={tmp_path}/none', f'--output={output}', f'--base={run}']
  argv += ['--max_tokens=2', '--streams=linguistic']
  silent = []

  def silence(tokenizer, asked):
    silent.append((tokenizer, list(asked)))
    return {'q-said': (np.zeros(4, int), np.zeros(6, int))}

  monkeypatch.setattr(questions, 'silence', silence)
  monkeypatch.setattr(origins, 'check', lambda run, **_: None)
  argv += ['--tokenizer=mute']
  capsys.readouterr()
  assert cli.dispatch('x', doors.DOORS, [*argv, '--dry_run']) == 0
  assert not output.exists() and not heard
  assert cli.dispatch('x', doors.DOORS, argv) == 0
  told = json.loads(output.read_text())
  for kind in questions.KINDS:
    assert told[kind]['test']['questions'] == 2
    assert [a['id'] for a in told[kind]['test']['answers']] == ['q', 'w']
  assert silent == [('mute', ['test'])]
  spoken, instead = heard
  assert spoken[2] == instead[2] == 'linguistic'
  assert spoken[0].tolist() == [0, 1, 2, 3] and not instead[0].any()
  assert told['spoken']['test']['answers'][0]['speech'] == 'q-said'
  assert told['spoken']['test']['answers'][1]['speech'] is None
  last = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert set(last) >= {'spoken/test', 'written/test', 'untouched/test'}
  monkeypatch.setattr(speech_codes, 'read_codes', lambda _: {})
  assert cli.dispatch('x', doors.DOORS, argv) == 2
  assert "none of 'q-said'" in capsys.readouterr().err


def test_silence_is_as_long_as_what_it_stands_for(corpus, monkeypatch):
  class Mute:
    def encode_batch(self, waves):
      assert all(not wave.any() for wave in waves)
      return [len(wave) for wave in waves]

  monkeypatch.setattr(dual.DualTokenizer, 'load', lambda _: Mute())
  asked = questions.questions(corpus, ['test'])
  assert questions.silence('folder', asked) == {'q-said': 16000}


def test_silence_is_asked_aloud_alone_and_follow_ups_with_what_was_before():
  def one(*texts):
    roles = ('user', 'assistant', 'user')[-len(texts) :]
    turns = [{'role': r, 'text': t} for r, t in zip(roles, texts)]
    return {'question': texts[-1], 'turns': turns}

  mixed = {
    'silent': [one('')],
    'both': [one(''), one('who?')],
    'followed': [one('who?', 'me.', 'and you?')],
  }
  written = questions.in_writing(mixed)
  assert list(written) == ['both', 'followed']
  assert [len(some) for some in written.values()] == [1, 1]


def test_what_was_said_before_is_asked_with_it(corpus, monkeypatch):
  asked = []

  def ask(run, description, vocabulary, words, *, chat, system, before):
    asked.append((words, before))
    return types.SimpleNamespace(prompt=[1], stops=(2,))

  monkeypatch.setattr(complete, 'ask', ask)
  monkeypatch.setattr(complete, 'grammar_of', lambda *_: None)
  asker = object.__new__(questions.Asker)
  asker._run = asker._description = asker.vocabulary = None
  monkeypatch.setattr(questions.Asker, '_answers', lambda *_: ['so'])
  turns = [
    {'role': 'user', 'text': 'who?'},
    {'role': 'assistant', 'text': 'me.'},
    {'role': 'user', 'text': 'and you?'},
  ]
  found = asker.write({'x': [{'question': 'and you?', 'turns': turns}]})
  assert found == ['so']
  before = [('user', 'who?'), ('assistant', 'me.')]
  assert asked == [('and you?', before)]
