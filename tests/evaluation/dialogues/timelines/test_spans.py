import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax.evaluation.dialogues.timelines import spans

# Ticks, so that a grid of them is an oracle.
TICKS = 60
EDGES = st.lists(st.integers(0, TICKS), max_size=12, unique=True)


def disjoint(edges):
  edges = sorted(edges)[: len(edges) // 2 * 2]
  return np.array(edges, np.float64).reshape(-1, 2)


def ticks(found):
  """Which unit intervals of the grid are covered."""
  covered = np.zeros(TICKS, bool)
  for start, end in found.astype(int):
    covered[start:end] = True
  return covered


@hypothesis.given(EDGES, EDGES)
def test_overlaps_are_those_of_a_grid(a, b):
  a, b = disjoint(a), disjoint(b)
  shared = spans.overlaps(a, b)
  np.testing.assert_array_equal(ticks(shared), ticks(a) & ticks(b))
  np.testing.assert_array_equal(shared, spans.overlaps(b, a))


@hypothesis.given(st.lists(st.tuples(*[st.integers(0, TICKS)] * 2)))
def test_merging_covers_the_same(pairs):
  found = spans.array(sorted(pair) for pair in pairs)
  merged = spans.merged(found)
  np.testing.assert_array_equal(ticks(merged), ticks(found))
  assert (merged[1:, 0] > merged[:-1, 1]).all()


@hypothesis.given(EDGES, EDGES)
def test_gaps_lead_from_the_last_end_before_a_start(a, b):
  a, b = disjoint(a), disjoint(b)
  expected = []
  for start in b[:, 0]:
    before = [x for x in a[:, 1] if x < start]
    earlier = [s for s in b[:, 0] if s < start]
    if before and (not earlier or max(before) >= max(earlier)):
      expected.append((max(before), start))
  np.testing.assert_array_equal(spans.gaps(a, b), spans.array(expected))


def test_merging_over_gaps():
  found = spans.array([(0, 1), (1.5, 2), (2.7, 3)])
  assert spans.merged(found, 0.5).tolist() == [[0, 2], [2.7, 3]]
  assert len(spans.merged(spans.NONE)) == 0


def test_times_in_spans():
  found = spans.array([(1, 2), (4, 5)])
  held = spans.hold(found, [0.5, 1, 2, 3, 4.5])
  assert held.tolist() == [False, True, True, False, True]
  assert not spans.hold(spans.NONE, [1.0]).any()
  assert spans.counts(np.array([1, 2, 2.5]), found).tolist() == [2, 0]


@pytest.mark.parametrize(
  'start, end, count', [(2, 4, 0), (1.9, 4, 1), (0, 9, 2)]
)
def test_meeting_needs_shared_time(start, end, count):
  found = spans.array([(1, 2), (4, 5)])
  assert len(spans.meeting(found, start, end)) == count
