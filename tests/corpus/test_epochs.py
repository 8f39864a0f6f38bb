"""Shares, tokens and epochs of a window of rows."""

import numpy as np
import pytest

from step_audio_jax.corpus import epochs
from step_audio_jax.corpus import schedule

SIZES = {'a': 10, 'b': 100, 'c': 7}


@pytest.mark.parametrize('window', [(0, 1), (0, 90), (13, 57), (20, 20)])
@pytest.mark.parametrize(
  'mixture',
  [{'a': 2, 'b': 1, 'c': 1}, [(0, {'a': 1}), (30, {'b': 2, 'c': 1})]],
)
def test_a_table_is_what_counting_finds(mixture, window):
  start, stop = window
  order = schedule.create(mixture)
  sizes = {name: SIZES[name] for name in order.names}
  rows = order.sources(start, stop)
  table = epochs.by_source(order, sizes, 128, start, stop)
  assert [line['source'] for line in table] == list(order.names)
  for n, line in enumerate(table):
    count = int((rows == n).sum())
    assert line['rows'] == count and line['tokens'] == 128 * count
    assert line['epochs'] == pytest.approx(count / line['stored_rows'])
    if stop > start:
      assert line['realised'] == pytest.approx(count / (stop - start))
      error = count - line['requested'] * (stop - start)
      assert line['error_rows'] == pytest.approx(error)
      assert abs(error) < 2  # both ends of a window are off by less than one
  if stop > start:
    assert sum(line['requested'] for line in table) == pytest.approx(1)


def test_what_a_run_recorded_counts_and_not_the_plan():
  order = schedule.Schedule({'a': 1, 'b': 1})
  consumed = np.array([0, 0, 0, 1, 0, 0])
  a, b = epochs.by_source(order, SIZES, 4, 2, 6, consumed)
  assert (a['rows'], b['rows']) == (3, 1)
  assert (a['realised'], a['requested'], a['error_rows']) == (0.75, 0.5, 1)


def test_sources_that_repeat_too_often_are_named():
  order = schedule.Schedule({'a': 1, 'b': 1})
  table = epochs.by_source(order, SIZES, 4, 0, 100)
  (sentence,) = epochs.warnings(table, 4.0)
  assert sentence.startswith('a: 50 rows are drawn from 10, which is 5.0')
  assert epochs.warnings(table, 5.0) == []


def test_a_source_that_no_row_is_drawn_from_is_told():
  order = schedule.create({'text': 1.0, 'asr': 0.00001})
  sizes = {'text': 1000, 'asr': 5}
  found = epochs.by_source(order, sizes, 4, 0, 800)
  (sentence,) = epochs.warnings(found)
  assert sentence.startswith('asr: none of the 800 rows is drawn from it')
  assert (
    epochs.warnings(epochs.by_source(order, sizes, 4, 0, 100_001), 1e9) == []
  )


def test_a_phase_too_short_for_a_source_is_told():
  order = schedule.create(
    [(0, {'a': 1, 'b': 1}), (10, {'a': 50, 'b': 1}), (20, {'a': 1})]
  )
  found = epochs.by_source(order, {'a': 90, 'b': 90}, 4, 0, 40)
  assert [line['unseen'] for line in found] == [[], [10]]
  (sentence,) = epochs.warnings(found)
  assert sentence.startswith('b: no row is drawn from it in the phase')
  consumed = np.zeros(40, np.int64)  # a run that drew otherwise
  found = epochs.by_source(order, {'a': 90, 'b': 90}, 4, 0, 40, consumed)
  assert found[1]['unseen'] == [0, 10]
