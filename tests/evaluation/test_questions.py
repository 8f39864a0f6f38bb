"""Questions aloud and in writing: what counts as right, and the door."""

import json

import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.chats import conversation
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation import questions
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import files
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
  assert quiz.is_right(*PERU, said) == right


def test_an_answer_within_the_question_is_wanted_whole():
  assert quiz.is_right('red or blue', 'red', 'it is red')
  assert not quiz.is_right('red or blue', 'red', 'it is blue')
  assert quiz.is_right('Is it?', 'South America', 'in south america.')
  assert not quiz.is_right('Is it?', 'South America', 'in America')


def test_han_characters_are_words_that_stay_together():
  assert quiz.words('他有red书') == ['他', '有', 'red', '书']
  assert quiz.is_right('', '北京', '在北京。')
  assert not quiz.is_right('', '北京', '北方和南京')
  assert quiz.is_right('中国的首都是什么', '首都是北京', '北京')


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
  asked, passed = quiz.questions(corpus, ['test'])
  (found,) = asked.values()
  assert [one.id for one in found] == ['q', 'w']
  assert found[0].question == 'the cat' and found[0].expected == 'the dog'
  assert [one.speech for one in found] == ['q-said', None]
  assert passed == {
    'test': ['open: turns: none of the assistant, expected one.']
  }
  said = [quiz.Answer('The dog.'), quiz.Answer('a cat')]
  figures = quiz.score(asked, said)['test']
  assert figures['right'] == figures['exact'] == 0.5
  assert figures['questions'] == 2 and figures['chance'] == 1
  with pytest.raises(errors.UserError, match="split 'dev' ends with"):
    quiz.questions(corpus, ['dev'])


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
  (tmp_path / 'none').mkdir()
  argv = ['-', 'answer', f'--run={grown}', f'--corpus={corpus}', '--json']
  argv += [f'--codes={tmp_path}/none', f'--output={output}', f'--base={run}']
  argv += ['--max_tokens=2', '--streams=linguistic']
  silent = []

  def silence(tokenizer, seconds):
    silent.append((tokenizer, seconds))
    return {'q-said': (np.zeros(4, int), np.zeros(6, int))}

  monkeypatch.setattr(questions, 'silence', silence)
  monkeypatch.setattr(origins, 'check', lambda run, **_: None)
  argv += ['--tokenizer=mute']
  capsys.readouterr()
  assert cli.dispatch('x', doors.DOORS, [*argv, '--dry_run']) == 0
  assert not output.exists() and not heard
  argv.append('--along')
  assert cli.dispatch('x', doors.DOORS, argv) == 0
  told = json.loads(output.read_text())
  for kind in questions.KINDS:
    assert told[kind]['test']['questions'] == 2
    assert [a['id'] for a in told[kind]['test']['answers']] == ['q', 'w']
  assert list(told['passed_over']) == ['test']
  assert silent == [('mute', {'q-said': 1.0})]
  spoken, along, instead = heard
  assert spoken[2] == along[2] == instead[2] == 'linguistic'
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
  asked, _ = quiz.questions(corpus, ['test'])
  seconds = quiz.seconds(asked)
  assert questions.silence('folder', seconds) == {'q-said': 16000}


def chats_of(folder, *chats):
  """A corpus of recordings, of which one is silent, and chats in test."""
  said = {'audio': 'x.wav', 'duration': 1.0, 'sample_rate': 16000}
  lines = [
    manifest.Utterance(id=name, split='test', text=text, **said)
    for name, text in (('who', 'who is it'), ('me', 'me'), ('none', ''))
  ]
  lines += [
    manifest.Utterance(id=f'c{n}', kind='chat', split='test', turns=turns)
    for n, turns in enumerate(chats)
  ]
  manifest.write(folder / 'quiz', lines)
  return str(folder / 'quiz')


CLOCK = {'type': 'function', 'function': {'name': 'clock'}}
CALL = {'name': 'clock', 'arguments': {'at': 1}}
TOOLS = {'role': 'tool_json_schemas', 'tools': [CLOCK]}
WHO = {'role': 'user', 'speech': 'who'}
ME = {'role': 'assistant', 'text': 'me'}


def test_silence_is_asked_aloud_alone(tmp_path):
  silent = {'role': 'user', 'speech': 'none'}
  corpus = chats_of(
    tmp_path, [silent, ME], [WHO, ME], [WHO, ME, WHO, ME], [silent, ME, WHO, ME]
  )
  asked, passed = quiz.questions(corpus, ['test'])
  assert [one.id for one in asked['test']] == ['c0', 'c1', 'c2']
  (written,) = quiz.in_writing(asked).values()
  assert [one.id for one in written] == ['c1', 'c2']
  # What was said before has to be read, and silence is not.
  assert passed == {
    'test': [
      "c3: turns[0]: the recording 'none' has no transcript, expected one."
    ]
  }


def test_chats_with_tools_and_text_beside_speech_are_questions(tmp_path):
  mixed = {'role': 'user', 'content': [{'text': 'tell me'}, {'speech': 'who'}]}
  corpus = chats_of(
    tmp_path,
    [mixed, ME],
    [TOOLS, WHO, {'role': 'assistant', 'calls': [CALL]}],
    [
      TOOLS,
      WHO,
      {'role': 'assistant', 'calls': [CALL]},
      {'role': 'tool', 'text': 'noon'},
      {'role': 'assistant', 'content': [{'text': 'so'}, {'speech': 'me'}]},
    ],
    [ME, WHO],
    [ME],
  )
  asked, passed = quiz.questions(corpus, ['test'])
  told = [(one.question, one.expected, len(one.calls)) for one in asked['test']]
  assert told == [
    ('tell me\nwho is it', 'me', 0),
    ('who is it', '', 1),
    ('who is it', 'so\nme', 0),
  ]
  first, second = passed['test']
  assert first == 'c3: turns[1]: found user, expected the assistant last.'
  assert second == 'c4: turns: found none of the user, expected one.'
  assert [one.id for one in quiz.without_tools(asked)['test']] == ['c0']


def test_calls_are_right_with_their_arguments(tmp_path):
  said = [
    (conversation.Call('clock', {'at': 1}),),
    (conversation.Call('clock', {'at': 2}),),
    (conversation.Call('clock', {'at': 1}),) * 2,
    ('{"name": "clock", "argum',),
    (),
  ]
  turns = [TOOLS, WHO, {'role': 'assistant', 'calls': [CALL]}]
  asked, _ = quiz.questions(chats_of(tmp_path, *[turns] * 5), ['test'])
  found = quiz.score(asked, [quiz.Answer('', some) for some in said])['test']
  assert [row['right'] for row in found['answers']] == [True] + [False] * 4
  assert [row['exact'] for row in found['answers']] == [True] + [False] * 4
  assert found['answers'][1]['calls'] == [
    '{"name": "clock", "arguments": {"at": 2}}'
  ]


@pytest.mark.parametrize(
  ('more', 'said'),
  [
    (['--splits='], '--splits: found none, expected some'),
    (['--splits=tset'], "no chat of the split 'tset' ends with"),
    (['--codes=nowhere'], '--codes=nowhere: no such folder, expected what'),
    (['--base=nowhere'], 'nowhere/config.json: cannot be read'),
    (['--step=99'], 'no checkpoint of step 99'),
    (['--run=flow'], 'flow/config.json: found no "model" and "vocabulary"'),
    (['--decoder=x'], '--tokenizer: missing'),
  ],
)
def test_bad_input_is_told_before_anything_is_loaded(
  corpus, run, tmp_path, capsys, monkeypatch, more, said
):
  monkeypatch.chdir(tmp_path)
  files.write_json(tmp_path / 'flow' / 'config.json', {'decoder': {}})
  (tmp_path / 'codes').mkdir()
  monkeypatch.setattr(origins, 'check', lambda run, **_: None)
  argv = ['-', 'answer', f'--run={run}', f'--corpus={corpus}', '--dry_run']
  argv += ['--codes=codes', '--output=a.json']
  capsys.readouterr()
  assert cli.dispatch('x', doors.DOORS, [*argv, *more]) == 2
  err = capsys.readouterr().err
  assert said in err and err.count('\n') == 1
