import numpy as np
import pytest

from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import words
from tests.evaluation.dialogues import samples


@pytest.mark.parametrize(
  'times, takes',
  [
    ([], False),
    ([(1, 1.3), (1.3, 1.6), (1.7, 1.9)], False),  # three words, under 1 s
    ([(1, 1.2), (1.2, 1.4), (1.4, 1.6), (1.6, 1.8)], True),  # four
    ([(1, 1.5), (1.5, 2.0)], True),  # a second
    ([(1, 1.5), (1.5, 1.99)], False),
    ([(1, 1.5), (2.5, None)], True),  # no end: its start
    ([(1, 1.5), (1.6, None)], False),
  ],
)
def test_what_takes_the_turn(times, takes):
  assert words.parse(samples.words(*times), 'x').takes_turn is takes


def test_what_is_later():
  found = words.parse(samples.words((1, 2), (2, 3), (3, 4)), 'x')
  later = found.after(2.5)
  np.testing.assert_array_equal(later.times_W2, [[2.5, 3], [3, 4]])
  before, rest = found.split(2)
  assert (len(before.texts), len(rest.texts)) == (1, 2)
  assert rest.per_minute == 60 and before.per_minute == 60
  assert words.parse(samples.words(), 'x').per_minute is None


def test_words_without_a_start_are_left_out():
  found = words.parse(samples.words((None, None), (1, 2)), 'x')
  assert found.times_W2.tolist() == [[1, 2]]


@pytest.mark.parametrize(
  'found',
  [
    [],
    {'text': 'yes'},
    {'chunks': ['yes']},
    {'chunks': [{'text': 'yes', 'timestamp': [1]}]},
    {'chunks': [{'text': None, 'timestamp': [1, 2]}]},
    samples.words((2, 1)),
    samples.words((float('nan'), 1)),
    samples.words(('1', '2')),
  ],
)
def test_words_of_another_form(found):
  with pytest.raises(recordings.Fault, match='output.json is not of the form'):
    words.parse(found, 'output.json')


def test_half_a_file(tmp_path):
  path = tmp_path / 'output.json'
  assert words.read(path) is None
  path.write_text('{"chunks": [')
  with pytest.raises(recordings.Fault, match='output.json cannot be read'):
    words.read(path)
