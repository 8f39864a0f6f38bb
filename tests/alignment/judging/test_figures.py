"""Figures of scored pairs against loops and closed forms."""

import math

import numpy as np
import pytest

from step_audio_jax.alignment.judging import figures


def scores_of(differences, level=0.3):
  d = np.asarray(differences, float)
  return np.stack([level + d / 2, level - d / 2], axis=1)


def test_accuracy_and_its_interval():
  found = figures.accuracy(scores_of([1.0] * 8 + [-2.0, -1e-9]))
  assert found['pairs'] == 10 and found['accuracy'] == 0.8
  # Wilson (1927) for 8 of 10, as tables have it.
  assert found['low'] == pytest.approx(0.4902, abs=1e-4)
  assert found['high'] == pytest.approx(0.9433, abs=1e-4)
  assert figures.accuracy(scores_of([0.0, 0.0]))['accuracy'] == 0.5
  assert figures.accuracy(np.zeros((0, 2)))['accuracy'] is None


def test_categories_are_apart():
  found = figures.by_category(scores_of([1, -1, 1, 0]), ['b', '', 'b', ''])
  assert list(found) == ['', 'b']
  assert [one['accuracy'] for one in found.values()] == [0.25, 1.0]
  assert [one['pairs'] for one in found.values()] == [2, 2]


def test_calibration_is_the_loop():
  rng = np.random.default_rng(0)
  d = rng.normal(size=200) * 2
  d[:3] = 0.0
  found = figures.calibration(scores_of(d))
  bins = [[] for _ in range(10)]
  for x in d:
    p = 1 / (1 + math.exp(-abs(x)))
    right = 1.0 if x > 0 else 0.5 if x == 0 else 0.0
    bins[min(9, int((p - 0.5) * 20))].append((p, right))
  error = sum(
    abs(
      sum(r for _, r in some) / len(some) - sum(p for p, _ in some) / len(some)
    )
    * len(some)
    / len(d)
    for some in bins
    if some
  )
  assert found['ece'] == pytest.approx(error, abs=1e-12)
  assert [one['pairs'] for one in found['bins']] == [len(some) for some in bins]
  assert found['loss'] == pytest.approx(np.mean(np.log1p(np.exp(-d))))
  assert found['bins'][0]['low'] == 0.5 and found['bins'][-1]['high'] == 1


def test_as_often_right_as_sure_is_calibrated():
  # Confidence 0.8: four of five are right.
  d = math.log(4) * np.asarray([1, 1, 1, 1, -1])
  assert figures.calibration(scores_of(d))['ece'] == pytest.approx(0, abs=1e-9)
  # Sure of everything, and wrong half of the time.
  sure = figures.calibration(scores_of([50.0, -50.0]))
  assert sure['ece'] == pytest.approx(0.5)
  assert sure['bins'][-1]['pairs'] == 2


def test_length_is_told_within_pairs():
  ids = np.asarray([[9, 4], [3, 8], [5, 5]])
  found = figures.lengths(scores_of([5.0, -5.0, 1.0]), ids)
  assert found['longer_scores_higher'] == 1.0
  assert found['longer_is_preferred'] == 0.5
  assert found['correlation'] == pytest.approx(50 / math.sqrt(51 * 50))
  same = figures.lengths(scores_of([1.0]), np.asarray([[2, 2]]))
  assert set(same.values()) == {None}


def test_shifts_are_means_of_pairs():
  before = np.asarray([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
  after = before + np.asarray([[0.0, 2.0], [2.0, 0.0], [1.0, 1.0]])
  found = figures.shift(before, after, deviation=2.0)
  assert found['shift'] == 0.5 and found['pairs'] == 3
  assert found['low'] == found['high'] == 0.5  # all pairs moved alike
  assert (found['changed'], found['to_wrong'], found['to_right']) == (2, 1, 1)
  one = figures.shift(before[:1], after[:1], 2.0)
  assert one['low'] is None


def test_an_answer_that_was_not_changed_is_as_it_was():
  before = np.asarray([[1.0, 0.0], [0.0, 1.0]])
  after = np.asarray([[np.nan, 3.0], [np.nan, 0.0]])
  found = figures.shift(before, after, deviation=1.0)
  assert found['shift'] == 1.0
  half = 1.959964 * np.std([3.0, -1.0], ddof=1) / math.sqrt(2)
  assert found['high'] == pytest.approx(1.0 + half)
  # The second pair is a tie now: its verdict is neither.
  assert (found['changed'], found['to_wrong'], found['to_right']) == (2, 1, 0)


def test_what_is_heard_is_what_silence_takes_away():
  scores = np.array([[3.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
  silent = np.array([[1.0, 4.0], [1.0, 0.0], [-1.0, 0.0]])
  found = figures.heard(scores, silent)
  assert found['pairs'] == 3
  assert found['chosen']['gap'] == pytest.approx(4 / 3)
  assert found['rejected']['gap'] == pytest.approx(-2 / 3)
  assert found['turned'] == pytest.approx(1 / 3)
  # 1.96 standard errors of 2, 1, 1.
  half = 1.959964 * np.std([2, 1, 1], ddof=1) / np.sqrt(3)
  assert found['chosen']['high'] == pytest.approx(4 / 3 + half)
  assert found['chosen']['low'] == pytest.approx(4 / 3 - half)
  deaf = figures.heard(scores[:1], scores[:1])
  assert deaf['chosen'] == {'gap': 0.0, 'low': None, 'high': None}
  assert deaf['turned'] == 0
