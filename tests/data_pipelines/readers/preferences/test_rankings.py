"""Ranks and scores of several answers become pairs."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from data_pipelines.readers.common import base
from data_pipelines.readers.preferences import rankings
from step_audio_jax import errors
from tests.data_pipelines.readers.preferences import test_layouts

read = test_layouts.read


def scored(*values, field='scores'):
  answers = [
    {'text': f'answer {n}', field: value} for n, value in enumerate(values)
  ]
  return {'prompt': 'why?', 'id': 'p', 'answers': answers}


def pairs_of(kept):
  return {name.partition('-')[2]: u.margin for name, u in kept.items()}


def test_the_mean_of_raters_decides_and_ties_make_no_pair(tmp_path):
  # Means of 3, 4.5, 3 and 1 by three, two, one and four raters.
  row = scored([5, 3, 1], [4, 5], [3], [1, 1, 1, 1])
  kept, left = read(tmp_path, row)
  assert not left and pairs_of(kept) == dict.fromkeys(
    ['1over0', '0over3', '1over2', '1over3', '2over3'], 0.0
  )
  one = kept['p-1over3']
  assert (one.chosen['text'], one.rejected['text']) == ('answer 1', 'answer 3')


def test_a_gap_and_a_margin_are_options(tmp_path):
  row = scored([5, 3, 1], [4, 5], [3], [1, 1, 1, 1])
  kept, _ = read(tmp_path, row, gap='2', margin='0.25')
  assert pairs_of(kept) == {'0over3': 0.5, '1over3': 0.875, '2over3': 0.5}


def test_the_first_rank_is_the_best(tmp_path):
  kept, left = read(tmp_path, scored(2, 1, 2, field='rank'), margin='1')
  assert not left and pairs_of(kept) == {'1over0': 1.0, '1over2': 1.0}


def test_one_pair_that_is_none_costs_itself(tmp_path):
  row = scored(1, 2, 3, field='score')
  row['answers'][1]['text'] = 'answer 0'
  kept, left = read(tmp_path, row)
  assert list(kept) == ['p-2over0', 'p-2over1']
  assert [line['id'] for line in left] == ['p-1over0']
  assert 'answers[0]: found the same answer as answers[1]' in left[0]['reason']


@pytest.mark.parametrize(
  'row, reason',
  [
    (scored([4]), 'answers: found 1, expected two answers or more.'),
    (scored([4], []), 'answers[1].scores: found no number, expected some.'),
    (scored([4], [5, float('nan')]), 'answers[1].scores[1]: found nan, expect'),
    (
      scored(1, 'two', field='rank'),
      "answers[1].rank: found 'two', expected a",
    ),
    (
      scored(1, True, field='rank'),
      'answers[1].rank: found True, expected a n',
    ),
    (
      scored(1, None, field='score'),
      'answers[1].score: found None, expected a',
    ),
    (scored(1, 2, field='mark'), 'answers[0]: found nothing that says how goo'),
    (
      scored([3, 5], [4], [4]),
      'answers: found answers that differ by 0 at most, expected more than 0 '
      'for a pair.',
    ),
  ],
)
def test_rankings_that_say_nothing_are_told(row, reason, tmp_path):
  kept, left = read(tmp_path, test_layouts.ASKED, row)
  assert list(kept) == ['prefs-1']
  (line,) = left
  assert line['reason'].startswith(reason) and line['id'] == 'p'


def test_a_gap_that_nobody_reaches_is_told(tmp_path):
  kept, left = read(tmp_path, test_layouts.ASKED, scored([1], [2]), gap='1.5')
  assert len(kept) == 1
  assert left[0]['reason'] == (
    'answers: found answers that differ by 1 at most, expected more than 0 and '
    '1.5 or more for a pair.'
  )


@pytest.mark.parametrize('text', ['-1', 'nan', 'inf', 'wide'])
def test_options_that_are_no_numbers_are_refused(text):
  for name in ('gap', 'margin'):
    with pytest.raises(errors.UserError, match=f'{name}: found .*{text}'):
      rankings.Rules.from_options(base.Options(extra={name: text}))


@given(
  st.lists(st.integers(0, 4), min_size=2, max_size=6),
  st.sampled_from([0.0, 1.0, 2.5]),
)
def test_pairs_are_all_that_differ_enough(worths, gap):
  want = {
    (i, j): worths[i] - worths[j]
    for i, j in itertools.permutations(range(len(worths)), 2)
    if worths[i] > worths[j] and worths[i] - worths[j] >= gap
  }
  rules = rankings.Rules(gap=gap, margin=2.0)
  if not want:
    with pytest.raises(errors.UserError, match='expected more than 0'):
      rankings.pairs(worths, 'answers', rules)
    return
  found = rankings.pairs(worths, 'answers', rules)
  assert len(found) == len(want)
  assert {(p.better, p.worse): p.margin / 2 for p in found} == want


@pytest.mark.parametrize('value', [0, 6, 4.0e20, float('inf'), '4', None, True])
@pytest.mark.parametrize('field', ['score', 'scores'])
def test_people_score_from_1_to_5(field, value, tmp_path):
  wrong = [4, value] if field == 'scores' else value
  row = scored(
    *([[5], wrong] if field == 'scores' else [5, wrong]), field=field
  )
  kept, left = read(tmp_path, test_layouts.ASKED, row)
  assert list(kept) == ['prefs-1']
  where = 'answers[1].scores[1]' if field == 'scores' else 'answers[1].score'
  known = value in (0, 6) and value is not True
  want = 'expected a number.'
  if known:
    want = (
      'expected 1 to 5, the scale; --reader_option=scale=0-10 says another.'
    )
  assert left[0]['reason'].startswith(f'{where}: found ')
  assert left[0]['reason'].endswith(want)


def test_another_scale_is_an_option(tmp_path):
  row = scored(0, 10, 11, field='score')
  kept, left = read(tmp_path, test_layouts.ASKED, row, scale='0-10')
  assert len(kept) == 1 and 'found 11, expected 0 to 10' in left[0]['reason']
  kept, left = read(tmp_path / 'any', row, scale='any')
  assert len(kept) == 3 and not left
  # What is no score of people has none, unless it is told.
  row = scored(0, 10, field='mark')
  kept, left = read(tmp_path / 'mark', row, score='mark')
  assert len(kept) == 1 and not left
  kept, left = read(
    tmp_path / 'both', test_layouts.ASKED, row, score='mark', scale='1-5'
  )
  assert len(kept) == 1 and 'found 0, expected 1 to 5' in left[0]['reason']


@pytest.mark.parametrize('text', ['5', '5-1', 'a-b', '1-1', '1-2-3', '..-5'])
def test_a_scale_that_is_none_is_refused(text):
  with pytest.raises(errors.UserError, match=f'scale: found {text!r}, expect'):
    rankings.Rules.from_options(base.Options(extra={'scale': text}))


def test_which_pairs_are_made_is_an_option(tmp_path):
  row = scored([5], [3], [3], [1], [5])
  some = {
    'best': ['0over1', '0over2', '0over3'],
    'best_worst': ['0over3'],
    'all': ['0over1', '0over2', '0over3', '1over3', '2over3', '4over1',
            '4over2', '4over3'],
  }  # fmt: skip
  for name, want in some.items():
    kept, left = read(tmp_path / name, row, pairs=name)
    assert not left and sorted(pairs_of(kept)) == want
  with pytest.raises(errors.UserError, match="pairs: found 'worst', expected"):
    rankings.Rules(pairs='worst')


def test_what_is_no_pair_is_counted():
  found = rankings.compare([3.0, 1.0, 3.0, 2.5], rankings.Rules(gap=1.0))
  assert [pair[:2] for pair in found.pairs] == [(0, 1), (2, 1), (3, 1)]
  assert (found.ties, found.near) == (1, 2)
  assert rankings.compare([], rankings.Rules()) == ([], 0, 0)


def test_a_difference_of_exactly_the_gap_is_a_pair():
  found = rankings.compare([1.2, 1.1], rankings.Rules(gap=0.1))
  assert [pair[:2] for pair in found.pairs] == [(0, 1)] and not found.near
