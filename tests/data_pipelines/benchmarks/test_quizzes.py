"""Chats of a corpus of one's own as a benchmark."""

import pytest

from data_pipelines.benchmarks import catalogue
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.benchmarks import benchmark

CALL = {'name': 'clock', 'arguments': {'at': 1}}
CLOCK = {'type': 'function', 'function': {'name': 'clock'}}


@pytest.fixture
def quiz(tmp_path):
  said = {'audio': 'x.wav', 'duration': 1.0, 'sample_rate': 16000}
  (tmp_path / 'x.wav').write_bytes(b'RIFF')
  answer = {'role': 'assistant', 'text': 'the dog'}
  lines = [
    manifest.Utterance(id='said', split='test', text='the cat', **said),
    manifest.Utterance(
      id='gone', split='test', text='who', **{**said, 'audio': 'y.wav'}
    ),
  ]
  for name, *turns in (
    ('heard', {'role': 'user', 'speech': 'said'}, answer),
    ('read', {'role': 'user', 'text': 'the cat'}, answer),
    ('open', {'role': 'user', 'text': 'the cat'}),
    ('lost', {'role': 'user', 'speech': 'gone'}, answer),
    (
      'called',
      {'role': 'tool_json_schemas', 'tools': [CLOCK]},
      {'role': 'user', 'text': 'when'},
      {'role': 'assistant', 'text': 'so', 'calls': [CALL]},
    ),
  ):
    lines.append(
      manifest.Utterance(id=name, kind='chat', split='test', turns=tuple(turns))
    )
  manifest.write(tmp_path, lines)
  (found,) = catalogue.benchmarks(('quiz',), {'quiz': str(tmp_path)})
  return found


def test_chats_are_asked_up_to_the_reply(quiz):
  found = quiz.read()
  assert [one.id for one in found.items] == ['heard', 'read', 'called']
  assert sorted(name for ids in found.left_out.values() for name in ids) == [
    'lost',
    'open',
  ]
  heard, read, called = found.items
  assert heard.recordings[0].path.endswith('x.wav')
  assert heard.text == read.text == 'the cat'
  assert heard.references == ('the dog',) and called.chat.tools == (CLOCK,)


def test_right_and_exact_and_called(quiz):
  items = quiz.read().items

  def score(*said):
    answers = [benchmark.Answer(text, calls) for text, *calls in said]
    found = quiz.score(items, answers, benchmark.Means())
    return [(row['right'], row['exact']) for row in found.rows], found

  rows, found = score(('The dog.',), ('a big dog',), ('So', CALL))
  assert rows == [(1, 1), (1, 0), (1, 1)]
  assert found.figures['right'].value == 1
  assert found.figures['exact'].value == pytest.approx(2 / 3)
  assert next(iter(found.figures)) == 'right'
  other = {'name': 'clock', 'arguments': {'at': 2}}
  rows, _ = score((None,), ('the dog', CALL), ('so', other))
  assert rows == [(0, 0)] * 3


def test_a_split_without_questions_is_refused(quiz, tmp_path):
  (dev,) = catalogue.benchmarks(
    ('quiz',), {'quiz': str(tmp_path)}, changed={'quiz': {'split': 'dev'}}
  )
  with pytest.raises(errors.UserError, match="split 'dev' ends with"):
    dev.read()
