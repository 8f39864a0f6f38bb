"""Options are placed by seed: the same everywhere, and everywhere alike."""

import collections
import itertools

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.judges import placement

OPTIONS = ('Paris', 'London', 'Rome', 'Oslo')


def test_the_right_one_keeps_its_letter_company():
  for k in range(40):
    found = placement.place(f'q{k}', OPTIONS, 2, seed=k)
    place = placement.LETTERS.index(found.letter)
    assert found.options[place] == 'Rome'
    assert [OPTIONS[i] for i in found.order] == list(found.options)
    assert found.text.splitlines()[place] == f'{found.letter}. Rome'
    assert found.about['letter'] == found.letter
    assert placement.letter_of(found.options, ' rome') == found.letter


def test_the_same_on_every_machine():
  assert placement.permutation(6, 'a') == [3, 1, 5, 4, 0, 2]
  found = placement.place('q-17', OPTIONS, 0, seed=3)
  assert found == placement.place('q-17', list(OPTIONS), 0, seed=3)
  others = [placement.place('q-17', OPTIONS, 0, seed=s) for s in range(20)]
  assert len({one.order for one in others}) > 10
  plain = placement.place('q-17', OPTIONS, 0, seed=None)
  assert plain.options == OPTIONS and plain.letter == 'A'


def test_every_order_is_as_likely():
  count = 4800
  found = collections.Counter(
    placement.place(f'item {k}', OPTIONS, 0, seed=1).order for k in range(count)
  )
  expected = count / 24
  chi2 = sum(
    (found[order] - expected) ** 2 / expected
    for order in itertools.permutations(range(4))
  )
  assert chi2 < 49.7  # 23 degrees of freedom, p = 0.001
  letters = collections.Counter(
    placement.place(f'item {k}', OPTIONS, 3, seed=1).letter
    for k in range(count)
  )
  assert all(abs(letters[one] - 1200) < 110 for one in 'ABCD')


@pytest.mark.parametrize(
  'last',
  [
    'All of the above', 'none of these', 'Both A and B', 'A and C', 'A or B.',
    'neither of the two', 'Options A to C', '以上都对', 'B, C and D',
  ],
)  # fmt: skip
def test_options_that_speak_of_others_stay(last):
  for seed in range(6):
    found = placement.place('q', [*OPTIONS[:3], last], 3, seed)
    assert found.order == (0, 1, 2, 3) and found.letter == 'D'


def test_others_do_not():
  options = ['A and a half', 'above', 'Vitamin A', 'x']
  moved = {placement.place(f'{k}', options, 0).order for k in range(9)}
  assert len(moved) > 1


@pytest.mark.parametrize(
  'options, right, message',
  [
    (['a'], 0, 'q: options: found 1, expected 2 to 26'),
    (['a', 'b'], 2, 'q: right option: found 2, expected 0 to 1'),
    (['a', 'A '], 0, 'q: options: found one twice'),
  ],
)
def test_bad_options(options, right, message):
  with pytest.raises(errors.UserError, match=message):
    placement.place('q', options, right)
  with pytest.raises(errors.UserError, match="found 'c', expected one of 'a'"):
    placement.letter_of(['a', 'b'], 'c')
