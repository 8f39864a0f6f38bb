"""Questions aloud and in writing: what counts as right, and the door."""

import json

import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import questions
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
  capsys.readouterr()
  assert cli.dispatch('x', doors.DOORS, [*argv, '--dry_run']) == 0
  assert not output.exists() and not heard
  assert cli.dispatch('x', doors.DOORS, argv) == 0
  told = json.loads(output.read_text())
  for kind in ('spoken', 'written', 'untouched'):
    assert told[kind]['test']['questions'] == 2
    assert [a['id'] for a in told[kind]['test']['answers']] == ['q', 'w']
  ((*_, streams),) = heard
  assert streams == 'linguistic'
  last = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert set(last) >= {'spoken/test', 'written/test', 'untouched/test'}
  monkeypatch.setattr(speech_codes, 'read_codes', lambda _: {})
  assert cli.dispatch('x', doors.DOORS, argv) == 2
  assert "none of 'q-said'" in capsys.readouterr().err
