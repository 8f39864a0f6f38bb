"""Exact ratios at every prefix."""

from fractions import Fraction
import math
from unittest import mock

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.corpus import schedule
from step_audio_jax.corpus import stages


@given(
  st.dictionaries(
    st.text('abcdefgh', min_size=1, max_size=2),
    st.integers(1, 12),
    min_size=1,
    max_size=7,
  )
)
@settings(max_examples=60, deadline=None)
def test_every_prefix_is_within_one_row(ratios):
  order = schedule.Schedule(ratios)
  rows = order.sources(0, 3 * order.period)
  assert schedule.prefix_error(rows, order.shares) < 1.0


@pytest.mark.parametrize('stage', sorted(stages.STAGES))
def test_the_published_stages_hold_to_one_row(stage):
  order = schedule.Schedule(stages.STAGES[stage])
  rows = order.sources(0, 10_000)
  assert schedule.prefix_error(rows, order.shares) < 1.0
  counts = np.bincount(rows) / len(rows)
  np.testing.assert_allclose(
    counts, [float(s) for s in order.shares], atol=1e-4
  )


def test_published_ratios():
  stage3 = stages.STAGES['stage3']
  audio = sum(stage3[n] for n in ('continuation', 'interleaved', 'asr', 'tts'))
  assert (audio, stage3['text'], stage3['image_text']) == (
    Fraction(4, 10),
    Fraction(3, 10),
    Fraction(3, 10),
  )
  assert stages.STAGES['stage1'] == {
    'continuation': Fraction(1, 2),
    'text': Fraction(1, 4),
    'image_text': Fraction(1, 4),
  }
  assert stages.STAGES['stage2']['interleaved'] == Fraction(1, 4)


def test_row_k_says_how_many_came_before():
  order = schedule.Schedule({'a': 2, 'b': 1, 'c': 0.5})
  seen = {0: 0, 1: 0, 2: 0}
  for k in range(40):
    source, rank = order.source(k)
    assert rank == seen[source]
    seen[source] += 1
  assert order.counts(40) == {
    name: seen[i] for i, name in enumerate(order.names)
  }


def test_prefix_error_sees_a_bad_order():
  shares = (Fraction(1, 2), Fraction(1, 2))
  assert schedule.prefix_error(np.array([0, 0, 0, 0]), shares) == 2.0
  balanced = np.array([0, 0, 0, 0, 1, 1, 1, 1])
  assert schedule.prefix_error(balanced, shares, 7) == 0.5


@pytest.mark.parametrize(
  'ratios, words',
  [
    ({}, 'no source has a positive weight'),
    ({'a': 0}, 'no source has a positive weight'),
    ({'a': -1}, 'weight -1, expected zero or more'),
    ({'a': 1 / 9973, 'b': 1 / 9967, 'c': 1 / 9949}, 'rounder numbers'),
  ],
)
def test_bad_ratios(ratios, words):
  with pytest.raises(errors.UserError, match=words):
    schedule.Schedule(ratios)


def written():
  """Weights as people write them: whole, decimal, fractions, strings."""
  return st.one_of(
    st.integers(1, 40),
    st.integers(1, 60).map(lambda n: n / 20),
    st.sampled_from([1e-5, 1e-4, 0.001, 0.3, 1 / 3, 2 / 7, '1/6', '0.05', 1e6]),
    st.fractions(Fraction(1, 12), 5, max_denominator=12),
  )


@given(
  st.dictionaries(st.sampled_from('abcdef'), written(), min_size=1, max_size=4)
)
@settings(max_examples=60, deadline=None)
def test_every_source_that_is_named_is_drawn_or_all_is_refused(ratios):
  exact = {n: Fraction(v).limit_denominator(10**9) for n, v in ratios.items()}
  total = sum(exact.values())
  with mock.patch.object(schedule, '_MAX_PERIOD', 20_000):
    try:
      order = schedule.Schedule(ratios)
    except errors.UserError as error:
      period = math.lcm(*((v / total).denominator for v in exact.values()))
      assert 'rounder numbers' in str(error) and period > 20_000
      return
  assert order.names == tuple(ratios)
  shares = tuple(exact[name] / total for name in order.names)
  assert order.shares == shares
  rows = order.sources(0, order.period)
  assert schedule.prefix_error(rows, shares) < 1.0
  assert set(rows.tolist()) == set(range(len(ratios)))


def test_a_tiny_share_is_drawn_once_in_its_time():
  for ratios in (
    {'text': 1.0, 'asr': 0.00001},
    stages.ratios('text', {'text': 1.0, 'asr': 0.00001}),
  ):
    order = schedule.Schedule(ratios)
    assert order.period == 100_001
    assert order.counts(order.period) == {'text': 100_000, 'asr': 1}


@pytest.mark.parametrize(
  'value, exact',
  [
    (0.1, Fraction(1, 10)),
    (1 / 3, Fraction(1, 3)),
    (0.333, Fraction(333, 1000)),
    (np.float32(0.1), Fraction(1, 10)),
    (np.int64(3), Fraction(3)),
    ('2/7', Fraction(2, 7)),
    (1e-5, Fraction(1, 100_000)),
    (-0.0, Fraction(0)),
    (1e300, Fraction(10**300)),
  ],
)
def test_a_weight_is_what_was_written(value, exact):
  found = schedule.weight('a', value)
  assert found == exact or float(found) == float(exact) == value


@pytest.mark.parametrize(
  'value', [float('nan'), float('inf'), 'half', '1/0', None, True, [1], 1j]
)
def test_what_is_no_weight(value):
  with pytest.raises(errors.UserError, match='ratios: asr has weight .* frac'):
    schedule.Schedule({'text': 1, 'asr': value})
  with pytest.raises(errors.UserError, match='ratios: asr has weight'):
    stages.ratios('sft', {'asr': value})


@pytest.mark.parametrize('value', [1e-300, 1e300, 5e-324, 1e-9])
def test_a_share_that_no_order_can_hold_is_refused(value):
  with pytest.raises(errors.UserError, match='repeats only after .* weight 0'):
    schedule.Schedule({'text': 1, 'asr': value})


@given(
  st.lists(st.integers(1, 9), min_size=2, max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_the_order_is_tijdemans(parts):
  shares = tuple(Fraction(p, sum(parts)) for p in parts)
  period = math.lcm(*(share.denominator for share in shares))
  slack = Fraction(1, 2 * len(shares) - 2)
  counts, expected = [0] * len(shares), []
  for k in range(1, period + 1):
    lacks = [share * k - n for share, n in zip(shares, counts)]
    _, best = min(
      ((1 - slack - lack) / share, i)
      for i, (share, lack) in enumerate(zip(shares, lacks))
      if lack >= slack
    )
    counts[best] += 1
    expected.append(best)
  order = schedule.Schedule(dict(enumerate(parts)))
  assert order.sources(0, period).tolist() == expected


def test_unknown_stage_names_the_known_ones():
  with pytest.raises(errors.UserError, match='stage1, stage2, stage3'):
    stages.ratios('stage4')
  assert stages.ratios('sft', {'sft_tts': 2})['sft_tts'] == 2


def test_budgets_are_published_or_said_to_be_ours():
  budgets, published = stages.TOKEN_BUDGETS, stages.PUBLISHED_BUDGETS
  assert {s: budgets[s] for s in published} == {
    'stage1': 1.2e12,
    'stage2': 0.8e12,
  }
  assert set(budgets) <= set(stages.STAGES)
  # Together what the report says of the corpus.
  assert sum(budgets.values()) == pytest.approx(3.3e12)


MIXTURES = (
  (0, {'a': 1, 'b': 1}),
  (7, {'a': 1, 'b': 2, 'c': Fraction(1, 3)}),
  (40, {'c': 3, 'd': 1}),
)


def test_phases_of_a_curriculum_hold_each_to_one_row():
  order = schedule.create(MIXTURES, batch_size=3)
  assert order.names == ('a', 'b', 'c', 'd')
  assert [phase.start for phase in order.phases] == [0, 21, 120]
  rows = order.sources(0, 200)
  for phase, stop in zip(order.phases, (21, 120, 200)):
    error = schedule.prefix_error(rows[phase.start : stop], phase.shares)
    assert error < 1.0
    assert sum(phase.shares) == 1
  # Any window is that part of the whole, and row k alone says its source.
  for start, stop in ((0, 5), (19, 24), (100, 200), (130, 131), (50, 50)):
    np.testing.assert_array_equal(order.sources(start, stop), rows[start:stop])
  seen = dict.fromkeys(range(4), 0)
  for k, source in enumerate(rows.tolist()):
    assert order.source(k) == (source, seen[source])
    seen[source] += 1
    counts = order.counts(k + 1)
    assert [counts[name] for name in order.names] == list(seen.values())


@given(
  st.lists(
    st.dictionaries(st.sampled_from('abcd'), st.integers(1, 5), min_size=1),
    min_size=1,
    max_size=4,
  ),
  st.lists(st.integers(1, 30), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_a_curriculum_is_made_again_from_its_phases(mixtures, steps):
  starts = np.cumsum([0, *steps]).tolist()
  order = schedule.create(list(zip(starts, mixtures)))
  stop = starts[len(mixtures) - 1] + 40
  # As a run directory records it: rows, and shares in the order of the names.
  told = [
    (phase.start, dict(zip(order.names, map(str, phase.shares))))
    for phase in order.phases
  ]
  again = schedule.create(
    [(row, {n: Fraction(s) for n, s in part.items()}) for row, part in told]
  )
  assert again.names == order.names and again.phases == order.phases
  rows = order.sources(0, stop)
  np.testing.assert_array_equal(again.sources(0, stop), rows)
  seen = np.bincount(rows, minlength=len(order.names))
  assert list(order.counts(stop).values()) == seen.tolist()


def test_expected_rows_add_up_over_phases():
  order = schedule.create(MIXTURES)
  expected = order.expected(50)
  assert sum(expected.values()) == 50
  assert expected['d'] == Fraction(10, 4)
  drawn = order.counts(50)
  # Each phase is off by less than a row.
  assert all(abs(drawn[n] - expected[n]) < 3 for n in order.names)


@pytest.mark.parametrize(
  'mixture, words',
  [
    ([], 'expected {source: weight}, or'),
    ([(0, {'a': 1}), 3], 'expected {source: weight}, or'),
    ([(1, {'a': 1})], 'phases from [1]'),
    ([(0, {'a': 1}), (0, {'a': 2})], 'rising numbers'),
    ([(0, {'a': 1}), (4, {'a': -2})], 'a has weight -2'),
  ],
)
def test_bad_curricula(mixture, words):
  with pytest.raises(errors.UserError) as found:
    schedule.create(mixture)
  assert words in str(found.value)


def test_a_stage_may_change_at_a_step():
  phases = stages.ratios('stage1', [(0, {}), (100, {'text': 0.5})])
  assert phases[0] == (0, dict(stages.STAGES['stage1']))
  assert phases[1][1]['text'] == Fraction(1, 2)
  assert phases[1][1]['continuation'] == Fraction(1, 2)
  with pytest.raises(errors.UserError, match='ratios: found'):
    stages.ratios('stage1', [3])
